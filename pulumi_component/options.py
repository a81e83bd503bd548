"""Check the arguments of the components and add defaults, before anything is created."""

import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi

from mini_workflow import settings
from pulumi_component import args, handlers, inputs, places, schedules, units
from pulumi_component.compute import Compute, boundary, kms_key
from pulumi_component.errors import BadOption
from pulumi_component.wheels import ARCHITECTURES, Target

RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14", "python3.15")
"""Lambda's runtimes that the library supports. Source: AWS Lambda Developer Guide."""

LONGEST_CALL = 900
"""Seconds. Source: AWS Lambda Developer Guide, "Lambda quotas"."""
LEAST_MEMORY, MOST_MEMORY = 128, 10_240
"""MB. Source: the same."""
LARGEST_ENVIRONMENT = 4_096
"""Bytes of all names and values. Source: the same."""
MOST_BATCHES = 1_000
"""Source: API reference of Lambda, ScalingConfig; the least is 2."""
UNRESERVED = -1
"""What Lambda calls it that a function has no calls of its own."""
MOST_RESERVED = 1_000_000
"""Calls at a time. Lambda has no limit but the account's, which its owner can have raised."""
SHORTEST_KEY = 32
"""Characters. What the library asks for (mini_workflow/settings.py)."""
LOG_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
"""Source: API reference of Lambda, LoggingConfig. Its TRACE is no level of Python's."""
RESERVED_VARIABLES = frozenset(
    {
        *("_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        *("AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION"),
        *("AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME"),
        *("AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION"),
        *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT"),
    }
)
"""Variables that Lambda sets itself and lets nobody set. Source: AWS Lambda Developer Guide,
"Working with Lambda environment variables"."""
LONGEST_IN_QUEUE = 14
"""Days that SQS keeps a message at most. Source: API reference of SQS, SetQueueAttributes."""

LONGEST_ENGINE_NAME = 30
LONGEST_FUNCTION_NAME = 45
"""Characters of a component's name: with what is added, the names of functions, roles and pipes
must stay below 64 characters, and those of buckets below 63."""

_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]+")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")

TIMEOUT = "20 seconds"
WORKER_TIMEOUT = "15 minutes"
ORCHESTRATOR_TIMEOUT = "1 minute"
MEMORY = "1024 MB"
LOG_RETENTION = "1 month"
LOG_LEVEL = "INFO"
PAYLOAD_RETENTION = "30 days"
KEEP_VERSIONS, MOST_KEPT = 5, 1_000

_CODE = frozenset(args.CodeOptions.__annotations__)
_FUNCTION = frozenset(args.FunctionArgs.__annotations__)
_ENGINE = frozenset(args.WorkflowEngineArgs.__annotations__)
_OF_ONE_FUNCTION = ("role", "snap_start", "provisioned_concurrency")
_STORE = re.compile(r"arn:[\w-]+:(ssm:[^:]+:\d+:parameter/|secretsmanager:[^:]+:\d+:secret:)\S+")
IN_ENVIRONMENT, IN_PARAMETER, IN_SECRET = "environment", "parameter", "secret"
"""Where the signing key is kept, beside the ARN of a place that exists."""
_URL = ("authorization", "cors")
_ALARMS = ("topics",)
_PERMISSION = frozenset(args.Permission.__annotations__)


def check_name(name: str, longest: int) -> None:
    """Raise BadOption for the name of a component that its resources could not be named after."""
    if not _NAME.fullmatch(name) or len(name) > longest:
        raise BadOption(
            f"the name {name!r}: it has to begin with a letter, have letters, digits and hyphens, "
            f"and at most {longest} characters, because buckets and functions are named for it"
        )


def check_worker_name(engine: str, name: str) -> None:
    """Raise BadOption for the name of a worker that its function could not be named after."""
    longest = LONGEST_FUNCTION_NAME - len(f"{engine}-worker-")
    if len(name) > longest:
        raise BadOption(
            f"workers: {name!r} has more than {longest} characters: with the name of the engine it "
            "becomes part of the names of functions and roles, which are bounded. Shorten one of them"
        )


