"""Values come back as themselves, to the type."""

import asyncio
import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import fractions
import json
import math
import pathlib
import uuid
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs.table import KINDS, kind_of
from mini_workflow.core.payload import Payload
from mini_workflow.errors import PayloadNotReadable
from tests.unit.codecs import samples
from tests.unit.codecs.crossing import CODEC, round_trip, same
from tests.unit.codecs.samples import (
    Access,
    Account,
    Bits,
    Box,
    Checked,
    Color,
    Count,
    Customer,
    Items,
    Level,
    Money,
    Name,
    Nested,
    Order,
    Pair,
    Point,
    Table,
    Tagged,
    Text,
)

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


VALUES = [
    None,
    0,
    "",
    False,
    True,
    -1,
    2**53 + 1,
    10**700,
    -(2**4000),
    10**4299,
    10**6000,
    0.1,
    -0.0,
    1e308,
    math.inf,
    -math.inf,
    math.nan,
    1j,
    complex(math.nan, -0.0),
    "text",
    "Zoë 你好 😀",
    '\x00\n"\\/',
    [],
    {},
    [1, [2, [3]]],
    {"a": {"b": [None]}},
    {"$": "tuple", "v": [1]},
    {"a": {"$": None}},
    {"$": {"$": 1}},
    (),
    (1, (2,), [3]),
    set(),
    {1, "a", (2,)},
    frozenset({1, frozenset({2})}),
    {1: "int", "1": "text", (1,): "tuple", None: 0, 1.5: 1, Level.LOW.name: 2},
    {3: 1, 1: 2, 2: 3},
    b"",
    b"\x00\xff",
    bytearray(b"abc"),
    range(1, 10, 2),
    slice(None, 3, "x"),
    ...,
    NotImplemented,
    dt.datetime(2024, 2, 29, 1, 2, 3, 4),
    dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
    dt.datetime(2024, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=-5, seconds=7))),
    dt.datetime(2024, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
    dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    dt.datetime.min,
    dt.datetime.max.replace(tzinfo=dt.UTC),
    dt.date(1, 1, 1),
    dt.time(23, 59, 59, 999999),
    dt.time(12, tzinfo=dt.UTC),
    dt.time(12, tzinfo=BERLIN, fold=1),
    dt.timedelta(days=-3, microseconds=1),
    dt.UTC,
    dt.timezone(dt.timedelta(hours=2)),
    dt.timezone(dt.timedelta(0), "UTC"),
    BERLIN,
    decimal.Decimal("1.10"),
    decimal.Decimal("-0"),
    decimal.Decimal("sNaN12"),
    decimal.Decimal("Infinity"),
    fractions.Fraction(-1, 3),
    uuid.UUID(int=5),
    Color.RED,
    Color.GREEN,
    Color.CRIMSON,
    Level.HIGH,
    Name.ANN,
    Access.READ | Access.WRITE,
    Access(0),
    Bits.ONE | Bits(8),
    Text("x"),
    Count(3),
    Items([1, 2]),
    Table({"a": 1}),
    Point(1, (2,)),
    Pair("l", {"r"}),
    Order("o-1", [Money(decimal.Decimal(1))]),
    Money(1),
    Nested(order=Order("o-2"), price=Money(2), more={"x": (1,)}),
    Customer(name="ann", tags={"b", "a"}),
    samples.Names(["a", "b"]),
    samples.Page[samples.Names](items=[samples.Names([])]),
    samples.IntPage(items=[1]),
    samples.Page[str](items=["a"]),
    samples.Page(items=[(1,)]),
    samples.Measured(1.5),
    samples.Weather(20.5),
    samples.Climate(8.5),
    Account(owner=Customer(name="bob", age=3), balance=decimal.Decimal("1.5")),
    pathlib.PurePosixPath("/a/b"),
    pathlib.PureWindowsPath("c:/a"),
    pathlib.Path("relative"),
    collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.Counter("abca"),
    collections.defaultdict(list, {"a": [1]}),
    collections.defaultdict(None, {1: 2}),
    collections.deque([1, (2,)], maxlen=2),
    collections.deque(),
    Box((1, {2})),
    int,
    Order,
    samples.double,
    len,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"k": (v,)}])
def test_a_value_comes_back_as_itself(value, wrap):
    assert same(round_trip(wrap(value)), wrap(value))


def test_every_kind_of_the_table_is_written_and_read_under_its_tag():
    class Local:
        pass

    written = set()
    for value in [*VALUES, ValueError("no"), Local()]:
        tree = json.loads(CODEC.encode(value, "result").text)
        if isinstance(tree, dict) and set(tree) - {"a"}:
            assert kind_of(type(value)) is KINDS[tree["$"]], value
            assert type(CODEC.decode(Payload(tree=tree))).__name__ == type(value).__name__
            written.add(tree["$"])
    # What payload codecs have encoded is of no type.
    elsewhere = {"PosixPath", "WindowsPath", "encoded"} - {type(pathlib.Path()).__name__}
    assert set(KINDS) - written == elsewhere


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**3000), 2**3000)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | st.sampled_from([*Color, *Level, *Access])
    | st.datetimes(timezones=st.none() | st.just(dt.UTC) | st.just(BERLIN)),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
