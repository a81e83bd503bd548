"""A call crosses into another process with the same meaning, or is refused by the variable."""

import asyncio
import contextlib
import functools
import io
import json
import operator
import pathlib
import pickle
import queue
import socket
import sqlite3
import subprocess
import sys
import threading
import types
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs import StandardCodec, closures
from mini_workflow.codecs.closures import describe_call, is_async_call
from mini_workflow.errors import (
    ClosureNotSerializable,
    PayloadNotReadable,
    PythonVersionMismatch,
)
from tests.codecs import samples
from tests.codecs.samples import Box, Client, Context, Order

CODEC = StandardCodec()
KIND = len(closures._HEADER)
GLOBAL = ["live"]


def restored(function, *args, **kwargs):
    """A function that makes the restored call."""
    again, args, kwargs = CODEC.restore(CODEC.capture(function, args, kwargs))
    return functools.partial(again, *args, **kwargs)


def is_dilled(payload):
    return payload[KIND : KIND + 1] == b"D"


# Functions


def test_a_closure_carries_what_it_captures():
    n, text, items = 3, "x", [1, {"a": (2,)}]
    assert restored(lambda: (n, text, items))() == (3, "x", [1, {"a": (2,)}])


def test_a_closure_that_captures_nothing():
    assert restored(lambda: 4)() == 4


def test_arguments_go_along():
    assert restored(lambda a, *b, c: (a, b, c), 1, (2,), c=Order("x"))() == (1, ((2,),), Order("x"))


def test_captured_values_are_as_they_were_at_the_call():
    items, given_items, n = [1], [2], 1
    payload = CODEC.capture(lambda arg: (items, arg, n), (given_items,), {})
    items.append(9)
    given_items.append(9)
    n = 5
    function, args, kwargs = CODEC.restore(payload)
    assert function(*args, **kwargs) == ([1], [2], 1)


def test_each_closure_of_a_loop_has_its_own_value():
    payloads = [CODEC.capture(lambda: i * i, (), {}) for i in range(3)]  # noqa: B023
    assert [CODEC.restore(payload)[0]() for payload in payloads] == [0, 1, 4]


def test_two_restored_calls_share_nothing():
    items = [1]
    payload = CODEC.capture(lambda: items, (), {})
    first, second = CODEC.restore(payload)[0](), CODEC.restore(payload)[0]()
    first.append(2)
    assert second == [1]


def test_module_globals_go_by_reference():
    function = CODEC.restore(CODEC.capture(lambda: GLOBAL, (), {}))[0]
    assert function.__globals__ is globals()
    assert function() is GLOBAL


def test_a_lock_or_a_client_in_a_module_is_no_obstacle():
    before = samples.COUNTER["calls"]
    assert restored(samples.uses_globals(2))() == before + 2
    assert samples.COUNTER["calls"] == before + 2


def test_an_importable_function_goes_by_reference():
    for function in (samples.double, samples.Box.get, len, operator.add, samples.cached, Order):
        assert CODEC.restore(CODEC.capture(function, (), {}))[0] is function


def test_a_decorated_function_keeps_what_the_decorator_gave_it():
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            return ["wrapped", function(*args)]

        return wrapper

    @decorate
    def local(a, b=2):
        """Says so."""
        return a + b

    again = restored(local, 1)
    assert again() == ["wrapped", 3]
    assert (again.func.__name__, again.func.__doc__) == ("local", "Says so.")
    assert again.func.__wrapped__(1, 1) == 2
    assert restored(decorate(samples.double), 4)() == ["wrapped", 8]


def test_what_a_function_has_beyond_its_code():
    def local(a: int, b: "text" = (1,), *, c: Order = None) -> str:  # noqa: F821
        """Documented."""
        return a, b, c

    local.marked = {"x": 1}
    local.__qualname__ = "renamed"
    again = CODEC.restore(CODEC.capture(local, (), {}))[0]
    assert again(0) == (0, (1,), None)
    for trait in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(again, trait) == getattr(local, trait)
    assert (again.__defaults__, again.__kwdefaults__) == (((1,),), {"c": None})
    assert again.marked == {"x": 1}
    assert again.__code__.co_filename == local.__code__.co_filename


