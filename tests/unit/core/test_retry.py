"""RetryPolicy: which failures are tried again, when, and what values it takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.failure import Failure
from mini_workflow.core.retry import (
    DEFAULT_POLICY,
    MAXIMUM_ATTEMPTS,
    MAXIMUM_DELAY_SECONDS,
    WORKER_LOST,
    RetryPolicy,
)
from mini_workflow.errors import UsageError, WorkerLost
from tests.laws.corpus import flaky
from tests.laws.driver import CODEC, Driver, check_replays, run

PLAIN = Failure("builtins:ValueError", "x", lineage=("builtins:ValueError", "builtins:Exception"))
DELAYS = st.floats(0, MAXIMUM_DELAY_SECONDS)


def made(**values: Any) -> RetryPolicy:
    return RetryPolicy(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"max_attempts": 0}, {"max_attempts": -1}, {"max_attempts": 2.0}, {"max_attempts": True},
        {"max_attempts": MAXIMUM_ATTEMPTS + 1}, {"max_attempts": "3"}, {"max_attempts": None},
        {"initial": -1}, {"initial": float("nan")}, {"initial": float("inf")}, {"initial": "1"},
        {"initial": timedelta(days=-1)}, {"initial": timedelta(days=400)}, {"initial": True},
        {"maximum": -0.1}, {"maximum": None}, {"maximum": 10**400},
        {"factor": 0.9}, {"factor": float("nan")}, {"factor": float("inf")}, {"factor": "2"},
        {"factor": True}, {"factor": 10**400}, {"factor": None},
        {"jitter": "some"}, {"jitter": None},
        {"retry_on": 5}, {"retry_on": (5,)}, {"retry_on": (int,)}, {"retry_on": (ValueError(),)},
        {"no_retry_on": 5}, {"no_retry_on": (int,)}, {"no_retry_on": "print"},
    ],
)  # fmt: skip
def test_values_out_of_range_are_usage_errors(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"RetryPolicy|duration|seconds"):
        made(**values)


def test_what_is_accepted() -> None:
    policy = made(
        max_attempts=MAXIMUM_ATTEMPTS,
        initial=timedelta(milliseconds=1500),
        factor=3,
        maximum=60,
        retry_on=[ConnectionError, "my.module:Problem"],
    )
    assert (policy.initial, policy.factor, policy.maximum) == (1.5, 3.0, 60.0)
    assert policy.retry_on == (ConnectionError, "my.module:Problem")
    assert made(retry_on=KeyError).retry_on == (KeyError,)
    assert made(retry_on="a:B").retry_on == ("a:B",)
    assert hash(policy) == hash(made(**{f: getattr(policy, f) for f in policy.__slots__}))


@given(
    st.builds(
        made,
        max_attempts=st.integers(1, MAXIMUM_ATTEMPTS),
        initial=DELAYS,
        factor=st.floats(1, 1e6),
        maximum=DELAYS,
        jitter=st.sampled_from(["full", "equal", "none"]),
        retry_on=st.lists(st.sampled_from(["a:B", "c:D"])),
        no_retry_on=st.lists(st.sampled_from(["a:B", "e:F", "KeyError"])),
    ),
    st.integers(1, MAXIMUM_ATTEMPTS),
    st.floats(0, 1, exclude_max=True),
)
def test_delays_are_whole_milliseconds_within_bounds(
    policy: RetryPolicy, attempt: int, draw: float
) -> None:
    delay = policy.delay(PLAIN, attempt, draw)
    highest = policy.delay(PLAIN, attempt, 0.999999999) if policy.jitter != "none" else delay
    assert isinstance(delay, int)
    assert 0 <= delay <= policy.maximum * 1000 + 1  # type: ignore[operator]
    if policy.jitter == "equal":
        assert delay >= highest / 2 - 1
    if policy.jitter == "none":
        assert delay == policy.delay(PLAIN, attempt, 0.0)
    assert RetryPolicy.from_plain(policy.to_plain()) == policy


def test_delays_grow_by_the_factor_up_to_the_maximum() -> None:
    policy = made(initial=0.1, factor=3, maximum=2, jitter="none")
    assert [policy.delay(PLAIN, n, 0.5) for n in range(1, 6)] == [100, 300, 900, 2000, 2000]
    assert policy.delay(PLAIN, MAXIMUM_ATTEMPTS, 0.5) == 2000
    assert made(initial=1.1, jitter="none").delay(PLAIN, 1, 0) == 1100
    equal = made(initial=1, jitter="equal")
    assert [equal.delay(PLAIN, 1, draw) for draw in (0, 0.5)] == [500, 750]
    full = made(initial=1, jitter="full")
    assert [full.delay(PLAIN, 1, draw) for draw in (0, 0.5)] == [0, 500]


def test_no_delay_stays_none_however_many_attempts() -> None:
    policy = made(initial=0, factor=10, max_attempts=5000, jitter="none")
    assert policy.delay(PLAIN, 4000, 0) == 0


def test_a_failure_may_choose_its_own_delay() -> None:
    policy = made(initial=1, maximum=2, jitter="full")
    for asked, delay in ((0, 0), (90_000, 90_000), (-5, 0), (10**15, 366 * 24 * 3600 * 1000)):
        failure = Failure("a:B", "", lineage=("builtins:Exception",), retry_after=asked)
        assert policy.delay(failure, 1, 0.1) == delay


def test_what_is_retried() -> None:
    everything, network = made(), made(retry_on=(ConnectionError, "x:Own"))
    reset = Failure("builtins:ConnectionResetError", "", lineage=("builtins:ConnectionError",))
    base = Failure("builtins:SystemExit", "", lineage=("builtins:SystemExit",))
    lost = Failure(WORKER_LOST, "")
    assert everything.retries(PLAIN, 1)
    assert everything.retries(PLAIN, 2)
    assert not everything.retries(PLAIN, 3)
    assert not everything.retries(base, 1)
    assert not network.retries(PLAIN, 1)
    assert network.retries(reset, 1)
    assert network.retries(Failure("x:Own", ""), 1)
    assert all(policy.retries(lost, 1) for policy in (everything, network, DEFAULT_POLICY))
    assert not made(max_attempts=1).retries(lost, 1)
    assert not DEFAULT_POLICY.retries(PLAIN, 1)
    assert not network.retries(Failure("mini_workflow.errors:TaskTimeout", ""), 1)


def test_a_bare_name_is_a_builtin_exception_or_refused() -> None:
    for argument in ("retry_on", "no_retry_on"):
        policy = made(**{argument: ("ValueError", "ConnectionError")})
        assert getattr(policy, argument) == ("builtins:ValueError", "builtins:ConnectionError")
        for wrong in ("Problem", "requests.Timeout", "int", "", "builtins.ValueError"):
            with pytest.raises(UsageError, match=rf"{argument}='{wrong}'.*module:qualname"):
                made(**{argument: (wrong,)})
    assert made(retry_on="ValueError").retries(PLAIN, 1)
    assert not made(retry_on="KeyError").retries(PLAIN, 1)


def test_a_bare_name_in_an_old_history_still_matches_nothing() -> None:
    old = RetryPolicy.from_plain({"max_attempts": 3, "retry_on": ["ValueError", "Problem"]})
    assert not old.retries(PLAIN, 1)
    assert RetryPolicy.from_plain(old.to_plain()) == old


def test_no_retry_on_takes_precedence_and_knows_subclasses_by_name() -> None:
    own = Failure("gone:Declined", "", lineage=("gone:Declined", "gone:Bank", "builtins:Exception"))
    assert not made(no_retry_on=("gone:Bank",)).retries(own, 1)
    assert not made(no_retry_on="gone:Declined", retry_on="gone:Bank").retries(own, 1)
    assert made(no_retry_on=(KeyError,)).retries(own, 1)
    assert not made(no_retry_on=(ValueError,)).retries(PLAIN, 1)
    assert not made(no_retry_on="Exception").retries(PLAIN, 1)
    assert made(no_retry_on="Exception").retries(Failure(WORKER_LOST, ""), 1)


def test_attempts_are_counted_and_delayed_as_the_policy_says() -> None:
    """Nothing else in the workflow sees the failures in between; the last one tells the count."""

    async def workflow(ctx: Context) -> list[str]:
        policy = RetryPolicy(max_attempts=3, initial=2, jitter="none")
        try:
            await ctx.task(flaky, retry=policy)
        except ConnectionError as error:
            return [str(error), *error.__notes__]
        return []

    driver = run(workflow)
    assert driver.result() == ["down", "task 'flaky' failed after 3 attempts"]
    assert driver.bodies == [(1, 1), (1, 2), (1, 3)]
    waits = [e.retry_at - e.at for e in driver.recorded(events.TaskRetryScheduled)]
    assert waits == [2000, 4000]
    (last,) = driver.recorded(events.TaskFailed)
    assert last.failure.attempts == 3
    check_replays(driver)


def test_attempts_survive_crashes() -> None:
    """Killed after attempt 4 of 5, one attempt is left."""

    async def workflow(ctx: Context) -> None:
        await ctx.task(flaky, retry=RetryPolicy(max_attempts=5, jitter="none"))

    driver = Driver(workflow)
    while len(driver.bodies) < 4:
        driver.crash()
        driver.step()
    driver.crash()
    driver.finish()
    assert driver.bodies == [(1, n) for n in range(1, 6)]
    assert driver.failure().type == "builtins:ConnectionError"


def test_jitter_depends_on_the_seed_alone() -> None:
    async def workflow(ctx: Context) -> None:
        await ctx.task(flaky, retry=RetryPolicy(max_attempts=4, initial=100, maximum=1000))

    def waits(seed: int) -> list[int]:
        driver = run(workflow, seed=seed)
        return [e.retry_at - e.at for e in driver.recorded(events.TaskRetryScheduled)]

    assert waits(1) == waits(1) != waits(2)


def test_a_dead_worker_costs_an_attempt() -> None:
    async def workflow(ctx: Context) -> None:
        await ctx.task(flaky)

    driver = Driver(workflow)
    lost = CODEC.encode_failure(WorkerLost("gone"))
    for attempt in range(1, 6):
        command = driver.dispatched.pop()
        assert command.attempt == attempt
        driver.deliver(events.TaskFailed(driver.now, 1, attempt, lost))
        if attempt < 5:
            driver.tick()
    assert driver.failure().type == "mini_workflow.errors:WorkerLost"


def test_a_late_failure_of_an_earlier_attempt_is_ignored() -> None:
    async def workflow(ctx: Context) -> None:
        await ctx.task(flaky, retry=RetryPolicy(jitter="none"))

    driver = Driver(workflow)
    first = driver.perform(driver.dispatched[0])
    driver.deliver(first)
    assert driver.deliver(first).events == ()
    driver.tick()
    assert driver.deliver(first).events == ()
    assert driver.deliver(events.TaskReleased(driver.now, 1, 1)).events == ()


def test_a_released_attempt_is_sent_out_again() -> None:
    """A runtime that closes in good order gives back what it had not begun."""

    async def workflow(ctx: Context) -> None:
        await ctx.task(flaky)

    driver = Driver(workflow)
    driver.dispatched.clear()
    released = events.TaskReleased(driver.now, 1, 1)
    again = events.TaskRetryStarted(driver.now, 1, 1)
    assert driver.deliver(again).events == ()
    assert driver.deliver(released).events == (released,)
    assert driver.deliver(released).events == ()
    assert driver.deliver(again).events == (again,)
    assert [command.attempt for command in driver.dispatched] == [1]
    assert driver.deliver(again).events == ()
    driver.finish()
    check_replays(driver)
