"""Write calls as bytes: a function with its captured variables, and its arguments.

The bytes are a header and a pickle. The header has the version of Python, because a pickled function is
bytecode, which would crash another version, and a checksum, because damaged bytecode may crash too. Both
are checked before the pickle is read.

Captured variables are written by value, as they are now. The globals of a module, and functions and
classes that can be imported, are written by reference.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
from binascii import crc32
from collections.abc import Callable, Iterator
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any, Final

from mini_workflow.class_names import name_of
from mini_workflow.codecs import picklers
from mini_workflow.codecs.forbidden import MARK, Refused, instead_of, refusal
from mini_workflow.codecs.functions import (
    LEAVES,
    PlainFunction,
    is_plain_data,
    make_simple,
    plain_function,
    simple_parts,
)
from mini_workflow.codecs.names import is_importable, type_of
from mini_workflow.codecs.payload_codecs import ENCODED_CALL, needs_codec, read_encoded_call
from mini_workflow.core.codec import CallInProcess, CapturedCall
from mini_workflow.core.records import frozen
from mini_workflow.errors import (
    ClosureNotSerializable,
    CodecMismatch,
    PayloadNotReadable,
    PythonVersionMismatch,
    SerializationError,
)

FORMAT: Final = b"mwc1"
PYTHON: Final = f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}"
MAGIC: Final = importlib.util.MAGIC_NUMBER.hex()

_SIMPLE: Final = b"S"
_FAST: Final = b"F"
_DILL: Final = b"D"
_HEADER: Final = b";".join((FORMAT, PYTHON.encode(), MAGIC.encode(), b""))
_CHECKSUM_BYTES: Final = 4
_START: Final = len(_HEADER) + 1 + _CHECKSUM_BYTES

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def capture_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bytes:
    """Return a call as bytes.

    Raises ClosureNotSerializable, which names the captured variable or argument that cannot be pickled.
    """
    call = (function, args, kwargs)
    try:
        if type(function) is FunctionType and is_plain_data(args) and is_plain_data(kwargs):
            if is_importable(function):
                return _sealed(_FAST, pickle.dumps(call, picklers.PROTOCOL))
            parts = simple_parts(function)
            if parts is not None:
                simple = (parts, args, kwargs)
                return _sealed(_SIMPLE, pickle.dumps(simple, picklers.PROTOCOL))
        return _sealed(_FAST, picklers.dump_call(call))
    except Exception as error:
        if isinstance(error, Refused):
            raise _complaint(call, error) from None
        from mini_workflow.codecs import dill_pickler

        try:
            return _sealed(_DILL, dill_pickler.dump(call))
        except Exception as failure:
            raise _complaint(call, failure) from failure


_NO_KWARGS: Final[dict[str, Any]] = {}


class SharedCall(CallInProcess):
    """A call that is not written as bytes, since it stays in this process and nothing in it can change. Each
    restored call has a function and variables of its own, unless it is the function of a module.
    """

    __slots__ = ("args", "contents", "function", "kwargs")

    def __init__(
        self,
        function: FunctionType | PlainFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        contents: list[Any] | tuple[()] = (),
    ) -> None:
        """Take a function of a module; or a plain one, which is made anew for each attempt, with the
        `contents` of its captured variables.
        """
        self.function = function
        self.contents = contents
        self.args = args
        self.kwargs = kwargs or _NO_KWARGS


SHARE: Final = "__mini_workflow_share__"
"""The name of a method of arguments that are handed over within a process without pickling. It returns a
function that makes an argument for each attempt, so that a task cannot change objects of the workflow.
"""


class HandedCall(CallInProcess):
    """A call with arguments that have the method SHARE. The other parts are pickled."""

    __slots__ = ("_handed", "_rest")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Pickle the other parts. Raises any error of the pickler or of an argument."""
        self._handed = {
            place: getattr(value, SHARE)()
            for place, value in enumerate(args)
            if hasattr(type_of(value), SHARE)
        }
        rest = tuple(None if place in self._handed else value for place, value in enumerate(args))
        self._rest = picklers.dump_call((function, rest))

    def restored(self) -> Call:
        """Return the call with new arguments."""
        function, args = picklers.load(self._rest)
        for place, make in self._handed.items():
            args = (*args[:place], make(), *args[place + 1 :])
        return function, args, {}