@pytest.mark.parametrize("function", [lambda: "first constant", lambda: 0, lambda: None])
def test_a_first_constant_is_not_a_docstring(function):
    assert CODEC.restore(CODEC.capture(function, (), {}))[0].__doc__ == function.__doc__


def test_a_recursive_closure():
    step = 1

    def factorial(n):
        return 1 if n < 2 else n * factorial(n - step)

    assert restored(factorial, 5)() == 120
    assert restored(lambda: factorial(4))() == 24


def test_closures_that_call_each_other():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert restored(even, 10)() is True
    assert restored(lambda: (even(3), odd(3)))() == (False, True)


def test_closures_that_share_a_variable_still_do():
    total = 0

    def add(n):
        nonlocal total
        total += n

    def run():
        add(2)
        add(3)
        return total

    assert restored(run)() == 5
    assert total == 0


def test_values_that_are_shared_still_are():
    items = [1]
    one, other = items, items

    def run(given_items):
        given_items.append(2)
        return one, other

    assert restored(run, items)() == ([1, 2], [1, 2])


def test_a_variable_that_is_not_yet_set():
    def run():
        return later

    with pytest.raises(NameError):
        restored(run)()
    later = 1


def test_a_closure_made_by_a_closure():
    def outer(a):
        return lambda b: lambda: a + b

    assert restored(outer(1)(2))() == 3
    assert restored(outer, 1)()(5)() == 6


def test_a_function_that_captures_itself_in_its_attributes():
    def run():
        return run.me is run

    run.me = run
    assert restored(run)() is True


def test_methods_partials_and_objects():
    box = Box([1])
    assert restored(box.get)() == [1]
    assert restored(box.private())() == ("private", [1])
    assert restored(types.MethodType(lambda self, n: (self.content, n), box), 2)() == ([1], 2)
    n = 4
    assert restored(functools.partial(lambda a, b: a + b + n, 1), 2)() == 7
    assert restored(functools.partial(functools.partial(samples.double, n)))() == 8
    assert restored(operator.attrgetter("content"), box)() == [1]
    assert restored("abc".upper)() == "ABC"
    assert restored(Order, "o-1")() == Order("o-1")


def test_a_captured_module_goes_by_reference():
    local_json, local_samples = json, samples
    again = restored(lambda: (local_json, local_samples))()
    assert again == (json, samples)


def test_a_captured_class_goes_by_reference():
    kind = Order
    assert restored(lambda: kind)() is Order


def test_code_objects_and_modules_of_functions_in_containers():
    n = 1
    table = {"f": lambda: n, "g": [samples.double, lambda: n + 1]}
    again = restored(lambda: table)()
    assert again["f"]() == 1
    assert again["g"][0] is samples.double
    assert again["g"][1]() == 2


def test_a_class_made_in_a_function_goes_along_by_dill():
    class Local:
        factor = 3

        def __init__(self, value):
            self.value = value

        def run(self):
            return self.value * self.factor

        @classmethod
        def make(cls, value):
            return cls(value)

    local = Local(2)
    payload = CODEC.capture(lambda: (local.run(), Local.make(5).run()), (), {})
    assert is_dilled(payload)
    assert CODEC.restore(payload)[0]() == (6, 15)
    assert restored(local.run)() == 6
    assert restored(Local, 4)().run() == 12


def test_dill_too_leaves_module_globals_alone():
    class Local:
        def run(self):
            return GLOBAL, samples.LOCK, json.dumps(1)

    local, module = Local(), samples
    payload = CODEC.capture(lambda: (local.run(), module), (), {})
    assert is_dilled(payload)
    found, module_again = CODEC.restore(payload)[0]()
    assert found[0] is GLOBAL
    assert found[1] is samples.LOCK
    assert module_again is samples
    assert len(payload) < 6000


def test_a_model_made_in_a_function_is_refused_with_the_remedy():
    from pydantic import BaseModel

    class Local(BaseModel):
        value: int

    model = Local(value=1)
    with pytest.raises(
        ClosureNotSerializable,
        match=r"captures 'model' .*Local\).* is a class made in a function: define it at the top",
    ):
        CODEC.capture(lambda: model.value, (), {})


