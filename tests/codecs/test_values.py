"""Values come back as themselves, to the type, or are refused by their path."""

import asyncio
import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import io
import json
import math
import pathlib
import queue
import socket
import sqlite3
import subprocess
import sys
import threading
import uuid
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs import Signer, StandardCodec
from mini_workflow.codecs.encoding import MAX_DEPTH
from mini_workflow.core.payload import Payload
from mini_workflow.errors import (
    PayloadNotReadable,
    PythonVersionMismatch,
    SignatureInvalid,
    ValueNotSerializable,
)
from tests.codecs import samples
from tests.codecs.samples import (
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
    Slotted,
    Table,
    Tagged,
    Text,
)

CODEC = StandardCodec()
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def round_trip(value, codec=CODEC):
    """Through the text and through the tree, as both stores and replays do."""
    payload = codec.encode(value, "result")
    from_text = codec.decode(Payload(text=payload.text))
    from_tree = codec.decode(Payload(tree=json.loads(payload.text)))
    assert type(from_text).__qualname__ == type(from_tree).__qualname__
    return from_tree if len(payload.text) % 2 else from_text


def outline(value):
    """What tells a value from every other: types, order, and what equality overlooks."""
    kind = type(value)
    if isinstance(value, (float, complex, decimal.Decimal)):
        return kind, repr(value)
    if isinstance(value, dict):
        inner = [(outline(key), outline(item)) for key, item in value.items()]
        return kind, inner, getattr(value, "default_factory", None)
    if isinstance(value, (list, tuple, collections.deque)):
        return kind, [outline(item) for item in value], getattr(value, "maxlen", None)
    if isinstance(value, (set, frozenset)):
        return kind, sorted((outline(item) for item in value), key=repr)
    if isinstance(value, dt.datetime):
        return kind, value.replace(tzinfo=None), value.fold, repr(value.tzinfo)
    if isinstance(value, Money):
        return kind, outline(value.amount), value.currency
    if hasattr(kind, "__pydantic_fields__"):
        return kind, outline(value.__getstate__())
    if type(getattr(value, "__dict__", None)) is dict and not isinstance(value, enum.Enum):
        return kind, outline(vars(value))
    return kind, value


def same(one, other):
    return outline(one) == outline(other)


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
    samples.IntPage(items=[1]),
    samples.Page[str](items=["a"]),
    samples.Page(items=[(1,)]),
    samples.Measured(1.5),
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
        {"$": "dataclass", "class": "tests.codecs.samples:Order", "v": {}},
        {"$": "dataclass", "class": "tests.codecs.samples:Box", "v": {}},
        {"$": "model", "class": "tests.codecs.samples:Box", "v": {}, "set": []},
        {"$": "exception", "class": "tests.codecs.samples:Box", "v": {"args": []}},
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
        (Color.RED, '{"$":"enum","class":"tests.codecs.samples:Color","name":"RED"}'),
        (
            Money(1),
            '{"$":"dataclass","class":"tests.codecs.samples:Money","v":{"amount":1,"currency":"EUR"}}',
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
    old = {"$": "dataclass", "class": "tests.codecs.samples:Order", "v": {"id": "o-1"}}
    assert CODEC.decode(Payload(tree=old)) == Order("o-1")
    old = {
        "$": "model",
        "class": "tests.codecs.samples:Customer",
        "v": {"name": "a"},
        "set": ["name"],
    }
    assert CODEC.decode(Payload(tree=old)) == Customer(name="a")
    old = {"$": "namedtuple", "class": "tests.codecs.samples:Point", "v": {"x": 1}}
    assert CODEC.decode(Payload(tree=old)) == Point(1)


def test_a_field_lost_since_is_dropped():
    fields = {"amount": 1, "currency": "EUR", "gone": 2}
    old = {"$": "dataclass", "class": "tests.codecs.samples:Money", "v": fields}
    assert CODEC.decode(Payload(tree=old)) == Money(1)


def test_a_field_gained_without_a_default_is_named():
    old = {"$": "dataclass", "class": "tests.codecs.samples:Order", "v": {}}
    with pytest.raises(PayloadNotReadable, match=r"'tests.codecs.samples:Order'.*'id'.*default"):
        CODEC.decode(Payload(tree=old))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests.codecs.samples:Renamed", "'Renamed'.*alias"),
        ("tests.codecs.samples:Order.Inner", "'Order.Inner'.*alias"),
        ("no_such_module:Order", "module 'no_such_module'.*alias"),
        ("tests.codecs.samples:double", "no longer a class"),
        ("broken", "module:qualname"),
    ],
)
@pytest.mark.parametrize("tag", ["dataclass", "model", "enum", "namedtuple", "exception"])
def test_a_class_that_is_gone_is_named_with_the_remedy(tag, name, said):
    tree = {"$": tag, "class": name, "v": {"args": []}, "name": "RED", "set": []}
    with pytest.raises(PayloadNotReadable, match=said):
        CODEC.decode(Payload(tree=tree))


