"""Function: a Python function on Lambda, with its code, its role, its logs and perhaps a URL."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from pulumi_component import links, policies, staging
from pulumi_component.args import FunctionArgs
from pulumi_component.options import (
    LONGEST_FUNCTION_NAME,
    FunctionOptions,
    Url,
    check_name,
    check_size,
)


class Function(pulumi.ComponentResource):
    """A Python function on AWS Lambda: packaged from its handler, with a role of its own.

    `link` gives it what it needs to use a WorkflowEngine: settings in its environment, and the
    permissions of a program that starts executions and talks to them. A URL is guarded by IAM
    unless it says otherwise.
    """

    arn: pulumi.Output[str]
    """The ARN of the function."""
    name: pulumi.Output[str]
    """The name of the function."""
    url: pulumi.Output[str | None]
    """Its URL, if it has one."""

    function: aws.lambda_.Function
    """The function itself."""
    role: aws.iam.Role
    """The role that it runs with."""

    def __init__(
        self, name: str, args: FunctionArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        check_name(name, LONGEST_FUNCTION_NAME)
        options = FunctionOptions.from_args(args)
        code = packaged(options)
        super().__init__("mini-workflow:index:Function", name, {}, opts)
        mine = pulumi.ResourceOptions(parent=self)
        # Names are made up by Pulumi, here and wherever nothing has to know one beforehand: it
        # keeps them when a component is renamed with an alias, and has another one for what
        # replaces a resource, which is made before the old one is gone.
        logs = aws.cloudwatch.LogGroup(
            f"{name}-logs", retention_in_days=options.log_retention, tags=options.tags, opts=mine
        )
        self.role = aws.iam.Role(
            f"{name}-role",
            assume_role_policy=policies.trust("lambda"),
            tags=options.tags,
            opts=mine,
        )
        linked = links.given(options.link)
        granted = pulumi.Output.all(logs.arn, links.permissions(linked), options.permissions)
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            role=self.role.name,
            # Nothing in it is secret, whatever it comes with: it should be seen in a preview.
            policy=pulumi.Output.unsecret(granted.apply(_policy)),
            opts=mine,
        )
        self.function = aws.lambda_.Function(
            f"{name}-function",
            role=self.role.arn,
            runtime=options.runtime,
            architectures=[options.target.architecture],
            handler=options.handler,
            timeout=options.timeout,
            memory_size=options.memory,
            reserved_concurrent_executions=options.concurrency,
            environment={"variables": check_size(links.environment(linked, options.environment))},
            logging_config={
                "log_format": "JSON",
                "log_group": logs.name,
                "application_log_level": options.log_level,
            },
            tags=options.tags,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
            **_code(name, code, mine),
        )
        if options.link and not links.of_engine(linked):
            # It starts executions, whose tasks may call it: a loop that Lambda would stop.
            aws.lambda_.FunctionRecursionConfig(
                f"{name}-recursion",
                function_name=self.function.name,
                recursive_loop="Allow",
                opts=mine,
            )
        self.arn = self.function.arn
        self.name = self.function.name
        self.url = (
            pulumi.Output.from_input(None)
            if options.url is None
            else _address(name, self.function, options.url, mine)
        )
        # What the function needs before it may be called: more than a reference to it.
        self.policy = policy
        self.register_outputs({"arn": self.arn, "name": self.name, "url": self.url})


def packaged(options: FunctionOptions) -> Path:
    """The folder with a function's code. It registers nothing. Raises BadPackage."""
    planned = staging.plan(
        options.handler, options.root, options.target, options.include, options.requirements
    )
    return staging.stage(planned, options.root, pulumi.log.info)


def _policy(granted: Sequence[Any]) -> str:
    log_group, of_links, permissions = granted
    return policies.allowing([*policies.logging(log_group), *of_links, *permissions])


def _code(name: str, folder: Path, opts: pulumi.ResourceOptions) -> dict[str, Any]:
    """Where Lambda gets the code from: the request itself, or a bucket if it is too large for it."""
    archive = pulumi.FileArchive(str(folder))
    if not staging.too_large_for_a_request(folder):
        return {"code": archive}
    bucket = aws.s3.Bucket(f"{name}-code", force_destroy=True, opts=opts)
    aws.s3.BucketPublicAccessBlock(
        f"{name}-code-private",
        bucket=bucket.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=opts,
    )
    # Folders are named for what is in them: other code has another key, and the function changes.
    uploaded = aws.s3.BucketObjectv2(
        f"{name}-archive", bucket=bucket.bucket, key=f"{folder.name}.zip", source=archive, opts=opts
    )
    return {"s3_bucket": bucket.bucket, "s3_key": uploaded.key}


def _address(
    name: str, function: aws.lambda_.Function, url: Url, opts: pulumi.ResourceOptions
) -> pulumi.Output[Any]:
    made = aws.lambda_.FunctionUrl(
        f"{name}-url",
        function_name=function.name,
        authorization_type="AWS_IAM" if url.guarded else "NONE",
        cors=url.cors and dict(url.cors),  # type: ignore[arg-type]
        opts=opts,
    )
    if not url.guarded:
        # Both are needed since October 2025: one for the URL, one for the call it leads to.
        aws.lambda_.Permission(
            f"{name}-url-permission",
            function=function.name,
            principal="*",
            action="lambda:InvokeFunctionUrl",
            function_url_auth_type="NONE",
            opts=opts,
        )
        aws.lambda_.Permission(
            f"{name}-url-invoke-permission",
            function=function.name,
            principal="*",
            action="lambda:InvokeFunction",
            invoked_via_function_url=True,
            opts=opts,
        )
    return made.function_url
