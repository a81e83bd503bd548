"""Declare the arguments of the components, and check them.

Options that take units are of type Any, because "10 minutes", 600 and timedelta(minutes=10) say the
same; `options.py` reads them. No `from __future__ import annotations` here: Pulumi reads the types
of these classes to make the package's schema.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, Required, TypedDict

import pulumi


class Permission(TypedDict, total=False):
    """A permission of a function: a statement of a policy that allows."""

    actions: Required[Sequence[str]]
    """Actions, such as "s3:GetObject"."""
    resources: Required[pulumi.Input[Sequence[pulumi.Input[str]]]]
    """The ARNs of what the actions are done to."""
    conditions: Any
    """Conditions, as IAM takes them."""
    sid: str
    """A name for the statement, in letters and digits."""


class Link(TypedDict):
    """A link of a function to an engine."""

    engine: NotRequired[str]
    """The name of the engine, which its settings are found by."""
    environment: Mapping[str, pulumi.Input[str]]
    """Variables for its environment."""
    permissions: Sequence[Permission]
    """What it may do."""


class Vpc(TypedDict, total=False):
    """The network that a function is in."""

    subnets: Required[pulumi.Input[Sequence[pulumi.Input[str]]]]
    """The IDs of its subnets: private ones that reach AWS's services."""
    security_groups: Required[pulumi.Input[Sequence[pulumi.Input[str]]]]
    """The IDs of its security groups."""


class FileSystem(TypedDict, total=False):
    """A file system of EFS."""

    access_point: Required[pulumi.Input[str]]
    """The ARN of the access point."""
    path: Required[str]
    """Where the function finds it, such as "/mnt/models"."""


class CodeOptions(TypedDict, total=False):
    """Options by which functions are made, packaged and run: the options that both components take."""

    environment: pulumi.Input[Mapping[str, pulumi.Input[str]]]
    """Variables for the environment. An engine gives them to both of its functions."""
    permissions: pulumi.Input[Sequence[pulumi.Input[Permission]]]
    """What the code may do. An engine gives them to the worker: workflows act through tasks."""
    link: pulumi.Input[Sequence[pulumi.Input[Any]]]
    """Engines whose executions the code starts and talks to, or their output `link`."""
    memory: Any
    """Memory for one call, "128 MB" to "10240 MB". "1024 MB" by default."""
    architecture: str
    """ "x86_64" (the default) or "arm64"."""
    runtime: str
    """Lambda's runtime, such as "python3.12": that of the deploying Python, which is the default."""
    root: str
    """The folder that handlers, include and requirements are relative to. By default that of the
    Pulumi program."""
    include: Sequence[str]
    """Patterns of more files and folders to deploy, such as "shared/**/*.json"."""
    requirements: Any
    """Packages from PyPI: a list, or the name of a file such as "requirements.txt"."""
    layers: pulumi.Input[Sequence[pulumi.Input[str]]]
    """The ARNs of versions of layers, five at most."""
    image: pulumi.Input[str]
    """The URI of a container image in ECR that has the code, instead of a package of it. Handlers
    are looked for in the image."""
    accept_python: str
    """The minor version of Python, such as "3.14", that an engine may be deployed with although the one
    before was another, and executions are open."""
    versions: bool
    """True to publish a version of the function whenever it changes, and to have it called by its
    alias `live`, which is the newest version. An engine's tasks are run by the version of the worker
    that has the code of their workflow then."""
    storage: Any
    """The size of /tmp, "512 MB" (the default) to "10240 MB"."""
    vpc: Vpc
    """The network that the functions are in. Without, they are in one of Lambda's."""
    file_system: FileSystem
    """A file system that the functions have at a path. It needs vpc."""
    permissions_boundary: pulumi.Input[str]
    """The ARN of the policy that bounds what the roles that are made may do."""
    kms_key: pulumi.Input[str]
    """The ARN of a key of KMS that encrypts logs and environments, and an engine's bucket, queues and
    schedules. Without, AWS's own keys do."""
    tracing: bool
    """True to have X-Ray trace the calls."""
    log_level: str
    """The least level of what is logged: "DEBUG", "INFO" (the default), "WARN" or "ERROR"."""
    log_retention: Any
    """How long logs are kept: "1 week", "3 months", "forever". "1 month" by default."""
    tags: pulumi.Input[Mapping[str, pulumi.Input[str]]]
    """Tags for every resource that can have them."""


