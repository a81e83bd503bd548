"""Function: a Python function on Lambda, with its code, its role, its logs and perhaps a URL."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_random as random

from pulumi_component import inputs, policies, staging
from pulumi_component.args import FunctionArgs
from pulumi_component.errors import BadOption
from pulumi_component.options import LONGEST_FUNCTION_NAME, FunctionOptions, Url, check_name


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
        suffix = random.RandomId(f"{name}-suffix", byte_length=4, opts=mine)
        # First, and named for the function: Lambda would make one that keeps logs for ever.
        logs = aws.cloudwatch.LogGroup(
            f"{name}-logs",
            name=suffix.hex.apply(lambda unique: f"/aws/lambda/{name}-{unique}"),
            retention_in_days=options.log_retention,
            tags=options.tags,
            opts=mine,
        )
        self.role = aws.iam.Role(
            f"{name}-role",
            assume_role_policy=policies.trust("lambda"),
            tags=options.tags,
            opts=mine,
        )
        links = _links(options.link)
        granted = pulumi.Output.all(logs.arn, links, options.permissions)
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            role=self.role.name,
            # Nothing in it is secret, whatever it comes with: it should be seen in a preview.
            policy=pulumi.Output.unsecret(granted.apply(_policy)),
            opts=mine,
        )
        self.function = aws.lambda_.Function(
            f"{name}-function",
            name=suffix.hex.apply(lambda unique: f"{name}-{unique}"),
            role=self.role.arn,
            runtime=options.runtime,
            architectures=[options.target.architecture],
            handler=options.handler,
            code=pulumi.FileArchive(str(code)),
            timeout=options.timeout,
            memory_size=options.memory,
            reserved_concurrent_executions=options.concurrency,
            environment={"variables": _environment(options, links)},
            logging_config={"log_format": "JSON", "log_group": logs.name},
            tags=options.tags,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
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


def _links(link: inputs.List) -> pulumi.Output[Any]:
    """What comes with each link: of a component that can be linked, or given as it is."""
    if isinstance(link, pulumi.Output):
        return link.apply(lambda items: [_linked(item) for item in items])
    return pulumi.Output.all(*(_linked(item) for item in link))


def _linked(item: Any) -> Any:
    # An output has every attribute.
    link = item if isinstance(item, pulumi.Output) else getattr(item, "link", item)
    if isinstance(link, pulumi.Output):
        return link
    if not isinstance(link, Mapping) or not {"environment", "permissions"} <= link.keys():
        raise BadOption(f"link: {item!r} is not an engine, nor its output link")
    return link


def _policy(granted: Sequence[Any]) -> str:
    log_group, links, permissions = granted
    of_links = [permission for link in links for permission in link["permissions"]]
    return policies.allowing([*policies.logging(log_group), *of_links, *permissions])


def _environment(options: FunctionOptions, links: pulumi.Output[Any]) -> Any:
    """The variables of links, then those of the function itself."""
    of_links = links.apply(lambda known: inputs.merged(*(link["environment"] for link in known)))
    return inputs.merged(of_links, options.environment)


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
