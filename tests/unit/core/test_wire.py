"""The wire format: every event as a line of JSON and back; old, new and damaged lines."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.core import events, wire
from mini_workflow.core.failure import Failure
from mini_workflow.core.history import History
from mini_workflow.core.open_operations import OpenDurations
from mini_workflow.core.payload import Payload
from mini_workflow.core.report_limits import ReportDeadlines
from mini_workflow.core.slots import OwnSlot, Slots
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import SchemaTooNew, WireError
from tests.laws import corpus
from tests.laws.driver import run

NUMBERS = st.integers(0, 2**53)
TEXT = st.text(st.characters(), max_size=20)  # lone surrogates included
PLAIN: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PAYLOADS = PLAIN.map(lambda tree: Payload(tree=tree)) | PLAIN.map(
    lambda tree: Payload(text=json.dumps(tree))
)
FAILURES: Any = st.builds(
    Failure,
    type=TEXT,
    message=TEXT,
    traceback=TEXT,
    lineage=st.lists(TEXT, max_size=2).map(tuple),
    state=PLAIN,
    cause=st.none() | st.builds(Failure, type=TEXT, message=TEXT),
    retry_after=st.none() | NUMBERS,
    attempts=st.none() | NUMBERS,
)
BY_TYPE = {
    "int": NUMBERS,
    "bool": st.booleans(),
    "str": TEXT,
    "Payload": PAYLOADS,
    "Failure": FAILURES,
    "Failure | None": st.none() | FAILURES,
    "int | None": st.none() | NUMBERS,
    "str | None": st.none() | TEXT,
    "Payload | None": st.none() | PAYLOADS,
    "dict[str, int] | None": st.none() | st.dictionaries(TEXT, NUMBERS),
    "list[int] | None": st.none() | st.lists(NUMBERS),
    "dict[str, int]": st.dictionaries(TEXT, NUMBERS),
    "dict[str, str] | None": st.none() | st.dictionaries(TEXT, TEXT),
    "dict[str, str | None]": st.dictionaries(TEXT, st.none() | TEXT),
    "list[dict[str, Any]] | None": st.none() | st.just([{"id": "u", "at": 1, "result": [2]}]),
    "list[list[Any]]": st.just([["k", 0, 1]]),
    "list[str] | None": st.none() | st.just(["s-1", "s-2"]),
    "dict[str, Any] | None": st.none() | st.just({"max_attempts": 3, "retry_on": ["a:B"]}),
}
KINDS = sorted(events.INCOMING | events.RECORDED, key=lambda kind: kind.__name__)
EVENTS: Any = st.sampled_from(KINDS).flatmap(
    lambda kind: st.builds(kind, **{f.name: BY_TYPE[str(f.type)] for f in fields(kind)})
)


@given(EVENTS)
def test_every_event_survives_the_round_trip(event: Any) -> None:
    line = wire.encode(event)
    assert "\n" not in line
    assert wire.decode(line.encode().decode()) == event
    again = wire.encode(wire.decode(line))
    again.encode()
    assert wire.encode(wire.decode(again)) == again


@given(EVENTS)
def test_what_is_read_to_be_shown_is_the_same(event: Any) -> None:
    line = wire.encode(event)
    assert wire.decode_shown(line) == wire.decode(line) == event


def test_of_what_is_read_to_be_shown_a_result_is_parsed_when_it_is_asked_for() -> None:
    line = wire.encode(events.TaskCompleted(at=1, seq=2, attempt=3, result=Payload('{"a":1}')))
    damaged = wire.decode_shown(line.replace('"a":1', '"a":'))
    assert isinstance(damaged, events.TaskCompleted)
    assert (damaged.seq, damaged.result.text) == (2, '{"a":}')
    with pytest.raises(ValueError, match="Expecting value"):
        _ = damaged.result.tree
    for other in (line[:40], line.replace('"seq":2', '"seq":"2"'), line.replace("Task", "Tsak")):
        with pytest.raises(WireError):
            wire.decode_shown(other)


@given(EVENTS)
def test_what_is_written_out_is_written_as_all_else(event: Any) -> None:
    assert wire.encode(event) == wire.encode_any(event)


@given(
    st.builds(
        events.ExecutionStarted,
        **dict.fromkeys(("at", "seed", "behaviour"), NUMBERS),
        **dict.fromkeys(("workflow", "python", "key"), TEXT),
        arguments=PAYLOADS,
        tags=st.none() | st.dictionaries(TEXT, TEXT, max_size=1),
    )
)
def test_first_events_are_written_as_all_else(event: Any) -> None:
    assert wire.encode(event) == wire.encode_any(event)


@pytest.mark.parametrize("kind", KINDS)
def test_the_line_names_its_kind_and_leaves_defaults_out(kind: Any) -> None:
    values: dict[str, Any] = {
        "int": 1, "str": "x", "Payload": Payload(text='{"a":[1]}'), "Failure": Failure("a:B", "c"),
        "list[list[Any]]": [["k", 0, 1]], "dict[str, int]": {"x": 2}, "dict[str, str | None]": {"x": None},
    }  # fmt: skip
    required = [f for f in fields(kind) if f.default is MISSING]
    event = kind(**{f.name: values[str(f.type)] for f in required})
    plain = json.loads(wire.encode(event))
    assert next(iter(plain)) == "event"
    assert plain.pop("event") == kind.__name__
    assert set(plain) == {f.name for f in required}


def test_a_history_can_be_read_as_it_is() -> None:
    line = wire.encode(events.TaskCompleted(5, 2, 1, Payload(text='{"total":12.5,"who":"Zoë"}')))
    assert line == (
        '{"event":"TaskCompleted","at":5,"seq":2,"attempt":1,"result":{"total":12.5,"who":"Zoë"}}'
    )


@pytest.mark.parametrize(
    "line",
    [
        "", "nonsense", "null", "5", "[]", '"text"', "{}", '{"event":5}', '{"event":["a"]}',
        '{"event":"TaskCompleted"}', '{"event":"TaskCompleted","at":1,"seq":1,"attempt":1}',
        '{"event":"TimerFired","at":1,"seq":"1"}', '{"event":"TimerFired","at":null,"seq":1}',
        '{"event":"TimerFired","at":1.5,"seq":1}', '{"event":"TimerFired","at":true,"seq":1}',
        '{"event":"TimerFired","at":1,"seq":1,"more":2}', '{"event":"TimerFired","at":1,"seq":1',
        '{"event":"TaskFailed","at":1,"seq":1,"attempt":1,"failure":5}',
        '{"event":"TaskFailed","at":1,"seq":1,"attempt":1,"failure":{"type":"x"}}',
        '{"event":"TaskFailed","at":1,"seq":1,"attempt":1,"failure":[]}',
        '{"event":"TimerFired","at":1,"seq":1,"v":"x"}', '{"event":"TimerFired","at":1,"seq":1,"v":0}',
        '{"event":"TimerFired","at":1,"seq":1,"v":null}', "[" * 100_000,
        '{"event":"NeverHeardOf","at":1}', '{"event":"TimerFired","at":' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_damaged_lines_are_wire_errors(line: str) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode(line)
    assert len(str(caught.value)) < 1000


def test_missing_fields_are_named() -> None:
    with pytest.raises(
        WireError, match=r"damaged event TaskCompleted.*missing fields: attempt, seq"
    ):
        wire.decode('{"event":"TaskCompleted","at":1,"result":null}')


@given(st.sampled_from(sorted(corpus.SHAPES)), st.data())
def test_a_changed_byte_is_an_error_or_another_event(name: str, data: st.DataObject) -> None:
    """Never another exception."""
    line = data.draw(st.sampled_from(run(corpus.SHAPES[name]).lines))
    at = data.draw(st.integers(0, len(line) - 1))
    damaged = line[:at] + data.draw(st.characters()) + line[at + 1 :]
    try:
        event = wire.decode(damaged)
    except WireError:
        return
    assert type(event) in events.INCOMING | events.RECORDED


def test_a_newer_schema_is_refused_naming_both_versions() -> None:
    with pytest.raises(SchemaTooNew, match="schema version 2, this library reads versions up to 1"):
        wire.decode('{"event":"TimerFired","at":1,"seq":1,"v":2}')


def test_older_schemas_are_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there is a schema 3, lines of 1 and 2 go through the functions one after the other."""

    def from_1(plain: dict[str, Any]) -> dict[str, Any]:
        if plain["event"] == "AlarmRang":
            plain["event"] = "TimerFired"
        return plain

    def from_2(plain: dict[str, Any]) -> dict[str, Any]:
        if "number" in plain:
            plain["seq"] = plain.pop("number")
        return plain

    monkeypatch.setattr(wire, "SCHEMA", 3)
    monkeypatch.setattr(wire, "UPCASTERS", {1: from_1, 2: from_2})
    expected = events.TimerFired(1, 4)
    assert wire.decode('{"event":"AlarmRang","at":1,"number":4}') == expected
    assert wire.decode('{"event":"TimerFired","at":1,"number":4,"v":2}') == expected
    assert wire.encode(expected) == '{"event":"TimerFired","v":3,"at":1,"seq":4}'
    assert wire.decode(wire.encode(expected)) == expected
    with pytest.raises(SchemaTooNew):
        wire.decode('{"event":"TimerFired","at":1,"seq":1,"v":4}')


