"""What cannot be stored is refused by its path."""

import asyncio
import contextlib
import dataclasses
import io
import pathlib
import queue
import socket
import sqlite3
import sys
import threading

import pytest

from mini_workflow.codecs.encoding import MAX_DEPTH
from mini_workflow.core.payload import Payload
from mini_workflow.errors import PayloadNotReadable, ValueNotSerializable
from tests.unit.codecs import samples
from tests.unit.codecs.crossing import CODEC, round_trip
from tests.unit.codecs.samples import (
    Account,
    Box,
    Customer,
    Money,
    Order,
    Slotted,
)


def a_generator():
    yield


async def a_coroutine():
    pass


@contextlib.contextmanager
def a_future():
    loop = asyncio.new_event_loop()
    yield loop.create_future()
    loop.close()


keep = contextlib.nullcontext
REFUSED = {
    "a lock": lambda: keep(threading.Lock()),
    "a lock ": lambda: keep(threading.RLock()),
    "a thread synchronisation": lambda: keep(threading.Event()),
    "a thread synchronisation ": lambda: keep(threading.Condition()),
    "a queue": lambda: keep(queue.Queue()),
    "a generator": lambda: contextlib.closing(a_generator()),
    "a coroutine": lambda: contextlib.closing(a_coroutine()),
    "a future": a_future,
    "an asyncio": lambda: keep(asyncio.Lock()),
    "an asyncio ": lambda: keep(asyncio.Queue()),
    "a database": lambda: contextlib.closing(sqlite3.connect(":memory:")),
    "a socket": lambda: contextlib.closing(socket.socket()),
    "an open file": lambda: pathlib.Path(__file__).open(),  # noqa: SIM115
    "the workflow's context": lambda: keep(samples.Context()),
    "cannot be stored": lambda: keep(samples.Client()),
    "cannot be stored ": lambda: keep(memoryview(b"")),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_stored_is_refused_by_its_path(said):
    with REFUSED[said]() as value:
        check_refusals(value, said.strip())


def check_refusals(value, said):
    for wrapped, path in [
        (value, "result"),
        ({"a": [value]}, 'result["a"][0]'),
        (Money((1, value)), "result.amount[1]"),
        (Box({"c": value}), 'result.content["c"]'),
        (Slotted(value), "result.content"),
        (Account(owner=Customer(name="a"), balance=value), "result.balance"),
        ({(1, 2): value}, "result[(1, 2)]"),
    ]:
        with pytest.raises(ValueNotSerializable, match=said) as caught:
            CODEC.encode(wrapped, "result")
        assert caught.value.path.startswith(path)
        assert caught.value.path in str(caught.value)
        assert type(value).__qualname__ in str(caught.value) or said == "cannot be stored"


def test_a_client_is_refused():
    boto3 = pytest.importorskip("boto3")
    client = boto3.client(
        "sqs", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    with pytest.raises(ValueNotSerializable, match=r'result\["c"\] is a boto3 client .*SQS'):
        CODEC.encode({"c": client}, "result")


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: (v := [1], v.append(v))[0], "result[1]"),
        (lambda: (v := {}, v.update(a={"b": v}))[0], 'result["a"]["b"]'),
        (lambda: (v := Order("x"), v.items.append((v,)))[0], "result.items[0][0]"),
        (lambda: (v := {1: []}, v[1].append(v))[0], "result[1][0]"),
    ],
)
def test_a_value_that_contains_itself_is_refused(make, path):
    with pytest.raises(ValueNotSerializable, match="contains itself") as caught:
        CODEC.encode(make(), "result")
    assert caught.value.path == path


def nest(levels, wrap):
    value = 0
    for _ in range(levels):
        value = wrap(value)
    return value


WRAPS = [lambda v: [v], lambda v: {"a": v}, lambda v: (v,), Money]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 1000, 100_000])
def test_what_is_nested_too_deeply_is_refused(wrap, levels):
    with pytest.raises(ValueNotSerializable, match=f"more than {MAX_DEPTH} levels"):
        CODEC.encode(nest(levels, wrap), "result")


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_is_nested_deeply_comes_back(wrap):
    value = nest(MAX_DEPTH, wrap)
    assert round_trip(value) == value


def test_text_that_is_nested_without_end_is_not_readable():
    with pytest.raises(PayloadNotReadable):
        CODEC.decode(Payload(text="[" * 200_000 + "]" * 200_000))


def test_a_stack_that_is_nearly_used_up_is_an_error_too():
    value = nest(90, lambda v: (v,))

    def descend(room):
        return descend(room - 1) if room else CODEC.encode(value, "result")

    def descend_ever_deeper():
        for room in range(0, sys.getrecursionlimit(), 20):
            descend(room)

    with pytest.raises(ValueNotSerializable, match="deep"):
        descend_ever_deeper()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a\ud800", "result"),
        (["x", {"k": "\udfff"}], 'result[1]["k"]'),
        (("\ud800",), "result[0]"),
        ({"\ud800": 1}, 'result["\ud800"]'),
        (Money("\ud800"), "result.amount"),
        (pathlib.PurePosixPath("\udc80"), "result"),
    ],
)
def test_text_that_utf8_cannot_say_is_refused(value, path):
    with pytest.raises(ValueNotSerializable, match=r"surrogate|UTF-8") as caught:
        CODEC.encode(value, "result")
    assert caught.value.path == path


class Shifting(dict):
    def __iter__(self):
        raise RuntimeError("dictionary changed size during iteration")

    items = __iter__


@dataclasses.dataclass
class Sly:
    def __getattribute__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize("make", [samples.Failing, Sly, lambda: Shifting(a=1)])
def test_a_value_whose_own_code_fails_is_refused(make):
    with pytest.raises(ValueNotSerializable, match="RuntimeError"):
        CODEC.encode([make()], "result")


def test_a_failed_encoding_leaves_the_codec_usable():
    value = [threading.Lock()]
    for _ in range(2):
        with pytest.raises(ValueNotSerializable):
            CODEC.encode(value, "result")
    assert round_trip([1]) == [1]


def test_files_in_memory_are_data():
    assert round_trip(io.BytesIO(b"abc")).getvalue() == b"abc"


def test_an_object_that_leaves_its_lock_out_is_accepted():
    assert round_trip(samples.Guarded()).value == 1
