"""Every command through the installed entry point, where somebody runs the executions."""

import json

import cli_flows

from mini_workflow.testing import check_replay
from tests.unit.cli.world import World
from tests.waiting import WAIT, eventually


def test_start_signal_result(served: World) -> None:
    start = ("start", "cli_flows:order", "order_id=17", "amount=3", "--id", "order-1")
    assert served(*start).out == "order-1"
    again = served(*start)  # the same again is the same
    assert "order-1 was started before, and is running: nothing was started" in again.err
    assert served("signal", "order-1", "approve", '{"by": "ann"}').out == "order-1: sent"
    said = served("result", "order-1", "--timeout", "30", "--json").json
    assert said == {
        "id": "order-1",
        "status": "completed",
        "result": {
            "receipt": "receipt for 17: 3",  # annotated as str, so 17 stays a text
            "paid": 3,
            "limit": 10,
            "by": {"by": "ann"},
        },
    }
    assert served("signal", "order-1", "approve", status=3).err.startswith("error: ")


def test_query_and_update(served: World) -> None:
    served("start", "cli_flows:order", '["o-2"]', "--id", "order-2")
    assert served("update", "order-2", "raise", "by=5").out == "15"
    refused = served("update", "order-2", "raise", "[101]", status=1)
    assert refused.err == "error: ValueError: by 100 at most"
    assert served("query", "order-2", "limit", "-m", "cli_flows", "--json").json == {
        "id": "order-2",
        "answer": 15,
    }
    unknown = served("query", "order-2", "colour", "-m", "cli_flows", status=2)
    assert "limit" in unknown.err
    served("terminate", "order-2")


def test_arguments_are_built_to_annotations_at_every_door(served: World) -> None:
    visit = '{"at": "2026-01-31T12:00:00+00:00", "lasts": 90}'
    refused = served("start", "cli_flows:visits", "first=soon", status=2).err
    assert "argument 'first' must be a JSON object with at, lasts, not" in refused
    served("start", "cli_flows:visits", f"first={visit}", "--id", "v")
    wrong = served("update", "v", "add", f"visit={visit}", "times=x", "-m", "cli_flows", status=2)
    assert "argument 'times' must be a whole number, not x" in wrong.err
    # Without the module it is plain JSON, which the handler would not know what to do with.
    assert served("update", "v", "add", f"visit={visit}", "-m", "cli_flows").out == "2"
    asked = served("query", "v", "later", "than=2026-01-01T00:00:00Z", "-m", "cli_flows")
    assert asked.out == "2"
    wrong = served("signal", "v", "end", "soon", "-m", "cli_flows", status=2)
    assert "must be a date as in 2026-01-31" in wrong.err
    served("signal", "v", "end", "2026-02-01", "-m", "cli_flows")
    assert served("result", "v").out == "2026: 2 visits, 0:03:00, until 01.02.2026"


def test_cancel_and_terminate(served: World) -> None:
    for name in ("to-cancel", "to-terminate"):
        served("start", "cli_flows:waiting", "--id", name)
    assert served("cancel", "to-cancel", "--reason", "too dear").out == "to-cancel: asked to cancel"
    served("terminate", "to-terminate", "--reason", "enough", "--json")
    cancelled = served("result", "to-cancel", status=1)
    assert cancelled.err == "cancelled: execution 'to-cancel' was cancelled: too dear"
    terminated = served("result", "to-terminate", "--json", status=1).json
    assert terminated["status"] == "terminated"
    assert terminated["error"]["type"] == "mini_workflow.errors:ExecutionTerminated"
    assert "task #2 'clean up' completed" in served("get", "to-cancel").out


def test_promises(served: World) -> None:
    for name, command, value in (
        ("kept", "complete-promise", "42"),
        ("broken", "fail-promise", "no time"),
    ):
        served("start", "cli_flows:tokens", "--id", name)
        # A query knows the token before the turn that makes the promise.
        eventually(lambda name=name: "promise #1" in served("get", name).out)
        token = served("query", name, "token", "-m", "cli_flows").out
        assert served(command, token, value).out.startswith(f"{name}: promise ")
    assert served("result", "kept").out == "the answer is 42"
    said = served("result", "broken", status=1).err
    assert said.splitlines()[0] == "failed: RuntimeError: no time"
    assert served("complete-promise", "kept/1/abc", "1", status=None).status in (2, 3)


def test_run(served: World) -> None:
    said = served("run", "cli_flows:greet", "name=cy", "--id", "run-1")
    assert said.out == "hello cy"
    assert "task #1 'greet-0' completed" in said.err
    assert served("run", "cli_flows:failing", "--json", "-q", status=1).json["status"] == "failed"


def test_a_workflow_that_fails(served: World) -> None:
    served("start", "cli_flows:failing", "--id", "fails")
    said = served("result", "fails", status=1).err
    assert said.splitlines()[0] == "failed: LookupError: no such thing"


