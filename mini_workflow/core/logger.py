"""Log lines of workflow code, once each: a replay logs none."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from mini_workflow.core.recorder import Recorder


class WorkflowLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger for workflow code that is silent in a replay. Each record has the attributes
    `execution_id`, and `event`: the number of the last event before it in the run, counted from 1.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(
            logging.getLogger("mini_workflow.workflow"), {"execution_id": recorder.execution_id}
        )
        self._recorder = recorder

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        """Return whether a line of that level would be logged now."""
        return not self._recorder.quiet and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the execution's id in front of the line."""
        msg, kwargs = super().process(msg, kwargs)
        kwargs["extra"] = {**kwargs["extra"], "event": self._recorder.state.length}
        return f"[{self._recorder.execution_id}] {msg}", kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line, unless the run is replayed. Logging handlers run outside the workflow's sandbox."""
        if self.isEnabledFor(level):
            with self._recorder.loop.outside():
                kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
                super().log(level, msg, *args, **kwargs)
