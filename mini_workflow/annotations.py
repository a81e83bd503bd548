"""Build the values of parameters by their annotations, from JSON or from texts as they are typed."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import importlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from typing import Any, Final, Literal, NewType, TypeVar, Union, cast, get_args, get_origin
from uuid import UUID

from mini_workflow.durations import milliseconds
from mini_workflow.errors import UsageError


class Unfit(Exception):
    """A value does not fit an annotation. The message has the place, and the kind of value that fits."""


class Text(str):
    """A text as it was typed: JSON, or a text without quotes."""

    __slots__ = ()


def build(value: Any, annotation: Any, where: str) -> Any:
    """Return the value for a parameter with that annotation.

    `value` is plain JSON, or a `Text`. Dataclasses, named tuples, pydantic models and the like are built
    from JSON objects, dates and UUIDs from texts, a timedelta from seconds. `where` names the parameter
    in errors. Raises Unfit.
    """
    annotation = _bare(annotation)
    if annotation in _PLAIN:
        return _json(value)
    if annotation is None or annotation is types.NoneType:
        if _json(value) is None:
            return None
        raise _unfit(where, "null", value)
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _union(value, get_args(annotation), where)
    if origin is Literal:
        return _literal(value, get_args(annotation), where)
    if origin is not None or annotation in _COLLECTIONS:
        return _collection(value, origin or annotation, get_args(annotation), where)
    if isinstance(annotation, type):
        return _instance(value, cast("type[Any]", annotation), where)
    raise Unfit(f"{where} is annotated as {_name(annotation)}: {_ELSEWHERE}")


_ELSEWHERE: Final = "such a value cannot be written as text; start or call it from Python instead"

_PLAIN: Final = (Any, object, inspect.Parameter.empty)


def _bare(annotation: Any) -> Any:
    """Return the annotation without `Annotated`, aliases, new types and type variables."""
    while True:
        if get_origin(annotation) is typing.Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif isinstance(annotation, TypeVar):
            annotation = annotation.__bound__ or Any
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def _json(value: Any) -> Any:
    """Return the JSON of a typed text, or the text itself if it is no JSON; any other value unchanged."""
    if not isinstance(value, Text):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return str(value)
    except RecursionError as error:
        raise Unfit(f"{value[:20]!r}... is nested too deeply") from error


def _string(value: Any, where: str, wanted: str) -> str:
    """Return a text. A typed text is taken as it is, or without the quotes of JSON. Raises Unfit."""
    if isinstance(value, Text):
        plain = _json(value) if value.startswith('"') else value
        return plain if type(plain) is str else str(value)
    if isinstance(value, str):
        return value
    raise _unfit(where, wanted, value)


def _unfit(where: str, wanted: str, value: Any) -> Unfit:
    shown = str(value) if isinstance(value, Text) else json.dumps(value, ensure_ascii=False)
    return Unfit(
        f"{where} must be {wanted}, not {shown if len(shown) < 60 else shown[:57] + '...'}"
    )


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


# Alternatives


def _union(value: Any, members: tuple[Any, ...], where: str) -> Any:
    # Every text fits `str`, so it is tried last.
    ordered = sorted(members, key=lambda member: _bare(member) is str)
    if not isinstance(value, Text):
        # The type of a JSON value comes before types that would be built from it.
        ordered.sort(key=lambda member: type(value) is not _bare(member))
    reasons: list[str] = []
    for member in ordered:
        try:
            return build(value, member, where)
        except Unfit as error:
            reasons.append(str(error))
    if len(reasons) == 2 and types.NoneType in members:
        at = 0 if ordered[1] in (None, types.NoneType) else 1
        raise Unfit(f"{reasons[at]} (or null)")
    raise Unfit("; or ".join(dict.fromkeys(reasons)))


def _literal(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    plain = _json(value)
    for choice in choices:
        if (type(plain) is type(choice) and plain == choice) or (
            isinstance(value, Text) and choice == str(value)
        ):
            return choice
    raise _unfit(where, f"one of {', '.join(map(repr, choices))}", value)


# Collections

_COLLECTIONS: Final[dict[Any, Callable[[Iterable[Any]], Any]]] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    tuple: tuple,
    set: set,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    dict: dict,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}


def _collection(value: Any, kind: Any, arguments: tuple[Any, ...], where: str) -> Any:
    plain = _json(value)
    make = _COLLECTIONS.get(kind)
    if make is dict:
        if not isinstance(plain, dict):
            raise _unfit(where, "a JSON object", value)
        of_key, of_value = arguments or (str, Any)
        return {
            _key(key, of_key, where): build(item, of_value, f"{where}[{key!r}]")
            for key, item in cast("dict[str, Any]", plain).items()
        }
    if make is None:
        if isinstance(kind, type):  # a class with parameters, such as a generic model
            return _instance(value, kind, where)
        raise Unfit(f"{where} is annotated as {_name(kind)}: {_ELSEWHERE}")
    if not isinstance(plain, list):
        raise _unfit(where, "a JSON array", value)
    items = cast("list[Any]", plain)
    kinds = [arguments[0] if arguments else Any] * len(items)
    if make is tuple and arguments and arguments[-1:] != (...,):
        kinds = [] if arguments == ((),) else list(arguments)
        if len(items) != len(kinds):
            raise _unfit(where, f"a JSON array of {len(kinds)}", value)
    return make(
        [
            build(item, k, f"{where}[{n}]")
            for n, (item, k) in enumerate(zip(items, kinds, strict=True))
        ]
    )


def _key(key: str, annotation: Any, where: str) -> Any:
    """Return the key of a dict by its annotation. In JSON every key is a text. Raises Unfit."""
    try:
        return build(key, annotation, f"a key of {where}")
    except Unfit:
        return build(Text(key), annotation, f"a key of {where}")


# Classes


def _instance(value: Any, kind: Any, where: str) -> Any:
    for known, make in _SCALARS:
        if kind is known or (known in _WITH_SUBCLASSES and issubclass(kind, known)):
            return make(value, kind, where)
    if hasattr(kind, "model_validate"):  # pydantic
        return _made(lambda: kind.model_validate(_json(value)), where)
    if hasattr(kind, "__struct_fields__"):
        msgspec: Any = importlib.import_module("msgspec")
        return _made(lambda: msgspec.convert(_json(value), kind), where)
    if typing.is_typeddict(kind):
        return _typed_dict(value, kind, where)
    fields = _fields(kind)
    if fields is None:
        raise Unfit(f"{where} is annotated as {kind.__name__}: {_ELSEWHERE}")
    plain = _json(value)
    if isinstance(plain, list) and issubclass(kind, tuple):
        plain = dict(zip(fields, cast("list[Any]", plain), strict=False))
    members, make = _members(plain, fields, kind, where), cast("Callable[..., object]", kind)
    return _made(lambda: make(**members), where)


def _fields(kind: Any) -> dict[str, bool] | None:
    """Return the fields that the constructor of a class takes, by name, and whether each is optional; None if
    the class has no fields.
    """
    if dataclasses.is_dataclass(kind):
        missing = dataclasses.MISSING
        return {
            f.name: f.default is not missing or f.default_factory is not missing
            for f in dataclasses.fields(kind)
            if f.init
        }
    if hasattr(kind, "_field_defaults"):  # a named tuple
        names: tuple[str, ...] = kind._fields
        return {name: name in kind._field_defaults for name in names}
    if hasattr(kind, "__attrs_attrs__"):
        attributes: Any = kind.__attrs_attrs__
        nothing = inspect.Parameter.empty
        taken = inspect.signature(kind).parameters
        aliases: list[str] = [attribute.alias for attribute in attributes]
        return {name: taken[name].default is not nothing for name in aliases if name in taken}
    return None


def _members(plain: Any, fields: Mapping[str, bool], kind: Any, where: str) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise _unfit(where, f"a JSON object with {', '.join(fields)}", plain)
    given = cast("dict[str, Any]", plain)
    for name in given:
        if name not in fields:
            raise Unfit(f"{where}: {kind.__name__} has no {name!r}; it has {', '.join(fields)}")
    for name, optional in fields.items():
        if not optional and name not in given:
            raise Unfit(f"{where}: {name!r} is missing")
    hints = annotations_of(kind)
    return {name: build(v, hints.get(name, Any), f"{where}.{name}") for name, v in given.items()}


def _typed_dict(value: Any, kind: Any, where: str) -> dict[str, Any]:
    fields = {name: name in kind.__optional_keys__ for name in kind.__annotations__}
    return _members(_json(value), fields, kind, where)


def _made(make: Callable[[], object], where: str) -> Any:
    """Return the result of a constructor. An exception of it becomes an Unfit."""
    try:
        return make()
    except Unfit:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise Unfit(f"{where}: {reason or type(error).__name__}") from error


def _exactly(*kinds: type) -> Callable[[Any, type[Any], str], Any]:
    def make(value: Any, kind: type[Any], where: str) -> Any:
        plain = _json(value)
        if type(plain) not in kinds:
            raise _unfit(where, f"{_WORDS[kind]}", value)
        return kind(plain)

    return make


_WORDS: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def _from_text(
    wanted: str, make: Callable[[type[Any], str], Any]
) -> Callable[[Any, type[Any], str], Any]:
    def made(value: Any, kind: type[Any], where: str) -> Any:
        text = _string(value, where, wanted)
        try:
            return make(kind, text)
        except (ValueError, ArithmeticError) as error:
            raise _unfit(where, wanted, value) from error

    return made


def _number_or_text(wanted: str) -> Callable[[Any, type[Any], str], Any]:
    from_text = _from_text(wanted, lambda kind, text: kind(text))

    def made(value: Any, kind: type[Any], where: str) -> Any:
        number = type(value) in (int, float)
        return from_text(str(value) if number else value, kind, where)

    return made


def _timedelta(value: Any, kind: type[Any], where: str) -> timedelta:
    plain = _json(value)
    try:
        if type(plain) not in (int, float):
            raise ValueError
        return timedelta(milliseconds=milliseconds(plain))
    except (ValueError, OverflowError, UsageError) as error:
        raise _unfit(where, "a number of seconds", value) from error


def _enum(value: Any, kind: type[Any], where: str) -> Any:
    plain = _json(value)
    for member in cast("type[Enum]", kind):
        alike = type(member.value) is type(plain) and member.value == plain
        typed = isinstance(value, Text) and str(value) in (member.value, member.name)
        if alike or typed or plain == member.name:
            return member
    raise _unfit(where, f"one of {', '.join(kind.__members__)}", value)


_SCALARS: Final[tuple[tuple[type, Callable[[Any, type[Any], str], Any]], ...]] = (
    (Enum, _enum),
    (bool, _exactly(bool)),
    (int, _exactly(int)),
    (float, _exactly(int, float)),
    (str, lambda value, kind, where: kind(_string(value, where, "a text"))),
    (Decimal, _number_or_text("a decimal number")),
    (Fraction, _number_or_text("a number or a fraction")),
    (
        datetime,
        _from_text(
            "a date and a time as in 2026-01-31T12:00:00+00:00", lambda k, t: k.fromisoformat(t)
        ),
    ),
    (date, _from_text("a date as in 2026-01-31", lambda k, t: k.fromisoformat(t))),
    (time, _from_text("a time as in 12:00:00", lambda k, t: k.fromisoformat(t))),
    (timedelta, _timedelta),
    (UUID, _from_text("a UUID", lambda k, t: k(t))),
    (IPv4Address, _from_text("an IPv4 address", lambda k, t: k(t))),
    (IPv6Address, _from_text("an IPv6 address", lambda k, t: k(t))),
    (PurePath, _from_text("a path", lambda k, t: k(t))),
)
_WITH_SUBCLASSES: Final = (Enum, PurePath)


# Functions


def annotations_of(thing: Any) -> dict[str, Any]:
    """Return the evaluated annotations of a function or class; Any for one that cannot be evaluated."""
    if not isinstance(thing, type):
        # An object that wraps a function has, in some Pythons, the annotations of its class.
        thing = inspect.unwrap(thing)
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except Exception:
        pass
    found: dict[str, Any] = {}
    for part in reversed(thing.__mro__) if isinstance(thing, type) else (thing,):
        names = getattr(inspect.getmodule(part), "__dict__", {})
        names = getattr(part, "__globals__", names)
        for name, annotation in getattr(part, "__annotations__", {}).items():
            if isinstance(annotation, str):
                try:
                    annotation = eval(annotation, dict(names))
                except Exception:
                    annotation = Any
            found[name] = annotation
    return found
