"""Exceptions across a boundary: as data, and as themselves again on the other side."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final

from mini_workflow.codecs.decoding import Decoder
from mini_workflow.codecs.encoding import Encoder
from mini_workflow.codecs.exceptions import REMOTE, exception_state, rebuild_exception
from mini_workflow.codecs.names import load_class, name_of
from mini_workflow.codecs.opaque import decode_opaque, encode_opaque
from mini_workflow.codecs.signing import Signer
from mini_workflow.core.failure import Failure
from mini_workflow.errors import TaskError

MAX_TEXT: Final = 16 * 1024
"""Characters kept of a message and of a traceback; the middle of a longer one is left out."""
MAX_CAUSES: Final = 8
"""How many causes are followed, and how deep exception groups are."""
MAX_MEMBERS: Final = 100
"""How many exceptions of one group are carried along."""


class RemoteTraceback(Exception):
    """The traceback of an exception from another process, as text; the last link of its causes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def encode_failure(error: BaseException, signer: Signer | None = None) -> Failure:
    """An exception as data. Never raises."""
    try:
        return _encode(error, signer, MAX_CAUSES, set())
    except Exception as problem:
        kind = type(error)
        return Failure(
            type=f"{kind.__module__}:{kind.__qualname__}",
            message=f"(the exception cannot be described: {type(problem).__name__})",
        )


def _encode(error: BaseException, signer: Signer | None, room: int, seen: set[int]) -> Failure:
    seen.add(id(error))
    kind = type(error)
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    follow = cause is not None and room > 0 and id(cause) not in seen
    follow = follow and not isinstance(cause, RemoteTraceback)
    return Failure(
        type=name_of(kind),
        message=_message(error),
        traceback=_traceback(error),
        lineage=tuple(name_of(base) for base in kind.__mro__ if base is not object),
        state=_state(error, signer, room, seen),
        cause=_encode(cause, signer, room - 1, seen) if follow and cause is not None else None,
        retry_after=_retry_after(error),
    )


def _message(error: BaseException) -> str:
    try:
        return _bounded(str(error))
    except Exception as problem:
        return f"(no message: {type(problem).__name__} in __str__)"


def _traceback(error: BaseException) -> str:
    import traceback

    try:
        remote: str = getattr(error, REMOTE, "")
        if remote and error.__traceback__ is None:
            return _bounded(remote)
        lines = "".join(
            traceback.format_exception(type(error), error, error.__traceback__, chain=False)
        )
        return _bounded(f"{remote}\n{lines}" if remote else lines)
    except Exception as problem:
        return f"(no traceback: {type(problem).__name__})"


def _bounded(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
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


def _state(error: BaseException, signer: Signer | None, room: int, seen: set[int]) -> Any:
    if _is_control_flow(type(error)):
        return None
    if isinstance(error, BaseExceptionGroup):
        return _group_state(error, signer, room, seen)
    encoder = Encoder(signer, check_text=True)
    state = exception_state(error, encoder.encode, encoder.decode)
    if state is not None:
        return state
    try:
        tagged = encode_opaque(error, signer)
        again = decode_opaque(tagged, signer)
        return tagged if str(again) == str(error) else None
    except Exception:
        return None


def _group_state(error: Any, signer: Signer | None, room: int, seen: set[int]) -> Any:
    if room <= 0:
        return None
    members = error.exceptions[:MAX_MEMBERS]
    notes = [_bounded(str(note)) for note in getattr(error, "__notes__", ())]
    if len(members) < len(error.exceptions):
        notes.append(f"({len(error.exceptions) - len(members)} more were left out)")
    state: dict[str, Any] = {
        "group": _bounded(str(error.message)),
        "members": [_encode(member, signer, room - 1, seen).to_plain() for member in members],
    }
    if notes:
        state["notes"] = notes
    return state


def _is_control_flow(kind: type[Any]) -> bool:
    """Whether it must not be raised at whoever waits for the task.

    StopIteration cannot be set on a future, and what is no Exception would end the waiting loop.
    """
    if issubclass(kind, BaseExceptionGroup):
        return False
    return issubclass(kind, StopIteration) or not issubclass(kind, Exception)


def decode_failure(failure: Failure, signer: Signer | None = None) -> BaseException:
    """The exception again, as its own type where it can be rebuilt, otherwise a TaskError.

    Its causes are chained to it as they were; the last of them has the traceback texts of all as a
    `RemoteTraceback`. Never raises.
    """
    try:
        return _decode(failure, signer, [])
    except Exception:
        return _generic(failure)


def _decode(failure: Failure, signer: Signer | None, outer: list[str]) -> BaseException:
    error = _rebuild(failure, signer)
    text = failure.traceback
    texts = [text, *outer] if text else outer
    if text:
        setattr(error, REMOTE, text)
    if failure.cause is not None:
        error.__cause__ = _decode(failure.cause, signer, texts)
    elif texts:
        joint = "\nThe above exception was the cause of the following:\n\n"
        error.__cause__ = RemoteTraceback(joint.join(texts))
    return error


def _rebuild(failure: Failure, signer: Signer | None) -> BaseException:
    state = failure.state
    if state is None:
        return _generic(failure)
    try:
        if "$" in state:
            error = decode_opaque(state, signer)
        elif "group" in state:
            error = _rebuild_group(failure, signer)
        else:
            error = rebuild_exception(failure.type, state, Decoder(signer).decode)
        if isinstance(error, Exception) and not _is_control_flow(type(error)):
            return error
    except Exception:
        pass
    return _generic(failure)


def _rebuild_group(failure: Failure, signer: Signer | None) -> BaseException:
    members = [_decode(Failure.from_plain(plain), signer, []) for plain in failure.state["members"]]
    errors = [member for member in members if isinstance(member, Exception)]
    try:
        kind: Any = load_class(failure.type)
        # The name comes from outside: never call what is no exception group.
        made: Any = kind if issubclass(kind, ExceptionGroup) else ExceptionGroup
        group: Any = made(failure.state["group"], errors)
    except Exception:
        group = None
    if not isinstance(group, ExceptionGroup):
        group = ExceptionGroup(failure.state["group"], errors)
    for note in failure.state.get("notes", ()):
        group.add_note(note)
    return group  # pyright: ignore[reportUnknownVariableType]


def _generic(failure: Failure) -> TaskError:
    name = failure.type.rpartition(":")[2].rpartition(".")[2]
    return TaskError(
        f"{name}: {failure.message}" if failure.message else name,
        type_name=failure.type,
        remote_traceback=failure.traceback,
    )