def share_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> CapturedCall:
    """Return a call for this process, as bytes if a part of it may change. Raises like `capture_call`."""
    leaves: frozenset[type] = LEAVES
    if (
        type(function) is FunctionType
        and (not args or leaves.issuperset(map(type, args)))
        and (not kwargs or leaves.issuperset(map(type, kwargs.values())))
    ):
        if "<" not in (qualname := function.__qualname__):
            module = sys.modules.get(function.__module__)
            # A short way for functions of a module; is_importable also finds those of a class.
            is_global = module is not None and module.__dict__.get(qualname) is function
            if is_global or is_importable(function):
                return SharedCall(function, args, kwargs)
        plain = plain_function(function)
        if plain is not None:
            contents: list[Any] = []
            try:
                for cell in function.__closure__ or ():
                    content = cell.cell_contents
                    if type(content) not in leaves:
                        break
                    contents.append(content)
                else:
                    return SharedCall(plain, args, kwargs, contents)
            except ValueError:  # a variable that is not yet set
                pass
    elif not kwargs and any(hasattr(type_of(value), SHARE) for value in args):
        try:
            return HandedCall(function, args)
        except Exception:
            pass  # capture_call below raises the error
    return capture_call(function, args, kwargs)


def _sealed(kind: bytes, data: bytes) -> bytes:
    return b"".join((_HEADER, kind, _checksum(kind, data), data))


def _checksum(kind: bytes, data: bytes) -> bytes:
    return crc32(data, crc32(kind)).to_bytes(_CHECKSUM_BYTES, "big")


def restore_call(payload: CapturedCall) -> Call:
    """Return the function and arguments of a captured call.

    Raises PayloadNotReadable or PythonVersionMismatch.
    """
    if isinstance(payload, SharedCall):
        function = payload.function
        if isinstance(function, PlainFunction):
            cells = tuple(map(CellType, payload.contents))
            function = FunctionType(function.code, function.space, None, None, cells)
        return function, payload.args, dict(payload.kwargs)
    if isinstance(payload, HandedCall):
        try:
            return payload.restored()
        except Exception as error:
            raise PayloadNotReadable(
                f"a captured call cannot be read: {type(error).__name__}: {error}"
            ) from error
    if not isinstance(payload, bytes):
        raise PayloadNotReadable(f"a {type(payload).__name__} is no call that this codec captures")
    if not payload.startswith(_HEADER):
        raise _unreadable_header(payload)
    data = payload[_START:]
    kind = payload[len(_HEADER) : len(_HEADER) + 1]
    if payload[len(_HEADER) + 1 : _START] != _checksum(kind, data):
        raise PayloadNotReadable("the bytes of a captured call are damaged: the checksum differs")
    try:
        if kind == _SIMPLE:
            parts, args, kwargs = pickle.loads(data)
            return make_simple(parts), args, kwargs
        if kind == _FAST:
            return picklers.load(data)
        if kind == _DILL:
            from mini_workflow.codecs import dill_pickler

            return dill_pickler.load(data)
    except SerializationError:
        raise
    except Exception as error:
        raise PayloadNotReadable(
            f"a captured call cannot be read: {type(error).__name__}: {error}. If a function, a "
            "class or a module was renamed or removed, keep an alias under the old name"
        ) from error
    raise PayloadNotReadable(f"a captured call is of the unknown kind {kind!r}")