@dataclass(frozen=True, slots=True)
class Url:
    """A function's URL: whether IAM guards it, and its settings for CORS, if any."""

    guarded: bool
    cors: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class FunctionOptions:
    """The arguments of a Function. Times in seconds, memory in MB, retention in days (0: for ever).

    `environment`, `permissions`, `link` and `tags` are as given: they may hold outputs.
    """

    handler: str
    root: Path
    target: Target
    include: tuple[str, ...]
    requirements: tuple[str, ...] | str
    timeout: int
    memory: int
    concurrency: int | None
    url: Url | None
    compute: Compute
    log_level: str
    log_retention: int
    environment: inputs.Map
    permissions: inputs.List
    link: inputs.List
    tags: Any

    @property
    def runtime(self) -> str:
        """Lambda's name of the runtime."""
        return f"python{self.target.python}"

    @classmethod
    def from_args(cls, given: Mapping[str, Any]) -> "FunctionOptions":
        """Return the checked options. Raises BadOption, which names the option."""
        units.known("a Function", given, _FUNCTION)
        if not given.get("handler"):
            raise BadOption('a Function needs a handler, such as "package.module.function"')
        root = Path(given.get("root") or ".").absolute()
        if not root.is_dir():
            raise BadOption(f"root: {root} is not a folder")
        link = given.get("link") or ()
        environment = _checked_environment(
            "environment", given, settings.MEANING if link else (), "The link sets it"
        )
        wanted = given.get("requirements") or ()
        target = _target(given)
        if given.get("image"):
            handlers.check_form(given["handler"])
        return cls(
            handler=given["handler"],
            root=root,
            target=target,
            include=tuple(given.get("include") or ()),
            requirements=wanted if isinstance(wanted, str) else tuple(wanted),
            timeout=units.seconds("timeout", given.get("timeout", TIMEOUT), 1, LONGEST_CALL),
            memory=units.megabytes(
                "memory", given.get("memory", MEMORY), LEAST_MEMORY, MOST_MEMORY
            ),
            concurrency=_concurrency(given.get("concurrency"), UNRESERVED, MOST_RESERVED),
            url=_url(given.get("url")),
            compute=Compute.from_args(given, target.python),
            log_level=units.one_of("log_level", given.get("log_level") or LOG_LEVEL, LOG_LEVELS),
            log_retention=units.log_retention(
                "log_retention", given.get("log_retention", LOG_RETENTION)
            ),
            environment=environment,
            permissions=inputs.checked(given.get("permissions") or (), _check_permissions),
            link=link,
            tags=given.get("tags") or {},
        )


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The arguments of a WorkflowEngine. `payload_retention` and `execution_retention` are in days, and the
    latter is None for ever; `keep_versions` is None where
    nothing prunes.

    `schedules` are as Schedules.create takes them, by their names, and None where there is nothing to say.
    `worker` and `orchestrator` are the arguments of their Functions, `workers` those of the other
    workers by their names, `pulling` the names of those with a queue, and `topics` the topics that
    alarms go to: None without alarms.
    """

    worker: Mapping[str, Any]
    workers: Mapping[str, Mapping[str, Any]]
    pulling: tuple[str, ...]
    orchestrator: Mapping[str, Any]
    concurrency: int | None
    execution_retention: int | None
    keep_versions: int | None
    schedules: Mapping[str, Any] | None
    payload_retention: int
    history: places.History
    store: places.Store
    signing_key: Any
    signing_key_store: Any
    kms_key: Any
    removal: str
    log_retention: int
    permissions_boundary: Any
    topics: tuple[Any, ...] | None
    dashboard: bool
    shared_with: tuple[str, ...]
    tags: Any

    @classmethod
    def from_args(cls, given: Mapping[str, Any]) -> "EngineOptions":
        """Return the checked options. Raises BadOption, which names the option."""
        _refuse_what_belongs_to_functions(given)
        units.known("a WorkflowEngine", given, _ENGINE)
        checked = _checked_environment("environment", given, settings.MEANING, "The engine sets it")
        given = {**given, "environment": checked}
        canary = units.flag("canary", given.get("canary"))
        if canary:
            if given.get("versions") is False:
                raise BadOption("canary: it is about versions; leave versions=False out")
            given["versions"] = True
        functions = {
            "worker": _function(given, "worker", given.get("worker"), WORKER_TIMEOUT),
            "orchestrator": _function(
                given, "orchestrator", given.get("orchestrator"), ORCHESTRATOR_TIMEOUT
            ),
        }
        asked_for = _workers(given.get("workers"))
        pulling = tuple(name for name, asked in asked_for.items() if _pulls(name, asked))
        workers = {
            name: _function(given, f"workers: {name}", asked, WORKER_TIMEOUT)
            for name, asked in asked_for.items()
            if name not in pulling
        }
        checked_too = {f"workers: {name}": function for name, function in workers.items()}
        for name, function in (functions | checked_too).items():
            if function.get("url"):
                raise BadOption(
                    f"{name}: the engine calls it; a URL belongs to a Function of yours"
                )
            try:
                FunctionOptions.from_args(function)
            except BadOption as error:
                raise type(error)(f"{name}: {error}") from None
        removal = units.one_of("removal", given.get("removal", "retain"), ("retain", "destroy"))
        history = places.history(given.get("history"))
        if history.name is not None and removal == "destroy":
            raise BadOption(
                'removal: "destroy" is for the bucket that the engine makes; the one that the option '
                "history names stays"
            )
        if not history.managed and given.get("payload_retention") is not None:
            raise BadOption(
                "payload_retention: the bucket is yours and is left as it is: have it expire what is "
                f"below {history.prefix}payloads/ itself"
            )
        concurrency = _concurrency(given.get("concurrency"), 2, MOST_BATCHES)
        _check_reserved(concurrency, functions["orchestrator"].get("concurrency"))
        for name, function in (functions | checked_too).items():
            if function.get("canary"):
                raise BadOption(f"{name}: canary is an option of the engine")
        if canary:
            functions["orchestrator"]["canary"] = True
            FunctionOptions.from_args(functions["orchestrator"])
        # Else tasks could use up all calls of the account, and nothing would go on.
        functions["orchestrator"].setdefault("concurrency", concurrency)
        return cls(
            worker=functions["worker"],
            workers=workers,
            pulling=pulling,
            orchestrator=functions["orchestrator"],
            concurrency=concurrency,
            execution_retention=None
            if given.get("execution_retention") in (None, units.FOREVER)
            else units.days("execution_retention", given["execution_retention"], 1, 36_500),
            keep_versions=_keep_versions(given),
            schedules=schedules.checked(given.get("schedules")),
            payload_retention=units.days(
                "payload_retention",
                given.get("payload_retention", PAYLOAD_RETENTION),
                LONGEST_IN_QUEUE + 1,
                3_650,
            ),
            history=history,
            store=places.store(given.get("store")),
            signing_key=inputs.checked_text(given.get("signing_key"), _check_key),
            signing_key_store=_signing_key_store(given),
            kms_key=kms_key(given),
            removal=removal,
            log_retention=units.log_retention(
                "log_retention", given.get("log_retention", LOG_RETENTION)
            ),
            permissions_boundary=boundary(given),
            topics=_topics(given.get("alarms")),
            dashboard=bool(given.get("dashboard")),
            shared_with=places.shared_with(given),
            tags=given.get("tags") or {},
        )


def _workers(given: Any) -> Mapping[str, Any]:
    """Return the option workers, with names that tasks can have. Raises BadOption."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadOption(
            f'workers: {given!r} is not a mapping by names: {{"gpu": {{"handler": ...}}}}'
        )
    for name in given:
        if not isinstance(name, str) or not settings.WORKER_NAME.fullmatch(name):
            raise BadOption(f"workers: {name!r} is not {settings.WORKER_NAME_RULE}")
        if name == settings.DEFAULT_WORKER:
            raise BadOption(
                f"workers: {name!r} is the worker of tasks that name none: the option worker"
            )
    return given


