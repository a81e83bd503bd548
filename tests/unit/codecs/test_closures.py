"""A call crosses into another process with the same meaning."""

import asyncio
import functools
import inspect
import json
import operator
import sys
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.errors import ClosureNotSerializable
from tests.unit.codecs import samples
from tests.unit.codecs.crossing import CODEC, is_dilled, restored
from tests.unit.codecs.samples import Box, Order

GLOBAL = ["live"]


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


def test_annotations_go_along_whatever_they_are_made_of():
    unit = "cm"

    def tool(
        ids: list[int],
        name: Optional[str] = None,  # noqa: UP045
        top: int | None = 3,
        kind: Literal["a", "b"] = "a",
        unit: Annotated[str, "cm or inch"] = unit,
        call: Callable[[int], dict[str, samples.Order]] | None = None,
        late: "list[int] | None" = None,
        own: type[samples.Order] | None = None,
        *rest: Any,
    ) -> tuple[int, ...]:
        return (len(unit), *ids)

    again = restored(tool)
    assert inspect.signature(again) == inspect.signature(tool)
    assert again.func.__annotations__ == tool.__annotations__
    assert again([1]) == (2, 1)

    class Local:
        pass

    def partly(one: list[Local], other: list[int]) -> None:
        pass

    assert restored(partly).func.__annotations__ == {"other": list[int], "return": None}


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
