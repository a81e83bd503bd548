"""A class made in a function comes back as itself where it is alive, and from its code elsewhere."""

import abc
import collections
import dataclasses
import enum
import gc
import pathlib
import subprocess
import sys
import typing
import weakref

import attrs
import pydantic
import pytest

from mini_workflow import Context, LocalRuntime, workflow
from mini_workflow.codecs import Signer, StandardCodec
from mini_workflow.core.payload import Payload
from mini_workflow.errors import ClosureNotSerializable, SerializationError, ValueNotSerializable
from mini_workflow.testing import WorkflowEnvironment
from tests.unit.codecs.crossing import CODEC, restored, round_trip
from tests.waiting import WAIT

T = typing.TypeVar("T")


def plain():
    class Local:
        def __init__(self, number=1):
            self.number = number

        def __eq__(self, other):
            return type(other) is type(self) and other.number == self.number

        __hash__ = None

    return Local


def slotted():
    @dataclasses.dataclass(frozen=True, slots=True)
    class Local:
        number: int = 1

    return Local


def with_base():
    class Base(abc.ABC):
        @abc.abstractmethod
        def who(self): ...

    @dataclasses.dataclass
    class Local(Base, typing.Generic[T]):
        number: int = 1

        def who(self):
            return Base, super().__init__

    return Local


def named_tuple():
    class Local(typing.NamedTuple):
        number: int = 1

    return Local


def unqualified():
    return collections.namedtuple("Local", "number", defaults=(1,))  # noqa: PYI024


def derived_from_data():
    class Local(dict):
        pass

    return Local


MAKERS = [plain, slotted, with_base, named_tuple, unqualified, derived_from_data]
every_class = pytest.mark.parametrize("make", MAKERS)


def exception_class():
    class Boom(Exception):
        def __init__(self, *, code=3):
            super().__init__(f"code {code}")
            self.code = code

    return Boom


@every_class
def test_a_value_is_of_its_class(make):
    kind = make()
    for value in (kind(), [kind()], {"a": (kind(), kind())}):
        assert round_trip(value) == value
    assert type(round_trip(kind())) is kind
    assert round_trip(kind) is kind


@every_class
def test_a_call_takes_the_class_along(make):
    kind = make()
    assert restored(lambda: kind)() is kind
    assert restored(lambda given, *, also: (type(given), also), kind(), also=kind)() == (kind, kind)
    assert restored(kind)() == kind()
    made = kind()
    assert type(restored(lambda: [made])()[0]) is kind


def test_a_bound_method_runs_on_the_class_itself():
    class Counter:
        calls: typing.ClassVar = []

        def count(self):
            self.calls.append(1)
            return __class__

    assert restored(Counter().count)() is Counter
    assert Counter.calls == [1]


def test_two_classes_of_one_name_are_told_apart():
    def make(number):
        class Same:
            value = number

        return Same

    one, other = make(1), make(2)
    assert [type(item) for item in round_trip([one(), other()])] == [one, other]
    assert restored(lambda: (one, other))() == (one, other)


@pytest.mark.parametrize("codec", [CODEC, StandardCodec(Signer(b"k" * 32))], ids=["", "signed"])
def test_an_exception_is_caught_by_its_class(codec):
    kind = exception_class()
    error = codec.decode_failure(codec.encode_failure(kind(code=4)))
    assert type(error) is kind
    assert error.code == 4
    cause = ValueError("outer")
    cause.__cause__ = kind()
    assert type(codec.decode_failure(codec.encode_failure(cause)).__cause__) is kind
    group = codec.decode_failure(codec.encode_failure(ExceptionGroup("some", [kind()])))
    assert type(group.exceptions[0]) is kind
    assert type(round_trip(kind(), codec)) is kind


def make_getter(*kinds):
    return lambda *_: kinds[0] if len(kinds) == 1 else kinds


def test_nothing_of_the_codec_keeps_a_class_alive():
    kind = plain()
    round_trip([kind(), kind])
    restored(make_getter(kind))()
    gone = weakref.ref(kind)
    del kind
    gc.collect()
    assert gone() is None


def test_a_class_that_is_gone_is_made_again_once():
    kind = slotted()
    payloads = [CODEC.encode(kind(n), "result").text for n in (1, 1, 2)]
    call = CODEC.capture(make_getter(kind), (kind(1),), {})
    gone = weakref.ref(kind)
    del kind
    gc.collect()
    assert gone() is None
    one, same, other = [CODEC.decode(Payload(text=text)) for text in payloads]
    assert one == same != other
    assert type(one) is type(other)
    function, args, _ = CODEC.restore(call)
    assert function(*args) is type(args[0]) is type(one)
    assert type(round_trip(one)) is type(one)


def related():
    class One:
        def other(self):
            return Other()

    class Other:
        def one(self):
            return One()

    return One, Other


def test_classes_that_refer_to_each_other_stay_together():
    one, other = related()
    apart = CODEC.capture(make_getter(other), (), {})
    both = CODEC.capture(make_getter(one, other), (), {})
    del one, other
    gc.collect()
    kept = CODEC.restore(apart)[0]()
    one, other = CODEC.restore(both)[0]()
    assert isinstance(one().other(), other)
    assert isinstance(other().one(), one)
    assert kept.__qualname__ == other.__qualname__


