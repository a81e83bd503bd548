"""Calls that stay in the process: as objects where nothing can change, and as captured in any case."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from mini_workflow.codecs.closures import SharedCall, capture_call, restore_call, share_call
from mini_workflow.errors import ClosureNotSerializable


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


def test_a_variable_that_is_not_set_yet() -> None:
    def make() -> Any:
        payload = share_call(lambda: later, (), {})
        later = 1
        return payload, later

    payload, _ = make()
    with pytest.raises(NameError):
        called(payload)


def test_what_cannot_leave_the_process_is_refused_all_the_same() -> None:
    import threading

    with pytest.raises(ClosureNotSerializable, match="value"):
        share_call(captures(threading.Lock()), (), {})
