"""Exceptions come back as themselves, with their causes and the traceback, or as a TaskError."""

import asyncio
import dataclasses
import json
import traceback
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs import Signer, StandardCodec
from mini_workflow.codecs.failures import MAX_DEPTH, MAX_TEXT, RemoteTraceback
from mini_workflow.core.failure import Failure
from mini_workflow.errors import (
    ExecutionFailed,
    SerializationError,
    TaskError,
    TaskTimeout,
    ValueNotSerializable,
    WorkerLost,
)
from tests.unit.codecs import samples

CODEC = StandardCodec()


def stored(failure):
    """Through the store."""
    return Failure.from_plain(json.loads(json.dumps(failure.to_plain())))


def crossed(error, codec=CODEC):
    return codec.decode_failure(stored(codec.encode_failure(error)))


def raised(error):
    """As it is when it has been raised and caught."""
    try:
        raise error
    except BaseException as caught:
        return caught


def decode_error():
    return raised(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))


ERRORS = [
    ValueError("text"),
    ValueError(),
    ValueError("a", 1, ("b",), {"c": None}),
    KeyError("k"),
    KeyError(("a", 1)),
    OSError(2, "no", "file"),
    OSError(2, "no", "from", None, "to"),
    PermissionError(13, "denied", "/file"),
    OSError("only text"),
    ConnectionResetError(104, "reset"),
    TimeoutError("late"),
    ImportError("no module", name="m", path="/p"),
    ModuleNotFoundError("no module", name="m"),
    NameError("no name", name="n"),
    AttributeError("no attribute", name="a"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError("ascii", "é", 0, 1, "no"),
    SyntaxError("bad", ("file.py", 3, 4, "text", 3, 5)),
    StopAsyncIteration(3),
    json.JSONDecodeError("bad", "{", 1),
    samples.PlainError("x"),
    samples.OwnInitError(3, detail=("d",)),
    samples.KeywordOnlyError(reason="r"),
    samples.ClientError({"Error": {"Code": "Throttled"}, "HTTPStatusCode": 400}, "PutObject"),
    samples.SlottedError(7),
    samples.ParseError("file", 12),
    samples.ThrottledError("slow down", 2),
    TaskError("x", type_name="m:T", remote_traceback="text"),
    TaskTimeout("late"),
    WorkerLost("gone"),
    ExecutionFailed("x", execution_id="e-1", type_name="m:T"),
    ValueNotSerializable("x", path="result[0]"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("was_raised", [False, True])
def test_an_exception_comes_back_as_itself(error, was_raised):
    again = crossed(raised(error) if was_raised else error)
    assert type(again) is type(error)
    assert (str(again), again.args) == (str(error), error.args)
    attributes = vars(again) | {"__remote_traceback__": None}
    assert attributes == vars(error) | {"__remote_traceback__": None}
    for name in ("errno", "strerror", "filename", "filename2", "code", "reason", "name", "path"):
        assert getattr(again, name, None) == getattr(error, name, None)
    for name in ("msg", "lineno", "text", "end_offset", "start", "object", "doc", "pos"):
        assert getattr(again, name, None) == getattr(error, name, None)


def test_a_real_client_error():
    botocore = pytest.importorskip("botocore.exceptions")
    response = {"Error": {"Code": "Throttled", "Message": "m"}, "ResponseMetadata": {}}
    again = crossed(raised(botocore.ClientError(response, "PutObject")))
    assert type(again) is botocore.ClientError
    assert (again.response, again.operation_name) == (response, "PutObject")
    again = crossed(raised(botocore.NoCredentialsError()))
    assert type(again) is botocore.NoCredentialsError


def test_a_validation_error_of_pydantic():
    import pydantic

    with pytest.raises(pydantic.ValidationError) as caught:
        samples.Customer(name=1)
    again = crossed(caught.value)
    assert isinstance(again, (pydantic.ValidationError, TaskError))
    assert "1 validation error for Customer" in str(again)


def test_notes_go_along():
    error = ValueError("x")
    error.add_note("noted")
    assert crossed(raised(error)).__notes__ == ["noted"]


def test_the_failure_says_what_a_retry_needs_without_rebuilding():
    failure = CODEC.encode_failure(raised(FileNotFoundError(2, "no")))
    assert failure.type == "builtins:FileNotFoundError"
    assert failure.message == "[Errno 2] no"
    assert failure.lineage == (
        "builtins:FileNotFoundError",
        "builtins:OSError",
        "builtins:Exception",
        "builtins:BaseException",
    )
    assert "raise error" in failure.traceback


@pytest.mark.parametrize(
    ("asked", "milliseconds"),
    [
        (2, 2000),
        (0, 0),
        (0.0001, 1),
        (timedelta(minutes=1), 60_000),
        (-1, None),
        (True, None),
        ("3", None),
        (None, None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_an_exception_may_ask_for_a_delay(asked, milliseconds):
    failure = CODEC.encode_failure(samples.ThrottledError("x", asked))
    assert failure.retry_after == milliseconds


# Causes and tracebacks


def chained():
    try:
        try:
            raise KeyError("inner")  # line of the cause
        except KeyError as error:
            raise samples.OwnInitError(1, detail="d") from error  # line of the error
    except samples.OwnInitError as error:
        return error


def test_the_cause_comes_back_and_the_traceback_is_printed():
    again = crossed(chained())
    assert type(again) is samples.OwnInitError
    assert repr(again.__cause__) == "KeyError('inner')"
    assert type(again.__cause__.__cause__) is RemoteTraceback
    printed = "".join(traceback.format_exception(again))
    assert printed.index("# line of the cause") < printed.index("# line of the error")
    assert printed.count("# line of the error") == 1


def test_an_exception_without_a_cause_has_the_remote_traceback_as_its_cause():
    again = crossed(raised(ValueError("x")))
    assert type(again.__cause__) is RemoteTraceback
    assert "raise error" in str(again.__cause__)


def test_what_was_raised_while_handling_another_is_chained_too():
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904
    except ValueError as error:
        again = crossed(error)
    assert repr(again.__cause__) == "KeyError('first')"


def test_a_suppressed_context_stays_away():
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None
    except ValueError as error:
        again = crossed(error)
    assert type(again.__cause__) is RemoteTraceback


def test_a_second_crossing_keeps_type_cause_and_both_tracebacks():
    once = crossed(chained())
    twice = crossed(raised(once))
    assert type(twice) is samples.OwnInitError
    assert repr(twice.__cause__) == "KeyError('inner')"
    assert type(twice.__cause__.__cause__) is RemoteTraceback
    printed = "".join(traceback.format_exception(twice))
    assert "# line of the cause" in printed
    assert "# line of the error" in printed
    assert "raise error" in printed
    assert crossed(twice).args == once.args


def test_many_crossings_do_not_grow_without_bound():
    error = raised(ValueError("x"))
    for _ in range(30):
        error = raised(crossed(error))
    assert len(json.dumps(CODEC.encode_failure(error).to_plain())) < 4 * MAX_TEXT


def test_causes_that_go_in_circles_end():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    again = crossed(one)
    assert str(again.__cause__) == "two"
    assert type(again.__cause__.__cause__) is RemoteTraceback


def test_a_long_chain_of_causes_is_cut():
    error = None
    for number in range(1000):
        error, cause = ValueError(number), error
        error.__cause__ = cause
    failure, depth = CODEC.encode_failure(error), 0
    while failure.cause is not None:
        failure, depth = failure.cause, depth + 1
    assert depth == MAX_DEPTH


def test_long_texts_are_shortened_in_the_middle():
    def deep(n):
        if n:
            deep(n - 1)
        raise ValueError("é" * 100_000)

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        deep(20)
    failure = CODEC.encode_failure(caught.value)
    assert len(failure.message) == len(failure.traceback) == MAX_TEXT
    assert "shortened" in failure.message
    assert failure.traceback.startswith("Traceback")


def test_text_that_utf8_cannot_say_is_escaped():
    failure = CODEC.encode_failure(raised(ValueError("\ud800")))
    json.dumps(failure.to_plain(), ensure_ascii=False).encode()
    assert failure.message == "\\ud800"
    again = CODEC.decode_failure(stored(failure))
    assert (type(again), ascii(again.args)) == (ValueError, r"('\ud800',)")
    noted = ValueError("x")
    noted.add_note("whole")
    noted.add_note("half \ud800")
    assert crossed(raised(noted)).__notes__ == ["whole", "half \\ud800"]
    group = ExceptionGroup("\ud800", [KeyError("\ud800")])
    group.add_note("\ud800")
    plain = CODEC.encode_failure(group).to_plain()
    json.dumps(plain, ensure_ascii=False).encode()


# Groups


def a_group():
    return ExceptionGroup(
        "several",
        [
            raised(ValueError("one")),
            ExceptionGroup("inner", [chained()]),
            raised(samples.KeywordOnlyError(reason="r")),
        ],
    )


def test_a_group_comes_back_with_its_members():
    group = a_group()
    group.add_note("noted")
    again = crossed(raised(group))
    assert type(again) is ExceptionGroup
    assert again.message == "several"
    assert again.__notes__ == ["noted"]
    one, inner, other = again.exceptions
    assert repr(one) == "ValueError('one')"
    assert "raise error" in str(one.__cause__)
    assert repr(inner.exceptions[0].__cause__) == "KeyError('inner')"
    assert str(other) == "because r"


def test_a_group_with_what_is_no_exception_becomes_one_of_exceptions():
    group = BaseExceptionGroup("mixed", [KeyboardInterrupt(), ValueError(1)])
    again = crossed(raised(group))
    assert type(again) is ExceptionGroup
    assert [type(member) for member in again.exceptions] == [TaskError, ValueError]
    assert again.exceptions[0].type_name == "builtins:KeyboardInterrupt"


class OwnGroup(ExceptionGroup):
    def derive(self, members):
        return OwnGroup(self.message, members)


class OddGroup(ExceptionGroup):
    def __new__(cls, members):
        return super().__new__(cls, "odd", members)


def test_a_group_of_an_own_class():
    assert type(crossed(raised(OwnGroup("own", [ValueError()])))) is OwnGroup
    again = crossed(raised(OddGroup([ValueError("x")])))
    assert isinstance(again, ExceptionGroup)
    assert [repr(member) for member in again.exceptions] == ["ValueError('x')"]


def test_all_members_of_a_large_group_arrive():
    again = crossed(ExceptionGroup("many", [ValueError(n) for n in range(1_000)]))
    assert [member.args for member in again.exceptions] == [(n,) for n in range(1_000)]


def test_a_deep_group_is_bounded_and_says_so():
    error = ValueError("x")
    for _ in range(200):
        error = ExceptionGroup("g", [error])
    again, depth = crossed(error), 0
    while isinstance(again, ExceptionGroup):
        again, depth = again.exceptions[0], depth + 1
    assert depth == MAX_DEPTH
    assert isinstance(again, TaskError)
    assert "ExceptionGroup" in again.type_name


class GroupWithCode(ExceptionGroup):
    def __new__(cls, code, members):
        group = super().__new__(cls, "with a code", members)
        group.code = code
        return group

    def derive(self, members):
        return GroupWithCode(self.code, members)


def test_a_group_of_an_own_class_keeps_its_attributes():
    again = crossed(raised(GroupWithCode(7, [KeyError("k")])))
    assert type(again) is GroupWithCode
    assert (again.code, str(again)) == (7, "with a code (1 sub-exception)")
    assert [repr(member) for member in again.exceptions] == ["KeyError('k')"]


def test_a_cause_that_several_members_share_is_the_cause_of_each():
    shared = OSError("the network is down")
    members = [ValueError("a"), ValueError("b")]
    for member in members:
        member.__cause__ = shared
    again = crossed(ExceptionGroup("both", members))
    assert [repr(member.__cause__) for member in again.exceptions] == [repr(shared)] * 2


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: str
    details: dict


def test_an_exception_whose_class_is_frozen_comes_back_as_itself():
    error = Frozen("SlowDown", {"wait": 3})
    BaseException.__cause__.__set__(error, ValueError("why"))
    again = crossed(raised(error))
    assert type(again) is Frozen
    assert (again.code, again.details) == ("SlowDown", {"wait": 3})
    assert isinstance(again.__cause__, ValueError)


def made(shape, with_slots, keyword_only, text, broken):
    """An exception class of some shape, and an exception of it."""

    def init(self, first, *, second=None):
        if not keyword_only:
            Exception.__init__(self, first)
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "second", second)

    body = {"__init__": init, "__module__": __name__}
    if with_slots:
        body["__slots__"] = ("first", "second")
    if shape == "frozen":
        body["__setattr__"] = refuse
    if broken == "__str__":
        body["__str__"] = refuse
    if broken == "__reduce__":
        body["__reduce__"] = refuse
    kind = type("Made", (ValueError,), body)
    globals()["Made"] = kind  # where it can be imported
    return kind(text, second=[text])


def refuse(self, *_arguments):
    raise RuntimeError("refused")


@given(
    st.sampled_from(["plain", "frozen"]),
    st.booleans(),
    st.booleans(),
    st.text(max_size=20),
    st.sampled_from(["", "__str__", "__reduce__"]),
    st.lists(st.text(max_size=5), max_size=2),
    st.booleans(),
)
def test_every_exception_comes_back_as_itself_or_says_what_it_was(
    shape, with_slots, keyword_only, text, broken, notes, cycle
):
    """As its own type with its attributes, or as a TaskError with type, text and traceback."""
    error = made(shape, with_slots, keyword_only, text, broken)
    for note in notes:
        vars(error).setdefault("__notes__", []).append(note)
    cause = KeyError("cause")
    BaseException.__cause__.__set__(error, cause)
    if cycle:
        cause.__cause__ = error
    failure = CODEC.encode_failure(raised(error))
    again = CODEC.decode_failure(Failure.from_plain(json.loads(json.dumps(failure.to_plain()))))
    assert failure.type == f"{__name__}:Made"
    assert "Made" in failure.traceback
    if isinstance(again, TaskError):
        assert again.type_name == failure.type
        assert broken or keyword_only
    else:
        assert type(again) is type(error)
        assert (again.first, again.second) == (text, [text])
        assert getattr(again, "__notes__", []) == notes
    assert isinstance(again.__cause__, KeyError)


def test_groups_that_share_members_take_no_time_of_their_number_on_paper():
    error = ValueError("x")
    for _ in range(9):
        error = ExceptionGroup("g", [error] * 10)  # ten to the power of nine
    failure = CODEC.encode_failure(raised(error))
    assert "raise error" in failure.traceback
    assert isinstance(crossed(error), (ExceptionGroup, TaskError))


# What cannot be raised at whoever waits


@pytest.mark.parametrize(
    "error",
    [
        StopIteration(3),
        GeneratorExit(),
        KeyboardInterrupt("k"),
        SystemExit(2),
        asyncio.CancelledError("c"),
        type("Odd", (BaseException,), {})("o"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_control_flow_comes_back_as_a_task_error(error):
    again = crossed(raised(error))
    assert type(again) is TaskError
    assert again.type_name.endswith(f":{type(error).__qualname__}")
    assert str(again).startswith(type(error).__name__)
    assert "raise error" in again.remote_traceback
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.set_exception(again)
    future.exception()
    loop.close()


def test_control_flow_as_a_cause_is_kept_as_a_task_error():
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ValueError from error
    except ValueError as error:
        again = crossed(error)
    assert type(again.__cause__) is TaskError


# What cannot be rebuilt


def test_an_exception_of_a_class_made_in_a_function_goes_along_by_dill():
    class LocalError(Exception):
        def __init__(self, code):
            super().__init__(code)
            self.code = code

    again = crossed(raised(LocalError(4)))
    assert type(again).__name__ == "LocalError"
    assert again.code == 4


def test_a_class_that_is_gone_gives_a_task_error(monkeypatch):
    failure = stored(CODEC.encode_failure(raised(samples.PlainError("why"))))
    monkeypatch.delattr(samples, "PlainError")
    again = CODEC.decode_failure(failure)
    assert type(again) is TaskError
    assert str(again) == "PlainError: why"
    assert again.type_name == "tests.unit.codecs.samples:PlainError"
    assert "raise error" in again.remote_traceback
    assert type(again.__cause__) is RemoteTraceback


def test_an_attribute_that_cannot_be_carried_is_left_out_and_said():
    again = crossed(raised(samples.HoldsLockError("x")))
    assert type(again) is samples.HoldsLockError
    assert again.args == ("x",)
    assert "lock" in again.__notes__[0]


def test_an_argument_that_cannot_be_carried_gives_a_task_error():
    again = crossed(raised(ValueError("x", samples.Context())))
    assert type(again) is TaskError
    assert again.type_name == "builtins:ValueError"


def test_an_exception_without_a_text_is_still_described():
    failure = CODEC.encode_failure(raised(samples.BadStrError()))
    assert "RuntimeError" in failure.message
    assert (
        CODEC.decode_failure(stored(failure)).type_name == "tests.unit.codecs.samples:BadStrError"
    )


class Hostile(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(name)


class Secretive(Exception):
    @property
    def __dict__(self):
        raise RuntimeError("nobody's business")


@pytest.mark.parametrize("kind", [Hostile, Secretive])
def test_nothing_is_raised_whatever_the_exception(kind):
    failure = CODEC.encode_failure(raised(kind("the text")))
    assert failure.type.endswith(f":{kind.__name__}")
    assert failure.message == "the text"
    assert "in raised\n    raise error" in failure.traceback
    assert failure.lineage[0] == failure.type
    assert failure.lineage[1] == "builtins:Exception"
    assert isinstance(CODEC.decode_failure(stored(failure)), TaskError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$", "v", "args", "group", "members", "how", "attributes", "hidden"]),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON, st.sampled_from(["builtins:ValueError", "builtins:int", "x", "", "no.such:Error"]))
def test_nothing_is_raised_whatever_the_state(state, name):
    failure = Failure(type=name, message="m", state=state)
    assert isinstance(CODEC.decode_failure(failure), Exception)


def test_a_part_that_was_not_signed_is_not_read(monkeypatch):
    class LocalError(Exception):
        pass

    failure = CODEC.encode_failure(LocalError("x"))
    signing = StandardCodec(Signer(b"k" * 32))
    assert type(crossed(LocalError("x"), signing)).__name__ == "LocalError"
    monkeypatch.setattr("mini_workflow.codecs.dill_pickler.load", lambda data: pytest.fail("read"))
    again = signing.decode_failure(failure)
    assert type(again) is TaskError


def test_an_exception_decoded_twice_is_two():
    failure = stored(CODEC.encode_failure(raised(ValueError([1]))))
    one, two = CODEC.decode_failure(failure), CODEC.decode_failure(failure)
    one.args[0].append(2)
    assert two.args == ([1],)


def test_the_errors_of_this_library_come_back():
    again = crossed(raised(ValueNotSerializable("x", path="p")))
    assert isinstance(again, SerializationError)
    assert again.path == "p"
