"""Declare the codec by which values, closures and exceptions cross a boundary. The core has none itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.errors import UsageError


class CallInProcess:
    """A captured call that stays in this process and so is not written as bytes. Only the codec that made
    it can read it.
    """

    __slots__ = ()


CapturedCall = bytes | CallInProcess
"""A function with its captured variables and its arguments, as they were when `Codec.capture` was called."""


def bytes_of_call(call: CapturedCall) -> bytes:
    """Return the bytes of a captured call. Raises UsageError if the call is for this process alone."""
    if isinstance(call, bytes):
        return call
    raise UsageError(
        "a call that was captured for this process alone cannot be sent to another process: give the "
        "runtime a codec whose capture() returns bytes, such as StandardCodec"
    )


class Codec(Protocol):
    """Encodes the values that leave a workflow and decodes those that come back.

    Every method is a pure function of its arguments. An encoding either succeeds as a whole or
    raises and leaves nothing behind.
    """

    @property
    def is_private(self) -> bool:
        """Whether encoded values must stay unreadable in logs and in descriptions of an execution."""
        ...

    def for_execution(self, execution_id: str) -> Codec:
        """Return the codec of one execution: of the values sent to it, and of its own and its tasks' results.

        A signed value of one execution is not valid for another.
        """
        ...

    def encode(self, value: object, path: str) -> Payload:
        """Encode a value. `path` names the root in errors, for example ``result``.

        Raises ValueNotSerializable, which has the path of the part that cannot be encoded.
        """
        ...

    def for_run(self, arguments: Payload) -> Codec:
        """Return the codec of a run that began with these arguments. Called if `is_private`."""
        ...

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """Encode arguments as ``[[positional...], {keyword...}]``. Raises ValueNotSerializable."""
        ...

    def decode(self, payload: Payload) -> Any:
        """Return the value of a payload, with its types. Raises PayloadNotReadable."""
        ...

    def decode_ordered(self, payload: Payload) -> Any:
        """Return the value of a payload for workflow code: its sets iterate in the same order in every
        process. Raises PayloadNotReadable.
        """
        ...

    def show(self, payload: Payload) -> Any:
        """Return the value for people to read, without its classes. Runs no stored code and imports
        nothing by a stored name. Raises PayloadNotReadable.
        """
        ...

    def show_failure(self, failure: Failure) -> BaseException:
        """Return an exception for people to read, in the same way. Never raises."""
        ...

    def capture(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> CapturedCall:
        """Return a call with the captured variables as they are now: as bytes, unless all tasks run in
        this process.

        Raises ClosureNotSerializable, which names the variable that cannot be captured.
        """
        ...

    def fingerprint(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        captured: CapturedCall | None = None,
    ) -> str:
        """Return the name of the called function and two checksums: ``charge#0c1f22aa.9b2d11c0``.

        The first checksum is of the rest of the call's source, the second of its arguments and captured
        values. The text is the same in every process, and with the call as it was `captured` just before,
        which saves a second look at it, or without. Never raises.
        """
        ...

    def outline(self, payload: Payload, execution_id: str) -> str:
        """Return a text that is the same for equal values in every process. The payload was encoded for
        the execution of that id.
        """
        ...

    def restore(
        self, payload: CapturedCall
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Return the function and arguments of a captured call.

        Raises PayloadNotReadable or PythonVersionMismatch.
        """
        ...

    def encode_failure(self, error: BaseException) -> Failure:
        """Return an exception as data. Never raises."""
        ...

    def decode_failure(self, failure: Failure, *, ordered: bool = False) -> BaseException:
        """Return the exception of a failure, as its own type where it can be rebuilt. With `ordered` it
        is for workflow code: its sets iterate in the same order in every process.

        Raises PayloadNotReadable if a codec or key that this codec lacks has encoded it, and nothing
        else.
        """
        ...

    def moved(self, payload: Payload, target: Any) -> Payload:
        """Return a payload of this execution encoded for another one. `target` is the codec of that
        execution, of the same kind. Raises PayloadNotReadable.
        """
        ...

    def moved_failure(self, failure: Failure, target: Any) -> Failure:
        """Return a failure of this execution encoded for another one. See `moved`."""
        ...

    def plain_payload(self, payload: Payload) -> Payload:
        """Return the payload as readable JSON, without encryption. Raises PayloadNotReadable."""
        ...

    def plain_failure(self, failure: Failure) -> Failure:
        """Return the failure with a readable message and traceback. Raises PayloadNotReadable."""
        ...