def test_an_annotation_that_cannot_go_along_is_left_out():
    from pydantic import BaseModel

    class Local(BaseModel):
        value: int

    def run(n: int, model: Local) -> Local:
        return n

    payload = CODEC.capture(run, (1, None), {})
    assert not is_dilled(payload)
    function, args, _ = CODEC.restore(payload)
    assert function(*args) == 1
    assert function.__annotations__ == {"n": int}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_a_generic_function():
    space = {}
    exec("def make():\n def f[T](x: T) -> T: return x\n return f", globals(), space)
    assert restored(space["make"](), 3)() == 3


def test_a_function_whose_globals_are_no_modules():
    space = {"__name__": "elsewhere", "n": 3}
    exec("def run(): return n", space)
    assert restored(space["run"])() == 3


class Base:
    def value(self):
        return 1


class Derived(Base):
    def maker(self):
        me = self
        return lambda: super(__class__, me).value() + 1


def test_super_works_in_a_closure():
    assert restored(Derived().maker())() == 2


def test_coroutine_functions():
    n = 3

    async def local():
        await asyncio.sleep(0)
        return n

    assert asyncio.run(restored(local)()) == 3
    assert asyncio.run(restored(samples.double_async, 4)()) == 8


def test_nonlocal_changes_stay_in_the_task():
    count = 0

    def run():
        nonlocal count
        count += 1
        return count

    assert restored(run)() == 1
    assert count == 0


DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.builds(Order, st.text(), st.lists(inner, max_size=2))
        | st.builds(Box, inner)
    ),
    max_leaves=10,
)


@given(DATA, DATA, DATA)
def test_any_data_is_captured_and_given(one, other, argument):
    assert restored(lambda a, *, k: (one, other, a, k), argument, k=one)() == (
        one,
        other,
        argument,
        one,
    )


# Header


def test_a_call_of_another_python_version_is_not_read(monkeypatch):
    payload = CODEC.capture(lambda: 1, (), {})
    monkeypatch.setattr(closures.pickle, "loads", lambda data: pytest.fail("read"))
    here = f"cpython-{sys.version_info.major}.{sys.version_info.minor}"
    assert here.encode() in payload
    other = payload.replace(here.encode(), b"cpython-3.8")
    with pytest.raises(PythonVersionMismatch, match=rf"cpython-3\.8.*{here}"):
        CODEC.restore(other)
    with pytest.raises(PythonVersionMismatch, match="pypy"):
        CODEC.restore(payload.replace(b"cpython", b"pypy"))


def test_a_call_of_a_prerelease_with_other_bytecode_is_not_read():
    payload = CODEC.capture(lambda: 1, (), {})
    with pytest.raises(PythonVersionMismatch, match="00000d0a"):
        CODEC.restore(payload.replace(closures.MAGIC.encode(), b"00000d0a"))


@pytest.mark.parametrize("dilled", [False, True])
def test_every_damaged_bit_is_noticed(dilled):
    class Local:
        pass

    kind, n = Local if dilled else Order, 3
    payload = CODEC.capture(lambda: (kind, n), (), {})
    assert is_dilled(payload) is dilled
    for place in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[place] ^= 1 << bit
            with pytest.raises((PayloadNotReadable, PythonVersionMismatch)):
                CODEC.restore(bytes(damaged))


@given(st.binary(max_size=100))
def test_other_bytes_are_not_readable(noise):
    with pytest.raises(PayloadNotReadable):
        CODEC.restore(noise)


def test_every_truncation_is_noticed():
    payload = CODEC.capture(lambda: GLOBAL, (1,), {})
    for length in range(len(payload)):
        with pytest.raises((PayloadNotReadable, PythonVersionMismatch)):
            CODEC.restore(payload[:length])


def test_what_is_gone_is_named_with_the_remedy(monkeypatch):
    payload = CODEC.capture(samples.double, (1,), {})
    monkeypatch.delattr(samples, "double")
    with pytest.raises(PayloadNotReadable, match=r"double.*alias"):
        CODEC.restore(payload)


def test_a_module_that_is_gone_is_named(monkeypatch):
    module = types.ModuleType("short_lived")
    monkeypatch.setitem(sys.modules, "short_lived", module)
    exec("def make(n): return lambda: n", module.__dict__)
    payload = CODEC.capture(module.make(1), (), {})
    monkeypatch.delitem(sys.modules, "short_lived")
    with pytest.raises(PayloadNotReadable, match="short_lived"):
        CODEC.restore(payload)


# Refusals


