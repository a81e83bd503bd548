"""Compute the fingerprint of a call: its function and its values in a few characters.

``charge#0c1f22aa.9b2d11c0`` calls `charge`. The first number is a checksum of the rest of a lambda's source
(or of the place of a function), the second one of the arguments and the captured variables. The same call
has the same fingerprint in every process, since it depends on no memory address, no seed of a hash and no
pickle.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any, Final
from zlib import crc32

from mini_workflow.codecs.closures import SharedCall
from mini_workflow.codecs.encoding import Encoder
from mini_workflow.codecs.functions import LEAVES, PlainFunction
from mini_workflow.codecs.names import type_of
from mini_workflow.codecs.pickled import DILL, PICKLE
from mini_workflow.codecs.picklers import type_name
from mini_workflow.core.calls import LAMBDA, about_code, inner_function, name_of_call
from mini_workflow.core.codec import CapturedCall
from mini_workflow.core.payload import Payload

_MARSHAL_WITHOUT_REFERENCES: Final = 2
"""The version of marshal's format in which equal values are equal bytes."""
_REMEMBERED: Final = 2048
_known: dict[int, tuple[CodeType, str, int]] = {}
"""By the id() of a code: the code, the beginning of its fingerprints, and the first checksum in it."""
_last: tuple[CodeType, str, int] | None = None
"""The last of them, as in `calls.about_function`."""


def fingerprint_call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    captured: CapturedCall | None = None,
) -> str:
    """Return the fingerprint of a call, which may have been `captured` just now. Never raises."""
    if type(captured) is SharedCall and type(plain := captured.function) is PlainFunction:
        # Its values are known, and such as marshal takes.
        known = _last
        if known is not None and known[0] is plain.code and not kwargs:
            found = [*captured.contents, args] if args else captured.contents
            checksum = crc32(marshal.dumps(found, _MARSHAL_WITHOUT_REFERENCES)) if found else 0
            return f"{known[1]}{checksum:x}"
    values: list[Any] = []
    if type(function) is FunctionType:
        known = _last
        if known is None or known[0] is not function.__code__:
            known = _about(function)
        code, start, _ = known
        inner: Any = function
    else:
        inner, code, start = _look_inside(function, values)
    if isinstance(inner, FunctionType):
        for cell in inner.__closure__ or ():
            try:
                values.append(cell.cell_contents)
            except ValueError:  # a variable that is not yet set
                values.append(None)
        if inner.__name__ == LAMBDA and code and code.co_argcount and inner.__defaults__:
            values.append(inner.__defaults__)
    if args:
        values.append(args)
    if kwargs:
        values.append(kwargs)
    return f"{start}{_checksum(values) if values else 0:x}"


def _look_inside(function: Any, values: list[Any]) -> tuple[Any, CodeType | None, str]:
    """Return the function inside of a callable, its code if it has one, and the beginning of the fingerprint.
    Adds what the callable is bound to.
    """
    code: CodeType | None = None
    inner = inner_function(function)
    calls, details = name_of_call(function), 0
    outer: Any = function
    while isinstance(outer, partial):
        values.append(outer.args)  # pyright: ignore[reportUnknownMemberType]
        values.append(outer.keywords)  # pyright: ignore[reportUnknownMemberType]
        outer = outer.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(inner, MethodType):
        values.append(inner.__self__)
        inner = inner.__func__
    elif not isinstance(inner, (FunctionType, BuiltinFunctionType, type)):
        values.append(inner)
    if isinstance(inner, FunctionType):
        code, _, details = _about(inner)
    return inner, code, f"{calls}#{details:x}."


def _about(function: FunctionType) -> tuple[CodeType, str, int]:
    global _last
    code = function.__code__
    _last = known = _known.get(id(code))
    if known is not None:
        return known
    calls = name_of_call(function)
    if function.__name__ == LAMBDA:
        details = about_code(code).details
    else:
        # The file's name, which is the same for a script and for the module of that name.
        details = crc32(PurePath(code.co_filename).stem.encode("utf-8", "replace"))
    if len(_known) >= _REMEMBERED:
        _known.clear()
    _last = known = _known[id(code)] = (code, f"{calls}#{details:x}.", details)
    return known


def _checksum(values: list[Any]) -> int:
    if not LEAVES.issuperset(map(type, values)):
        for value in values:
            kind = type_of(value)
            if kind not in LEAVES and not (kind is tuple and LEAVES.issuperset(map(type, value))):
                return crc32(_text(values).encode("utf-8", "replace"))
    return crc32(marshal.dumps(values, _MARSHAL_WITHOUT_REFERENCES))


def _text(value: Any) -> str:
    """Return a text that is the same for equal values, also of sets and dicts in another order."""
    try:
        return json.dumps(value, sort_keys=True, default=_outline)
    except (TypeError, ValueError, RecursionError):
        pass  # a key is no text, or a value contains itself
    try:
        return json.dumps(Encoder(None, describe=_describe).encode(value), sort_keys=True)
    except Exception:
        return type_name(value)


def _outline(value: Any) -> Any:
    """Return plain JSON for a value that JSON does not have. Of a class with ``__fingerprint__ = None`` only
    the name counts, not the contents of the value.
    """
    if getattr(type_of(value), "__fingerprint__", True) is None:
        return {"$": type_name(value)}
    if isinstance(value, _NAMED):
        return _describe(value)  # pyright: ignore[reportUnknownArgumentType]
    try:
        return Encoder(None, describe=_describe).encode(value)
    except Exception:
        return {"$": type_name(value)}


_NAMED: Final = (FunctionType, MethodType, BuiltinFunctionType, type, partial)


def _describe(value: object) -> Any:
    if isinstance(value, _NAMED):
        return {"$": name_of_call(value)}  # pyright: ignore[reportUnknownArgumentType]
    return {"$": type_name(value)}


_OPAQUE: Final = frozenset({PICKLE, DILL})


def outline_payload(payload: Payload, execution_id: str = "") -> str:
    """Return a text that is the same for equal encoded values. Pickled parts are left out."""
    return json.dumps(_without_pickles(payload.tree), sort_keys=True)


def _without_pickles(tree: Any) -> Any:
    if isinstance(tree, dict):
        if tree.get("$") in _OPAQUE:  # pyright: ignore[reportUnknownMemberType]
            return {"$": "opaque"}
        return {key: _without_pickles(item) for key, item in tree.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(tree, list):
        return [_without_pickles(item) for item in tree]  # pyright: ignore[reportUnknownVariableType]
    return tree