# Histories

STARTED = events.ExecutionStarted(1, "w", Payload(text="[[],{}]"), 1)


@pytest.mark.parametrize(
    "impossible",
    [
        [events.TimerFired(1, 1)],
        [STARTED, STARTED],
        [STARTED, events.TimerFired(1, 1)],
        [STARTED, events.TaskCompleted(1, 1, 1, Payload(text="1"))],
        [STARTED, events.TaskCancelled(1)],
        [STARTED, events.TimerCancelled(1)],
        [STARTED, events.TimerStarted(1, 5), events.TimerFired(6, 1), events.TimerFired(7, 1)],
        [STARTED, events.TaskRetryStarted(1, 1, 2)],
        [STARTED, events.ExecutionCancelled(), events.ExecutionCancelled()],
        [STARTED, events.ExecutionTerminated(1), events.ExecutionCancelled()],
        [STARTED, events.ExecutionCancelled(), events.TaskScheduled(1, "x")],
        [STARTED, events.ExecutionCancelled(), events.TimerStarted(1, 5)],
    ],
)  # fmt: skip
def test_impossible_histories_cannot_be_made(impossible: list[Any]) -> None:
    with pytest.raises(WireError):
        History(impossible)


def comparable(part: Any) -> Any:
    """A part of a state, with what is open as its fields."""
    if isinstance(part, Slots):
        return {"used": part.used, "known": part.known, "lines": comparable(part.lines)}
    if isinstance(part, OwnSlot):
        return part.limit, part.run, part.waits, comparable(part.slots)
    if isinstance(part, OpenDurations | ReportDeadlines):
        return {name: getattr(part, name) for name in part.__slots__}
    if not isinstance(part, dict):
        return part
    return {
        key: {name: getattr(value, name) for name in value.__slots__}
        if hasattr(value, "__slots__")
        else value
        for key, value in part.items()
    }