ANY = st.recursive(
    HASHABLE
    | st.floats()
    | st.complex_numbers()
    | st.decimals()
    | st.fractions()
    | st.binary().map(bytearray)
    | st.times(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$", "v", "a"]), inner, max_size=3)
        | st.sets(HASHABLE, max_size=4)
        | st.builds(Order, st.text(), st.lists(inner, max_size=2))
        | st.builds(Money, inner)
        | st.builds(Point, st.integers(), inner)
        | st.lists(inner, max_size=3).map(collections.deque)
        | st.builds(Account, owner=st.just(Customer(name="ann")), balance=inner)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_json_is_itself_in_the_store(value):
    payload = CODEC.encode(value, "result")
    assert same(round_trip(value), value)
    json.loads(payload.text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    payload.text.encode()


@given(ANY)
def test_any_value_comes_back_as_itself(value):
    assert same(round_trip(value), value)


@given(ANY)
def test_encoding_a_decoded_value_gives_the_same_payload(value):
    payload = CODEC.encode(value, "result")
    assert CODEC.encode(CODEC.decode(payload), "result") == payload


@given(st.sets(HASHABLE, max_size=6))
def test_equal_sets_have_equal_payloads(value):
    other = set()
    other.update(list(value)[::-1])
    assert CODEC.encode(value, "x").text == CODEC.encode(other, "x").text


@given(st.text(max_size=20) | st.none() | PLAIN, st.text(max_size=10))
def test_damaged_text_is_an_error_of_this_library_or_another_value(value, noise):
    text = CODEC.encode([value], "result").text
    with contextlib.suppress(PayloadNotReadable):
        CODEC.decode(Payload(text=text[:-1] + noise))


@pytest.mark.parametrize(
    "tree",
    [
        {"$": "unknown"},
        {"$": 1},
        {"$": []},
        {"$": "tuple"},
        {"$": "bytes", "v": "!"},
        {"$": "int", "v": "x"},
        {"$": "dict", "v": [[1]]},
        {"$": "pickle", "v": "!"},
        {"$": "pickle", "v": "AAAA"},
        {"$": "pickle"},
        {"$": "datetime", "v": 3},
        {"$": "enum", "class": "nothing"},
        {"$": "UUID", "v": "x"},
        {"$": "set", "v": [[1]]},
        {"$": "dataclass", "class": "tests.unit.codecs.samples:Order", "v": {}},
        {"$": "dataclass", "class": "tests.unit.codecs.samples:Box", "v": {}},
        {"$": "model", "class": "tests.unit.codecs.samples:Box", "v": {}, "set": []},
        {"$": "exception", "class": "tests.unit.codecs.samples:Box", "v": {"args": []}},
        {"$": "enum", "class": "builtins:int", "v": 3},
        {"$": "namedtuple", "class": "builtins:list", "v": {}},
        {"$": "defaultdict", "factory": "builtins:print", "v": []},
    ],
)
def test_a_damaged_tree_is_not_readable(tree):
    with pytest.raises(PayloadNotReadable):
        CODEC.decode(Payload(tree=tree))


def test_what_follows_the_value_is_not_ignored():
    with pytest.raises(PayloadNotReadable, match="after its end"):
        CODEC.decode(Payload(text="1 2"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}'),
        ((1, 2), '{"$":"tuple","v":[1,2]}'),
        (
            dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
            '{"$":"datetime","v":"2024-01-02T00:00:00+00:00"}',
        ),
        (Color.RED, '{"$":"enum","class":"tests.unit.codecs.samples:Color","name":"RED"}'),
        (
            Money(1),
            '{"$":"dataclass","class":"tests.unit.codecs.samples:Money","v":{"amount":1,"currency":"EUR"}}',
        ),
    ],
)
def test_the_store_is_readable(value, text):
    assert CODEC.encode(value, "result").text == text


# What a decoded value shares


def test_two_decodes_of_one_payload_share_nothing_mutable():
    for value in ([[1]], {"a": {"b": [1]}}, ([1],)):
        payload = CODEC.encode(value, "result")
        for given_payload in (payload, Payload(tree=json.loads(payload.text))):
            before = given_payload.tree
            copied = json.dumps(before)
            first = CODEC.decode(given_payload)
            inner = first[0] if not isinstance(first, dict) else first["a"]["b"]
            inner.append("changed")
            assert CODEC.decode(given_payload) == value
            assert json.dumps(given_payload.tree) == copied


def test_changing_a_value_after_it_was_encoded_changes_nothing():
    value = {"a": [1], "b": (2,)}
    payload = CODEC.encode(value, "result")
    value["a"].append(2)
    assert CODEC.decode(payload) == {"a": [1], "b": (2,)}


# Objects


def test_no_constructor_runs_when_a_dataclass_comes_back():
    checked = Checked(2)
    assert checked.value == 4
    assert round_trip(checked).value == 4


def test_attributes_beyond_the_fields_come_back():
    order = Order("o-1")
    order.note = ("extra",)
    assert round_trip(order).note == ("extra",)


def test_a_dataclass_with_an_unset_field_comes_back_as_far_as_it_goes():
    order = object.__new__(Order)
    order.id = "o-1"
    assert round_trip(order).id == "o-1"


def test_a_dataclass_with_contents_of_its_own_keeps_them():
    tagged = Tagged(label="x")
    tagged["k"] = (1,)
    again = round_trip(tagged)
    assert (type(again), again.label, dict(again)) == (Tagged, "x", {"k": (1,)})


def test_a_pydantic_model_keeps_extra_private_and_set_fields():
    customer = Customer(name="ann", nick="a")
    customer._secret = (1, 2)
    again = round_trip(customer)
    assert again == customer
    assert again._secret == (1, 2)
    assert again.model_extra == {"nick": "a"}
    assert again.model_fields_set == {"name", "nick"}


def test_a_generic_model_with_arguments_comes_back():
    nested = samples.Page[samples.Page[dict[str, int]]]
    for value in (
        samples.Page[bytes](items=[b"a"]),
        samples.Page[Customer](items=[Customer(name="a")]),
        nested(items=[samples.Page[dict[str, int]](items=[{"a": 1}])]),
    ):
        payload = CODEC.encode(value, "result")
        assert "dill" not in payload.text
        again = CODEC.decode(payload)
        assert type(again) is type(value)
        assert again == value


def test_no_validator_runs_when_a_model_comes_back():
    customer = Customer.model_construct(name="ann", age=-5)
    assert round_trip(customer).age == -5


def test_a_field_gained_since_takes_its_default():
    old = {"$": "dataclass", "class": "tests.unit.codecs.samples:Order", "v": {"id": "o-1"}}
    assert CODEC.decode(Payload(tree=old)) == Order("o-1")
    old = {
        "$": "model",
        "class": "tests.unit.codecs.samples:Customer",
        "v": {"name": "a"},
        "set": ["name"],
    }
    assert CODEC.decode(Payload(tree=old)) == Customer(name="a")
    old = {"$": "namedtuple", "class": "tests.unit.codecs.samples:Point", "v": {"x": 1}}
    assert CODEC.decode(Payload(tree=old)) == Point(1)


def test_a_field_lost_since_is_dropped():
    fields = {"amount": 1, "currency": "EUR", "gone": 2}
    old = {"$": "dataclass", "class": "tests.unit.codecs.samples:Money", "v": fields}
    assert CODEC.decode(Payload(tree=old)) == Money(1)


def test_a_field_gained_without_a_default_is_named():
    old = {"$": "dataclass", "class": "tests.unit.codecs.samples:Order", "v": {}}
    with pytest.raises(
        PayloadNotReadable, match=r"'tests.unit.codecs.samples:Order'.*'id'.*default"
    ):
        CODEC.decode(Payload(tree=old))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests.unit.codecs.samples:Renamed", "'Renamed'.*alias"),
        ("tests.unit.codecs.samples:Order.Inner", "'Order.Inner'.*alias"),
        ("no_such_module:Order", "module 'no_such_module'.*alias"),
        ("tests.unit.codecs.samples:double", "no longer a class"),
        ("broken", "module:qualname"),
    ],
)
@pytest.mark.parametrize("tag", ["dataclass", "model", "enum", "namedtuple", "exception"])
def test_a_class_that_is_gone_is_named_with_the_remedy(tag, name, said):
    tree = {"$": tag, "class": name, "v": {"args": []}, "name": "RED", "set": []}
    with pytest.raises(PayloadNotReadable, match=said):
        CODEC.decode(Payload(tree=tree))