def _pulls(name: str, asked: Any) -> bool:
    """Return whether a worker is none of Lambda's, and takes its tasks from a queue. Raises BadOption."""
    if not isinstance(asked, Mapping) or not units.flag(
        f"workers: {name}: pull", asked.get("pull")
    ):
        return False
    if len(asked) > 1:
        raise BadOption(
            f"workers: {name}: one that pulls is no function, and has no other option than pull"
        )
    return True


def _function(given: Mapping[str, Any], name: str, asked: Any, timeout: str) -> dict[str, Any]:
    """Return the arguments of one of the engine's functions: its own, then those of the engine.

    What tasks may do is granted to workers alone: workflows do it through tasks.
    """
    if isinstance(asked, str):
        asked = {"handler": asked}
    if not isinstance(asked, Mapping) or not asked.get("handler"):
        raise BadOption(f'{name}: {asked!r} is not a handler, such as "package.module.function"')
    own: dict[str, Any] = {units.snake_case(key): value for key, value in asked.items()}
    shared = {key: given[key] for key in _CODE if given.get(key) is not None}
    if name == "orchestrator":
        shared.pop("permissions", None)
    if own.get("image"):
        for packaged in ("include", "requirements", "layers", "runtime"):
            shared.pop(packaged, None)
    if own.get("role"):
        shared.pop("permissions_boundary", None)
    function: dict[str, Any] = {"timeout": timeout, **shared, **own}
    own["environment"] = _checked_environment(
        f"{name}: environment", own, settings.MEANING, "The engine sets it"
    )
    for option in ("environment", "tags"):
        function[option] = inputs.merged(shared.get(option), own.get(option))
    for option in ("permissions", "link"):
        function[option] = inputs.joined(shared.get(option), own.get(option))
    return function


