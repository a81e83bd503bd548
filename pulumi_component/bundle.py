"""Bundle: archives and a template of CloudFormation, from the components and without Pulumi's engine.

The components are run as in a Pulumi program. What they register becomes the template, so that
policies, options and checks are the same.
"""

import asyncio
import functools
import json
import logging
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks

from mini_workflow import settings
from pulumi_component import cloudformation, inputs
from pulumi_component.cloudformation import CODE_BUCKET, Resource, logical
from pulumi_component.component import WorkflowEngine
from pulumi_component.errors import BadOption
from pulumi_component.function import Function
from pulumi_component.options import IN_PARAMETER, IN_SECRET

TEMPLATE = "template.json"
LARGEST_IN_REQUEST = 51_200
"""Bytes of a template in the request itself; up to 1 MB it comes from a bucket. Source:
CloudFormation User Guide, "CloudFormation quotas"."""

RESERVED = "Concurrency"
"""How the name of an engine's parameter ends: calls at a time that are the orchestrator's own."""

_TABLES = ("engines", "functions")
_NODES = ("history", "events", "orchestrator")
_MARK, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"


def bundle(description: Path, output: Path) -> list[Path]:
    """Write the template and the archives that a file in TOML describes; the files, template first.

        [engines.Orders]
        worker = "app.index.execute"
        orchestrator = "app.index.orchestrate"

        [functions.Api]
        handler = "app.index.api"
        link = ["Orders"]

    Handlers are relative to the folder of the file. Nothing is written if anything is wrong. Raises
    BadOption, OSError.
    """
    described = _read(description)
    resources, outputs, unreserved = _run(described, description.absolute().parent)
    made = cloudformation.template(resources)
    known = {
        name: value
        for name, value in outputs.items()
        if isinstance(value, str) and "@{secret " not in value
    }
    document = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Durable workflows: {', '.join(sorted(described['engines']))}"[:1_024],
        "Parameters": {
            CODE_BUCKET: {
                "Type": "String",
                "Description": "The bucket with the archives, in the same Region.",
            }
        },
        "Resources": cloudformation.resolved(made.resources),
        "Outputs": {
            name: {"Value": cloudformation.resolved(known[name])} for name in sorted(known)
        },
    }
    if not made.archives:
        # All code is in images.
        del document["Parameters"][CODE_BUCKET]
    for name in unreserved:
        _reservable(document, logical(name))
    if not document["Parameters"]:
        del document["Parameters"]
    output.mkdir(parents=True, exist_ok=True)
    template = output / TEMPLATE
    template.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    written = [template]
    for name, file in sorted(made.archives.items()):
        written.append(output / name)
        shutil.copyfile(file, output / name)
    return written


def _reservable(document: dict[str, Any], engine: str) -> None:
    """Give an engine a parameter for what its option `concurrency` would say, which nobody has given.

    Without it nothing is reserved: a template cannot ask its account how many calls that may run, and any
    number would fail in one that has too few, a new one for example.
    """
    parameter, condition = f"{engine}{RESERVED}", f"{engine}Reserves"
    document["Parameters"][parameter] = {
        "Type": "String",
        "Default": "0",
        "AllowedPattern": "0|[2-9]|[1-9][0-9]{1,2}|1000",
        "ConstraintDescription": "0, or 2 to 1000",
        "Description": (
            "How many calls at a time are reserved for the orchestrator: a tenth of what the account may "
            "run, 100 at most. 0 reserves none; then tasks may leave none for it."
        ),
    }
    none = {"Fn::Equals": [{"Ref": parameter}, "0"]}
    document.setdefault("Conditions", {})[condition] = {"Fn::Not": [none]}

    def given(value: Any) -> dict[str, Any]:
        return {"Fn::If": [condition, value, {"Ref": "AWS::NoValue"}]}

    resources, calls = document["Resources"], {"Ref": parameter}
    function = resources[f"{engine}OrchestratorFunction"]["Properties"]
    function["ReservedConcurrentExecutions"] = given(calls)
    mapping = resources[f"{engine}EventsMapping"]["Properties"]
    mapping["ScalingConfig"] = given({"MaximumConcurrency": calls})


def _read(file: Path) -> dict[str, Any]:
    try:
        described = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadOption(f"{file}: {error}") from None
    for table, components in described.items():
        if table not in _TABLES:
            raise BadOption(
                f"{file}: there is a table {table!r}; it has [engines.NAME] and [functions.NAME]"
            )
        if not isinstance(components, Mapping) or not all(
            isinstance(one, Mapping) for one in components.values()
        ):
            raise BadOption(f"{file}: {table} has a table for each of them: [{table}.NAME]")
    if not described.get("engines"):
        raise BadOption(f"{file}: there is no engine in it: [engines.NAME]")
    return {table: described.get(table, {}) for table in _TABLES}