def test_a_member_that_is_gone_is_named_with_the_remedy():
    tree = {"$": "enum", "class": "tests.unit.codecs.samples:Color", "name": "BLUE"}
    with pytest.raises(PayloadNotReadable, match="BLUE"):
        CODEC.decode(Payload(tree=tree))


def test_a_class_made_in_a_function_goes_along():
    class Local:
        def __init__(self, value):
            self.value = value

        def twice(self):
            return 2 * self.value

    again = round_trip([Local(4)])[0]
    assert again.twice() == 8


def test_a_dataclass_made_in_a_function_goes_along():
    @dataclasses.dataclass
    class Local:
        value: int

    assert round_trip(Local(4)).value == 4


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1),
        KeyError("k"),
        samples.OwnInitError(4, detail="d"),
        samples.KeywordOnlyError(reason="r"),
        FileNotFoundError(2, "no", "file"),
        ExceptionGroup("two", [ValueError(1), KeyError(2)]),
        asyncio.CancelledError("why"),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_is_a_value_like_any_other(error):
    [again] = round_trip([error])
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert repr(again.args) == repr(error.args)


def test_an_exception_as_a_value_keeps_its_cause():
    error = ValueError("x")
    error.__cause__ = KeyError("k")
    assert repr(round_trip(error).__cause__) == "KeyError('k')"