@pytest.mark.parametrize("name", corpus.SHAPES)
def test_the_state_of_a_history_is_that_of_its_events_one_by_one(name: str) -> None:
    driver = run(corpus.SHAPES[name])
    assert driver.run is not None
    for attribute in ExecutionState.__slots__:
        if not attribute.startswith("_"):
            live, cold = (getattr(s, attribute) for s in (driver.run.state, driver.history.state()))
            assert comparable(live) == comparable(cold), attribute
    history = driver.history
    assert History.from_lines(history.to_lines()) == history
    assert History().append(driver.events) == history
    assert list(history.prefixes())[-1] is history
    assert history.started == driver.events[0]
    assert repr(history).count("\n") >= len(history) - 1


def test_payloads_are_equal_as_values_and_have_no_hash() -> None:
    assert Payload(text='{"a": 1,  "b": 2}') == Payload(tree={"b": 2, "a": 1})
    assert Payload(text="1") != Payload(text="2")
    with pytest.raises(TypeError):
        hash(Payload(text="1"))
    with pytest.raises(WireError, match="empty"):
        _ = History().started


def test_the_kind_of_a_line_is_known_without_decoding_it() -> None:
    for event in (
        events.SignalReceived(1, "TaskFailed", Payload(text='{"event":"x"}')),
        events.CancelRequested(1),
    ):
        assert wire.kind_of(wire.encode(event)) == type(event).__name__
    for damaged in ("", "damaged, not UTF-8", '[{"event":"TaskFailed"}]'):
        assert wire.kind_of(damaged) == ""
