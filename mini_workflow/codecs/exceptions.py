"""Write exceptions as plain JSON: class, arguments and attributes, which are tried out when written.

Many exceptions can be pickled and then not loaded, because their constructor takes other arguments than
`args`. So an exception is rebuilt when it is encoded: by a call of the class with `args` if that makes the
same exception, otherwise without its constructor.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, cast

from mini_workflow.class_names import name_of
from mini_workflow.codecs.kinds import Kind, Tagged, Unencodable, short_name
from mini_workflow.codecs.names import is_importable, load_class
from mini_workflow.codecs.picklers import type_name
from mini_workflow.core.failure import FINAL, add_note, set_args
from mini_workflow.errors import PayloadNotReadable

if TYPE_CHECKING:
    from mini_workflow.codecs.decoding import Decoder
    from mini_workflow.codecs.encoding import Encoder

REMOTE: Final = "__remote_traceback__"
"""The attribute with the traceback text of an exception from another process; it is not state."""

NOT_STATE: Final = frozenset({REMOTE, FINAL})

# The attributes that builtin exceptions keep outside of `args` and `__dict__`.
_HIDDEN: Final[tuple[tuple[type[BaseException], tuple[str, ...]], ...]] = (
    (OSError, ("errno", "strerror", "filename", "filename2")),
    (ImportError, ("msg", "name", "path")),
    (NameError, ("name",)),
    (AttributeError, ("name",)),
    (UnicodeError, ("encoding", "object", "start", "end", "reason")),
    (SyntaxError, ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset")),
    (StopIteration, ("value",)),
    (SystemExit, ("code",)),
)

# These can always be rebuilt, so that they are not tried out.
_SIMPLE: Final = frozenset(
    {Exception, ValueError, TypeError, RuntimeError, KeyError, IndexError, LookupError}
    | {ArithmeticError, ZeroDivisionError, OverflowError, AssertionError, NotImplementedError}
)

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement

Recurse = Callable[[Any], Any]


def exception_state(
    error: BaseException, encode: Recurse, decode: Recurse
) -> dict[str, Any] | None:
    """Return the state for `rebuild_exception`, or None if the exception cannot be rebuilt from JSON.

    An attribute that cannot be encoded is left out and listed as dropped. With an argument that cannot be
    encoded the exception cannot be rebuilt. Never raises.
    """
    kind = type(error)
    try:
        state = _state_of(error, encode)
        named = {} if is_importable(kind) else {"class": encode(kind)}
    except Exception:
        return None
    if kind in _SIMPLE and len(state) == 1:
        return state
    for how in ("call", "new"):
        candidate = {**named, **state, "how": how}
        try:
            again = _rebuild(kind, {**candidate, "dropped": []}, decode)
            same = type(again) is kind and str(again) == str(error)
            if same and _without_drops(_state_of(again, encode)) == _without_drops(state):
                return candidate
        except Exception:
            continue
    return None


def _state_of(error: BaseException, encode: Recurse) -> dict[str, Any]:
    hidden = {
        name: encode(value)
        for name in _hidden_names(type(error))
        if (value := getattr(error, name, None)) is not None
    }
    state: dict[str, Any] = {"args": [encode(item) for item in error.args]}
    if hidden:
        state["hidden"] = hidden
    return state | attributes_state(error, encode)


def attributes_state(error: BaseException, encode: Recurse) -> dict[str, Any]:
    """Encode the attributes of an exception, also those in slots, and list those that cannot be encoded."""
    attributes: dict[str, Any] = {}
    dropped: list[str] = []
    for name, value in [*vars(error).items(), *_slots_of(error)]:
        if name in NOT_STATE:
            continue
        try:
            attributes[name] = encode(_readable(value) if name == "__notes__" else value)
        except Exception:
            dropped.append(name)
    state: dict[str, Any] = {}
    if attributes:
        state["attributes"] = attributes
    if dropped:
        state["dropped"] = dropped
    return state


def _readable(notes: Any) -> Any:
    """Return the notes of an exception as a store can have them."""
    if not isinstance(notes, list):
        return notes
    every = cast("list[Any]", notes)
    return [plain_text(note) if type(note) is str else note for note in every]


def plain_text(text: str) -> str:
    """Return the text with half surrogate pairs, which UTF-8 cannot say, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _without_drops(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != "dropped"}


