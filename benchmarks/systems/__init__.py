"""What is measured: each system in an environment and in processes of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class System:
    """A system under measurement.

    `script` is the module that measures it, `profile` the list in requirements/ that its
    environment is made from. `variant` is passed on to the script. One that `may_lack` is left out where
    its environment cannot be made.
    """

    name: str
    title: str
    about: str
    script: str
    profile: str
    variant: str = ""
    may_lack: bool = False


OURS: Final = "mini-workflow"
LIMIT: Final = "limit"
DBOS: Final = "dbos"
DBOS_WAL: Final = "dbos-wal"
AWS_DURABLE: Final = "aws-durable"
TEMPORAL: Final = "temporal"

SYSTEMS: Final[dict[str, System]] = {
    system.name: system
    for system in (
        System(
            OURS,
            "mini-workflow",
            "this library: SQLite, WAL, synchronous=FULL",
            "mini_workflow_",
            "bench",
        ),
        System(
            LIMIT,
            "limit",
            "a bare loop that commits the same rows, with the same file settings",
            "limit_",
            "bench",
        ),
        System(DBOS, "dbos", "dbos on SQLite, with its defaults", "dbos_", "bench-dbos"),
        System(
            DBOS_WAL,
            "dbos (WAL)",
            "dbos on an SQLite file in WAL mode",
            "dbos_",
            "bench-dbos",
            "wal",
        ),
        System(
            AWS_DURABLE,
            "aws-durable",
            "aws-durable-execution-sdk-python-testing, with its store in memory",
            "aws_durable_",
            "bench-aws-durable",
        ),
        System(
            TEMPORAL,
            "temporal",
            "Temporal's Python SDK without a server: replays alone",
            "temporal_",
            "bench-temporal",
            may_lack=True,
        ),
    )
}
"""In the order in which they take turns."""