def a_generator():
    yield


async def a_coroutine():
    pass


@contextlib.contextmanager
def in_loop(make):
    loop = asyncio.new_event_loop()
    yield make(loop)
    loop.close()


keep = contextlib.nullcontext
REFUSED = {
    "weak reference": lambda: keep(weakref.ref(Box)),
    "workflow's context": lambda: keep(Context()),
    "lock": lambda: keep(threading.Lock()),
    "lock (R)": lambda: keep(threading.RLock()),
    "thread synchronisation": lambda: keep(threading.Event()),
    "thread synchronisation (Condition)": lambda: keep(threading.Condition()),
    "thread synchronisation (Semaphore)": lambda: keep(threading.Semaphore()),
    "thread": lambda: keep(threading.Thread()),
    "queue": lambda: keep(queue.Queue()),
    "queue (Simple)": lambda: keep(queue.SimpleQueue()),
    "future": lambda: in_loop(lambda loop: loop.create_future()),
    "event loop": lambda: in_loop(lambda loop: loop),
    "asyncio": lambda: keep(asyncio.Lock()),
    "asyncio (Event)": lambda: keep(asyncio.Event()),
    "asyncio (Queue)": lambda: keep(asyncio.Queue()),
    "open file": lambda: pathlib.Path(__file__).open(),  # noqa: SIM115
    "open file (binary)": lambda: pathlib.Path(__file__).open("rb"),  # noqa: SIM115
    "socket": lambda: contextlib.closing(socket.socket()),
    "database": lambda: contextlib.closing(sqlite3.connect(":memory:")),
    "generator": lambda: contextlib.closing(a_generator()),
    "coroutine": lambda: contextlib.closing(a_coroutine()),
    "cannot be pickled": lambda: keep(Client()),
}

WRAPS = {
    "itself": lambda value: value,
    "list": lambda value: [1, value],
    "dict": lambda value: {"a": [value]},
    "tuple": lambda value: ((value,),),
    "key": lambda value: {id(value): value},
    "object": Box,
    "slots": samples.Slotted,
    "partial": lambda value: functools.partial(samples.double, value),
    "method": lambda value: Box(value).get,
    "closure": lambda value: lambda: value,
    "default": lambda value: lambda a=value: a,
}


def name_of_type(value):
    return type(value).__qualname__


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("said", REFUSED)
def test_a_captured_variable_is_refused_by_its_name_and_type(said, wrap):
    with REFUSED[said]() as value:
        fault = WRAPS[wrap](value)
        before = 1
        with pytest.raises(ClosureNotSerializable) as caught:
            CODEC.capture(lambda: (before, fault), (), {})
    message = str(caught.value)
    assert caught.value.variable == "fault"
    assert "captures 'fault'" in message
    assert said.partition(" (")[0] in message
    assert name_of_type(value) in message
    assert message.count("create it in the task") == (0 if "context" in said else 1)


@pytest.mark.parametrize("said", REFUSED)
def test_an_argument_is_refused_by_its_place_or_name(said):
    with REFUSED[said]() as value:
        with pytest.raises(ClosureNotSerializable, match="argument 2") as caught:
            CODEC.capture(samples.double, (1, [value]), {})
        assert caught.value.variable == "argument 2"
        with pytest.raises(ClosureNotSerializable, match="argument 'client'") as caught:
            CODEC.capture(samples.double, (1,), {"client": value})
        assert name_of_type(value) in str(caught.value)
        with pytest.raises(ClosureNotSerializable, match="argument 1"):
            CODEC.capture(functools.partial(samples.double, value), (), {})
        with pytest.raises(ClosureNotSerializable, match="'self'"):
            CODEC.capture(Box(value).get, (), {})


def test_what_is_no_function_is_refused():
    coroutine = a_coroutine()
    with pytest.raises(ClosureNotSerializable, match=r"callable itself \(coroutine\).*a coroutine"):
        CODEC.capture(coroutine, (), {})
    coroutine.close()


class Sly:
    def __getattribute__(self, name):
        raise RuntimeError(name)


def test_a_variable_whose_own_code_fails_is_named():
    sly = Sly()
    with pytest.raises(ClosureNotSerializable, match=r"'sly'.*RuntimeError"):
        CODEC.capture(lambda: sly, (), {})


