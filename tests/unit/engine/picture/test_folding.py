"""Rows of a timeline: few for any history, and what matters always among them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.engine.picture.folding import EACH, MANY, ROWS, SLOWEST, Group, Single, fold
from mini_workflow.engine.picture.operations import Operation, State


def operation(seq: int, name: str = "load", state: State = "completed", took: int = 5) -> Operation:
    ended = None if state in ("running", "waiting", "retrying") else seq + took
    return Operation("task", seq, name, seq, seq, state, ended)


def rows_of(operations: list[Operation]) -> list[str]:
    return [
        f"{one.name} x{len(one.members)}" if isinstance(one, Group) else one.operation.name
        for one in fold(operations).rows
    ]


def test_more_than_twenty_of_one_name_are_one_row() -> None:
    few = [operation(seq) for seq in range(1, MANY + 1)]
    assert rows_of(few) == ["load"] * MANY
    many = [operation(0, "first"), *few, operation(MANY + 1), operation(MANY + 2, "last")]
    assert rows_of(many) == ["first", f"load x{MANY + 1}", "last"]


def test_names_that_begin_alike_are_one_row_where_there_would_be_too_many() -> None:
    files = [operation(seq, f"load {seq}.csv") for seq in range(500)]
    assert rows_of(files) == ["load x500"]
    assert len(rows_of(files[:50])) == 50


def test_the_oldest_completed_rows_go_first() -> None:
    one_each = [operation(seq, f"step-{seq}") for seq in range(ROWS + 30)]
    folded = fold(one_each)
    assert folded.earlier == 30
    first = folded.rows[0]
    assert isinstance(first, Single)
    assert first.operation.seq == 30


def test_a_group_shows_what_has_failed_and_is_at_work_and_the_slowest() -> None:
    states: list[State] = ["failed"] * 30 + ["running"] * 30 + ["retrying"] * 3
    some = [operation(seq, state=state) for seq, state in enumerate(states)]
    done = [operation(100 + seq, took=seq) for seq in range(100)]
    (group,) = fold([*some, *done]).rows
    assert isinstance(group, Group)
    shown = group.shown()
    assert [one.state for one in shown] == (
        ["failed"] * EACH + ["retrying"] * 3 + ["running"] * EACH + ["completed"] * SLOWEST
    )
    assert [one.seq for one in shown][-SLOWEST:] == list(range(199, 199 - SLOWEST, -1))


def test_tasks_inside_a_turn_are_ticks_of_the_row_before_unless_they_failed() -> None:
    inline = [operation(seq, f"look-{seq}") for seq in range(2, 6)]
    for one in inline:
        one.inline = True
    inline[-1].state = "failed"
    rows = fold([operation(1, "load"), *inline]).rows
    assert [one.operation.name for one in rows if isinstance(one, Single)] == ["load", "look-5"]
    assert isinstance(rows[0], Single)
    assert len(rows[0].ticks) == 3


operations = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "load x", "load y", *(f"step-{n}" for n in range(300))]),
        st.sampled_from(["completed", "failed", "running", "retrying", "cancelled"]),
    ),
    max_size=1_000,
)


@given(given=operations)
def test_nothing_is_lost_and_what_failed_or_is_open_keeps_its_row(
    given: list[tuple[str, State]],
) -> None:
    made = [operation(seq, name, state) for seq, (name, state) in enumerate(given)]
    folded = fold(made)
    singles = [one.operation for one in folded.rows if isinstance(one, Single)]
    members = [one for group in folded.rows if isinstance(group, Group) for one in group.members]
    assert len(singles) + len(members) + folded.earlier == len(made)
    shown = {one.seq for one in [*singles, *members]}
    assert all(one.seq in shown for one in made if one.state != "completed")
    kept = [one for one in singles if one.state == "completed"]
    assert len(folded.rows) <= ROWS or not kept
