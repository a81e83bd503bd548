"""Pickle each message of a conversation once, since every request to a model has all earlier ones again."""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import chain
from operator import is_
from typing import Any, Final, cast
from uuid import UUID

from mini_workflow.codecs import picklers
from mini_workflow.codecs.functions import LEAVES

_FIXED: Final = LEAVES | {datetime, date, time, timedelta, timezone, Decimal, UUID, complex}
"""Types whose values never change."""

_END: Final = (object(),)


class _State:
    """The parts of an object, compared by identity, to find out whether the object was changed."""

    __slots__ = ("_kept", "_live")

    def __init__(self, value: Any) -> None:
        """Collect all parts of the value. Raises ValueError for a part that may change unnoticed."""
        self._live: list[Iterable[Any]] = []
        self._follow(value, set())
        self._kept = list(chain.from_iterable(self._live))

    def holds(self) -> bool:
        """Return whether the object still has the same parts."""
        try:
            now = list(chain.from_iterable(self._live))
        except RuntimeError:  # another thread is changing it
            return False
        return len(now) == len(self._kept) and all(map(is_, now, self._kept))

    def _follow(self, value: Any, known: set[int]) -> None:
        kind = cast("type[Any]", type(value))
        if kind in _FIXED or isinstance(value, enum.Enum) or id(value) in known:
            return
        known.add(id(value))
        parts: Iterable[Any]
        if kind is tuple:
            parts = value
        elif kind is list:
            parts = value
            self._live += value, _END
        elif kind is dict:
            parts = chain(value.keys(), value.values())
            self._live += value.keys(), value.values(), _END
        elif _has_fields_alone(kind):
            parts = cast("dict[str, Any]", vars(value)).values()
            self._live += parts, _END
        else:
            raise ValueError(f"a {kind.__name__} may change unnoticed")
        part: Any
        for part in parts:
            self._follow(part, known)


def _has_fields_alone(kind: type[Any]) -> bool:
    """Return whether `vars` of an instance of a data class has all its parts."""
    return (
        hasattr(kind, "__dataclass_fields__")
        and kind.__base__ is not None
        and not issubclass(kind, (str, bytes, int, float, list, dict, tuple, set))
        and not any(vars(base).get("__slots__") for base in kind.__mro__)
    )


class _Pickled:
    """A message as bytes, and a copy of it for the tasks of this process."""

    __slots__ = ("_copy", "_state_of_copy", "_state_of_message", "bytes")

    def __init__(self, message: Any) -> None:
        """Pickle a message. Raises ValueError if a part of it may change unnoticed, and any error of the
        pickler.
        """
        self._state_of_message = _State(message)
        self.bytes: Final = picklers.dump_call(message)
        self._copy: Any = None
        self._state_of_copy: _State | None = None

    def holds(self) -> bool:
        """Return whether the message is unchanged, so that the bytes are still right."""
        return self._state_of_message.holds()

    def restored(self) -> Any:
        """Return a copy of the message for a task of this process. It is shared until a task changes it."""
        state = self._state_of_copy
        if state is not None and state.holds():
            return self._copy
        copy = picklers.load(self.bytes)
        try:
            state = _State(copy)
        except ValueError:
            return copy
        self._copy, self._state_of_copy = copy, state
        return copy


_known: dict[int, tuple[weakref.ref[Any], _Pickled]] = {}


def _pickled(message: Any) -> _Pickled | Any:
    """Return a pickled message, pickled now or before; the message itself if it may change unnoticed or
    cannot be pickled.
    """
    key = id(message)
    known = _known.get(key)
    if known is not None and known[0]() is message and known[1].holds():
        return known[1]
    try:
        pickled = _Pickled(message)
        _known[key] = (weakref.ref(message, _forgetting(key)), pickled)
    except Exception:
        return message
    return pickled


def _forgetting(key: int) -> Callable[[weakref.ref[Any]], None]:
    def forget(gone: weakref.ref[Any]) -> None:
        known = _known.get(key)
        if known is not None and known[0] is gone:
            del _known[key]

    return forget


class Messages:
    """The messages of a conversation as they are now, as an argument of a task."""

    __slots__ = ("_pickled",)

    def __init__(self, messages: Sequence[Any]) -> None:
        self._pickled = tuple(map(_pickled, messages))

    def __reduce__(self) -> Any:
        sent = tuple(
            message.bytes if type(message) is _Pickled else (message,) for message in self._pickled
        )
        return _received, (sent,)

    def handed(self) -> Callable[[], list[Any]]:
        """Return a function that makes the messages for a task of this process, at each call. Raises any
        error of the pickler.
        """
        held = tuple(
            message if type(message) is _Pickled else picklers.dump_call(message)
            for message in self._pickled
        )

        def make() -> list[Any]:
            return [
                message.restored() if isinstance(message, _Pickled) else picklers.load(message)
                for message in held
            ]

        return make


def _received(sent: tuple[bytes | tuple[Any], ...]) -> list[Any]:
    return [picklers.load(part) if isinstance(part, bytes) else part[0] for part in sent]
