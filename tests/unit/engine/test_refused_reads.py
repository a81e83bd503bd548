"""A store that refuses to be read in the middle of a turn: what the code did in it does not count."""

from __future__ import annotations

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.payload import EMPTY
from mini_workflow.engine.requests import Post
from mini_workflow.errors import StoreFull
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import step
from mini_workflow.testing.simulation.stepping import Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, in_memory


async def told(ctx: Context) -> list[None]:
    """One task for each of two signals."""
    seen: list[None] = []
    for _ in range(2):
        await ctx.wait_for_signal("go")
        seen.append(await step(ctx, "done"))
    return seen


def test_a_run_that_is_ahead_of_the_store_is_forgotten() -> None:
    registry = Registry()
    registry.add(Workflow("told", told))
    with Ledger():
        stepper = Stepper(in_memory(), registry, cache_size=10)
        stepper.open()
        stepper.start("told", execution_id=ID)
        stepper.process()

        def signal(name: str) -> None:
            message = events.SignalReceived(stepper.clock.now(), "go", EMPTY, name)
            stepper.inbox.append(Post(ID, message))

        signal("one")
        stepper.resume(ID)  # which reads what others have sent, behind the turn of the code
        stepper.crashes.fail("store.load", StoreFull("no space"))
        stepper.process()
        assert stepper.faults(ID) == []
        signal("two")
        stepper.process()
        assert stepper.faults(ID) == []
        signal("three")
        stepper.run()
        assert stepper.outcome(ID) == [None, None]
        stepper.close()