def test_the_path_inside_a_variable_is_named():
    config = {"clients": [Box(threading.Lock())]}
    with pytest.raises(ClosureNotSerializable) as caught:
        CODEC.capture(lambda: config, (), {})
    assert 'config["clients"][0].content (_thread.lock) is a lock' in str(caught.value)


def test_what_dill_would_silently_accept_is_refused_beside_a_local_class():
    class Local:
        pass

    local, lock = Local(), threading.Lock()
    local.inner = [lock]
    with pytest.raises(ClosureNotSerializable, match=r"'local'.*inner\[0\] .*lock"):
        CODEC.capture(lambda: local, (), {})
    Local.lock = lock
    del local.inner
    with pytest.raises(ClosureNotSerializable, match=r"'local'.*lock"):
        CODEC.capture(lambda: local, (), {})


def test_a_file_is_not_touched(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with path.open("a") as file, pytest.raises(ClosureNotSerializable, match="open file"):
        CODEC.capture(lambda: file, (), {})
    assert path.read_text() == "data"


def test_a_client_is_refused_at_once():
    boto3 = pytest.importorskip("boto3")
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1"}
    client, resource = boto3.client("sqs", **keys), boto3.resource("s3", **keys)
    with pytest.raises(
        ClosureNotSerializable,
        match=r"captures 'client' \(botocore.client.SQS\), which is a boto3 client: create it in",
    ):
        CODEC.capture(lambda: client, (), {})
    with pytest.raises(ClosureNotSerializable, match=r"'resource'.*a boto3 resource"):
        CODEC.capture(lambda: {"r": resource}, (), {})
    bucket = resource.Bucket("b")
    with pytest.raises(ClosureNotSerializable, match=r"'bucket'.*a boto3 resource"):
        CODEC.capture(lambda: bucket, (), {})


def test_files_in_memory_are_data():
    file = io.BytesIO(b"abc")
    assert restored(lambda: [file.getvalue()])() == [b"abc"]


def test_an_object_that_leaves_its_lock_out_is_accepted():
    guarded = samples.Guarded()
    assert restored(lambda: guarded.value)() == 1


def test_what_is_nested_too_deeply_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ClosureNotSerializable, match=r"'deep'.*nested too deeply: flatten"):
        CODEC.capture(lambda: deep, (), {})


def test_a_cyclic_value_is_captured():
    items = [1]
    items.append(items)
    again = restored(lambda: items)()
    assert again[1] is again


def test_a_failed_capture_leaves_the_codec_usable():
    lock = threading.Lock()
    with pytest.raises(ClosureNotSerializable):
        CODEC.capture(lambda: lock, (), {})
    assert restored(lambda: 1)() == 1


# The main script

