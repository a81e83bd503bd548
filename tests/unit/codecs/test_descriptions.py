"""A call is described by the name and the code of its function."""

import functools
import operator
import subprocess
import sys

from mini_workflow.codecs.closures import describe_call
from mini_workflow.core.calls import is_async
from tests.paths import ROOT
from tests.unit.codecs import samples
from tests.unit.codecs.samples import Box, Order
from tests.waiting import WAIT


def make_adder(n):
    return lambda m: m + n


def test_a_description_names_the_function_and_its_code():
    one, other = describe_call(make_adder(1)), describe_call(make_adder(2))
    assert one == other
    assert one.name == "tests.unit.codecs.test_descriptions:make_adder.<locals>.<lambda>"
    assert describe_call(samples.double).code != describe_call(samples.bump).code
    assert describe_call(functools.partial(samples.double, 1)) == describe_call(samples.double)
    assert describe_call(Box(1).get).name == "tests.unit.codecs.samples:Box.get"
    assert describe_call(len).name == "builtins:len"
    assert describe_call(Order).name == "tests.unit.codecs.samples:Order"
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
            timeout=WAIT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
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
