"""Write exceptions as data, and rebuild them on the other side of a boundary."""

from __future__ import annotations

import math
from datetime import timedelta
from types import TracebackType
from typing import Any, Final

from mini_workflow.class_names import name_of
from mini_workflow.codecs.decoding import Decoder
from mini_workflow.codecs.encoding import Encoder
from mini_workflow.codecs.exceptions import (
    REMOTE,
    attributes_state,
    exception_state,
    plain_text,
    rebuild_exception,
    restore_attributes,
)
from mini_workflow.codecs.names import type_of
from mini_workflow.codecs.payload_codecs import ENCODED_TEXT
from mini_workflow.codecs.pickled import decode_opaque, encode_opaque
from mini_workflow.codecs.signing import ValueSigner
from mini_workflow.core.failure import FINAL, Failure, add_note, set_cause
from mini_workflow.errors import TaskError

MAX_TEXT: Final = 16 * 1024
"""Characters that are kept of a message and of a traceback. The middle of a longer one is left out."""
MAX_DEPTH: Final = 64
"""The number of causes that are followed, and the depth of exception groups. A note says what is left out."""
MAX_EXCEPTIONS: Final = 10_000
"""The number of exceptions that go with one: its causes and the members of groups. A bound for exceptions
that refer to each other many times. A note says what is left out."""

_PRINTED_MEMBERS: Final = 100
"""The traceback of a group with more members leaves out theirs, since each member has its own."""


