"""Calls that stay in the process: as objects where nothing can change, and as captured in any case."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest

from mini_workflow.codecs.closures import SharedCall, capture_call, restore_call, share_call
from mini_workflow.codecs.fingerprints import fingerprint_call
from mini_workflow.core.calls import about_function
from mini_workflow.errors import ClosureNotSerializable
from tests.audited import audited


def at_module(a: int, b: int = 2) -> tuple[int, int]:
    return a, b


def called(payload: Any) -> Any:
    function, args, kwargs = restore_call(payload)
    return function(*args, **kwargs)


def captures(value: Any) -> Callable[[], Any]:
    return lambda: value


@pytest.mark.parametrize("value", [1, "a", 1.5, True, b"x", None])
def test_what_cannot_change_is_shared(value: object) -> None:
    payload = share_call(captures(value), (), {})
    assert isinstance(payload, SharedCall)
    assert called(payload) == value
    payload = share_call(at_module, (1,), {"b": 3})
    assert isinstance(payload, SharedCall)
    assert called(payload) == (1, 3)


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, (1, [2]), (1,), bytearray(b"x")])
def test_what_can_change_is_captured_as_it_is_now(value: Any) -> None:
    payload = share_call(captures(value), (), {})
    assert payload == capture_call(captures(value), (), {})
    payload = share_call(at_module, (value,), {})
    assert payload == capture_call(at_module, (value,), {})


def test_a_variable_that_is_bound_anew_is_captured_as_it_was() -> None:
    number = 1
    payload = share_call(lambda: number, (), {})
    number = 2
    assert called(payload) == 1


def test_attempts_share_no_variables() -> None:
    """A function that changes what it captures changes its own copy."""

    def make() -> Callable[[], int]:
        count = 0

        def up():  # type: ignore[no-untyped-def]
            nonlocal count
            count += 1
            return count

        return up

    function = make()
    payload = share_call(function, (), {})
    assert isinstance(payload, SharedCall)
    assert [called(payload), called(payload)] == [1, 1]
    assert function() == 1


def test_attempts_share_no_keyword_arguments() -> None:
    payload = share_call(at_module, (1,), {"b": 2})
    restore_call(payload)[2]["b"] = 3
    assert called(payload) == (1, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: functools.partial(at_module, 1),
        lambda: lambda value=1: value,
        lambda: [1].copy,
    ],
)
def test_what_is_more_than_its_code_is_captured_as_before(make: Callable[[], Any]) -> None:
    function = make()
    payload = share_call(function, (), {})
    assert isinstance(payload, bytes)
    assert called(payload) == function()


def _other_module(function: Any) -> Any:
    space = {"__name__": __name__, "__builtins__": __builtins__}
    return FunctionType(function.__code__, space, None, None, function.__closure__)


@pytest.mark.parametrize(
    "change",
    [
        lambda function: setattr(function, "__defaults__", (5,)),
        lambda function: setattr(function, "__kwdefaults__", {"more": 6}),
        lambda function: setattr(function, "note", 7),
        lambda function: setattr(function, "__doc__", "another"),
        lambda function: setattr(function, "__name__", "another"),
        lambda function: setattr(function, "__qualname__", "another"),
        lambda function: setattr(function, "__module__", "another"),
        lambda function: setattr(function, "__annotations__", {"given": int}),
        _other_module,
    ],
)
def test_what_differs_from_the_function_before_is_captured(change: Callable[[Any], Any]) -> None:
    """Of functions of one code that follow each other."""

    def made() -> Any:
        return lambda given, *, more: (value, given, more)

    value = 1
    assert isinstance(share_call(made(), (), {}), SharedCall)
    changed = made()
    changed = change(changed) or changed
    assert not isinstance(share_call(changed, (), {}), SharedCall)
    assert isinstance(share_call(made(), (), {}), SharedCall)


def test_a_function_that_is_changed_after_its_capture_is_captured_as_it_is_then() -> None:
    function: Any = captures(1)
    assert isinstance(share_call(function, (), {}), SharedCall)
    function.note = 7
    assert not isinstance(share_call(function, (), {}), SharedCall)
    assert about_function(function).is_async is False
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)
        assert about_function(function).is_async


def test_defaults_of_a_lambda_are_in_its_fingerprint_and_in_its_copies() -> None:
    calls = [lambda number=number: number for number in range(3)]
    assert len({fingerprint_call(call, (), {}) for call in calls}) == 3
    assert [called(share_call(call, (), {})) for call in calls] == [0, 1, 2]


def test_functions_of_one_code_are_looked_at_once() -> None:
    """To read the code of a function is an audit event, which costs as much as ten other attributes."""
    about_function(captures(0))
    share_call(captures(0), (), {})
    fingerprint_call(captures(0), (), {})
    function = captures(1)
    with audited() as events:
        about_function(function)
        captured = share_call(function, (), {})
        fingerprint_call(function, (), {}, captured)
    assert sorted(events) == ["marshal.dumps", *["object.__getattr__"] * 2]


def test_a_variable_that_is_not_set_yet() -> None:
    def make() -> Any:
        payload = share_call(lambda: later, (), {})
        later = 1
        return payload, later

    payload, _ = make()
    with pytest.raises(NameError):
        called(payload)


def test_what_cannot_leave_the_process_is_refused_all_the_same() -> None:

    with pytest.raises(ClosureNotSerializable, match="value"):
        share_call(captures(threading.Lock()), (), {})


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, "a"), {}), ((), {"b": 2}), ((None,), {"b": 2.5})]
)
@pytest.mark.parametrize("value", [0, -1, 2**70, "ä", 1.5, None, True, b"x"])
def test_a_captured_call_has_the_fingerprint_of_the_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], value: object
) -> None:
    calls: list[Callable[..., Any]] = [
        lambda *args, **kwargs: (value, args, kwargs),
        lambda *args, **kwargs: (args, kwargs),
    ]
    for call in calls:
        expected = fingerprint_call(call, args, kwargs)
        captured = share_call(call, args, kwargs)
        assert isinstance(captured, SharedCall)
        assert fingerprint_call(call, args, kwargs, captured) == expected
        fingerprint_call(at_module, (), {})  # another function comes in between
        assert fingerprint_call(call, args, kwargs, captured) == expected