def _hidden_names(kind: type[BaseException]) -> tuple[str, ...]:
    return tuple(name for base, names in _HIDDEN if issubclass(kind, base) for name in names)


def _slots_of(error: BaseException) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for base in type(error).__mro__:
        slots: Any = base.__dict__.get("__slots__", ())
        names: tuple[str, ...] = (slots,) if isinstance(slots, str) else tuple(slots)
        found.extend(
            (name, getattr(error, name))
            for name in names
            if name not in ("__dict__", "__weakref__") and hasattr(error, name)
        )
    return found


def rebuild_exception(
    name: str, state: dict[str, Any], decode: Recurse, load: Callable[[str], type[Any]] = load_class
) -> BaseException:
    """Return the exception of a state. Raises PayloadNotReadable, or any error of its class."""
    kind = decode(state["class"]) if "class" in state else load(name)
    if not issubclass(kind, BaseException):
        raise PayloadNotReadable(f"{name!r} is no longer an exception: restore it under that name")
    return _rebuild(kind, state, decode)


def _rebuild(kind: type[BaseException], state: dict[str, Any], decode: Recurse) -> BaseException:
    args = tuple(decode(item) for item in state["args"])
    if state.get("how") == "new":
        native = next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
        error: BaseException = native.__new__(kind, *args)
        set_args(error, args)
    else:
        error = kind(*args)
    hidden: dict[str, Any] = state.get("hidden", {})
    for name, tree in hidden.items():
        value = decode(tree)
        if getattr(error, name, None) != value:
            object.__setattr__(error, name, value)
    restore_attributes(error, state, decode)
    return error


def restore_attributes(error: BaseException, state: dict[str, Any], decode: Recurse) -> None:
    """Give an exception the attributes of `attributes_state`, whatever its class overrides."""
    attributes: dict[str, Any] = state.get("attributes", {})
    for name, tree in attributes.items():
        if isinstance(getattr(type(error), name, None), MemberDescriptorType):
            object.__setattr__(error, name, decode(tree))
        else:
            vars(error)[name] = decode(tree)
    dropped: list[str] = state.get("dropped", [])
    if dropped:
        add_note(error, f"(these attributes could not be carried along: {', '.join(dropped)})")


def _encode(encoder: Encoder, value: BaseException) -> Any:
    state = exception_state(value, encoder.encode, encoder.decode)
    if state is None:
        tagged = encoder.opaque(value)
        try:
            again = encoder.decode(tagged)
        except Exception as error:
            raise Unencodable(f"is {_unloadable(value, error)}") from error
        if str(again) != str(value):
            raise Unencodable(f"is {_unloadable(value, 'its message changes')}")
        return tagged
    tagged: Tagged = {"$": "exception", "class": name_of(type(value)), "v": state}
    if value.__cause__ is not None:
        tagged["cause"] = encoder.part(value.__cause__, ".__cause__")
    return tagged


def _unloadable(value: BaseException, problem: object) -> str:
    return (
        f"an exception that cannot be rebuilt ({type_name(value)}: {problem}); make its arguments "
        "values that can be stored, or return its text instead"
    )


def _decode(decoder: Decoder, tagged: Tagged) -> BaseException:
    error = rebuild_exception(tagged["class"], tagged["v"], decoder.decode, decoder.load_class)
    if "cause" in tagged:
        error.__cause__ = decoder.decode(tagged["cause"])
    return error


def _show(decoder: Decoder, tagged: Tagged) -> str:
    args = (repr(decoder.decode(item)) for item in tagged["v"]["args"])
    return f"{short_name(tagged['class'])}({', '.join(args)})"


EXCEPTION: Final = Kind((), _encode, _decode, _show)