class Forgetful(type):
    """Makes classes that dill takes and cannot make again, as those of some libraries are."""

    def __new__(cls, name, bases, space):
        made = super().__new__(
            cls, name, bases, {**space, "fields": tuple(space["__annotations__"])}
        )
        del made.__annotations__
        return made


def refused_classes():
    class Color(enum.Enum):
        RED = 1

    class Model(pydantic.BaseModel):
        number: int = 1

    class Struct(metaclass=Forgetful):
        number: int

    class Row(typing.NamedTuple):
        number: int = 1

        def twice(self):
            return 2 * self.number

    class Plugin:
        def __init_subclass__(cls, *, kind):
            cls.kind = kind

    class Mine(Plugin, kind="mine"):
        pass

    @attrs.frozen
    class Attributes:
        number: int = 1

    return {"enum": (Color, Color.RED), "model": (Model, Model()), "struct": (Struct, Struct())} | {
        "attrs": (Attributes, Attributes()),
        "methods of a named tuple": (Row, Row()),
        "arguments of a class": (Mine, Mine()),
    }


@pytest.mark.parametrize("which", refused_classes())
def test_what_cannot_be_made_again_is_refused_by_name(which):
    kind, value = refused_classes()[which]
    for call in (lambda: kind, lambda: value):
        with pytest.raises(
            ClosureNotSerializable, match=r"made in a function: define .* top level"
        ):
            CODEC.capture(call, (), {})
    with pytest.raises(ValueNotSerializable, match=r"made in a function; define .* top level"):
        CODEC.encode([value], "result")


PROGRAM = """
import dataclasses, sys
from mini_workflow.codecs import StandardCodec
from mini_workflow.core.payload import Payload

CODEC = StandardCodec()

def classes():
    @dataclasses.dataclass
    class Receipt:
        number: int
    return Receipt

if __name__ == "__main__":
    alive = [classes() for _ in range(int(sys.argv[2]))]
    stored = CODEC.decode(Payload(text=sys.argv[1]))
    function, args, kwargs = CODEC.restore(sys.stdin.buffer.read())
    result = function(*args, **kwargs)
    print(CODEC.encode(result, "result").text)
    print(type(stored) is type(result[0]), any(type(stored) is kind for kind in alive))
"""


@pytest.mark.parametrize(
    ("alive", "found"), [(0, "True False"), (1, "True True"), (2, "True False")]
)
def test_another_process_makes_the_class_from_its_code(alive, found, tmp_path):
    """A call runs there with the class that it was sent; what it returns is of ours here. A stored
    value is of the one class of that name there, if the function that makes it has run.
    """
    (tmp_path / "program.py").write_text(PROGRAM)
    space = {"__name__": "program"}
    exec(PROGRAM, space)
    receipt = space["classes"]()
    sys.modules["program"] = type(sys)("program")
    sys.modules["program"].__dict__.update(space)
    try:
        stored = CODEC.encode(receipt(5), "result").text
        call = CODEC.capture(lambda given: [given, receipt(2)], (receipt(1),), {})
    finally:
        del sys.modules["program"]
    driver = "import runpy, sys; sys.path.insert(0, ''); import program; runpy.run_module('driver')"
    (tmp_path / "driver.py").write_text(
        PROGRAM.partition("def classes")[0]
        + "from program import classes\nif True:\n"
        + PROGRAM.partition('"__main__":\n')[2]
    )
    ran = subprocess.run(
        [sys.executable, "-c", driver, stored, str(alive)],
        input=call,
        capture_output=True,
        check=False,
        timeout=WAIT,
        cwd=tmp_path,
        env={"PYTHONPATH": str(pathlib.Path(__file__).parents[3])},
    )
    assert ran.returncode == 0, ran.stderr.decode()
    result, told = ran.stdout.decode().splitlines()
    assert CODEC.decode(Payload(text=result)) == [receipt(1), receipt(2)]
    assert told == found


def test_workflow_code_in_a_function_sees_its_own_classes(tmp_path):
    receipt, boom = slotted(), exception_class()

    def fail():
        raise boom(code=5)

    @workflow("sees_its_own_classes")
    async def flow(ctx: Context, given: receipt) -> list[object]:
        one, other = await ctx.task(lambda: receipt(2)), await ctx.task(lambda: receipt(2))
        try:
            await ctx.task(fail)
        except boom as error:
            return [one == other, given == receipt(1), error.code, one]
        return []

    for runtime in (WorkflowEnvironment(cache_size=0), LocalRuntime(tmp_path / "state.db")):
        with runtime:
            execution = runtime.start_execution(flow, receipt(1), id="one")
            assert execution.result(timeout=WAIT) == [True, True, 5, receipt(2)]


def test_workflow_code_is_told_of_a_class_that_cannot_be_kept():
    class Color(enum.Enum):
        RED = 1

    @workflow("told_of_its_classes")
    async def flow(ctx: Context) -> object:
        return await ctx.task(lambda: Color.RED)

    with (
        WorkflowEnvironment() as env,
        pytest.raises(SerializationError, match=r"Color.*made in a function"),
    ):
        env.start_execution(flow).result(timeout=WAIT)
