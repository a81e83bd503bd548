"""Read settings: the environment variables by which a function of AWS finds the engine's resources.

| variable | meaning |
| --- | --- |
| BUCKET_NAME | the bucket with the histories |
| OBJECT_PREFIX | the beginning of the keys in the bucket; empty by default |
| MINI_WORKFLOW_TABLE_NAME | the table of DynamoDB that has the histories instead; none by default |
| QUEUE_URL | the FIFO queue of events |
| QUEUE_ARN | its ARN, for other programs: the library sends by the URL |
| MINI_WORKFLOW_DLQ_URL | the FIFO queue for messages that cannot be read |
| TIMER_QUEUE_URL | the queue whose messages reach the queue of events after their delay |
| WORKER_FUNCTION_NAME | the function that runs tasks |
| MINI_WORKFLOW_WORKERS | the other workers, by the names that tasks know them by: JSON; none by default |
| ROLE_ARN | the role by which EventBridge Scheduler sends to the queue of events |
| MINI_WORKFLOW_ORCHESTRATOR_FUNCTION_NAME | the function that answers queries and updates |
| MINI_WORKFLOW_SCHEDULE_GROUP | the group of the schedules of long timers |
| MINI_WORKFLOW_SCHEDULE_DLQ_ARN | the queue for messages that a schedule could not send; none by default |
| MINI_WORKFLOW_SCHEDULE_KEY_ARN | the key of KMS that encrypts schedules; AWS's own by default |
| MINI_WORKFLOW_EXECUTION_RETENTION | the seconds for which closed executions stay; for ever by default |
| MINI_WORKFLOW_DEV_WORKER | the worker of all tasks of executions that are started here; none by default |
| MINI_WORKFLOW_SIGNING_KEY | signs data from one function to another: 32 characters or more |
| MINI_WORKFLOW_SIGNING_KEY_ARN | in its place, the parameter of SSM or the secret that holds the key |

The signing key may be a ring: several keys with bars between them, of which the first signs and all
verify.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Final, cast

from mini_workflow.errors import SettingMissing

BUCKET_NAME: Final = "BUCKET_NAME"
OBJECT_PREFIX: Final = "OBJECT_PREFIX"
TABLE_NAME: Final = "MINI_WORKFLOW_TABLE_NAME"
QUEUE_URL: Final = "QUEUE_URL"
QUEUE_ARN: Final = "QUEUE_ARN"
DLQ_URL: Final = "MINI_WORKFLOW_DLQ_URL"
TIMER_QUEUE_URL: Final = "TIMER_QUEUE_URL"
WORKER_FUNCTION_NAME: Final = "WORKER_FUNCTION_NAME"
WORKERS: Final = "MINI_WORKFLOW_WORKERS"
ROLE_ARN: Final = "ROLE_ARN"
ORCHESTRATOR_FUNCTION_NAME: Final = "MINI_WORKFLOW_ORCHESTRATOR_FUNCTION_NAME"
SCHEDULE_GROUP: Final = "MINI_WORKFLOW_SCHEDULE_GROUP"
SCHEDULE_DLQ_ARN: Final = "MINI_WORKFLOW_SCHEDULE_DLQ_ARN"
SCHEDULE_KEY_ARN: Final = "MINI_WORKFLOW_SCHEDULE_KEY_ARN"
EXECUTION_RETENTION: Final = "MINI_WORKFLOW_EXECUTION_RETENTION"
DEV_WORKER: Final = "MINI_WORKFLOW_DEV_WORKER"
SIGNING_KEY: Final = "MINI_WORKFLOW_SIGNING_KEY"
SIGNING_KEY_ARN: Final = "MINI_WORKFLOW_SIGNING_KEY_ARN"

TABLE_KEY: Final = "id"
TABLE_ORDER: Final = "turn"
TABLE_EXPIRES: Final = "expires"
"""The attributes of the table with the histories: the partition key, the sort key, and the time at which an
item is removed."""

MEANING: Final[dict[str, str]] = {
    BUCKET_NAME: "the bucket with the histories",
    OBJECT_PREFIX: "the beginning of the keys in the bucket",
    TABLE_NAME: "the name of the table of DynamoDB with the histories",
    QUEUE_URL: "the URL of the FIFO queue of events",
    QUEUE_ARN: "the ARN of the FIFO queue of events",
    DLQ_URL: "the URL of the FIFO queue for messages that cannot be read",
    TIMER_QUEUE_URL: "the URL of the delay queue of timers",
    WORKER_FUNCTION_NAME: "the name of the function that runs tasks",
    WORKERS: "the functions of the other workers, or the URLs of their queues, by the names that "
    "tasks know them by, as JSON",
    ROLE_ARN: "the role by which EventBridge Scheduler sends to the queue of events",
    ORCHESTRATOR_FUNCTION_NAME: "the name of the orchestrator function",
    SCHEDULE_GROUP: "the name of the group of schedules",
    SCHEDULE_DLQ_ARN: "the ARN of the queue for messages that a schedule could not send",
    SCHEDULE_KEY_ARN: "the ARN of the key of KMS that encrypts schedules",
    EXECUTION_RETENTION: "the seconds after which executions that have closed are deleted",
    DEV_WORKER: "the worker that runs all tasks of the executions that are started here: that of a "
    "developer, whose name begins with dev-",
    SIGNING_KEY: "the key that signs data from one function to another",
    SIGNING_KEY_ARN: "the ARN of the parameter or secret that holds the signing key in its place",
}
"""The meaning of each variable, for error messages and documents."""

FUNCTION_NAME: Final = "AWS_LAMBDA_FUNCTION_NAME"
FUNCTION_VERSION: Final = "AWS_LAMBDA_FUNCTION_VERSION"
"""The variables that Lambda itself sets: the name and the version of the function."""

LIVE: Final = "live"
"""The alias by which the newest version of a function is called, where versions are published."""

DEFAULT_WORKER: Final = "default"
"""The name of the worker that runs the tasks which name none."""

DEV_PREFIX: Final = "dev-"
"""The beginning of the names of workers on developers' machines. No other worker takes all tasks of an
execution."""

WORKER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")
"""Names that a worker may have. They become part of the names of functions and queues, which have at most 64
characters."""

WORKER_NAME_RULE: Final = (
    "the name of a worker: 1 to 32 letters, digits and '-', beginning with a letter"
)

OPTIONAL: Final[dict[str, str]] = {
    OBJECT_PREFIX: "",
    TABLE_NAME: "",
    WORKERS: "",
    SCHEDULE_DLQ_ARN: "",
    SCHEDULE_KEY_ARN: "",
    EXECUTION_RETENTION: "",
    DEV_WORKER: "",
    SIGNING_KEY_ARN: "",
}
"""The variables that may be absent, with their default values."""


def prefix_of(engine: str) -> str:
    """Return the beginning of the variables with the settings of an engine, in a function linked to it."""
    return re.sub(r"[^A-Z0-9]", "_", engine.upper()) + "__"


def of_engine(engine: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the settings of one of the engines that a function is linked to, by the engine's name.

        orders = AWSRuntime.from_env(of_engine("Orders"))

    A function that is linked to several engines has no other settings. `environment` replaces that of the
    process. Raises SettingMissing if the function is not linked to an engine of this name.
    """
    variables = os.environ if environment is None else environment
    prefix = prefix_of(engine)
    found = {
        name.removeprefix(prefix): value
        for name, value in variables.items()
        if name.startswith(prefix) and name.removeprefix(prefix) in MEANING
    }
    if not found:
        raise SettingMissing(
            f"no variable begins with {prefix}: this function is not linked to an engine named "
            f"{engine!r}. Link it by link=[engine] of the Pulumi component, which sets the variables"
        )
    return found


