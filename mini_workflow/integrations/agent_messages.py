"""Messages of a conversation, each pickled once: a request to a model has all the earlier ones again."""

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
    """The parts of an object, to be asked whether it still has them: by identity, part by part."""

    __slots__ = ("_kept", "_live")

    def __init__(self, value: Any) -> None:
        """Follow all that the value consists of. Raises ValueError of what may change unseen."""
        self._live: list[Iterable[Any]] = []
        self._follow(value, set())
        self._kept = list(chain.from_iterable(self._live))

    def holds(self) -> bool:
        """Return whether nothing in the object was changed."""
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
            raise ValueError(f"a {kind.__name__} may change unseen")
        part: Any
        for part in parts:
            self._follow(part, known)


def _has_fields_alone(kind: type[Any]) -> bool:
    """Return whether values of a data class consist of what `vars` says of them."""
    return (
        hasattr(kind, "__dataclass_fields__")
        and kind.__base__ is not None
        and not issubclass(kind, (str, bytes, int, float, list, dict, tuple, set))
        and not any(vars(base).get("__slots__") for base in kind.__mro__)
    )


class _Pickled:
    """A message as bytes, and made again from them for the tasks of this process."""

    __slots__ = ("_made", "_state_of_made", "_state_of_message", "bytes")

    def __init__(self, message: Any) -> None:
        """Pickle it. Raises ValueError of what may change unseen, or whatever the pickler raises."""
        self._state_of_message = _State(message)
        self.bytes: Final = picklers.dump_call(message)
        self._made: Any = None
        self._state_of_made: _State | None = None

    def holds(self) -> bool:
        """Return whether the bytes are still those of the message."""
        return self._state_of_message.holds()

    def made(self) -> Any:
        """Return the message as tasks of this process get it: the same each time until one changes it."""
        state = self._state_of_made
        if state is not None and state.holds():
            return self._made
        made = picklers.load(self.bytes)
        try:
            state = _State(made)
        except ValueError:
            return made
        self._made, self._state_of_made = made, state
        return made


_known: dict[int, tuple[weakref.ref[Any], _Pickled]] = {}


def _pickled(message: Any) -> _Pickled | Any:
    """Return a message pickled, now or before; itself if it may change unseen or cannot be pickled so."""
    key = id(message)
    known = _known.get(key)
    if known is not None and known[0]() is message and known[1].holds():
        return known[1]
    try:
        made = _Pickled(message)
        _known[key] = (weakref.ref(message, _forgetting(key)), made)
    except Exception:
        return message
    return made


def _forgetting(key: int) -> Callable[[weakref.ref[Any]], None]:
    def forget(gone: weakref.ref[Any]) -> None:
        known = _known.get(key)
        if known is not None and known[0] is gone:
            del _known[key]

    return forget


class Messages:
    """Messages as they are now, on their way to a task."""

    __slots__ = ("_pickled",)

    def __init__(self, messages: Sequence[Any]) -> None:
        self._pickled = tuple(map(_pickled, messages))

    def __reduce__(self) -> Any:
        sent = tuple(one.bytes if type(one) is _Pickled else (one,) for one in self._pickled)
        return _received, (sent,)

    def handed(self) -> Callable[[], list[Any]]:
        """Return what makes the messages for a task of this process, each time it is called. Raises
        whatever the pickler raises.
        """
        held = tuple(
            one if type(one) is _Pickled else picklers.dump_call(one) for one in self._pickled
        )

        def make() -> list[Any]:
            return [one.made() if isinstance(one, _Pickled) else picklers.load(one) for one in held]

        return make


def _received(sent: tuple[bytes | tuple[Any], ...]) -> list[Any]:
    return [picklers.load(one) if isinstance(one, bytes) else one[0] for one in sent]
