"""Whatever class an exception is of, it comes back as itself or as a TaskError that tells of it."""

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs import StandardCodec
from mini_workflow.core.failure import Failure
from mini_workflow.errors import TaskError

CODEC = StandardCodec()
DATA = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.tuples(st.integers())


def failing(*_args):
    raise RuntimeError("not with me")


class Positional(Exception):
    def __init__(self, code, detail=None):
        super().__init__(f"code {code}")
        self.code, self.detail = code, detail


class KeywordsOnly(Exception):
    def __init__(self, *, code, detail):
        self.code, self.detail = code, detail


class Swapped(Exception):
    def __init__(self, code, detail):
        super().__init__(detail, code)
        self.code, self.detail = code, detail


class Slotted(Exception):
    __slots__ = ("code", "detail")

    def __init__(self, code, detail):
        self.code, self.detail = code, detail


@dataclasses.dataclass
class Plain(Exception):
    code: object
    detail: object


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: object
    detail: object


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted(Exception):
    code: object
    detail: object


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenKeywords(Exception):
    code: object
    detail: object


class Locked(Exception):
    """No attribute can be set from outside, by hand."""

    def __init__(self, code, detail):
        self.__dict__.update(code=code, detail=detail)

    __setattr__ = __delattr__ = failing


class NoText(Positional):
    __str__ = failing


class NoReduce(Positional):
    __reduce__ = __reduce_ex__ = failing


class NoRepr(Positional):
    __repr__ = failing


class NoHash(Positional):
    __eq__ = __hash__ = __bool__ = failing


class SystemLike(OSError):
    def __init__(self, code, detail):
        super().__init__(5, "no")
        self.code, self.detail = code, detail


class Many(ExceptionGroup):
    def __new__(cls, code, detail):
        return super().__new__(cls, "many", [ValueError(1), Frozen(2, 3)])

    def __init__(self, code, detail):
        self.code, self.detail = code, detail


@dataclasses.dataclass(frozen=True)
class FrozenMany(ExceptionGroup):
    code: object
    detail: object

    def __new__(cls, code, detail):
        return super().__new__(cls, "many", [ValueError(1), Frozen(2, 3)])


KINDS = [
    *(Positional, KeywordsOnly, Swapped, Slotted, Plain, Frozen, FrozenSlotted, FrozenKeywords),
    *(Locked, NoText, NoReduce, NoRepr, NoHash, SystemLike, Many, FrozenMany),
]
AS_TASK_ERRORS = {NoText}


@st.composite
def exceptions(draw, depth=2):
    kind, code, detail = draw(st.sampled_from(KINDS)), draw(DATA), draw(DATA)
    if kind in (KeywordsOnly, FrozenKeywords):
        error = kind(code=code, detail=detail)
    else:
        error = kind(code, detail)
    if draw(st.booleans()):
        BaseException.__setattr__(error, "__notes__", ["noted"])
    if depth and draw(st.booleans()):
        field = draw(st.sampled_from(["__cause__", "__context__"]))
        BaseException.__setattr__(error, field, draw(exceptions(depth=depth - 1)))
    if draw(st.booleans()):
        BaseException.__setattr__(error, "__context__", error)  # a cycle, as Python would not make
    if depth and draw(st.booleans()):
        return ExceptionGroup("outer", [error, draw(exceptions(depth=depth - 1))])
    return error


def raised(error):
    try:
        raise error  # the line of the error
    except BaseException as caught:
        return caught


def check(again, error):
    if type(error) in AS_TASK_ERRORS:
        assert type(again) is TaskError
        assert again.type_name == f"{__name__}:{type(error).__qualname__}"
        assert type(error).__qualname__ in str(again)
        return
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert getattr(again, "__notes__", None) == getattr(error, "__notes__", None)
    if isinstance(error, ExceptionGroup):
        assert len(again.exceptions) == len(error.exceptions)
        for one, other in zip(again.exceptions, error.exceptions, strict=True):
            check(one, other)
    if type(error) is not ExceptionGroup and hasattr(error, "code"):
        assert (again.code, again.detail) == (error.code, error.detail)
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    if cause is not None and cause is not error:
        check(again.__cause__, cause)


@given(exceptions())
def test_every_exception_comes_back_with_its_type_text_and_traceback(error):
    failure = CODEC.encode_failure(raised(error))
    assert "# the line of the error" in failure.traceback
    assert failure.type == f"{type(error).__module__}:{type(error).__qualname__}"
    assert failure.lineage[-1] == "builtins:BaseException"
    again = CODEC.decode_failure(Failure.from_plain(json.loads(json.dumps(failure.to_plain()))))
    check(again, error)
    # It can be raised, and go on to somewhere else.
    check(CODEC.decode_failure(CODEC.encode_failure(raised(again))), error)
