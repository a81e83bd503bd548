"""WorkflowLogger: a logger that a replay does not hear."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from mini_workflow.core.recorder import Recorder


class WorkflowLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs once per live line: a replay is silent. Records carry `execution_id`, and as `event` the
    number of the event of the run that the line follows, counted from 1.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(
            logging.getLogger("mini_workflow.workflow"), {"execution_id": recorder.execution_id}
        )
        self._recorder = recorder

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        """Return whether a line of that level is logged now."""
        return not self._recorder.quiet and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the execution's id in front of the line."""
        msg, kwargs = super().process(msg, kwargs)
        kwargs["extra"] = {**kwargs["extra"], "event": self._recorder.state.length}
        return f"[{self._recorder.execution_id}] {msg}", kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line, unless replaying. Handlers run as if outside the workflow."""
        if self.isEnabledFor(level):
            with self._recorder.loop.outside():
                kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
                super().log(level, msg, *args, **kwargs)
