"""Fact, record, frozen, mutable: decorators that make dataclasses, whose methods are built at first use.

A process uses only some of these classes, and building their methods takes a good part of the time of
importing the library. So classes share their methods; the constructor and the description of the
fields, which differ, are built when they are first asked for. `dataclasses.fields`, `replace` and
`asdict` take these classes like any dataclass.

Facts and records are immutable by convention: the type checker refuses an assignment, the interpreter
does not. A check at run time would take longer than the rest of the construction, and each step of an
execution makes a dozen of them. A frozen class has that check.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, TypeVar, cast, dataclass_transform

T = TypeVar("T")

_set = object.__setattr__

MISSING: Final[Any] = object()
"""The default of a field that has none."""

_ABSENT: Any = object()
"""The value of an argument that the caller left out, where a factory makes the default."""


class Field:
    """The description of a field: see `field`."""

    __slots__ = ("compare", "default", "default_factory", "shown")

    def __init__(self, default: Any, default_factory: Any, compare: bool, shown: bool) -> None:
        self.default = default
        self.default_factory = default_factory
        self.compare = compare
        self.shown = shown


def field(
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    compare: bool = True,
    shown: bool = True,
) -> Any:
    """Return the description of a field: its default, or the function that makes one for each object, whether
    it counts when two objects are compared, and whether it is shown. Like `dataclasses.field`, but that
    module takes long to import.
    """
    return Field(default, default_factory, compare, shown)


def replace(value: T, /, **changes: Any) -> T:
    """Return a copy with some fields changed. Raises TypeError if there is no field of that name."""
    kind: Any = type(value)
    made: Any = kind.__copied__(value)
    fields, put = kind.__field_defaults__, kind.__put__
    for name, changed in changes.items():
        if name not in fields:
            raise TypeError(f"{kind.__qualname__} has no field {name!r}")
        put(made, name, changed)
    if kind.__is_checked__:
        made.__post_init__()
    return made


def _values(self: Any) -> tuple[Any, ...]:
    compared: tuple[Any, ...] = self.__compared__(self)
    return compared


def reader_of(names: list[str]) -> Any:
    """Return a function that reads these attributes of an object, as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)

    def values(instance: Any) -> tuple[Any, ...]:
        return tuple([getattr(instance, name) for name in names])

    return staticmethod(values)


def _equal(self: Any, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _hash_of_fact(self: Any) -> int:
    return hash((self.__class__, *(repr(value) for value in _values(self))))


def _show(self: Any) -> str:
    defaults = self.__field_defaults__.items()
    shown = [n for n, d in defaults if type(d) is not Field or d.shown]
    pairs = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
    return f"{type(self).__qualname__}({pairs})"


def _refuse_to_set(_self: Any, name: str, _value: Any) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__match_args__]


def _restore(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__match_args__, state, strict=True):
        object.__setattr__(self, name, value)


_SHARED: dict[str, Any] = {"__eq__": _equal, "__repr__": _show, "__replace__": replace}
_FROZEN: dict[str, Any] = {
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__getstate__": _state,
    "__setstate__": _restore,
}


@dataclass_transform(frozen_default=True)
def fact(kind: type[T]) -> type[T]:
    """Return a class of events: with slots, compared and shown by its fields."""
    return _rebuilt(kind, {"__hash__": _hash_of_fact})


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(kind: type[T]) -> type[T]:
    """Return a class of immutable data (by convention): with slots, compared by its fields."""
    return _rebuilt(kind, {"__hash__": _hash})


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(kind: type[T]) -> type[T]:
    """Return a class of data like a record, whose objects refuse every assignment."""
    return _rebuilt(kind, {"__hash__": _hash} | _FROZEN)


@dataclass_transform(field_specifiers=(field,))
def mutable(kind: type[T]) -> type[T]:
    """Return a class of data like a record, whose objects may change and have no hash."""
    return _rebuilt(kind, {"__hash__": None})


def defaults_of(kind: type[Any]) -> dict[str, Any]:
    """Return the defaults of the fields of such a class by name, in the order of the fields.

    A field without a default has MISSING here; a field described by `field` has its
    `Field`.
    """
    defaults: dict[str, Any] = kind.__field_defaults__
    return defaults


def _rebuilt(kind: type[T], methods: dict[str, Any]) -> type[T]:
    """Return the class rebuilt with slots for its fields, and with those methods that it lacks."""
    namespace = _SHARED | methods | kind.__dict__
    for name in ("__dict__", "__weakref__"):
        namespace.pop(name, None)
    own = [name for name, hint in kind.__annotations__.items() if not hint.startswith("ClassVar")]
    defaults: dict[str, Any] = dict(getattr(kind, "__field_defaults__", ()))
    defaults.update((name, namespace.pop(name, MISSING)) for name in own)
    namespace["__hash__"] = namespace["__hash__"] or methods["__hash__"]
    namespace["__slots__"] = tuple(own)
    namespace["__match_args__"] = tuple(defaults)
    namespace["__field_defaults__"] = defaults
    namespace["__copied__"] = _COPIED
    refuses = namespace.get("__setattr__", kind.__setattr__) is _refuse_to_set
    namespace["__put__"] = staticmethod(_set if refuses else setattr)  # which is faster
    namespace["__is_checked__"] = hasattr(kind, "__post_init__")
    namespace["__compared__"] = reader_of(
        [n for n, d in defaults.items() if type(d) is not Field or cast("Any", d).compare]
    )
    namespace["__dataclass_fields__"] = _FIELDS
    namespace["__signature__"] = _SIGNATURE

    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        initialize: Any = _constructor(rebuilt)
        rebuilt.__init__ = initialize  # type: ignore[misc]
        initialize(self, *args, **kwargs)

    namespace["__init__"] = construct
    rebuilt: type[T] = type(kind)(kind.__name__, kind.__bases__, namespace)
    rebuilt.__qualname__ = kind.__qualname__
    return rebuilt


