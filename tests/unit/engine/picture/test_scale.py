"""Where a time stands on a timeline."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.engine.picture.scale import BREAK, MOST_BREAKS, NOW, Scale

HOUR = 3_600_000

spans = st.tuples(st.integers(0, 10**12), st.integers(0, 10**10)).map(
    lambda one: (one[0], one[0] + one[1])
)


@given(
    whole=spans,
    active=st.lists(spans, max_size=30),
    times=st.lists(st.integers(0, 10**12 + 10**10), max_size=20),
    is_open=st.booleans(),
    true=st.booleans(),
)
def test_a_later_time_never_stands_before_an_earlier_one(
    whole: tuple[int, int],
    active: list[tuple[int, int]],
    times: list[int],
    is_open: bool,
    true: bool,
) -> None:
    scale = Scale(*whole, active, is_open=is_open, true=true)
    places = [scale.at(time) for time in sorted(times)]
    assert places == sorted(places)
    assert all(0 <= place <= (NOW if is_open else 100) + 1e-6 for place in places)
    assert scale.at(whole[0]) == 0
    assert abs(scale.at(max(whole[1], whole[0] + 1)) - (NOW if is_open else 100)) < 1e-6
    assert len(scale.breaks) <= (0 if true else MOST_BREAKS)
    ticks = [tick.x for tick in scale.ticks()]
    assert ticks == sorted(ticks)


def test_a_long_idle_stretch_is_a_break_of_fixed_width_that_states_its_length() -> None:
    scale = Scale(0, 100 * HOUR, [(0, HOUR), (99 * HOUR, 100 * HOUR)])
    (only,) = scale.breaks
    assert only.lasted == 98 * HOUR
    assert only.width == BREAK
    # What is left is shared by the two hours in which something ran.
    assert scale.at(HOUR) == only.x == (100 - BREAK) / 2
    assert scale.at(99 * HOUR) == only.x + BREAK


def test_the_true_scale_has_no_breaks() -> None:
    scale = Scale(0, 100 * HOUR, [(0, HOUR), (99 * HOUR, 100 * HOUR)], true=True)
    assert scale.breaks == []
    assert scale.at(50 * HOUR) == 50


def test_a_stretch_that_is_no_longer_than_a_twentieth_is_no_break() -> None:
    active = [(0, 48 * HOUR), (53 * HOUR, 100 * HOUR)]
    assert Scale(0, 100 * HOUR, active).breaks == []


def test_ticks_are_round_times_written_as_finely_as_they_are() -> None:
    hours = Scale(HOUR // 2, 9 * HOUR, [(0, 9 * HOUR)]).ticks()
    assert [tick.text for tick in hours][:3] == ["02:00", "04:00", "06:00"]
    fine = Scale(0, 40, [(0, 40)]).ticks()
    assert {tick.parts for tick in fine} == {"second millisecond"}
    assert fine[1].text == "00.005"
