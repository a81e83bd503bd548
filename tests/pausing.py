"""Executions that are asked to pause and to resume, several times each."""

from typing import Any

from mini_workflow.engine.execution import Execution


def ask_in_turns(goes: Execution[Any], stays: Execution[Any]) -> None:
    """Ask twice of each; the last request to `goes` is to resume, that to `stays` is to pause."""
    for _ in range(2):
        goes.pause()
        goes.resume()
        stays.resume()
        stays.pause()