def _refuse_what_belongs_to_functions(given: Mapping[str, Any]) -> None:
    """Options that the two functions have and that would mean nothing for both of them."""
    for name in ("timeout", "handler", "url", *_OF_ONE_FUNCTION):
        if name in given:
            where = (
                'of a Function of yours: Function("Api", {"handler": ..., "url": True})'
                if name == "url"
                else f'of its functions: "worker": {{"handler": ..., "{name}": ...}}'
            )
            raise BadOption(f"a WorkflowEngine has no option {name!r}; it is one {where}")


def _check_reserved(batches: int | None, reserved: int | None) -> None:
    if batches is not None and reserved is not None and UNRESERVED < reserved < batches:
        raise BadOption(
            f"orchestrator: concurrency: {reserved} calls at a time are fewer than the {batches} "
            "batches that the engine's option concurrency has them work on; batches that find no "
            f"free call would be counted as failed. Reserve {batches} or more"
        )


def _checked_environment(
    option: str, given: Mapping[str, Any], taken: Collection[str], why: str
) -> inputs.Map:
    def check(environment: Mapping[str, Any]) -> None:
        for name in environment:
            if name in RESERVED_VARIABLES:
                raise BadOption(f"{option}: {name} is set by Lambda itself, and by nobody else")
            if not _VARIABLE.fullmatch(name):
                raise BadOption(
                    f"{option}: {name!r} cannot be the name of a variable: Lambda takes letters, "
                    "digits and underscores, two or more, of which a letter is the first"
                )
            if name in taken:
                raise BadOption(f"{option}: {name} is {settings.MEANING[name]}. {why}")
        check_size(environment)

    return inputs.checked(given.get("environment") or {}, check)


def check_size(environment: inputs.Map) -> inputs.Map:
    """Return the variables, unless those that are known already are more than a function can have.

    Raises BadOption, or has an output raise it.
    """

    def check(variables: Mapping[str, Any]) -> None:
        sizes = {
            name: len(name.encode()) + len(value.encode()) if isinstance(value, str) else len(name)
            for name, value in variables.items()
        }
        total = sum(sizes.values())
        if total > LARGEST_ENVIRONMENT:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
            raise BadOption(
                f"environment: the variables have {total:,} bytes, and Lambda takes "
                f"{LARGEST_ENVIRONMENT:,} (the largest: {', '.join(largest)}). Put what is large "
                "into a file of the package (include), a parameter or a bucket"
            )

    return inputs.checked(environment, check)