class Settings:
    """Reads settings when they are needed. `environment` replaces that of the process."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._workers: tuple[str, dict[str, str]] = ("", {})

    def get(self, name: str) -> str:
        """Return the value of a variable. Raises SettingMissing if it is required, and absent or empty."""
        value = self._environment.get(name, "")
        if value or name in OPTIONAL:
            return value or OPTIONAL[name]
        raise SettingMissing(
            f"the environment variable {name} is not set: it holds {MEANING[name]}. The Pulumi "
            "component sets it on the engine's functions, and on others by link=[engine]; in a function "
            "linked to several engines read the settings of each by settings.of_engine(its name)"
        )

    def optional(self, name: str) -> str:
        """Return the value of a variable; empty if it is absent."""
        return self._environment.get(name, "")

    def workers(self) -> dict[str, str]:
        """Return the functions, or the URLs of the queues, of the named workers by their names. Raises
        SettingMissing if the variable has a wrong value.
        """
        value = self.get(WORKERS)
        if value == self._workers[0]:
            return self._workers[1]
        try:
            found = json.loads(value or "{}")
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(map(_is_text, found.values())):  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            raise SettingMissing(
                f"the environment variable {WORKERS} has to hold {MEANING[WORKERS]}, and not "
                f"{value[:200]!r}"
            )
        self._workers = (value, cast("dict[str, str]", found))
        return self._workers[1]

    def execution_retention(self) -> float | None:
        """Return the seconds after which closed executions are deleted, or None. Raises SettingMissing if the
        variable has a wrong value.
        """
        value = self.get(EXECUTION_RETENTION)
        if value and not (value.isascii() and value.isdecimal() and int(value)):
            raise SettingMissing(
                f"the environment variable {EXECUTION_RETENTION} has to hold "
                f"{MEANING[EXECUTION_RETENTION]}, and not {value[:200]!r}"
            )
        return int(value) if value else None

    def dev_worker(self) -> str:
        """Return the worker that runs all tasks of the executions which are started here; empty for none.
        Raises SettingMissing if the engine has no such worker, or it is not that of a developer.
        """
        name = self.get(DEV_WORKER)
        if name and not (name.startswith(DEV_PREFIX) and is_queue(self.workers().get(name, ""))):
            raise SettingMissing(
                f"the environment variable {DEV_WORKER} is {name!r}, and this engine has no worker of "
                f"that name that pulls; it has {self.dev_workers()}. {dev_worker_message(name)}"
            )
        return name

    def dev_workers(self) -> str:
        """Return the names of the workers on developers' machines, for messages."""
        found = [name for name, place in self.workers().items() if is_queue(place)]
        return ", ".join(sorted(filter(_is_dev, found))) or "none for development"


def dev_worker_message(name: str) -> str:
    """Return the remedy that adds a developer's worker, for messages."""
    named = name if name.startswith(DEV_PREFIX) else f"{DEV_PREFIX}{name}"
    return f'Give the component workers={{"{named}": {{"pull": true}}}}, and deploy'


def is_queue(place: str) -> bool:
    """Return whether the place of a worker is the URL of a queue, and not the name of a function."""
    return place.startswith(("https://", "http://"))


def _is_dev(name: str) -> bool:
    return name.startswith(DEV_PREFIX)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""
