"""Classes of data are like those of `dataclasses`, which are made beside them here."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any, ClassVar

import pytest

from mini_workflow.core.records import fact, field, frozen, mutable, record, replace


class _Point:
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list[str])
    note: str = field(default="", compare=False, shown=False)
    unit: ClassVar[str] = "m"


def made(by: Any, **described: Any) -> Any:
    """The class of data of these fields, made anew, some of them `described` in another way."""
    names = {n: v for n, v in vars(_Point).items() if n not in ("__dict__", "__weakref__")}
    return by(type("Point", (), {**names, "__qualname__": "Point", **described}))


THEIRS = made(
    dataclasses.dataclass(slots=True, unsafe_hash=True),
    tags=dataclasses.field(default_factory=list[str]),
    note=dataclasses.field(default="", compare=False, repr=False),
)
OURS = {make.__name__: made(make) for make in (record, frozen, mutable)}
every_kind = pytest.mark.parametrize("kind", OURS.values(), ids=OURS)


@every_kind
def test_it_shows_and_compares_itself_as_a_dataclass_does(kind: Any) -> None:
    for given in ((1,), (1, 3), (1, 3, ["a"]), (1, 3, ["a"], "note")):
        assert repr(kind(*given)) == repr(THEIRS(*given))
        assert kind(*given) == kind(*given)
    assert kind(1, note="other") == kind(1)
    assert kind(1) != kind(2)
    assert kind(1) != THEIRS(1)
    assert kind.__match_args__ == THEIRS.__match_args__
    assert kind.unit == "m"


@every_kind
def test_each_object_has_its_own_default(kind: Any) -> None:
    kind(1).tags.append("a")
    assert kind(1).tags == []


@every_kind
def test_the_functions_of_dataclasses_take_it(kind: Any) -> None:
    one, theirs = kind(1, tags=["a"]), THEIRS(1, tags=["a"])
    assert dataclasses.is_dataclass(kind)
    shown = [(f.name, f.type, f.default, f.compare, f.repr) for f in dataclasses.fields(kind)]
    assert shown == [
        (f.name, f.type, f.default, f.compare, f.repr) for f in dataclasses.fields(THEIRS)
    ]
    assert dataclasses.asdict(one) == dataclasses.asdict(theirs)
    assert dataclasses.astuple(one) == dataclasses.astuple(theirs)
    assert dataclasses.replace(one, y=5) == kind(1, 5, ["a"])
    assert replace(one, y=5) == kind(1, 5, ["a"])
    parameters = inspect.signature(THEIRS).parameters
    assert list(inspect.signature(kind).parameters) == list(parameters)


@every_kind
def test_wrong_arguments_are_refused_by_name(kind: Any) -> None:
    with pytest.raises(TypeError, match="'x'"):
        kind()
    with pytest.raises(TypeError, match="'z'"):
        kind(1, z=2)
    with pytest.raises(TypeError, match="'z'"):
        replace(kind(1), z=2)


@every_kind
def test_it_has_slots_alone_and_can_be_copied(kind: Any) -> None:
    one = kind(1, tags=["a"])
    assert not hasattr(one, "__dict__")
    with pytest.raises(AttributeError):
        object.__setattr__(one, "z", 1)
    deep = copy.deepcopy(one)
    assert deep == one
    assert deep.tags is not one.tags


def test_what_is_frozen_cannot_be_changed() -> None:
    one = OURS["frozen"](1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        one.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        del one.x
    assert one == OURS["frozen"](1)


def test_what_may_be_changed_has_no_hash() -> None:
    one = OURS["mutable"](1)
    one.x = 3
    assert one == OURS["mutable"](3)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    with pytest.raises(TypeError, match="unhashable"):
        hash(OURS["record"](1))  # a list is among its fields
    assert hash(OURS["record"](1, tags=())) == hash(OURS["record"](1, tags=()))


@frozen
class Base:
    name: str
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("a size is positive")


@frozen
class Derived(Base):
    more: tuple[int, ...] = ()


@fact
class Noted:
    at: int
    about: dict[str, int] | None = None


def test_one_that_is_derived_has_the_fields_of_both() -> None:
    one = Derived("a", more=(1, 2))
    assert repr(one) == "Derived(name='a', size=1, more=(1, 2))"
    assert one != Base("a")
    with pytest.raises(ValueError, match="positive"):
        replace(one, size=0)


@pytest.mark.parametrize("one", [Derived("a", 2, (1,)), Noted(1, {"a": 1})], ids=repr)
def test_it_is_pickled_by_its_name(one: object) -> None:
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_fact_has_a_hash_whatever_its_fields_are() -> None:
    assert hash(Noted(1, {"a": 1})) == hash(Noted(1, {"a": 1}))
    assert {Noted(1), Noted(1), Noted(2)} == {Noted(2), Noted(1)}
