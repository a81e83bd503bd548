"""Questions: what a client does to put a query to an execution."""

from __future__ import annotations

from typing import Any

from mini_workflow.core.codec import Codec
from mini_workflow.core.validation import check_id, check_name
from mini_workflow.engine.requests import Ask
from mini_workflow.engine.transport import Transport


class Questions:
    """Callable from any thread."""

    def __init__(self, transport: Transport, codec: Codec) -> None:
        self._transport = transport
        self._codec = codec

    def ask(
        self, execution_id: str, name: str, args: Any, kwargs: Any, *, for_people: bool = False
    ) -> Any:
        """Return the answer to a query: see `Execution.query`. `for_people` asks for values to look at,
        without their classes.
        """
        check_id(execution_id)
        check_name("query", name)
        codec = self._codec.for_execution(execution_id)
        arguments = codec.encode_arguments(args, kwargs)
        answer = self._transport.ask(Ask(execution_id, name, arguments))
        return codec.show(answer) if for_people else codec.decode(answer)