def test_get_follows_to_the_end(served: World) -> None:
    served("start", "cli_flows:order", "order_id=o-3", "--id", "order-3")
    follower = served.popen("get", "order-3", "--follow")
    assert follower.stdout is not None
    lines: list[str] = []
    while "task #1 'charge' completed" not in (line := follower.stdout.readline()):
        lines.append(line)
    assert lines[0].startswith("order-3  order  running for ")
    served("signal", "order-3", "approve")
    rest, _ = follower.communicate(timeout=WAIT)
    assert "signal 'approve' received" in rest
    assert rest.rstrip().endswith("is completed")
    assert follower.returncode == 0


def test_get_in_every_form_and_replay_of_each(served: World) -> None:
    served("start", "cli_flows:greet", "name=ann", "times=2", "--id", "greet-1")
    served("result", "greet-1")
    timeline = served("get", "greet-1").out.splitlines()
    assert timeline[0].startswith("greet-1  greet  completed after ")
    assert timeline[1].endswith("greet started  ('ann', 2)")
    assert timeline[-1].endswith("execution completed  result='hello ann, hello ann'")
    plain = served("get", "greet-1", "--json")
    lines = served("get", "greet-1", "--lines")
    assert plain.json["events"] == [json.loads(line) for line in lines.out.splitlines()]
    (served.folder / "one.json").write_text(plain.out)
    (served.folder / "two.jsonl").write_text(lines.out)
    for name in ("greet-1", "one.json", "two.jsonl"):
        assert served("replay", name, "cli_flows").out.endswith("greet  all 6 events fit")
    assert check_replay(served.folder / "one.json", [cli_flows.greet]) == 1


def test_a_replay_knows_the_key_of_what_is_signed(served: World) -> None:
    served("start", "cli_flows:opaque", "--id", "opaque-1")
    assert served("result", "opaque-1").out == "kept"
    (served.folder / "opaque.json").write_text(served("get", "opaque-1", "--json").out)
    for name in ("opaque-1", "opaque.json"):
        assert served("replay", name, "cli_flows", "--trust").out.endswith("all 4 events fit")


def test_export_for_check_replay(served: World) -> None:
    for number in range(2):
        served("start", "cli_flows:who", "--id", f"who-{number}")
        served("result", f"who-{number}")
    written = served("export", "histories", "--workflow", "who").out.splitlines()
    assert sorted(written) == ["histories/who-0.json", "histories/who-1.json"]
    assert check_replay(served.folder / "histories") == 2


def test_ls_filters_pages_and_columns(served: World) -> None:
    for number in range(3):
        served("start", "cli_flows:greet", "name=bob", "--id", f"bob-{number}")
        served("result", f"bob-{number}")
    page = served("ls", "--workflow", "greet", "--limit", "2", "--columns", "id,status")
    assert page.out.splitlines() == ["bob-2\tcompleted", "bob-1\tcompleted"]
    cursor = page.err.rpartition(" ")[2]
    following = served("ls", "--workflow", "greet", "--after", cursor, "--json").json
    assert following["executions"][0]["id"] == "bob-0"
    assert served("ls", "--workflow", "greet", "--status", "failed").out == ""


def test_doctor_finds_nothing_where_all_is_well(served: World) -> None:
    found = served("doctor", "--json", status=None).json["findings"]
    assert [one for one in found if one["level"] == "problem" and one["id"] is None] == []
    if served.environment.get("MINI_WORKFLOW_BACKEND") == "aws":
        told = [one["what"] for one in found]
        assert "the orchestrator function answers" in told
        assert "there are no dead letters" in told


def test_a_blocked_execution_is_found_and_resumed(served: World) -> None:
    served("start", "cli_flows:stuck", "--id", "stuck-1")
    served("signal", "stuck-1", "go", "1")
    blocked = served("result", "stuck-1", status=4)
    assert "WorkflowDeadlock" in blocked.err
    found = served("doctor", "--json", status=1).json
    (problem,) = [one for one in found["findings"] if one["id"] == "stuck-1"]
    assert problem["level"] == "problem"
    assert "mini-workflow resume stuck-1" in problem["remedy"]
    replayed = served("replay", "stuck-1", "cli_flows", status=1)
    assert "await asyncio.Event().wait()" in replayed.out
    # Nothing was fixed: it is blocked again.
    assert served("resume", "stuck-1").out == "stuck-1: asked to resume"
    assert served("result", "stuck-1", status=4).err == blocked.err
    served("terminate", "stuck-1")
    # Until it was taken, it is blocked as it was.
    ended = eventually(
        lambda: (said := served("result", "stuck-1", status=None)).status == 1 and said
    )
    assert ended.err.startswith("terminated")
