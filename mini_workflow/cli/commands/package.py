"""The command `package`: write the archives and the CloudFormation template that AWS deploys."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Final

import click

from mini_workflow.cli.failures import UNAVAILABLE, USAGE, Failed, using
from mini_workflow.cli.output import say, say_json
from mini_workflow.cli.session import command

_BUNDLES: Final = "pulumi_component.bundle"
"""Named here and not imported: the library runs without what deploys it."""


@command(
    "package",
    "mini-workflow package",
    "mini-workflow package orders.toml --output dist --json",
)
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False), default=Path("deploy.toml")
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    help="The folder for the archives and the template.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
def package(file: Path, output: Path, as_json: bool) -> None:
    """Write the archives and the CloudFormation template of the engines in FILE.

    FILE (deploy.toml by default) has a table [engines.NAME] for each engine, and [functions.NAME]
    for each function, with the options of the Pulumi components. The command needs
    mini-workflow[pulumi], and not Pulumi's engine.
    """
    bundles = _bundles()
    with using(file):
        try:
            template, *archives = bundles.bundle(file, output)
        except bundles.BadOption as error:
            raise Failed(str(error), USAGE) from error
    large = template.stat().st_size > bundles.LARGEST_IN_REQUEST
    parameters: dict[str, Any] = json.loads(template.read_text("utf-8")).get("Parameters", {})
    if as_json:
        files = {"template": str(template), "archives": [str(one) for one in archives]}
        say_json(files | {"large": large, "parameters": sorted(parameters)})
        return
    for one in (template, *archives):
        say(f"{one}: {one.stat().st_size} bytes")
    options = ["--stack-name NAME", "--capabilities CAPABILITY_IAM"]
    if large:
        options.append("--s3-bucket BUCKET")
    if archives:
        say(f'aws s3 sync {output} s3://BUCKET --exclude "*" --include "*.zip"')
        options.append("--parameter-overrides CodeBucket=BUCKET")
    for name in sorted(parameters):
        if name.endswith(bundles.RESERVED):
            say(
                f"{name}=N, as a parameter too, reserves N calls: {parameters[name]['Description']}"
            )
    say(f"aws cloudformation deploy --template-file {template} {' '.join(options)}")


def _bundles() -> Any:
    try:
        return importlib.import_module(_BUNDLES)
    except ImportError as error:
        raise Failed(
            f"package needs the extra pulumi: run pip install 'mini-workflow[pulumi]' ({error})",
            UNAVAILABLE,
        ) from error


COMMANDS: Final = (package,)
