"""Write objects of the user's classes: dataclasses, pydantic models, named tuples and enums.

The state is written, not a constructor call, so that no `__init__` or validator runs when a value is read.
A field that the class has gained since takes its default; a field that it has lost is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, Flag
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.class_names import name_of
from mini_workflow.codecs.kinds import Kind, Tagged, short_name
from mini_workflow.codecs.names import is_importable, is_model_class, type_of
from mini_workflow.core.records import frozen
from mini_workflow.errors import PayloadNotReadable

if TYPE_CHECKING:
    from mini_workflow.codecs.decoding import Decoder
    from mini_workflow.codecs.encoding import Encoder

_NOTHING: Final[dict[str, Any]] = {}
_SIMPLE_BASES: Final = frozenset({object})


def tag_of(kind: type[Any]) -> str | None:
    """Return the tag of `OBJECTS` for the instances of exactly this class, or None."""
    if not is_importable(kind):
        return "model" if _is_parametrised(kind) else None
    if issubclass(kind, Enum):
        return "enum"
    if is_model_class(kind):
        return "model"
    if _reduces_itself(kind):
        return None
    if tuple in kind.__mro__:
        return "namedtuple" if _is_named_tuple(kind) else None
    return (
        "dataclass" if hasattr(kind, "__dataclass_fields__") and _is_plain_dataclass(kind) else None
    )


def _reduces_itself(kind: type[Any]) -> bool:
    """Return whether the class defines how its instances are pickled."""
    for base in kind.__mro__:
        for name in ("__reduce__", "__reduce_ex__", "__getnewargs_ex__", "__setstate__"):
            if name in base.__dict__ and base is not object:
                made_by = getattr(base.__dict__[name], "__module__", None)
                if made_by not in _MAKERS:
                    return True
    return False


_MAKERS: Final = ("dataclasses", frozen.__module__)
"""The modules that give dataclasses generic methods for pickle."""


def _encode_enum(encoder: Encoder, value: Enum) -> Tagged:
    tagged: Tagged = {"$": "enum", "class": name_of(type(value))}
    if isinstance(value, Flag):
        return {**tagged, "v": encoder.part(value.value, ".value")}
    return {**tagged, "name": value.name}


def _decode_enum(decoder: Decoder, tagged: Tagged) -> Enum:
    """Return a member of an enum by its name, or a flag by its value."""
    kind: Any = decoder.load_class(tagged["class"])
    # Other classes are never called, since the name comes from outside.
    if not issubclass(kind, Enum):
        raise _no_longer(tagged["class"], "an enum")
    try:
        if "name" in tagged:
            return kind[tagged["name"]]
        return kind(decoder.decode(tagged["v"]))
    except (KeyError, ValueError, TypeError) as error:
        member = tagged.get("name", tagged.get("v"))
        raise PayloadNotReadable(
            f"enum {tagged['class']!r} has no member {member!r} any more: keep the old name, as an "
            "alias if need be, until no execution holds it"
        ) from error


def _show_enum(decoder: Decoder, tagged: Tagged) -> str:
    name = short_name(tagged["class"])
    return f"{name}.{tagged['name']}" if "name" in tagged else f"{name}({tagged.get('v')!r})"


def _is_named_tuple(kind: type[Any]) -> bool:
    fields = getattr(kind, "_fields", None)
    # A named tuple with a __dict__ may have more than its fields.
    return (
        isinstance(fields, tuple) and hasattr(kind, "_field_defaults") and not kind.__dictoffset__
    )


def _encode_named_tuple(encoder: Encoder, value: Any) -> Tagged:
    part = encoder.part
    fields = {name: part(item, f".{name}") for name, item in zip(value._fields, value, strict=True)}
    return {"$": "namedtuple", "class": name_of(type(value)), "v": fields}


def _decode_named_tuple(decoder: Decoder, tagged: Tagged) -> Any:
    """Return a named tuple from its stored fields."""
    kind: Any = decoder.load_class(tagged["class"])
    if tuple not in kind.__mro__ or not hasattr(kind, "_fields"):
        raise _no_longer(tagged["class"], "a named tuple")
    stored: dict[str, Any] = tagged["v"]
    defaults: Mapping[str, Any] = kind._field_defaults
    items: list[Any] = []
    for name in kind._fields:
        if name in stored:
            items.append(decoder.decode(stored[name]))
        elif name in defaults:
            items.append(defaults[name])
        else:
            raise _no_default(tagged["class"], name)
    make: Any = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return make(kind, items)


def _is_plain_dataclass(kind: type[Any]) -> bool:
    """Return whether fields and `__dict__` hold the whole state of an instance."""
    import dataclasses

    fields = {field.name for field in dataclasses.fields(kind)}
    for base in kind.__mro__:
        if base in _SIMPLE_BASES or base.__module__ in ("typing", "abc"):
            continue
        if not base.__flags__ & _HEAP_TYPE:
            return False  # a builtin with contents of its own
        slots = base.__dict__.get("__slots__", ())
        slots = {slots} if isinstance(slots, str) else set(slots)
        if slots - fields - {"__dict__", "__weakref__"}:
            return False
    return True


_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


_Layout = tuple[str, dict[str, str], set[str]]
"""The layout of a dataclass: its name, its fields with the steps to them, and the fields in slots."""

_LAYOUTS_REMEMBERED: Final = 4096
_layouts: dict[type[Any], _Layout] = {}


def _layout_of(kind: type[Any]) -> _Layout:
    import dataclasses

    names = {field.name: f".{field.name}" for field in dataclasses.fields(kind)}
    slots = {name for name in names if isinstance(getattr(kind, name, None), MemberDescriptorType)}
    if len(_layouts) >= _LAYOUTS_REMEMBERED:
        _layouts.clear()
    _layouts[kind] = name_of(kind), names, slots
    return _layouts[kind]


def _encode_dataclass(encoder: Encoder, value: Any) -> Tagged:
    kind, part = type_of(value), encoder.part
    class_name, names, slots = _layouts.get(kind) or _layout_of(kind)
    attributes: dict[str, Any] = getattr(value, "__dict__", _NOTHING)
    stored: dict[str, Any] = {}
    for name, step in names.items():
        # A field that only the class has is left out.
        if name in attributes:
            stored[name] = part(attributes[name], step)
        elif name in slots and hasattr(value, name):
            stored[name] = part(getattr(value, name), step)
    tagged: Tagged = {"$": "dataclass", "class": class_name, "v": stored}
    if len(attributes) + len(slots) > len(stored):
        more = {
            name: part(item, f".{name}") for name, item in attributes.items() if name not in names
        }
        if more:
            tagged["more"] = more
    return tagged


def _decode_dataclass(decoder: Decoder, tagged: Tagged) -> Any:
    """Return a dataclass from its stored fields, without its constructor."""
    kind = decoder.load_class(tagged["class"])
    if not hasattr(kind, "__dataclass_fields__"):
        raise _no_longer(tagged["class"], "a dataclass")
    import dataclasses

    stored: dict[str, Any] = tagged["v"]
    value = object.__new__(kind)
    for field in dataclasses.fields(kind):
        name = field.name
        if name in stored:
            object.__setattr__(value, name, decoder.decode(stored[name]))
        elif isinstance(getattr(kind, name, None), property):
            pass  # it keeps its value in another attribute, and its setter is code of the user
        elif field.default is not dataclasses.MISSING:
            if field.init or not hasattr(value, name):
                object.__setattr__(value, name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            object.__setattr__(value, name, field.default_factory())
        elif field.init:
            raise _no_default(tagged["class"], name)
    for name, item in tagged.get("more", {}).items():
        object.__setattr__(value, name, decoder.decode(item))
    return value


def _is_parametrised(kind: type[Any]) -> bool:
    """Return whether a class is an importable generic model with arguments, such as ``Page[int]``."""
    metadata: dict[str, Any] = getattr(kind, "__pydantic_generic_metadata__", _NOTHING)
    return is_model_class(kind) and bool(metadata["args"]) and is_importable(metadata["origin"])


def _encode_model_class(encoder: Encoder, kind: Any) -> dict[str, Any]:
    if is_importable(kind):
        return {"class": name_of(kind)}
    metadata = kind.__pydantic_generic_metadata__
    arguments = [
        {"model": _encode_model_class(encoder, argument)}
        if isinstance(argument, type) and _is_parametrised(argument)
        else {"type": encoder.part(argument, ".__class__")}
        for argument in metadata["args"]
    ]
    return {"class": name_of(metadata["origin"]), "args": arguments}


def _decode_model_class(decoder: Decoder, tagged: dict[str, Any]) -> Any:
    kind: Any = decoder.load_class(tagged["class"])
    if not is_model_class(kind):
        raise _no_longer(tagged["class"], "a pydantic model")
    if "args" not in tagged:
        return kind
    return kind[
        tuple(
            _decode_model_class(decoder, argument["model"])
            if "model" in argument
            else decoder.decode(argument["type"])
            for argument in tagged["args"]
        )
    ]


_MODEL_STATE: Final = ("__pydantic_extra__", "__pydantic_private__")


def _encode_model(encoder: Encoder, value: Any) -> Tagged:
    part = encoder.part
    state: dict[str, Any] = value.__getstate__()
    kind: Any = type_of(value)
    known: dict[str, Any] = kind.model_fields
    stored: dict[str, Any] = {}
    more: dict[str, Any] = {}
    for name, item in state["__dict__"].items():
        (stored if name in known else more)[name] = part(item, f".{name}")
    tagged: Tagged = {
        "$": "model",
        **_encode_model_class(encoder, kind),
        "v": stored,
        "set": sorted(state["__pydantic_fields_set__"]),
    }
    if more:
        tagged["more"] = more
    for name, key in zip(_MODEL_STATE, ("extra", "private"), strict=True):
        if state.get(name) is not None:  # a RootModel has neither
            tagged[key] = {inner: part(item, f".{inner}") for inner, item in state[name].items()}
    return tagged


def _decode_model(decoder: Decoder, tagged: Tagged) -> Any:
    """Return a pydantic model from its stored fields, without its validators."""
    kind = _decode_model_class(decoder, tagged)
    stored: dict[str, Any] = tagged["v"]
    contents: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if name in stored:
            contents[name] = decoder.decode(stored[name])
        elif field.is_required():
            raise _no_default(tagged["class"], name)
        else:
            contents[name] = field.get_default(call_default_factory=True)
    contents.update({name: decoder.decode(item) for name, item in tagged.get("more", {}).items()})
    state: dict[str, Any] = {
        "__dict__": contents,
        "__pydantic_fields_set__": set(tagged["set"])
        & {*kind.model_fields, *tagged.get("extra", {})},
    }
    extra = {name: decoder.decode(item) for name, item in tagged.get("extra", {}).items()}
    state["__pydantic_extra__"] = extra if kind.model_config.get("extra") == "allow" else None
    private = {
        name: default
        for name, attribute in kind.__private_attributes__.items()
        if type(default := attribute.get_default()).__name__ != "PydanticUndefinedType"
    }
    private.update({name: decoder.decode(item) for name, item in tagged.get("private", {}).items()})
    state["__pydantic_private__"] = private if kind.__private_attributes__ else None
    value = kind.__new__(kind)
    value.__setstate__(state)
    return value


def _no_longer(name: str, what: str) -> PayloadNotReadable:
    return PayloadNotReadable(
        f"{name!r} is no longer {what}: keep it one until no execution holds a value of it"
    )


def _no_default(name: str, field: str) -> PayloadNotReadable:
    return PayloadNotReadable(
        f"{name!r} has gained the field {field!r}, which a stored value lacks: give it a default"
    )


def _show_call(decoder: Decoder, tagged: Tagged) -> str:
    """Return a value as the text of a call that would make it."""
    fields = {**tagged["v"], **tagged.get("more", {}), **tagged.get("extra", {})}
    parts = (f"{name}={decoder.decode(item)!r}" for name, item in fields.items())
    return f"{short_name(tagged['class'])}({', '.join(parts)})"


OBJECTS: Final[dict[str, Kind]] = {
    "enum": Kind((), _encode_enum, _decode_enum, _show_enum),
    "namedtuple": Kind((), _encode_named_tuple, _decode_named_tuple, _show_call),
    "dataclass": Kind((), _encode_dataclass, _decode_dataclass, _show_call),
    "model": Kind((), _encode_model, _decode_model, _show_call),
}
