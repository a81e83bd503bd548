"""Arguments of a command line are built to the annotations of what they are for, or refused."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import ipaddress
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow import Context
from mini_workflow.annotations import Text, Unfit, build
from mini_workflow.cli.arguments import read_arguments, read_value
from mini_workflow.errors import UsageError
from mini_workflow.workflow import Workflow

ID = "12345678-1234-5678-1234-567812345678"


class Colour(enum.Enum):
    RED = "r"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    price: Decimal = Decimal(1)
    due: date | None = None


@dataclasses.dataclass
class Order:
    items: list[Item]
    by: dict[str, Colour] = dataclasses.field(default_factory=dict)


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Address(TypedDict, total=False):
    city: str
    since: date


class Model(pydantic.BaseModel):
    at: datetime
    tags: list[str] = []


class Numbers(pydantic.RootModel[list[int]]):
    pass


UserId = NewType("UserId", int)
T = TypeVar("T", bound=int)

DAY = date(2026, 1, 31)

TYPED: list[tuple[str, Any, Any]] = [
    ("17", str, "17"),
    ('"17"', str, "17"),
    ("null", str, "null"),
    ("17", int, 17),
    ("17", Any, 17),
    ("ann", Any, "ann"),
    ("true", bool, True),
    ("1", float, 1.0),
    ("null", None, None),
    ("1.10", Decimal, Decimal("1.10")),
    ("1/3", Fraction, Fraction(1, 3)),
    ("2026-01-31T12:00:00Z", datetime, datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ('"2026-01-31T12:00:00+00:00"', datetime, datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ("2026-01-31", date, date(2026, 1, 31)),
    ("12:30", time, time(12, 30)),
    ("90", timedelta, timedelta(seconds=90)),
    ("0.5", timedelta, timedelta(seconds=0.5)),
    (ID, UUID, UUID(ID)),
    ("a/b", Path, Path("a/b")),
    ("127.0.0.1", ipaddress.IPv4Address, ipaddress.IPv4Address("127.0.0.1")),
    ("r", Colour, Colour.RED),
    ("RED", Colour, Colour.RED),
    ("2", Colour, Colour.BLUE),
    ("HIGH", Level, Level.HIGH),
    ("1", Level, Level.LOW),
    ("fast", Literal["fast", "slow"], "fast"),
    ("2", Literal["2", 3], "2"),
    ("[1, 2]", list[int], [1, 2]),
    ("[1, 2]", collections.abc.Sequence[int], [1, 2]),
    ("[1, 2]", tuple[int, ...], (1, 2)),
    ('[1, "x"]', tuple[int, str], (1, "x")),
    ("[1, 1]", set[int], {1}),
    ("[[1, 2]]", frozenset[tuple[int, int]], frozenset({(1, 2)})),
    ('{"1": "2026-01-31"}', dict[int, date], {1: date(2026, 1, 31)}),
    ('{"1": 2}', dict, {"1": 2}),
    ('{"1": 2}', dict[Any, Any], {"1": 2}),
    ("[[1]]", list, [[1]]),
    ("null", Optional[int], None),  # noqa: UP045 - both spellings
    ("17", Union[int, str], 17),  # noqa: UP007
    ("17", str | None, "17"),
    ("x", int | str, "x"),
    ("17", str | int, 17),
    ("2026-01-31", date | str, date(2026, 1, 31)),
    ("5", Annotated[UserId, "a note"], 5),
    ("5", T, 5),
    ('{"name": "pen"}', Item, Item("pen")),
    ('{"name": "p", "price": 1.5, "due": "2026-01-31"}', Item | None, Item("p", Decimal("1.5"), DAY)),
    ('{"items": [{"name": "pen"}], "by": {"ann": "r"}}', Order, Order([Item("pen")], {"ann": Colour.RED})),
    ('{"x": 1}', Point, Point(1)),
    ("[1, 2]", Point, Point(1, 2.0)),
    ('{"city": "Oslo", "since": "2026-01-31"}', Address, {"city": "Oslo", "since": date(2026, 1, 31)}),
    ('{"at": "2026-01-31T12:00:00Z"}', Model, Model(at=datetime(2026, 1, 31, 12, tzinfo=UTC))),
    ("[1, 2]", Numbers, Numbers([1, 2])),
]  # fmt: skip


@pytest.mark.parametrize(("text", "annotation", "value"), TYPED, ids=lambda one: str(one)[:40])
def test_what_is_typed_is_built(text: str, annotation: Any, value: Any) -> None:
    built = build(Text(text), annotation, "it")
    assert built == value
    assert type(built) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation", "told"),
    [
        ("x", int, "it must be a whole number, not x"),
        ("1.5", int, "a whole number"),
        ("true", int, "a whole number"),
        ("1", bool, "true or false"),
        ("yes", bool, "true or false"),
        ("x", Decimal, "a decimal number"),
        ("soon", datetime, "a date and a time"),
        ("10 minutes", timedelta, "a number of seconds"),
        ("NaN", timedelta, "a number of seconds"),
        ("1e300", timedelta, "a number of seconds"),
        ("x", UUID, "a UUID"),
        ("green", Colour, "one of RED, BLUE"),
        ("x", Literal["a", "b"], "one of 'a', 'b'"),
        ("1", list[int], "a JSON array"),
        ('[1, "x"]', list[int], "it[1] must be a whole number"),
        ("[1]", tuple[int, int], "a JSON array of 2"),
        ('{"a": "x"}', dict[str, int], "it['a'] must be a whole number"),
        ("[]", dict[str, int], "a JSON object"),
        ("x", int | None, "a whole number, not x (or null)"),
        ("x", int | date, "a whole number, not x; or it must be a date"),
        ("pen", Item, "a JSON object with name, price, due"),
        ("{}", Item, "'name' is missing"),
        ('{"name": 1}', Item, "it.name must be a text, not 1"),
        ('{"name": "pen", "colour": 1}', Item, "Item has no 'colour'; it has name, price, due"),
        ('{"items": [{"name": "p", "due": "x"}]}', Order, "it.items[0].due must be a date"),
        ('{"at": "x"}', Model, "at"),
        ("[" * 200_000, Any, "nested too deeply"),
        ("x", bytes, "annotated as bytes: such a value cannot be written as text"),
        ("x", Callable[[], int], "cannot be written as text"),
        ("x", type[int], "cannot be written as text"),
        ("x", complex, "cannot be written as text"),
    ],
    ids=lambda one: str(one)[:40],
)
def test_what_does_not_fit_is_refused(text: str, annotation: Any, told: str) -> None:
    with pytest.raises(Unfit) as refused:
        build(Text(text), annotation, "it")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain, st.sampled_from([annotation for _, annotation, _ in TYPED]))
def test_any_json_is_built_or_refused(value: Any, annotation: Any) -> None:
    for given_value in (value, Text(json.dumps(value))):
        try:
            build(given_value, annotation, "it")
        except Unfit:
            continue


async def shop(
    ctx: Context, item: Item, /, at: datetime, *more: int, note: str = "", **rest: Decimal
) -> None:
    """A workflow with parameters of every kind."""


def test_arguments_find_their_parameters_whoever_has_looked_at_the_class_of_workflows() -> None:
    """Asked for its annotations, a class without any has an empty dict of them from then on."""
    assert Workflow.__annotations__ is Workflow.__annotations__
    workflow: Workflow[Any, Any] = Workflow("shop", shop)
    assert read_arguments(["note=17", '{"a": "1.5"}'], workflow)[1] == {
        "note": "17",
        "a": Decimal("1.5"),
    }


def test_arguments_find_their_parameters() -> None:
    workflow: Workflow[Any, Any] = Workflow("shop", shop)
    words = ['[{"name": "pen"}, "2026-01-31T12:00:00Z", 1, 2]', "note=17", '{"a": "1.5"}']
    assert read_arguments(words, workflow) == (
        [Item("pen"), datetime(2026, 1, 31, 12, tzinfo=UTC), 1, 2],
        {"note": "17", "a": Decimal("1.5")},
    )
    with pytest.raises(UsageError, match="argument 'more' must be a whole number"):
        read_arguments(['[{"name": "pen"}, "2026-01-31T12:00:00Z", "x"]'], workflow)
    with pytest.raises(UsageError, match="argument 'at' must be a date and a time"):
        read_arguments(["at=x"], workflow)


def test_an_annotation_that_cannot_be_evaluated_says_nothing_and_the_others_do() -> None:
    def handle(one: Missing, two: date) -> None:  # noqa: F821
        """The first is imported for the type checker alone, as it were."""

    assert read_arguments(["one=1", "two=2026-01-31"], handle)[1] == {
        "one": 1,
        "two": date(2026, 1, 31),
    }


def test_without_a_function_values_are_json_or_texts() -> None:
    assert read_arguments(["a=1", "b=x", "[2]"]) == ([2], {"a": 1, "b": "x"})
    assert read_value("ann") == "ann"
    assert read_value("[1]") == [1]
    assert read_value("2026-01-31", lambda value: value) == "2026-01-31"