class FunctionArgs(CodeOptions, total=False):
    """The arguments of Function."""

    handler: Required[str]
    """The function to call: "package.module.function" or "package/module.function"."""
    url: Any
    """True for an HTTPS URL that IAM guards, or {"authorization": "iam" or "none", "cors": ...}."""
    timeout: Any
    """How long one call may take, up to "15 minutes". "20 seconds" by default."""
    concurrency: int
    """How many calls may run at a time, or -1 for as many as the account has left, which is the
    default. An engine's orchestrator has what the engine's own `concurrency` says."""
    canary: bool
    """True to leave the alias where it leads, for `mini-workflow deploy` to move it. An engine's own
    option sets it."""
    provisioned_concurrency: int
    """How many processes Lambda keeps ready."""
    snap_start: bool
    """True to have Lambda start processes from a snapshot of one that is ready."""
    role: pulumi.Input[str]
    """The ARN of the role to run with, instead of one that is made. It is left as it is."""


class WorkflowEngineArgs(CodeOptions, total=False):
    """The arguments of WorkflowEngine."""

    worker: Required[Any]
    """The handler that runs tasks, or the arguments of a Function with it."""
    workers: Mapping[str, Any]
    """More workers by the names that tasks know them by, each a handler or the arguments of a
    Function: {"gpu": {"handler": ..., "memory": "10 GB"}} is for `ctx.task(..., worker="gpu")`. One that
    is {"pull": True} is a queue, from which a machine of yours takes tasks."""
    orchestrator: Required[Any]
    """The handler that runs workflows, or the arguments of a Function with it."""
    concurrency: int
    """How many batches of events may be worked on at a time, 2 to 1,000. As many calls are reserved for the
    orchestrator. Without, a tenth of the account's calls is reserved for it, 100 at most, where the account
    has enough of them and can be asked."""
    canary: bool
    """True to have a new version of the orchestrator wait for `mini-workflow deploy`, which has it take
    a share of the executions first. It sets `versions`."""
    execution_retention: Any
    """How long executions are kept once they have closed: "90 days", "1 year". "forever" by default. The
    orchestrator deletes them with all that was written for them, a few at a time beside its work."""
    schedules: Mapping[str, Any]
    """Schedules by their names, each {"workflow": "report", "cron": "0 3 * * *", "timezone": "Europe/Berlin"}
    or {"workflow": ..., "every": "6 hours"}, and more options of `runtime.schedules.create`. A deployment
    makes them, changes them, and ends those that it has no more."""
    keep_versions: Any
    """How many of the newest versions of each function stay, with `versions` or `canary`: 5 by default.
    After a deployment older ones are deleted that no alias, no open execution and no call needs; False to
    leave that to `mini-workflow deploy prune`."""
    payload_retention: Any
    """How long large values are kept, more than "14 days". "30 days" by default."""
    history: Any
    """The name of a bucket that an engine has left behind: its histories go on. Or {"bucket": ...,
    "prefix": "flows/"}: a bucket of yours, which is left as it is. Without, a new bucket is made."""
    store: Any
    """Where the histories are: "s3" (the default) for the bucket, or "dynamodb" for a table that is made:
    cheaper for many small steps, while the bucket has what is large. Or {"table": ...}, the name of a
    table that an engine has left behind. It stays as it is for the life of an engine."""
    signing_key: pulumi.Input[str]
    """The key that signs what crosses from one function to another, 32 characters or more: that of
    the engine that left `history` behind. Without, one is made up."""
    signing_key_store: pulumi.Input[str]
    """Where functions find the signing key: "environment" (the default), "parameter" (of SSM) or
    "secret" (of Secrets Manager), which are made; or the ARN of a parameter or secret of yours."""
    shared_with: Sequence[str]
    """Accounts (their 12 digits), or ARNs of roles and users in them, whose functions may be linked to the
    engine: its bucket, its queue and its orchestrator allow them what a link gives."""
    removal: str
    """What becomes of the histories when the stack is destroyed: "retain" (the default) or
    "destroy"."""
    alarms: Any
    """True for alarms on everything that needs a person, or {"topics": [ARNs of SNS topics]}."""
    dashboard: bool
    """True for a CloudWatch dashboard, and saved queries of the logs."""
