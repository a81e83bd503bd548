"""What happens to executions in flight when their code is replaced, and when the cloud goes down."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.aws.emulator.server import emulator
from tests.e2e.deployment import deployed
from tests.e2e.flows import PROGRAM, Flows
from tests.waiting import WAIT

OLD = """    done = [await ctx.task(lambda: "old first")]
    await ctx.wait_for_signal("go")
    done.append(await ctx.task(lambda: "old second"))
    return done
"""
NEW = """    first = "new first" if ctx.patched("names") else "old first"
    done = [await ctx.task(lambda: first)]
    await ctx.wait_for_signal("go")
    done.append(await ctx.task(lambda: "new second"))
    return done
"""
GONE = OLD.replace("ctx.wait_for_signal", "ctx.promise")


def changed(program: Path, before: str, after: str) -> None:
    """Edit the workflows of a program."""
    workflows = program / "flows" / "workflows.py"
    text = workflows.read_text()
    assert before in text
    workflows.write_text(text.replace(before, after))


def test_a_redeployment_and_a_restart_continue_what_is_in_flight(tmp_path: Path) -> None:
    program, state = tmp_path / "program", tmp_path / "state"
    shutil.copytree(PROGRAM, program, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    with emulator(state, auth=True) as server, deployed(server, program, Flows) as flows:
        old, napping = flows.start("evolving"), flows.start("nap", 8)
        fragile = flows.start("fragile", "hang")
        flows.eventually(lambda: len(old.history()) >= 3)
        flows.eventually(lambda: flows.ledger(fragile.id).get("hanging"))

        # A new version, which kills the processes of the old one.
        changed(program, OLD, NEW)
        flows.stack.up(program)
        # Functions that begin while it is deployed may be ended by it, too.
        assert fragile.result(timeout=WAIT) >= 2
        new = flows.start("evolving")
        for execution in (old, new):
            execution.signal("go")
        assert old.result(timeout=WAIT) == ["old first", "new second"]
        assert new.result(timeout=WAIT) == ["new first", "new second"]

        # A version that no longer fits what has happened blocks, until there is one that does.
        waiting = flows.start("evolving")
        flows.eventually(lambda: len(waiting.history()) >= 3)
        changed(program, NEW, GONE)
        flows.stack.up(program)
        waiting.signal("go")
        flows.eventually(lambda: waiting.describe().status == "blocked")
        changed(program, GONE, NEW)
        flows.stack.up(program)
        waiting.resume()
        assert waiting.result(timeout=WAIT) == ["new first", "new second"]
        assert flows.under_one_key(fragile.id) == {"first", "hanging", "risky", "last"}

        asleep, approval = flows.start("nap", 6), flows.start("approval", 7)
        flows.eventually(lambda: len(asleep.history()) >= 2 and len(approval.history()) >= 1)
        assert napping.result(timeout=WAIT) >= 8
        approval.signal("decide", {"by": "ann"})

    with emulator(state, auth=True) as server:
        flows.server = server
        again = Flows(server, flows.stack, flows.mocks)
        runtime = again.runtime
        assert runtime.get_execution(asleep.id).result(timeout=WAIT) >= 6
        told = runtime.get_execution(approval.id).result(timeout=WAIT)
        assert told == {"amount": 7, "seen": [], "by": "ann"}
        assert again.under_one_key(approval.id) == {"decided"}
        assert runtime.get_execution(old.id).result() == ["old first", "new second"]
        again.close()