class RemoteTraceback(Exception):
    """The traceback of an exception from another process, as text. It is the last of its causes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def encode_failure(error: BaseException, signer: ValueSigner | None = None) -> Failure:
    """Return an exception as data. Never raises."""
    try:
        return _Encoding(signer).encode(error, MAX_DEPTH, ())
    except Exception:
        # Code of its class fails when it is looked at: it is described without its attributes.
        kind = type(error)
        return Failure(
            type=name_of(kind),
            message=_message(error),
            traceback=_bounded("".join(_lines(error, _frames_of(error)))),
            lineage=tuple(name_of(base) for base in kind.__mro__ if base is not object),
        )


class _Encoding:
    """Encodes one exception with its causes and members."""

    def __init__(self, signer: ValueSigner | None) -> None:
        self._signer = signer
        self._left = MAX_EXCEPTIONS

    def encode(self, error: BaseException, room: int, outer: tuple[int, ...]) -> Failure:
        """Encode an exception inside those of `outer`, with at most `room` further levels."""
        self._left -= 1
        kind = type(error)
        outer = (*outer, id(error))
        cause = error.__cause__
        if cause is None and not error.__suppress_context__:
            cause = error.__context__
        if isinstance(cause, RemoteTraceback) or (cause is not None and id(cause) in outer):
            cause = None
        remote, traceback = _tracebacks(error)
        inner: Failure | None = None
        if cause is not None:
            if room > 0 and self._left > 0:
                inner = self.encode(cause, room - 1, outer)
            else:
                traceback += f"(its cause, {name_of(type(cause))}, and further ones are left out)\n"
        return Failure(
            type=name_of(kind),
            message=_message(error),
            traceback=traceback,
            lineage=tuple(name_of(base) for base in kind.__mro__ if base is not object),
            state=self._state(error, room, outer),
            cause=inner,
            retry_after=_retry_after(error),
            final=bool(vars(error).get(FINAL)),
            task_traceback=remote,
        )

    def _state(self, error: BaseException, room: int, outer: tuple[int, ...]) -> Any:
        signer = self._signer
        if _is_control_flow(type(error)):
            return None
        encoder = Encoder(signer, check_text=True)
        if isinstance(error, BaseExceptionGroup):
            return self._group_state(error, encoder, room, outer)
        state = exception_state(error, encoder.encode, encoder.decode)
        if state is not None:
            return state
        try:
            tagged = encode_opaque(error, signer)
            again = decode_opaque(tagged, signer)
            return tagged if str(again) == str(error) else None
        except Exception:
            return None

    def _group_state(
        self, error: Any, encoder: Encoder, room: int, outer: tuple[int, ...]
    ) -> dict[str, Any] | None:
        """Encode the members and the attributes; None without room, so that a TaskError is rebuilt."""
        if room <= 0 or self._left < len(error.exceptions):
            return None
        return {
            "group": _bounded(str(error.message)),
            "members": [
                self.encode(member, room - 1, outer).to_plain() for member in error.exceptions
            ],
            **attributes_state(error, encoder.encode),
        }


def _message(error: BaseException) -> str:
    try:
        return _bounded(str(error))
    except Exception as problem:
        return f"(no message: {type(problem).__name__} in __str__)"


def _tracebacks(error: BaseException) -> tuple[str, str]:
    """Return the traceback of the task that raised the exception, and that of the code here."""
    remote, frames = "", None
    try:
        frames = error.__traceback__
        found: object = vars(error).get(REMOTE)
        remote = found if isinstance(found, str) else ""
    except Exception:  # its class refuses the attribute
        frames = _frames_of(error)
    if remote and frames is None:
        return "", _bounded(remote)
    return _bounded(remote), _bounded("".join(_lines(error, frames)))


def _frames_of(error: BaseException) -> TracebackType | None:
    """Return the frames of an exception whatever its class does when its attributes are read."""
    frames: TracebackType | None = BaseException.__getattribute__(error, "__traceback__")
    return frames


def _lines(error: BaseException, frames: TracebackType | None) -> list[str]:
    import traceback

    try:
        # Python would format every member of a group, also repeated ones.
        if _weight(error) <= _PRINTED_MEMBERS:
            return traceback.format_exception(type(error), error, frames, chain=False)
    except Exception:
        pass
    where = traceback.format_tb(frames)
    start = ["Traceback (most recent call last):\n"] if where else []
    return [*start, *where, f"{type(error).__qualname__}: {_message(error)}\n"]


def _weight(error: Any, enough: int = _PRINTED_MEMBERS) -> int:
    """Return the number of exceptions in a group, counted until it exceeds `enough`."""
    count = 1
    if not issubclass(type_of(error), BaseExceptionGroup):
        return count
    for member in error.exceptions:
        count += _weight(member, enough - count)
        if count > enough:
            break
    return count


def _bounded(text: str) -> str:
    text = plain_text(text)
    if len(text) <= MAX_TEXT:
        return text
    mark = "\n... (shortened) ...\n"
    head = MAX_TEXT // 4
    return text[:head] + mark + text[-(MAX_TEXT - head - len(mark)) :]


def _retry_after(error: BaseException) -> int | None:
    try:
        asked: Any = getattr(error, "retry_after", None)
        if isinstance(asked, timedelta):
            asked = asked.total_seconds()
        if isinstance(asked, bool) or not isinstance(asked, (int, float)):
            return None
        return math.ceil(asked * 1000) if 0 <= asked < math.inf else None
    except Exception:
        return None


def _is_control_flow(kind: type[Any]) -> bool:
    """Return whether exceptions of a class must not be raised in the code that awaits the task.

    StopIteration cannot be set on a future, and a BaseException that is no Exception would end the loop.
    """
    if issubclass(kind, BaseExceptionGroup):
        return False
    return issubclass(kind, StopIteration) or not issubclass(kind, Exception)


def decode_failure(
    failure: Failure,
    signer: ValueSigner | None = None,
    *,
    ordered: bool = False,
    trust: bool = True,
) -> BaseException:
    """Return the exception of a failure, as its own type if it can be rebuilt, otherwise a TaskError.

    Its causes are chained as before; the last of them has the traceback texts of all as a
    `RemoteTraceback`. Without `trust` only classes of imported modules are found, and only signed parts are
    unpickled. With `ordered` its sets iterate in the stored order. Never raises.
    """
    try:
        return _decode(failure, Decoder(signer, ordered=ordered, trust=trust), [])
    except Exception:
        return _generic(failure)


def show_failure(failure: Failure) -> BaseException:
    """Return the exception for people to read: a builtin one as itself, others as a TaskError.

    Imports nothing, and runs only code of Python. Never raises.
    """
    try:
        return _decode(failure, Decoder.for_people(), [])
    except Exception:
        return _generic(failure)


def _decode(failure: Failure, decoder: Decoder, outer: list[str]) -> BaseException:
    error = _rebuild(failure, decoder)
    text = _readable(failure)
    texts = [text, *outer] if text else outer
    if text:
        vars(error)[REMOTE] = text
    if failure.cause is not None:
        set_cause(error, _decode(failure.cause, decoder, texts))
    elif texts:
        joint = "\nThe above exception was the cause of the following:\n\n"
        set_cause(error, RemoteTraceback(joint.join(texts)))
    return error


def _rebuild(failure: Failure, decoder: Decoder) -> BaseException:
    state = failure.state
    if state is None:
        return _generic(failure)
    try:
        if "$" in state:
            error = decoder.decode(state)
        elif "group" in state:
            error = _rebuild_group(failure, decoder)
        else:
            error = rebuild_exception(failure.type, state, decoder.decode, decoder.load_class)
        if isinstance(error, Exception) and not _is_control_flow(type(error)):
            return error
    except Exception:
        pass
    return _generic(failure)


def _rebuild_group(failure: Failure, decoder: Decoder) -> BaseException:
    """Return an exception group, made without its constructor, which may take other arguments."""
    state = failure.state
    members = [_decode(Failure.from_plain(plain), decoder, []) for plain in state["members"]]
    errors = [member for member in members if isinstance(member, Exception)]
    kind: type[Any] = ExceptionGroup
    try:
        found = decoder.load_class(failure.type)
        # Other classes are never called, since the name comes from outside.
        if issubclass(found, ExceptionGroup):
            kind = found  # pyright: ignore[reportUnknownVariableType]
    except Exception:
        pass
    group: Any = BaseExceptionGroup.__new__(kind, state["group"], errors)
    restore_attributes(group, state, decoder.decode)
    for note in state.get("notes", ()):
        add_note(group, note)
    return group


def _generic(failure: Failure) -> TaskError:
    name = failure.type.rpartition(":")[2].rpartition(".")[2]
    return TaskError(
        f"{name}: {failure.message}" if failure.message else name,
        type_name=failure.type,
        remote_traceback=_readable(failure),
    )


def _readable(failure: Failure) -> str:
    """Return the tracebacks, unless a payload codec has encoded them."""
    return "" if failure.traceback.startswith(ENCODED_TEXT) else failure.tracebacks
