"""Define the command `mini-workflow` and the options that all of its commands have in common."""

from __future__ import annotations

from pathlib import Path

import click

from mini_workflow.cli.backends import open_backend
from mini_workflow.cli.commands import (
    backup,
    completion,
    control,
    delete,
    deploy,
    dev,
    dlq,
    doctor,
    inspect,
    limits,
    migrate,
    package,
    replay,
    run,
    schedule,
    stream,
    ui,
)
from mini_workflow.cli.config import find_config
from mini_workflow.cli.failures import UNAVAILABLE, Application, Failed
from mini_workflow.cli.session import Session


@click.group(
    cls=Application,
    examples=(
        "mini-workflow run orders:order order_id=o-17 --id order-17",
        "mini-workflow get order-17",
        "mini-workflow --backend sqlite:orders.db ls --status blocked",
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--backend",
    envvar="MINI_WORKFLOW_BACKEND",
    metavar="B",
    help="Where executions are kept: sqlite:PATH, postgresql://USER@HOST/DATABASE (with ?schema=NAME) or "
    "aws.  [default: sqlite:state.db]",
)
@click.option(
    "--direct-url",
    envvar="MINI_WORKFLOW_DIRECT_URL",
    metavar="URL",
    help="On postgresql behind a pooler in transaction mode: the address of the server itself, by which "
    "workers are woken.",
)
@click.option(
    "--stack",
    envvar="MINI_WORKFLOW_STACK",
    metavar="NAME",
    help="On aws: the Pulumi stack whose outputs have the settings.",
)
@click.option(
    "--bucket",
    envvar="MINI_WORKFLOW_BUCKET",
    metavar="NAME",
    help="On aws: the bucket with the histories.",
)
@click.option(
    "-m",
    "--module",
    "modules",
    envvar="MINI_WORKFLOW_MODULES",
    multiple=True,
    metavar="MODULE",
    help="Import this module first, for its workflows; may be repeated.",
)
@click.option(
    "--codec",
    envvar="MINI_WORKFLOW_CODEC",
    metavar="MODULE:NAME",
    help="The codec= of the runtime: a payload codec, a list of them, or a function that makes them.",
)
@click.option("--debug", is_flag=True, help="Print the traceback of an error, too.")
@click.version_option(package_name="mini-workflow", prog_name="mini-workflow")
@click.pass_context
def cli(
    ctx: click.Context,
    backend: str | None,
    direct_url: str | None,
    stack: str | None,
    bucket: str | None,
    modules: tuple[str, ...],
    codec: str | None,
    debug: bool,
) -> None:
    """Start, watch and steer durable workflows, and debug them by replay.

    Settings come from options, from environment variables, and from the table [tool.mini-workflow]
    in pyproject.toml, in this order. `mini-workflow COMMAND --help` has examples of each command.
    """
    source = ctx.get_parameter_source("backend")
    from_environment = source is click.core.ParameterSource.ENVIRONMENT
    config = find_config(
        _current_folder(),
        backend=backend,
        backend_origin="MINI_WORKFLOW_BACKEND" if from_environment else "--backend",
        direct_url=direct_url,
        stack=stack,
        bucket=bucket,
        modules=modules,
        codec=codec,
    )
    ctx.obj = Session(config, open_backend(config), debug)


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise Failed(
            f"the current directory cannot be used ({error.strerror}): change to another one",
            UNAVAILABLE,
        ) from error


_MODULES = (
    run,
    schedule,
    limits,
    dev,
    ui,
    inspect,
    stream,
    control,
    delete,
    replay,
    doctor,
    dlq,
    deploy,
    backup,
    migrate,
    package,
    completion,
)
for _module in _MODULES:
    for _command in _module.COMMANDS:
        cli.add_command(_command)
