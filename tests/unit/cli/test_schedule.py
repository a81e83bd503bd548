"""The commands of schedules, and the options of a start."""

from dataclasses import replace
from time import monotonic

import pytest

from mini_workflow import Context, workflow
from mini_workflow.workflow import REGISTRY
from tests.unit.cli.world import World
from tests.waiting import WAIT, eventually

YEARLY = ("--cron", "0 3 1 1 *", "--timezone", "Europe/Berlin")


@pytest.fixture
def quick(served: World) -> World:
    """The command as calls in this process, since there are many."""
    return replace(
        served, inside=True, ran={"schedule", "result", "run", "start", "get", "terminate"}
    )


@pytest.fixture
def alone(mw: World) -> World:
    """The same, where nobody serves the file."""
    return replace(mw, inside=True, ran={"schedule"})


def test_the_life_of_a_schedule(quick: World) -> None:
    def about() -> dict[str, object]:
        found: dict[str, object] = quick("schedule", "show", "yearly", "--json").json
        return found

    create = ("schedule", "create", "yearly", "cli_flows:greet", "times=2", "name=Ann", *YEARLY)
    assert quick(*create, "--tag", "kind=greeting").out == "yearly"
    assert quick(*create, "--tag", "kind=greeting", "--json").json["served"]
    assert "other arguments" in quick(*create, status=2).err
    found = about()
    assert found["args"] == ["Ann", 2]
    assert found["tags"] == {"kind": "greeting"}
    eventually(lambda: about()["next"])  # once the worker has taken it up
    assert len(quick("schedule", "show", "yearly").out.split("\nnext ")) == 11
    started = quick("schedule", "trigger", "yearly", "--json").json["started"]
    assert quick("result", started).out == "hello Ann, hello Ann"
    filled = ("schedule", "backfill", "yearly", "2023-06-01", "2024-06-01")
    assert quick(*filled).out == "yearly@20240101T020000Z"
    wrong = quick(*filled[:-2], "2024-06-01", "2023-06-01", status=2).err
    assert "is before" in wrong
    assert quick("result", "yearly@20240101T020000Z").out == "hello Ann, hello Ann"
    assert quick("schedule", "pause", "yearly", "--reason", "holidays").out == "yearly: paused"
    assert (about()["paused"], about()["reason"]) == (True, "holidays")
    (row,) = [
        line.split("\t")
        for line in quick("schedule", "ls").out.splitlines()
        if line.startswith("yearly\t")
    ]
    assert row == ["yearly", "greet", "0 3 1 1 * Europe/Berlin", "paused", "0"]
    quick("schedule", "resume", "yearly")
    changes = ("--every", "86400", "--overlap", "allow", "--catch-up", "5", "--no-tags")
    quick("schedule", "update", "yearly", "name=Bob", *changes, "-m", "cli_flows")
    found = about()
    assert (found["args"], found["every"], found["cron"]) == (["Bob"], 86400, None)
    assert (found["overlap"], found["catch_up"], found["tags"]) == ("allow", 5, {})
    latest = ("schedule", "update", "yearly", "--catch-up", "latest", "-m", "cli_flows")
    assert quick(*latest, "--json").json == {"id": "yearly", "done": "updated"}
    assert about()["catch_up"] == "latest"
    assert "nothing is to be changed" in quick("schedule", "update", "yearly", status=2).err
    assert quick("schedule", "delete", "yearly").out == "yearly: deleted"
    quick("schedule", "show", "yearly", status=3)
    assert quick("schedule", "ls", "--json").json == []


def test_what_workflows_declare_is_made_without_a_worker(
    alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(REGISTRY, "_workflows", {})

    async def totals(ctx: Context) -> None: ...

    assert alone("schedule", "declare", "--json").json == {"declared": []}
    workflow("totals", totals, schedule={"every": 3600})
    assert alone("schedule", "declare").out == "totals"
    assert alone("schedule", "declare", "--json").json == {"declared": ["totals"]}
    assert [one["id"] for one in alone("schedule", "ls", "--json").json] == ["totals"]


def test_without_a_worker(alone: World) -> None:
    """A schedule is made, and looked at; what takes an answer waits for a while only."""
    made = alone("schedule", "create", "often", "cli_flows:greet", "name=Ann", "--every", "60")
    assert "No worker is running" in made.err
    assert alone("schedule", "ls", "--json").json[0]["id"] == "often"
    late = alone("schedule", "pause", "often", "--timeout", "0.05", status=None)
    assert "is not done" in late.err
    assert late.status not in (0, 2)


def test_a_wrong_schedule_is_refused(alone: World) -> None:
    create = ("schedule", "create", "s", "cli_flows:greet")
    assert "missing a required argument" in alone(*create, "--every", "60", status=2).err
    assert "--every" in alone(*create, "name=Ann", "--every", "0", status=2).err
    assert "cron= or every=" in alone(*create, "name=Ann", status=2).err
    assert "no cron expression" in alone(*create, "name=Ann", "--cron", "x", status=2).err
    catch_up = alone(*create, "name=Ann", "--every", "60", "--catch-up", "newest", status=2).err
    assert "--catch-up" in catch_up


def test_a_run_has_the_options_of_a_start(quick: World) -> None:
    options = ("--tag", "kind=run", "--retry", "2", "--timeout", "3600", "--delay", "0")
    done = quick("run", "cli_flows:failing", "--id", "twice", *options, "--quiet", status=1)
    assert "no such thing" in done.err
    about = quick("get", "twice", "--json").json
    assert (about["tags"], about["run"]) == ({"kind": "run"}, 2)
    start = ("start", "cli_flows:greet", "name=Ann", "--id", "later")
    assert "--delay" in quick(*start, "--start-at", "2h", status=2).err
    quick(*start, "--start-at", "2099-01-01T00:00+01:00")
    ends = monotonic() + WAIT
    while (begins := quick("get", "later", "--json").json["next_wake_at"]) is None:
        assert monotonic() < ends, "nobody has taken it"
    assert begins.startswith("2098-12-31T23:00:00")
    both = quick(
        "start", "cli_flows:greet", "name=Ann", "--delay", "5", "--start-at", "2099-01-01", status=2
    )
    assert "not both" in both.err
    quick("terminate", "later")