def test_a_member_that_is_gone_is_named_with_the_remedy():
    tree = {"$": "enum", "class": "tests.codecs.samples:Color", "name": "BLUE"}
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


# Refusals


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


# Opaque parts


def dilled():
    class Local:
        x = 1

    return Local()


def test_a_dilled_part_of_another_python_version_is_not_read(monkeypatch):
    payload = CODEC.encode({"a": dilled()}, "result")
    assert '"$":"dill"' in payload.text
    tree = json.loads(payload.text)
    tree["a"]["python"] = "cpython-3.8"
    monkeypatch.setattr("mini_workflow.codecs.dill_pickler.load", lambda data: pytest.fail("read"))
    with pytest.raises(PythonVersionMismatch, match=r"cpython-3\.8.*cpython-3\.1\d"):
        CODEC.decode(Payload(tree=tree))


@pytest.mark.parametrize("make", [dilled, lambda: Text("x")])
def test_a_part_that_another_key_signed_is_not_read(make, monkeypatch):
    ours, theirs = StandardCodec(Signer(b"k" * 32)), StandardCodec(Signer(b"t" * 32))
    good = ours.encode([make()], "result")
    assert type(ours.decode(good)[0]).__name__ == type(make()).__name__
    bad = [theirs.encode([make()], "result"), CODEC.encode([make()], "result")]
    monkeypatch.setattr("mini_workflow.codecs.dill_pickler.load", lambda data: pytest.fail("read"))
    monkeypatch.setattr("mini_workflow.codecs.picklers.load", lambda data: pytest.fail("read"))
    for payload in bad:
        with pytest.raises(SignatureInvalid):
            ours.decode(payload)
    with pytest.raises(SignatureInvalid, match="signing key"):
        CODEC.decode(good)


def test_a_signed_part_cannot_be_relabelled(monkeypatch):
    codec = StandardCodec(Signer(b"k" * 32))
    tree = json.loads(codec.encode(dilled(), "result").text)
    for change in ({"$": "pickle"}, {"python": "cpython-3.8"}):
        with pytest.raises(SignatureInvalid):
            codec.decode(Payload(tree=tree | change))


def test_values_without_pickled_parts_need_no_signature():
    assert StandardCodec(Signer(b"k" * 32)).decode(CODEC.encode((1, Color.RED), "x")) == (
        1,
        Color.RED,
    )


def test_a_pickled_part_runs_nothing_of_an_unsigned_payload(tmp_path):
    import base64
    import pickle

    target = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(target), "w"))

    tree = {"$": "pickle", "v": base64.b64encode(pickle.dumps(Evil())).decode()}
    with pytest.raises(SignatureInvalid):
        StandardCodec(Signer(b"k" * 32)).decode(Payload(tree=tree))
    assert not target.exists()


# Weight


def test_importing_the_codecs_is_light():
    code = (
        "import sys, mini_workflow.codecs\n"
        "heavy = {'dill', 'pydantic', 'boto3', 'botocore', 'decimal', 'uuid', 'zoneinfo', 'pathlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = ran.stdout.strip()
    assert "dill" not in loaded
    assert "pydantic" not in loaded
    assert "boto" not in loaded