def _run(
    described: Mapping[str, Any], root: Path
) -> tuple[list[Resource], dict[str, Any], list[str]]:
    """Make the components; what they registered, what the template tells, and the engines of which nobody has
    said how many calls are the orchestrator's own.
    """
    recorder = _Recorder()
    asyncio.set_event_loop(_loop())
    mocks.set_mocks(
        recorder.answers,
        project="mini-workflow",
        stack="template",
        monitor=recorder,
        logger=logging.getLogger("mini_workflow.package"),
    )
    outputs: dict[str, Any] = {}
    unreserved: list[str] = []

    @mocks.test
    def program() -> pulumi.Output[Any]:
        engines: dict[str, WorkflowEngine] = {}
        waiting = dict(described["engines"])
        # Engines may be linked to others, which come first.
        while waiting:
            ready = [name for name in waiting if not _engines(waiting[name]) & waiting.keys()]
            if not ready:
                raise BadOption(f"link: {', '.join(waiting)} are linked to each other in a circle")
            for name in ready:
                given = _arguments(waiting.pop(name), root, engines)
                engines[name] = WorkflowEngine(name, _engine(name, given))  # type: ignore[arg-type]
                if engines[name].keeps_concurrency:
                    unreserved.append(name)
        told: dict[str, Any] = {}
        for name, engine in engines.items():
            for variable, value in engine.linked["environment"].items():
                if variable != settings.SIGNING_KEY:
                    told[logical(name) + _camel(variable)] = value
        for name, given in described["functions"].items():
            function = Function(name, _arguments(given, root, engines))  # type: ignore[arg-type]
            told[f"{logical(name)}Name"] = function.called
            told[f"{logical(name)}Url"] = function.url
        return pulumi.Output.all(**told).apply(outputs.update)

    program()
    return recorder.registered, outputs, unreserved


def _engine(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return what is different in a template: where the key is, which nobody may read in it."""
    if given.get("signing_key") is not None:
        raise BadOption(
            f"{name}: signing_key: a template is no place for a key. Leave it out, and one is made "
            "up; or give signing_key_store the ARN of a parameter or secret that holds it"
        )
    if given.get("canary"):
        raise BadOption(
            f"{name}: canary: a template moves the alias with each deployment. Give versions, and take a "
            "deployment back by mini-workflow deploy rollback; or deploy with Pulumi"
        )
    if given.get("keep_versions") is not None:
        raise BadOption(
            f"{name}: keep_versions: nothing of a template deletes versions. Leave it out, and have "
            "mini-workflow deploy prune do it after a deployment"
        )
    store = given.get("signing_key_store") or IN_SECRET
    if store == IN_PARAMETER:
        raise BadOption(
            f"{name}: signing_key_store: CloudFormation cannot make an encrypted parameter. Use "
            f'"{IN_SECRET}", or the ARN of a parameter that exists'
        )
    return {**given, "signing_key_store": store}


def _arguments(
    given: Mapping[str, Any], root: Path, engines: Mapping[str, WorkflowEngine]
) -> dict[str, Any]:
    """Return the arguments of a component, with folders and links as themselves."""
    read = {**given, "root": str(root / given.get("root", "."))}
    for place in (read, *(read.get(part) for part in ("worker", "orchestrator"))):
        if isinstance(place, dict) and "link" in place:
            place["link"] = [_linked(text, engines) for text in place["link"]]
    return read


def _engines(given: Mapping[str, Any]) -> set[str]:
    """Return the engines that an engine is linked to."""
    functions = (given.get(part) for part in ("worker", "orchestrator"))
    links = inputs.joined(
        *(part.get("link") for part in (given, *functions) if isinstance(part, Mapping))
    )
    return {str(text).partition(".")[0] for text in links}  # type: ignore[union-attr]


def _linked(text: Any, engines: Mapping[str, WorkflowEngine]) -> Any:
    name, _, node = str(text).partition(".")
    if name not in engines or node not in ("", *_NODES):
        raise BadOption(
            f"link: {text!r} is not the name of an engine of this file ({', '.join(engines)}), nor "
            f"a node of one, such as {next(iter(engines), 'Orders')}.history: {', '.join(_NODES)}"
        )
    return getattr(engines[name], node) if node else engines[name]


def _camel(variable: str) -> str:
    return "".join(part.capitalize() for part in variable.removeprefix("MINI_WORKFLOW_").split("_"))


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for as long as the process: the SDK keeps what belongs to it."""
    return asyncio.new_event_loop()


class _Answers(mocks.Mocks):
    """Answers in place of AWS: values that AWS decides are references."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        one = Resource(args.typ, args.name, _plain(args.inputs))
        known = cloudformation.answer(one, args.resource_id or "")
        identity = str(known.get("id") or known.get("url") or args.resource_id or args.name)
        return identity, {**args.inputs, **known}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise BadOption(f"a template cannot ask AWS: {args.token}")


class _Recorder(mocks.MockMonitor):
    """Remembers what is registered."""

    def __init__(self) -> None:
        self.answers = _Answers()
        super().__init__(self.answers)
        self.registered: list[Resource] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        if request.custom:
            values = pulumi.runtime.rpc.deserialize_properties(request.object)
            by_values = {urn for part in request.propertyDependencies.values() for urn in part.urns}
            self.registered.append(
                Resource(
                    request.type,
                    request.name,
                    _plain(values),
                    [urn.rpartition("::")[2] for urn in set(request.dependencies) - by_values],
                    request.retainOnDelete,
                )
            )
        return super().RegisterResource(request)

    def ReadResource(self, request: Any) -> Any:  # noqa: N802
        self.registered.append(Resource(request.type, request.name, {}, given=True))
        return super().ReadResource(request)


def _plain(value: Any) -> Any:
    """Return a value without the marks of its secrets, numbers whole where they are."""
    if isinstance(value, Mapping):
        if value.get(_MARK) == _SECRET:
            return _plain(value["value"])
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
