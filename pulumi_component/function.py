"""Function: a Python function on Lambda, with its code, its role, its logs and perhaps a URL."""

from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from pulumi_component import links, policies, staging, upgrade
from pulumi_component.args import FunctionArgs
from pulumi_component.compute import ALIAS, Compute
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
    role: aws.iam.Role | None
    """The role that was made for it."""
    needs: pulumi.Output[str]
    """The policy that its role has: what the role has to allow that the option `role` names."""

    def __init__(
        self,
        name: str,
        args: FunctionArgs,
        opts: pulumi.ResourceOptions | None = None,
        *,
        after: pulumi.ResourceHook | None = None,
        keep_concurrency: bool = False,
    ) -> None:
        check_name(name, LONGEST_FUNCTION_NAME)
        options = FunctionOptions.from_args(args)
        code = packaged(options)
        super().__init__("mini-workflow:index:Function", name, {}, opts)
        mine = pulumi.ResourceOptions(parent=self)
        compute = options.compute
        # Names are made up by Pulumi, here and wherever nothing has to know one beforehand: it
        # keeps them when a component is renamed with an alias, and has another one for what
        # replaces a resource, which is made before the old one is gone.
        logs = aws.cloudwatch.LogGroup(
            f"{name}-logs",
            retention_in_days=options.log_retention,
            kms_key_id=compute.kms_key,
            tags=options.tags,
            opts=mine,
        )
        # No output: for what is made of it here.
        self.logs = logs
        linked = links.given(options.link)
        granted = pulumi.Output.all(
            logs.arn,
            links.permissions(linked),
            options.permissions,
            compute.file_system,
            compute.kms_key,
        )
        # Nothing in it is secret, whatever it comes with: it should be seen in a preview.
        self.needs = pulumi.Output.unsecret(granted.apply(lambda known: _policy(compute, *known)))
        # What the function needs before it may be called: more than a reference to it.
        self.before: list[pulumi.Resource] = []
        self.role = None if compute.role is not None else self._own_role(name, options)
        is_of_engine = links.of_engine(linked)
        before = upgrade.refusing(name, compute.accept_python) if is_of_engine else None
        hooks = pulumi.ResourceHookBinding(
            before_update=[] if before is None else [before],
            after_update=[] if after is None else [after],
        )
        self.function = aws.lambda_.Function(
            f"{name}-function",
            role=compute.role if self.role is None else self.role.arn,
            architectures=[options.target.architecture],
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
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=self.before,
                hooks=hooks if before or after else None,
                ignore_changes=["reserved_concurrent_executions"] if keep_concurrency else None,
            ),
            **_code(name, options, code, mine),
            **compute.arguments(),
        )
        if options.link and not is_of_engine:
            # It starts executions, whose tasks may call it: a loop that Lambda would stop.
            aws.lambda_.FunctionRecursionConfig(
                f"{name}-recursion",
                function_name=self.function.name,
                recursive_loop="Allow",
                opts=mine,
            )
        self.alias = self._alias(name, compute) if compute.published else None
        self.qualifier = None if self.alias is None else self.alias.name
        self.arn = self.function.arn if self.alias is None else self.alias.arn
        self.name = self.function.name
        # The name that calls go by.
        self.called = (
            self.name
            if self.alias is None
            else pulumi.Output.concat(self.name, ":", self.alias.name)
        )
        # Those of the version that is published, for who has to call that one and no other; and its
        # ARN with those of the older ones. Without the option versions, as above.
        self.version = self.function.version if compute.versions else None
        self.pinned, self.pinned_arns = self.called, self.arn
        if self.version is not None:
            self.pinned = pulumi.Output.concat(self.name, ":", self.version)
            self.pinned_arns = pulumi.Output.concat(self.function.arn, ":*")
        self.url = (
            pulumi.Output.from_input(None) if options.url is None else self._url(name, options.url)
        )
        self.register_outputs(
            {"arn": self.arn, "name": self.name, "url": self.url, "needs": self.needs}
        )

    def _own_role(self, name: str, options: FunctionOptions) -> aws.iam.Role:
        mine = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role(
            f"{name}-role",
            assume_role_policy=policies.trust("lambda"),
            permissions_boundary=options.compute.permissions_boundary,
            tags=options.tags,
            opts=mine,
        )
        policy = aws.iam.RolePolicy(f"{name}-policy", role=role.name, policy=self.needs, opts=mine)
        self.before.append(policy)
        return role

    def _alias(self, name: str, compute: Compute) -> aws.lambda_.Alias:
        """Return the alias of the newest version. Snapshots and processes kept ready belong to
        versions.
        """
        # With the option versions the processes belong to the version itself, whatever calls it: a
        # task calls its version and not the alias. They are ready before the alias comes there.
        ready = [self._ready(name, compute, self.function.version)] if compute.versions else []
        alias = aws.lambda_.Alias(
            f"{name}-alias",
            name=ALIAS,
            function_name=self.function.name,
            function_version=self.function.version,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[one for one in ready if one is not None],
                # Made with the first version; from then on it is moved from elsewhere.
                ignore_changes=["function_version", "routing_config"] if compute.canary else None,
            ),
        )
        if not compute.versions:
            self._ready(name, compute, alias.name)
        return alias

    def _ready(
        self, name: str, compute: Compute, qualifier: pulumi.Output[str]
    ) -> pulumi.Resource | None:
        """Return the processes that are kept ready, if any are."""
        if compute.provisioned is None:
            return None
        return aws.lambda_.ProvisionedConcurrencyConfig(
            f"{name}-provisioned",
            function_name=self.function.name,
            qualifier=qualifier,
            provisioned_concurrent_executions=compute.provisioned,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _url(self, name: str, url: Url) -> pulumi.Output[Any]:
        mine = pulumi.ResourceOptions(parent=self)
        made = aws.lambda_.FunctionUrl(
            f"{name}-url",
            function_name=self.function.name,
            qualifier=self.qualifier,
            authorization_type="AWS_IAM" if url.guarded else "NONE",
            cors=url.cors and dict(url.cors),  # type: ignore[arg-type]
            opts=mine,
        )
        if not url.guarded:
            # Both are needed since October 2025: one for the URL, one for the call it leads to.
            aws.lambda_.Permission(
                f"{name}-url-permission",
                function=self.function.name,
                qualifier=self.qualifier,
                principal="*",
                action="lambda:InvokeFunctionUrl",
                function_url_auth_type="NONE",
                opts=mine,
            )
            aws.lambda_.Permission(
                f"{name}-url-invoke-permission",
                function=self.function.name,
                qualifier=self.qualifier,
                principal="*",
                action="lambda:InvokeFunction",
                invoked_via_function_url=True,
                opts=mine,
            )
        return made.function_url


def packaged(options: FunctionOptions) -> Path | None:
    """Return the folder with a function's code, None for that of an image. It registers nothing.

    Raises BadPackage.
    """
    if options.compute.image is not None:
        return None
    planned = staging.plan(
        options.handler, options.root, options.target, options.include, options.requirements
    )
    return staging.stage(planned, options.root, pulumi.log.info)


def _policy(
    compute: Compute,
    log_group: str,
    of_links: Any,
    permissions: Any,
    file_system: Any,
    kms_key: str | None,
) -> str:
    key = [one for one in policies.encrypted(kms_key) if one not in of_links]
    return policies.allowing(
        [
            *policies.logging(log_group),
            *(policies.network() if compute.vpc is not None else ()),
            *(policies.file_system(file_system["access_point"]) if file_system else ()),
            *(policies.tracing() if compute.tracing else ()),
            *key,
            *of_links,
            *permissions,
        ]
    )


def _code(
    name: str, options: FunctionOptions, folder: Path | None, opts: pulumi.ResourceOptions
) -> dict[str, Any]:
    """Return where Lambda gets the code from: an image, the request itself, or a bucket for large
    code.
    """
    if folder is None:
        return {
            "package_type": "Image",
            "image_uri": options.compute.image,
            "image_config": {"commands": [options.handler]},
        }
    given: dict[str, Any] = {"runtime": options.runtime, "handler": options.handler}
    # An archive of our own: one that Pulumi makes of a folder forgets what is executable.
    file = staging.archive_of(folder)
    archive = pulumi.FileArchive(str(file))
    if file.stat().st_size <= staging.LARGEST_REQUEST:
        return {**given, "code": archive}
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
    before: list[pulumi.Resource] = []
    if options.compute.kms_key is not None:
        by_default = {"sse_algorithm": "aws:kms", "kms_master_key_id": options.compute.kms_key}
        rule: Any = {
            "apply_server_side_encryption_by_default": by_default,
            "bucket_key_enabled": True,
        }
        before.append(
            aws.s3.BucketServerSideEncryptionConfiguration(
                f"{name}-code-encryption", bucket=bucket.bucket, rules=[rule], opts=opts
            )
        )
    # Folders are named for what is in them: other code has another key, and the function changes.
    uploaded = aws.s3.BucketObjectv2(
        f"{name}-archive",
        bucket=bucket.bucket,
        key=file.name,
        source=archive,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=before)),
    )
    return {**given, "s3_bucket": bucket.bucket, "s3_key": uploaded.key}
