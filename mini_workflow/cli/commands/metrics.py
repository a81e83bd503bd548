"""The command `metrics`: count executions, for Prometheus."""

from __future__ import annotations

from typing import Final

import click

from mini_workflow.cli.output import say, say_json
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.engine.metrics import executions_text
from mini_workflow.ports import STATUSES


@command("metrics", "mini-workflow metrics > executions.prom", "mini-workflow metrics --json")
@json_option
@pass_session
def metrics(session: Session, as_json: bool) -> None:
    """Count the executions by status, as text for Prometheus.

    Only a process itself knows its own metrics: call runtime.metrics() in its code.
    """
    with session.backend.reader() as client:
        counts = {status: client.count_executions(status=status) for status in STATUSES}
    if as_json:
        say_json({"executions": counts})
    else:
        say(executions_text(counts))


COMMANDS: Final[tuple[click.Command, ...]] = (metrics,)
