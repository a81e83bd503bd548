"""Two releases of a program side by side on one database, as in a deploy from process to process."""

from __future__ import annotations

import pytest

from mini_workflow import Execution, PostgresClient, PostgresRuntime
from mini_workflow.stores.postgres import schema as tables
from tests.postgres.server import PostgresServer
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT, eventually

PROGRAM = """
    @workflow("releases.order")
    async def order(ctx: Context) -> str:
        said = await ctx.task(lambda: "paid")
        {added}
        said += await ctx.task(lambda: ", weighed")
        await ctx.wait_for_signal("go")
        return said + await ctx.task(lambda: ", shipped")

    url, schema, *names = path, *arguments
    runtime = PostgresRuntime(url, schema=schema, lease=2)
    for name in names:
        runtime.start_execution(order, id=name)
    say("started")
    hear()
    runtime.close()
"""
BEFORE = PROGRAM.format(added="pass")
AFTER = PROGRAM.format(
    added="""if ctx.patched("gift"):
            said += await ctx.task(lambda: ", wrapped")"""
)
OLD, NEW = "paid, weighed, shipped", "paid, wrapped, weighed, shipped"


def test_executions_of_two_releases_on_one_database(postgres: PostgresServer) -> None:
    schema = postgres.schema()
    with PostgresClient(postgres.url, schema=schema) as client:

        def waits(name: str) -> Execution[str]:
            """An execution that has come to its signal."""
            execution = client.get_execution(name)
            eventually(lambda: [w.kind for w in execution.describe().waits] == ["signal"])
            return execution

        def ends(name: str) -> str:
            execution = waits(name)
            execution.signal("go")
            return execution.result(WAIT)

        with Child(BEFORE, postgres.url, schema, "a", "b") as before:
            before.expect("started")
            with Child(AFTER, postgres.url, schema, "c", "d") as after:
                after.expect("started")
                # Each runs what it has started.
                assert (ends("a"), ends("c")) == (OLD, NEW)
                waits("b")
                # What the release before leaves goes on in the later one, as it has begun.
                before.tell("close")
                before.end()
                assert ends("b") == OLD
                left = waits("d")
                with Child(BEFORE, postgres.url, schema) as again:
                    again.expect("started")
                    after.kill()
                    # The release before cannot know what the later one has added: it says so, and records
                    # nothing.
                    left.signal("go")
                    eventually(lambda: left.describe().status == "blocked")
                    assert left.describe().blocked_kind == "NonDeterminismError"
                    again.tell("close")
                    again.end()
            with Child(AFTER, postgres.url, schema) as after:
                after.expect("started")
                left.resume()
                eventually(lambda: left.describe().status != "blocked")
                assert left.result(WAIT) == NEW


def test_a_process_goes_on_when_a_later_release_upgrades_the_tables(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = postgres.schema()
    with PostgresRuntime(postgres.url, schema=schema) as before:
        waits = before.start_execution(flows.waits_for_go, id="one")
        more = ["ALTER TABLE @executions ADD COLUMN later text", "CREATE TABLE @later (id bigint)"]
        monkeypatch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, more))
        with PostgresRuntime(postgres.url, schema=schema) as after:
            monkeypatch.undo()
            # Each starts, signals and waits for what the other has.
            after.get_execution("one").signal("go")
            assert waits.result(WAIT) == "went"
            assert after.start_execution(flows.steps, 3, id="two").result(WAIT) == 3
            assert before.get_execution("two").result(WAIT) == 3
            left = after.start_execution(flows.waits_for_go, id="three")
        # It also takes over what the later one leaves, and may be opened again.
        before.get_execution(left.id).signal("go")
        assert before.get_execution(left.id).result(WAIT) == "went"
    with PostgresRuntime(postgres.url, schema=schema) as again:
        assert again.start_execution(flows.steps, 2).result(WAIT) == 1
