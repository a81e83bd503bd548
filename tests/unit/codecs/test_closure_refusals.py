"""What must not cross into a task is refused by the name of the variable."""

import asyncio
import contextlib
import functools
import io
import pathlib
import queue
import socket
import sqlite3
import threading
import weakref

import pytest

from mini_workflow.errors import ClosureNotSerializable
from tests.unit.codecs import samples
from tests.unit.codecs.crossing import CODEC, restored
from tests.unit.codecs.samples import Box, Client, Context


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