SCRIPT = """
import multiprocessing, sys
from mini_workflow.codecs import StandardCodec
from dataclasses import dataclass

CODEC = StandardCodec()
STATE = {"where": "import"}
NAME = __name__

@dataclass
class Job:
    n: int

class MainError(Exception):
    def __init__(self, code, *, why):
        super().__init__(code)
        self.why = why

def helper(n):
    return n + 1

def note(where):
    STATE["where"] = where

def make(n):
    job = Job(n)
    def closure(argument):
        note("closure")
        return [helper(job.n), argument.n, type(argument) is Job, type(job) is Job,
                STATE["where"], NAME]
    return closure

def make_local(n):
    class Local:
        def run(self):
            note("local")
            return [helper(n), Job(n) == Job(n), STATE["where"], NAME]
    return Local()

def simple(n):
    return lambda: (note("simple"), helper(n), STATE["where"], NAME)[1:]

def fail():
    raise MainError(3, why="main")

def child(connection):
    while (payload := connection.recv_bytes()):
        function, args, kwargs = CODEC.restore(payload)
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            connection.send_bytes(repr(CODEC.encode_failure(error).to_plain()).encode())
        else:
            connection.send_bytes(CODEC.encode(result, "result").text.encode())

if __name__ == "__main__":
    import json
    from mini_workflow.core.failure import Failure
    from mini_workflow.core.payload import Payload
    context = multiprocessing.get_context(sys.argv[1])
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    local = make_local(5)
    for name, call in {
        "closure": (make(1), (Job(7),)),
        "reference": (helper, (1,)),
        "simple": (simple(4), ()),
        "dill": (local.run, ()),
        "value": (Job, (9,)),
    }.items():
        ours.send_bytes(CODEC.capture(*call, {}))
        text = ours.recv_bytes().decode()
        value = CODEC.decode(Payload(text=text))
        print(json.dumps([name, value if name != "value" else [type(value) is Job, value.n]]))
    ours.send_bytes(CODEC.capture(fail, (), {}))
    failure = Failure.from_plain(eval(ours.recv_bytes().decode()))
    error = CODEC.decode_failure(failure)
    print(json.dumps(["failure", [type(error) is MainError, error.why, failure.lineage[0]]]))
    ours.send_bytes(b"")
    process.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_the_main_script_is_found_in_its_children(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), method],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
    )
    assert ran.returncode == 0, ran.stderr
    name = "__main__" if method == "fork" else "__mp_main__"
    assert dict(map(json.loads, ran.stdout.splitlines())) == {
        "closure": [2, 7, True, True, "closure", name],
        "reference": 2,
        "simple": [5, "simple", name],
        "dill": [6, True, "local", name],
        "value": [True, 9],
        "failure": [True, "main", "__main__:MainError"],
    }


def test_bytes_do_not_depend_on_the_process(tmp_path):
    """A payload of this process is read by a fresh one that has imported nothing yet."""
    n = 20
    payload = CODEC.capture(lambda: samples.double(n) + 2, (), {})
    file = tmp_path / "payload"
    file.write_bytes(payload)
    code = (
        "import pathlib, sys; from mini_workflow.codecs import StandardCodec\n"
        f"call = StandardCodec().restore(pathlib.Path({str(file)!r}).read_bytes())\n"
        "print(call[0](*call[1], **call[2])); print('dill' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert ran.stdout.split() == ["42", "False"]


# Descriptions


def make_adder(n):
    return lambda m: m + n


def test_a_description_names_the_function_and_its_code():
    one, other = describe_call(make_adder(1)), describe_call(make_adder(2))
    assert one == other
    assert one.name == "tests.codecs.test_closures:make_adder.<locals>.<lambda>"
    assert describe_call(samples.double).code != describe_call(samples.bump).code
    assert describe_call(functools.partial(samples.double, 1)) == describe_call(samples.double)
    assert describe_call(Box(1).get).name == "tests.codecs.samples:Box.get"
    assert describe_call(len).name == "builtins:len"
    assert describe_call(Order).name == "tests.codecs.samples:Order"
    assert describe_call(operator.attrgetter("x")).name == "operator:attrgetter"


def test_the_code_hash_ignores_lines_and_hash_seeds():
    def compiled(text):
        space = {}
        exec(text, space)
        return describe_call(space["f"]).code

    text = "def f(x): return x in {'a', 'b', 'c', 'd'} or (1, 1.0, True, ('e', {'g', 'h'}))"
    assert compiled(text) == compiled("\n\n" + text)
    assert compiled("def f(): return 1") != compiled("def f(): return True")
    assert compiled("def f(): return 1") != compiled("def f(): return 1.0")
    code = (
        "from mini_workflow.codecs.closures import describe_call\n"
        f"exec({text!r}); print(describe_call(f).code)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert hashes == {compiled(text)}


class AsyncCallable:
    async def __call__(self):
        return 1


class Sync:
    def __call__(self):
        return 1

    async def method(self):
        return 1


async def an_async_generator():
    yield


def test_what_gives_a_coroutine_is_known():
    partial = functools.partial
    for function in (
        samples.double_async,
        partial(samples.double_async, 1),
        partial(partial(samples.double_async), 1),
        AsyncCallable(),
        partial(AsyncCallable()),
        Sync().method,
        partial(Sync().method),
        functools.wraps(samples.double)(samples.double_async),
    ):
        assert is_async_call(function)
    for function in (
        samples.double,
        Sync(),
        AsyncCallable,
        partial(AsyncCallable),
        partial(samples.double),
        an_async_generator,
        len,
        Order,
        "abc".upper,
        lambda: None,
    ):
        assert not is_async_call(function)


def test_a_pickled_call_is_not_mistaken_for_a_captured_one():
    with pytest.raises(PayloadNotReadable, match="not a captured call"):
        CODEC.restore(pickle.dumps((samples.double, (), {})))
