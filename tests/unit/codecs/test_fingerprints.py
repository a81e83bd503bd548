"""Fingerprints of calls: the same for the same call, in every process."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs.fingerprints import fingerprint_call


def work(*args: Any, **kwargs: Any) -> None: ...


@dataclass
class Order:
    names: set[str]


class Opaque:
    pass


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.dates(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=8,
)


def copied(value: Any) -> Any:
    """An equal value without a part in common."""
    from mini_workflow.codecs import StandardCodec

    return StandardCodec().decode(StandardCodec().encode(value, "value"))


@given(plain)
def test_equal_values_have_equal_fingerprints(value: Any) -> None:
    assert fingerprint_call(work, (value,), {}) == fingerprint_call(work, (copied(value),), {})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        ("a", "b"),
        ([1], [2]),
        ({"a": 1}, {"a": 2}),
        ({1}, {2}),
        (None, 0),
        (b"a", "a"),
        (Order({"a"}), Order({"b"})),
        (dt.date(2026, 1, 1), dt.date(2026, 1, 2)),
        (len, print),
    ],
)
def test_other_values_have_other_fingerprints(one: Any, other: Any) -> None:
    first, second = (fingerprint_call(work, (value,), {}) for value in (one, other))
    assert first != second
    assert first.rpartition(".")[0] == second.rpartition(".")[0]


def test_the_order_of_keys_means_nothing() -> None:
    assert fingerprint_call(work, (), {"a": 1, "b": [2]}) == fingerprint_call(
        work, (), {"b": [2], "a": 1}
    )


def test_what_cannot_be_looked_into_counts_by_its_class() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value in (Opaque(), {Opaque(): 1}, [Opaque()], loop, partial(work, 1)):
        assert fingerprint_call(work, (value,), {}) == fingerprint_call(work, (value,), {})
    assert fingerprint_call(work, (Opaque(),), {}) == fingerprint_call(work, (Opaque(),), {})


def test_a_class_may_say_that_its_content_tells_nothing() -> None:
    class Sent:
        __fingerprint__ = None

        def __init__(self, content: object) -> None:
            self.content = content

    assert fingerprint_call(work, (1, Sent("a")), {}) == fingerprint_call(work, (1, Sent("b")), {})
    assert fingerprint_call(work, (1, Sent("a")), {}) != fingerprint_call(work, (2, Sent("a")), {})


def test_bound_and_partial_arguments_are_values() -> None:
    assert fingerprint_call(partial(work, 1), (), {}) != fingerprint_call(partial(work, 2), (), {})
    assert fingerprint_call("a".join, ((),), {}).startswith("str.join#")


def test_they_are_the_same_in_every_process() -> None:
    program = """
from mini_workflow.codecs.fingerprints import fingerprint_call
names = {"a", "b", "c", "d"}
class Local: pass
def work(value): ...
for value in (names, frozenset(names), [names], {("x", 1): names}, {1: 2, "a": names}, Local()):
    print(fingerprint_call(work, (value,), {}), fingerprint_call(lambda: work(value, names), (), {}))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
