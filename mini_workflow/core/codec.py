"""Declare the codecs by which values, closures and exceptions cross a boundary: the core has none itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.errors import UsageError


class CallInProcess:
    """A captured call that is not made into bytes, because it never leaves the process. What is in it,
    only the codec knows that has made it.
    """

    __slots__ = ()


CapturedCall = bytes | CallInProcess
"""A function with what it captures and its arguments, as they were when `Codec.capture` was called."""


def bytes_of_call(call: CapturedCall) -> bytes:
    """Return a captured call as what can be sent. Raises UsageError of one for this process alone."""
    if isinstance(call, bytes):
        return call
    raise UsageError(
        "a call that was captured for this process alone was to be sent to another one: give the "
        "runtime a codec whose capture() returns bytes, such as StandardCodec"
    )


class Codec(Protocol):
    """Encodes what leaves a workflow and decodes what comes back.

    Every method is a pure function of its arguments. An encoding either succeeds as a whole or
    raises and leaves nothing behind.
    """

    @property
    def is_private(self) -> bool:
        """Whether what it encodes must not be readable in logs, and in what is told of an execution."""
        ...

    def for_execution(self, execution_id: str) -> Codec:
        """Return the codec of what goes to an execution, and of what it and its tasks answer.

        Where values are signed, those of one execution are no values of another.
        """
        ...

    def encode(self, value: object, path: str) -> Payload:
        """Encode a value. `path` names the root in errors, for example ``result``.

        Raises ValueNotSerializable, which names the path of the part at fault.
        """
        ...

    def for_run(self, arguments: Payload) -> Codec:
        """Return the codec of a run that began with these arguments. Asked if it is private."""
        ...

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """Encode arguments as ``[[positional...], {keyword...}]``. Raises ValueNotSerializable."""
        ...

    def decode(self, payload: Payload) -> Any:
        """Return the value again, to the type. Raises PayloadNotReadable."""
        ...

    def decode_ordered(self, payload: Payload) -> Any:
        """Return the same for a workflow: its sets are walked through in the same order in every
        process.
        """
        ...

    def show(self, payload: Payload) -> Any:
        """Return the value for people to look at, without its classes. Runs no code that is stored,
        and imports nothing by a stored name. Raises PayloadNotReadable.
        """
        ...

    def show_failure(self, failure: Failure) -> BaseException:
        """Return an exception for people to look at, in the same way. Never raises."""
        ...

    def capture(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> CapturedCall:
        """Return a call, with the captured variables as they are now: as bytes, unless all tasks run in
        this process.

        Raises ClosureNotSerializable, which names the variable at fault.
        """
        ...

    def fingerprint(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        """Return whom a call calls, and two checksums: ``charge#0c1f22aa.9b2d11c0``. Never raises.

        The first is of what else the source of the call says, the second of its arguments and
        captured values. It is the same in every process.
        """
        ...

    def outline(self, payload: Payload, execution_id: str) -> str:
        """Return a text that is the same for equal encoded values, in every process. They were encoded
        for that execution.
        """
        ...

    def restore(
        self, payload: CapturedCall
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Return the call again. Raises PayloadNotReadable or PythonVersionMismatch."""
        ...

    def encode_failure(self, error: BaseException) -> Failure:
        """Return an exception as data. Never raises."""
        ...

    def decode_failure(self, failure: Failure) -> BaseException:
        """Return the exception again, as its own type where it can be rebuilt. Raises
        PayloadNotReadable if it was encoded by what this codec does not have, and nothing else.
        """
        ...

    def moved(self, payload: Payload, target: Any) -> Payload:
        """Return an encoded value of this execution as the same codec of another one, `target`, encodes it.
        Raises PayloadNotReadable.
        """
        ...

    def moved_failure(self, failure: Failure, target: Any) -> Failure:
        """Do the same for a failure."""
        ...

    def plain_payload(self, payload: Payload) -> Payload:
        """Return the encoded value as JSON that can be read. Raises PayloadNotReadable."""
        ...

    def plain_failure(self, failure: Failure) -> Failure:
        """Return the failure with a message and a traceback that can be read. Raises
        PayloadNotReadable.
        """
        ...