def _unreadable_header(payload: bytes) -> SerializationError:
    if payload.startswith(ENCODED_CALL):
        try:
            labels, _ = read_encoded_call(payload)
        except PayloadNotReadable as error:
            return error
        return CodecMismatch(f"a captured call cannot be read: {needs_codec(labels)}")
    form, *rest = payload[:80].split(b";", 3)
    if form != FORMAT or len(rest) < 3:
        return PayloadNotReadable(
            f"these {len(payload)} bytes are not a captured call, or not in a form this version of "
            "mini-workflow knows"
        )
    python = rest[0].decode("ascii", "replace")
    magic = rest[1].decode("ascii", "replace")
    return PythonVersionMismatch(
        f"a call was captured under {python} (bytecode {magic}) and this is {PYTHON} (bytecode "
        f"{MAGIC}): run workers and orchestrator under the same minor version of Python"
    )


def _complaint(call: Call, error: Exception) -> ClosureNotSerializable:
    function, args, kwargs = call
    from mini_workflow.codecs.diagnose import find_culprit

    name = _name_of_call(function)
    for part in (
        *_parts_of(function),
        *_arguments(args, kwargs),
        _Part("cannot be sent:", "the callable itself", function),
    ):
        found = _fault(part.value)
        if found is None:
            continue
        path, culprit, cause = find_culprit(part.value, _fault, found)
        where = f", in which {part.variable}{path} ({picklers.type_name(culprit)})" if path else ""
        return ClosureNotSerializable(
            f"{name} {part.relation} {part.shown} ({picklers.type_name(part.value)})"
            f"{where or ', which'} {_reason(culprit, cause)}",
            variable=part.variable,
        )
    return ClosureNotSerializable(
        f"{name} cannot be pickled: {type(error).__name__}: {error}. Another thread may have "
        "changed what it captures meanwhile: capture a copy"
    )


def _reason(culprit: object, cause: Exception) -> str:
    if not isinstance(cause, Refused) or refusal(type_of(culprit)) is None:
        from mini_workflow.codecs.diagnose import why_not

        problem, remedy = why_not(culprit, cause)
        return f"{problem}: {remedy or _REMEDY}"
    if hasattr(type(culprit), MARK):
        return f"is {cause.noun}: {instead_of(type(culprit), _IN_THE_WORKFLOW)}"
    return f"is {cause.noun}: {_REMEDY}"


_IN_THE_WORKFLOW: Final = "use it in the workflow, and capture the data that the task needs"
_REMEDY: Final = "create it in the task or keep it in a module global"


@frozen
class _Part:
    relation: str
    variable: str
    value: Any

    @property
    def shown(self) -> str:
        return repr(self.variable) if self.variable.isidentifier() else self.variable


def _parts_of(function: Any) -> Iterator[_Part]:
    from mini_workflow.codecs.diagnose import captured, defaults

    if isinstance(function, FunctionType):
        for name, value in captured(function):
            yield _Part("captures", name, value)
        for name, value in defaults(function):
            yield _Part("has the default", name, value)
    elif isinstance(function, partial):
        yield from _parts_of(function.func)
        yield from _arguments(function.args, function.keywords)
    elif isinstance(function, MethodType):
        yield _Part("is bound to", "self", function.__self__)
        yield from _parts_of(function.__func__)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[_Part]:
    for index, value in enumerate(args, 1):
        yield _Part("is given", f"argument {index}", value)
    for name, value in kwargs.items():
        yield _Part("is given", f"argument {name!r}", value)


def _fault(value: Any) -> Exception | None:
    try:
        picklers.dump_call(value)
        return None
    except Refused as error:
        return error
    except Exception:
        from mini_workflow.codecs import dill_pickler

        try:
            dill_pickler.dump(value)
            return None
        except Exception as error:
            return error


def _name_of_call(function: Callable[..., Any]) -> str:
    """Return the name of the innermost callable, as ``module:qualname``."""
    inner: Any = function
    while not isinstance(inner, FunctionType):
        if isinstance(inner, MethodType):
            inner = inner.__func__
        elif hasattr(inner, "func"):
            inner = inner.func
        else:
            return name_of(inner if hasattr(inner, "__qualname__") else type(inner))
    return name_of(inner)
