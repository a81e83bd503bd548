"""The signing key is changed under load, a process at a time: nothing is lost, and nothing run twice."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from mini_workflow import Context
from mini_workflow.settings import SIGNING_KEY
from tests.aws.flows import BODIES, did
from tests.aws.world import ENVIRONMENT, World, registry_of

OLD, NEW = "o" * 40, "n" * 40
STAGES = (f"{OLD}|{NEW}", f"{NEW}|{OLD}")
"""First everybody is to know the new key, and then to sign with it."""

ROLES = ("client", "orchestrator", "worker")


class Thing:
    """A value that JSON cannot say: it is pickled, and signed, in the history."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


def made(number: int) -> Thing:
    did(number)
    return Thing(number)


def failing(number: int) -> None:
    did(number)
    raise KeyError(number)


async def steady(ctx: Context, thing: Thing) -> list[Any]:
    """A bit of everything that is signed: tasks and their outcomes, signals, timers, children."""
    found: list[Any] = [thing, await ctx.task(made, 1), await ctx.task(made, 2)]
    await ctx.sleep(60)
    child = ctx.child("small", thing, id=f"{ctx.info.execution_id}-child")
    found.append(await child)
    found.append(await ctx.wait_for_signal("item"))
    try:
        await ctx.task(failing, 3)
    except KeyError as error:
        found.append(error.args[0])
    await ctx.sleep(7200)
    return found


async def small(ctx: Context, thing: Thing) -> Any:
    return await ctx.task(made, thing.number)


@pytest.fixture(autouse=True)
def _old_key(monkeypatch: pytest.MonkeyPatch) -> None:
    BODIES.clear()
    monkeypatch.setitem(ENVIRONMENT, SIGNING_KEY, OLD)


def deploy(world: World, role: str, key: str) -> None:
    """A new process in that role, with that key."""
    ENVIRONMENT[SIGNING_KEY] = key
    runtime = world.process()
    assert runtime._parts.signer._keys
    setattr(world, role, runtime)


def started(world: World, number: int) -> str:
    name = f"e{number}"
    world.client.start_execution("steady", Thing(number), id=name)
    world.client.get_execution(name).signal("item", Thing(-number))
    return name


@pytest.mark.parametrize("order", list(permutations(ROLES)), ids=" ".join)
def test_a_key_is_changed_under_load(order: tuple[str, ...]) -> None:
    with World(registry_of(steady, small), batch=3) as world:
        for role in ROLES:
            deploy(world, role, OLD)
        names = [started(world, number) for number in range(3)]
        for stage in STAGES:
            for role in order:
                deploy(world, role, stage)
                names.append(started(world, len(names)))
                for _ in range(4):
                    assert world.deliver() or world.attempt() or world.services.notify()
                    world.attempt()
        world.run()
        for number, name in enumerate(names):
            thing = Thing(number)
            expected = [thing, Thing(1), Thing(2), thing, Thing(-number), 3]
            assert world.client.get_execution(name).result(timeout=0) == expected
        assert world.services.entries == []
        assert set(BODIES.values()) == {1}
        # Now nothing that the old key has signed is open any more.
        for role in order:
            deploy(world, role, NEW)
        last = started(world, len(names))
        world.run()
        assert world.client.get_execution(last).describe().status == "completed"
        assert world.services.entries == []