def _target(given: Mapping[str, Any]) -> Target:
    deploying = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    runtime = units.one_of("runtime", given.get("runtime") or deploying, RUNTIMES)
    architecture = units.one_of(
        "architecture", given.get("architecture") or "x86_64", tuple(ARCHITECTURES)
    )
    return Target(runtime.removeprefix("python"), architecture)


def _signing_key_store(given: Mapping[str, Any]) -> Any:
    store = given.get("signing_key_store") or IN_ENVIRONMENT
    made = (IN_ENVIRONMENT, IN_PARAMETER, IN_SECRET)
    if isinstance(store, str) and store in made:
        return store
    if given.get("signing_key") is not None:
        raise BadOption(
            f"signing_key_store: {store!r} has the key already, or is not one of {', '.join(made)}; "
            "leave signing_key out"
        )

    def check(known: Any) -> None:
        if not isinstance(known, str) or not _STORE.match(known):
            raise BadOption(
                f"signing_key_store: {known!r} is not one of {', '.join(made)}, nor the ARN of a "
                "parameter of SSM or of a secret of Secrets Manager"
            )

    return inputs.checked(store, check)


def _check_key(key: str) -> None:
    if not isinstance(key, str) or len(key) < SHORTEST_KEY:
        raise BadOption(f"signing_key: a key has {SHORTEST_KEY} characters or more")


def _keep_versions(given: Mapping[str, Any]) -> int | None:
    value = given.get("keep_versions")
    if value is not None and not given.get("versions"):
        raise BadOption(
            "keep_versions: it is about versions of the functions: give versions=True too"
        )
    if value is False or not given.get("versions"):
        return None
    return KEEP_VERSIONS if value is None else units.whole("keep_versions", value, 1, MOST_KEPT)


def _concurrency(value: Any, least: int, most: int) -> int | None:
    return None if value is None else units.whole("concurrency", value, least, most)


def _url(value: Any) -> Url | None:
    if value is None or value is False:
        return None
    if value is True:
        return Url(guarded=True, cors=None)
    if not isinstance(value, Mapping):
        raise BadOption(
            f'url: {value!r} is not True, False or {{"authorization": ..., "cors": ...}}'
        )
    units.known("url", value, _URL)
    guarded = units.one_of("url: authorization", value.get("authorization", "iam"), ("iam", "none"))
    cors = value.get("cors")
    if cors is True:
        cors = {"allow_methods": ["*"], "allow_origins": ["*"], "allow_headers": ["*"]}
    if isinstance(cors, Mapping):
        cors = {units.snake_case(key): setting for key, setting in cors.items()}
        units.known("cors", cors, CORS)
    return Url(guarded == "iam", cors or None)


CORS = (
    "allow_credentials",
    "allow_headers",
    "allow_methods",
    "allow_origins",
    "expose_headers",
    "max_age",
)


def _topics(alarms: Any) -> tuple[Any, ...] | None:
    if alarms is None or alarms is False:
        return None
    if alarms is True:
        return ()
    if not isinstance(alarms, Mapping):
        raise BadOption(f'alarms: {alarms!r} is not True, False or {{"topics": [...]}}')
    units.known("alarms", alarms, _ALARMS)
    return tuple(alarms.get("topics") or ())


def _check_permissions(permissions: Any) -> None:
    for permission in permissions:
        if not isinstance(permission, Mapping):
            raise BadOption(
                f'permissions: {permission!r} is not {{"actions": [...], "resources": [...]}}'
            )
        units.known("a permission", permission, _PERMISSION)
        for part in ("actions", "resources"):
            listed = permission.get(part)
            if not isinstance(listed, pulumi.Output) and (isinstance(listed, str) or not listed):
                raise BadOption(f"permissions: {part} is a list, and not an empty one: {listed!r}")
