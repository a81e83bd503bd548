"""The command `mini-workflow` itself: what all of its commands have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from mini_workflow.cli.arguments import import_modules
from mini_workflow.cli.backends import Backend, open_backend
from mini_workflow.cli.config import Config, find_config
from mini_workflow.cli.failures import Application


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with."""

    config: Config
    backend: Backend
    debug: bool

    def import_modules(self, *names: str) -> None:
        """Import these modules, and those that are configured."""
        import_modules((*self.config.modules, *names))


pass_session = click.make_pass_decorator(Session)

trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Load values as themselves, which may run code that is stored.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")


@click.group(
    cls=Application,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--backend",
    envvar="MINI_WORKFLOW_BACKEND",
    metavar="B",
    help="Where executions are kept: sqlite:PATH or aws.  [default: sqlite:state.db]",
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
    help="Import it first, for its workflows; may be repeated.",
)
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.version_option(package_name="mini-workflow", prog_name="mini-workflow")
@click.pass_context
def cli(
    ctx: click.Context,
    backend: str | None,
    stack: str | None,
    bucket: str | None,
    modules: tuple[str, ...],
    debug: bool,
) -> None:
    """Start, watch and steer durable workflows, and debug them by replay.

    Settings come from options, from environment variables, and from the table [tool.mini-workflow]
    in pyproject.toml, in this order.
    """
    source = ctx.get_parameter_source("backend")
    from_environment = source is click.core.ParameterSource.ENVIRONMENT
    config = find_config(
        Path.cwd(),
        backend=backend,
        backend_origin="MINI_WORKFLOW_BACKEND" if from_environment else "--backend",
        stack=stack,
        bucket=bucket,
        modules=modules,
    )
    ctx.obj = Session(config, open_backend(config), debug)


def add_commands() -> None:
    """Enter the commands; their modules import this one."""
    from mini_workflow.cli import completion
    from mini_workflow.cli.commands import backup, doctor
    from mini_workflow.cli.commands import control as steering
    from mini_workflow.cli.commands import inspect as looking
    from mini_workflow.cli.commands import replay as debugging
    from mini_workflow.cli.commands import run as running

    for module in (running, looking, steering, debugging, doctor, backup, completion):
        for command in module.COMMANDS:
            cli.add_command(command)


add_commands()
