"""retry, restart and pause, and what is done to all executions that match."""

import cli_flows

from tests.unit.cli.world import World


def test_retry_goes_on_and_restart_begins_anew(served: World) -> None:
    served("start", "cli_flows:waiting", "--id", "again")
    served("terminate", "again")
    assert served("retry", "again").out == "again: asked to retry"
    assert served("cancel", "again").out == "again: asked to cancel"
    served("result", "again", status=1)
    assert served("restart", "again", "--json").json == {
        "id": "again",
        "sent": True,
        "served": True,
    }
    served("terminate", "again")


def test_what_runs_is_not_run_again(served: World) -> None:
    served("start", "cli_flows:waiting", "--id", "runs")
    for verb in ("retry", "restart"):
        told = served(verb, "runs", status=2).err
        assert "'runs' is running and can be run again once it has closed" in told
    served("terminate", "runs")


def test_pause_until_resumed(served: World) -> None:
    served("start", "cli_flows:waiting", "--id", "held")
    assert served("pause", "held", "--reason", "the shop moves").out == "held: asked to pause"
    assert "the shop moves" in served("result", "held", status=4).err
    assert served("resume", "held").out == "held: asked to resume"
    served("terminate", "held")


def test_all_that_match(served: World) -> None:
    for name in ("one", "two", "other"):
        tag = "kind=other" if name == "other" else "kind=same"
        served("start", "cli_flows:waiting", "--id", name, "--tag", tag)
    same = ("--workflow", cli_flows.waiting.name, "--tag", "kind=same")
    told = served("terminate", *same, status=2).err
    assert (
        "this would terminate 2 executions, and there is no terminal to ask at: add --yes" in told
    )
    assert served("get", "one", "--json").json["status"] == "running"
    said = served("terminate", *same, "--yes", "--json").json
    assert said == {"matched": 2, "sent": 2, "failed": [], "served": True}
    for name in ("one", "two"):
        assert served("result", name, "--json", status=1).json["status"] == "terminated"
    assert served("get", "other", "--json").json["status"] == "running"
    assert served("terminate", *same, "--yes", "--json").json["matched"] == 0
    served("terminate", "other")


def test_which_executions_has_to_be_clear(served: World) -> None:
    assert "which executions?" in served("retry", status=2).err
    both = served("cancel", "one", "--status", "running", status=2).err
    assert "not both an id and --status" in both
    assert "not both" in served("cancel", "--all", "--workflow", "x", status=2).err
    wrong = served("retry", "--status", "running", "--yes", status=2).err
    assert "retry is for executions that are failed or cancelled or terminated" in wrong


def test_a_fork_begins_with_events_of_another_one(served: World) -> None:
    served("start", "cli_flows:greet", '["ann", 2]', "--id", "first")
    served("result", "first")
    told = served("fork", "first", "--before", "greet-1", "--id", "second", "-m", "cli_flows")
    assert told.out == "second: forked from first"
    assert served("result", "second").out == served("result", "first").out
    words = ("--at", "3", "--patch", "#1=bye", "--id", "third", "-m", "cli_flows", "--json")
    assert served("fork", "first", *words).json["id"] == "third"
    assert served("result", "third").out.replace('"', "") == "bye, hello ann"
    refused = served("fork", "first", "--before", "nothing", "-m", "cli_flows", status=2).err
    assert "task 'greet-0' (#1, event 2)" in refused


def test_a_failure_has_both_tracebacks_and_a_fork_its_origin(served: World) -> None:
    """As fields of `get --json` and `result --json`, and one behind the other for people."""
    served("start", "cli_flows:fails_by_a_task", "--id", "fails")
    error = served("result", "fails", "--json", status=1).json["error"]
    assert (error["type"], error["message"]) == ("builtins:LookupError", "row 219 is not a price")
    assert "in parse" in error["task_traceback"]
    assert "in parse" not in error["traceback"]
    assert "in fails_by_a_task" in error["traceback"]
    told = served("get", "fails", "--json").json
    assert told["failure"] == error
    assert told["forked_from"] is None
    (ended,) = [event for event in told["events"] if event["event"] == "TaskFailed"]
    assert ended["begun"] <= ended["at"]
    assert ended["ran_on"]
    said = served("result", "fails", status=1).err
    task, own = said.split("in the workflow:")
    assert "in the task, or the child:" in task
    assert "in parse" in task
    assert "in fails_by_a_task" in own
    served("fork", "fails", "--at", "1", "--id", "forked", "-m", "cli_flows")
    served("result", "forked", status=1)
    assert served("get", "forked", "--json").json["forked_from"] == "fails"


def test_a_deletion_of_many_says_who_asks(served: World) -> None:
    served("start", "cli_flows:greet", '["ann", 1]', "--id", "gone", "--tag", "kind=gone")
    served("result", "gone")
    which = ("--tag", "kind=gone", "--yes")
    assert served("delete", *which, "--by", "ann", "--json").json["deleted"] == 1
