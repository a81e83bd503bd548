"""The commands of schedules, and the options of a start."""

from time import monotonic

import pytest

from mini_workflow import Context, workflow
from mini_workflow.workflow import REGISTRY
from tests.unit.cli.world import World
from tests.waiting import WAIT, eventually

YEARLY = ("--cron", "0 3 1 1 *", "--timezone", "Europe/Berlin")


def test_the_life_of_a_schedule(served: World) -> None:
    def about() -> dict[str, object]:
        found: dict[str, object] = served("schedule", "show", "yearly", "--json").json
        return found

    create = ("schedule", "create", "yearly", "cli_flows:greet", "times=2", "name=Ann", *YEARLY)
    assert served(*create, "--tag", "kind=greeting").out == "yearly"
    assert served(*create, "--tag", "kind=greeting", "--json").json["served"]
    assert "other arguments" in served(*create, status=2).err
    found = about()
    assert found["args"] == ["Ann", 2]
    assert found["tags"] == {"kind": "greeting"}
    eventually(lambda: about()["next"])  # once the worker has taken it up
    assert len(served("schedule", "show", "yearly").out.split("\nnext ")) == 11
    started = served("schedule", "trigger", "yearly", "--json").json["started"]
    assert served("result", started).out == "hello Ann, hello Ann"
    filled = ("schedule", "backfill", "yearly", "2023-06-01", "2024-06-01")
    assert served(*filled).out == "yearly@20240101T020000Z"
    wrong = served(*filled[:-2], "2024-06-01", "2023-06-01", status=2).err
    assert "is before" in wrong
    assert served("result", "yearly@20240101T020000Z").out == "hello Ann, hello Ann"
    assert served("schedule", "pause", "yearly", "--reason", "holidays").out == "yearly: paused"
    assert (about()["paused"], about()["reason"]) == (True, "holidays")
    (row,) = [
        line.split("\t")
        for line in served("schedule", "ls").out.splitlines()
        if line.startswith("yearly\t")
    ]
    assert row == ["yearly", "greet", "0 3 1 1 * Europe/Berlin", "paused", "0"]
    served("schedule", "resume", "yearly")
    changes = ("--every", "86400", "--overlap", "allow", "--catch-up", "5", "--no-tags")
    served("schedule", "update", "yearly", "name=Bob", *changes, "-m", "cli_flows")
    found = about()
    assert (found["args"], found["every"], found["cron"]) == (["Bob"], 86400, None)
    assert (found["overlap"], found["catch_up"], found["tags"]) == ("allow", 5, {})
    latest = ("schedule", "update", "yearly", "--catch-up", "latest", "-m", "cli_flows")
    assert served(*latest, "--json").json == {"id": "yearly", "done": "updated"}
    assert about()["catch_up"] == "latest"
    assert "nothing to change" in served("schedule", "update", "yearly", status=2).err
    assert served("schedule", "delete", "yearly").out == "yearly: deleted"
    served("schedule", "show", "yearly", status=3)
    assert served("schedule", "ls", "--json").json == []


def test_what_workflows_declare_is_made_without_a_worker(
    mw: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(REGISTRY, "_workflows", {})

    async def totals(ctx: Context) -> None: ...

    assert mw("schedule", "declare", "--json").json == {"declared": []}
    workflow("totals", totals, schedule={"every": 3600})
    assert mw("schedule", "declare").out == "totals"
    assert mw("schedule", "declare", "--json").json == {"declared": ["totals"]}
    assert [one["id"] for one in mw("schedule", "ls", "--json").json] == ["totals"]


def test_without_a_worker(mw: World) -> None:
    """A schedule is made, and looked at; what takes an answer waits for a while only."""
    made = mw("schedule", "create", "often", "cli_flows:greet", "name=Ann", "--every", "60")
    assert "No worker is running" in made.err
    assert mw("schedule", "ls", "--json").json[0]["id"] == "often"
    late = mw("schedule", "pause", "often", "--timeout", "0.05", status=None)
    assert "is not done" in late.err
    assert late.status not in (0, 2)


def test_a_wrong_schedule_is_refused(mw: World) -> None:
    create = ("schedule", "create", "s", "cli_flows:greet")
    assert "missing a required argument" in mw(*create, "--every", "60", status=2).err
    assert "--every" in mw(*create, "name=Ann", "--every", "0", status=2).err
    assert "--cron or --every" in mw(*create, "name=Ann", status=2).err
    assert "not a cron expression" in mw(*create, "name=Ann", "--cron", "x", status=2).err
    catch_up = mw(*create, "name=Ann", "--every", "60", "--catch-up", "newest", status=2).err
    assert "--catch-up" in catch_up


def test_a_run_has_the_options_of_a_start(served: World) -> None:
    options = ("--tag", "kind=run", "--retry", "2", "--timeout", "3600", "--delay", "0")
    done = served("run", "cli_flows:failing", "--id", "twice", *options, "--quiet", status=1)
    assert "no such thing" in done.err
    about = served("get", "twice", "--json").json
    assert (about["tags"], about["run"]) == ({"kind": "run"}, 2)
    start = ("start", "cli_flows:greet", "name=Ann", "--id", "later")
    assert "--delay" in served(*start, "--start-at", "2h", status=2).err
    served(*start, "--start-at", "2099-01-01T00:00+01:00")
    ends = monotonic() + WAIT
    while (begins := served("get", "later", "--json").json["next_wake_at"]) is None:
        assert monotonic() < ends, "nobody has taken it"
    assert begins.startswith("2098-12-31T23:00:00")
    both = served(
        "start", "cli_flows:greet", "name=Ann", "--delay", "5", "--start-at", "2099-01-01", status=2
    )
    assert "not both" in both.err
    served("terminate", "later")
