"""What a call calls: how errors name it, and whether it gives a coroutine."""

import functools
import operator
import threading

import pytest

from mini_workflow.codecs.closures import capture_call
from mini_workflow.core.calls import is_async
from mini_workflow.errors import ClosureNotSerializable
from tests.unit.codecs import samples
from tests.unit.codecs.samples import Box, Order


def make_adder(n):
    return lambda m: m + n


HERE = "tests.unit.codecs.test_descriptions"
THERE = "tests.unit.codecs.samples"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (make_adder(1), f"{HERE}:make_adder.<locals>.<lambda>"),
        (samples.double, f"{THERE}:double"),
        (functools.partial(functools.partial(samples.double), 1), f"{THERE}:double"),
        (Box(1).get, f"{THERE}:Box.get"),
        (len, "builtins:len"),
        (Order, f"{THERE}:Order"),
        (operator.attrgetter("x"), "operator:attrgetter"),
    ],
)
def test_an_error_names_what_is_called(function, name):
    with pytest.raises(ClosureNotSerializable) as caught:
        capture_call(function, (threading.Lock(),), {})
    assert str(caught.value).startswith(f"{name} is given argument 1 ")


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
        assert is_async(function)
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
        assert not is_async(function)