def _constructor(kind: type[Any]) -> Callable[..., None]:
    """Return the function that takes the fields as arguments and sets them."""
    known: dict[str, Any] = {"_ABSENT": _ABSENT}
    arguments = ["self"]
    lines: list[str] = []
    refuses = kind.__setattr__ is _refuse_to_set
    for name, default in defaults_of(kind).items():
        value = name
        if type(default) is Field:
            described = cast("Any", default)
            default = described.default
            if described.default_factory is not MISSING:
                # list[int]() is slower than list(): it also tries to set __orig_class__ on the list.
                make = described.default_factory
                known[f"_make_{name}"] = getattr(make, "__origin__", make)
                value = f"_make_{name}() if {name} is _ABSENT else {name}"
                default = _ABSENT
        known[f"_default_{name}"] = default
        arguments.append(name if default is MISSING else f"{name}=_default_{name}")
        if refuses:
            known[f"_set_{name}"] = getattr(kind, name).__set__
            lines.append(f"_set_{name}(self, {value})")
        else:
            lines.append(f"self.{name} = {value}")
    if hasattr(kind, "__post_init__"):
        lines.append("self.__post_init__()")
    text = f"def __init__({', '.join(arguments)}):\n " + "\n ".join(lines or ["pass"])
    exec(text, known)
    constructor: Any = known["__init__"]
    constructor.__qualname__ = f"{kind.__qualname__}.__init__"
    constructor.__annotations__ = _hints(kind) | {"return": None}
    return cast("Callable[..., None]", constructor)


def _copier(kind: type[Any]) -> Callable[[Any], Any]:
    """Return the function that makes another object with the same values. `replace` is called at every turn,
    and to go by the constructor would take four times as long.
    """
    known: dict[str, Any] = {"_new": kind.__new__, "_kind": kind}
    lines = ["made = _new(_kind)"]
    for name in defaults_of(kind):
        known[f"_set_{name}"] = getattr(kind, name).__set__
        refuses = kind.__setattr__ is _refuse_to_set
        lines.append(f"_set_{name}(made, one.{name})" if refuses else f"made.{name} = one.{name}")
    exec("def copied(one):\n " + "\n ".join([*lines, "return made"]), known)
    copied: Callable[[Any], Any] = known["copied"]
    return copied


def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the type hints of the class's fields, those of its bases among them."""
    hints = {n: h for base in reversed(kind.__mro__) for n, h in _own_hints(base).items()}
    return {name: hints[name] for name in defaults_of(kind)}


def _own_hints(kind: type[Any]) -> dict[str, Any]:
    return kind.__annotations__ if kind.__module__ != "builtins" else {}


def _described(kind: type[Any]) -> dict[str, Any]:
    """Return the `__dataclass_fields__` of the class, which `dataclasses` reads."""
    import dataclasses

    defaults: dict[str, Any] = {}
    for name, default in defaults_of(kind).items():
        if type(default) is Field:
            described = cast("Any", default)
            given = {"default": described.default, "default_factory": described.default_factory}
            given = {key: value for key, value in given.items() if value is not MISSING}
            default = dataclasses.field(**given, compare=described.compare, repr=described.shown)
        if default is not MISSING:
            defaults[name] = default
    names = {"__annotations__": _hints(kind), "__doc__": "", "__module__": kind.__module__}
    model: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(
        type(kind.__name__, (), names | defaults)
    )
    fields: dict[str, Any] = model.__dataclass_fields__
    return fields


def _signature(kind: type[Any]) -> Any:
    """Return the signature of the constructor, which `inspect` and `help` show."""
    from inspect import Signature, signature

    shown = signature(_constructor(kind))
    return Signature(list(shown.parameters.values())[1:], return_annotation=None)


class _Later:
    """An attribute of a class that is computed when it is first read."""

    def __init__(self, name: str, make: Callable[[type[Any]], Any]) -> None:
        self._name = name
        self._make = make

    def __get__(self, _instance: object, kind: type[Any]) -> Any:
        value = self._make(kind)
        setattr(kind, self._name, value)
        return value


_FIELDS = _Later("__dataclass_fields__", _described)
_SIGNATURE = _Later("__signature__", _signature)
_COPIED = _Later("__copied__", lambda kind: staticmethod(_copier(kind)))
