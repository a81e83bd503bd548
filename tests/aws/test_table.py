"""Executions in a table: what an item holds, what a crash leaves behind, and who is late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mini_workflow import AWSRuntime, SettingMissing, UsageError
from mini_workflow.errors import StoreCorrupt, StoreUnavailable
from mini_workflow.ports import Commit
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS
from mini_workflow.settings import TABLE_NAME, TABLE_ORDER
from mini_workflow.stores.aws.limits import SEAL_OVER
from mini_workflow.stores.cached import Deleted
from mini_workflow.stores.dynamodb.registers import INLINE_UP_TO, MARKED_FOR
from mini_workflow.stores.dynamodb.table import TRIES, Table
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.stores.s3.object_store import ObjectStore
from mini_workflow.testing.contracts.backend import creation
from tests.aws.world import ENVIRONMENT, Death, Fault, World, registry_of

KEY = "execution/a"
BEGAN = int(time.time())


@pytest.fixture
def world() -> Iterator[World]:
    with World(registry_of(), settings={TABLE_NAME: "histories"}) as made:
        made.acting = "test"
        made.prone = ("test",)
        yield made


@pytest.fixture
def histories(world: World) -> ObjectStore:
    return world.client._parts.histories


def create(histories: ObjectStore, **fields: Any) -> ExecutionObject:
    made = histories.create(creation("a", **fields), None, "print")
    assert made is not None
    return made


def add(histories: ObjectStore, document: ExecutionObject, *events: str, **kw: Any) -> Any:
    commit = Commit("a", document.length, events, **kw)
    return histories.write(document, commit, NO_EFFECTS, NO_WAKEUPS, 0)


def orders(world: World) -> list[int]:
    """Where there are items of the execution."""
    return sorted(int(order) for key, order in world.services.tables.items if key == KEY)


def test_a_turn_is_an_item_with_its_own_events(world: World, histories: ObjectStore) -> None:
    document = create(histories)
    for number in range(50):
        document = add(histories, document, f'{{"n":{number}}}')
    assert orders(world) == list(range(1, 52))
    body = world.services.tables.items[KEY, f"{51:012}"]["body"]["S"]
    assert '{"n":49}' in body
    assert '{"n":48}' not in body
    assert histories.read("a") == document


@pytest.mark.parametrize("size", [INLINE_UP_TO - 2_000, INLINE_UP_TO, 60_000])
def test_a_large_turn_goes_to_the_bucket(world: World, histories: ObjectStore, size: int) -> None:
    document = add(histories, create(histories), '{"x":"' + "é" * (size // 2) + '"}', park=("p",))
    objects = [key for key in world.services.objects if "/segments/a/" in key]
    assert len(objects) == (1 if size >= INLINE_UP_TO else 0)
    assert histories.read("a") == document
    header = histories.header("a")
    assert header is not None
    assert (header.head, header.length, header.etag) == (document.head, 2, document.etag)
    document = add(histories, document, "{}")
    assert histories.read("a") == document
    for key in objects:
        del world.services.objects[key]
    if objects:
        with pytest.raises(StoreCorrupt, match="is gone from the bucket"):
            histories.read("a")


def test_turns_that_are_gone_are_missed(world: World, histories: ObjectStore) -> None:
    document = create(histories)
    for _ in range(3):
        document = add(histories, document, "{}")
    del world.services.tables.items[KEY, f"{2:012}"]
    del world.services.tables.items[KEY, f"{1:012}"]
    with pytest.raises(StoreCorrupt, match=r"turns of execution 'a' before 0+4 are gone"):
        histories.read("a")


def test_who_reads_while_it_is_deleted_finds_no_damage(
    world: World, histories: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large turn is an object, which is gone by the time at which it is read."""
    large = '{"x":"' + "x" * INLINE_UP_TO + '"}'
    document = add(histories, create(histories), large)
    bucket, left = world.client._parts.bucket, [True]
    get = bucket.get

    def get_later(key: str, *args: Any) -> Any:
        if "/segments/a/" in f"/{key}" and left.pop():
            monkeypatch.undo()
            assert histories.delete("a", document, 5)
        return get(key, *args)

    monkeypatch.setattr(bucket, "get", get_later)
    assert isinstance(histories.read("a"), Deleted)
    assert left == []


def test_items_that_the_table_leaves_are_deleted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """With growing pauses between, and not for ever."""
    asked: list[list[str]] = []
    pauses: list[float] = []

    class Busy:
        takes = 1

        def get(self, _: str) -> Any:
            return self

        def batch_write_item(self, RequestItems: dict[str, Any]) -> Any:  # noqa: N803 - as in boto3
            entries = RequestItems["t"]
            asked.append([one["DeleteRequest"]["Key"][TABLE_ORDER]["S"] for one in entries])
            return {
                "UnprocessedItems": {"t": entries[self.takes :]} if entries[self.takes :] else {}
            }

    busy: Any = Busy()
    table = Table(busy, lambda: "t", sleep=pauses.append)
    table.delete("key", ["1", "2", "3"])
    assert asked == [["1", "2", "3"], ["2", "3"], ["3"]]
    assert len(pauses) == 2
    assert all(0 < pause <= 1 for pause in pauses)
    busy.takes = 0
    with pytest.raises(StoreUnavailable, match="more writes than it takes"):
        table.delete("key", ["1"])
    assert len(asked) == 3 + TRIES


def test_one_of_two_writers_wins_each_turn(histories: ObjectStore) -> None:
    document = create(histories)
    first = add(histories, document, "first")
    assert first is not None
    assert add(histories, document, "second") is None
    assert histories.changed(document)
    assert not histories.changed(first)
    assert histories.read("a") == first


def test_a_write_whose_answer_is_lost_and_that_is_tried_again_is_known(
    world: World, histories: ObjectStore
) -> None:
    document = create(histories)
    world.services.after_answer.append("again")
    after = add(histories, document, "{}")
    assert after is not None
    assert histories.read("a") == after


def test_what_is_sealed_is_removed_with_runs_that_are_over(world: World) -> None:
    parts = world.client._parts
    histories = type(parts.histories)(
        parts.bucket,
        parts.clients,
        keep_runs=False,
        registers=parts.histories._registers,
        markers=parts.histories._markers,
    )
    document, line = create(histories), '{"x":"' + "x" * 1_000 + '"}'
    for run in range(2, 300):
        new = replace(document.head, run=run, base=document.length + 1)
        document = add(histories, document, line, line, head=new)
    # No more than what a segment takes, and where the first was.
    assert len(orders(world)) < 3 * SEAL_OVER // 2_000
    found = histories.read("a")
    assert isinstance(found, ExecutionObject)
    # What is removed after a write is noted in the one before.
    assert replace(found, unswept=None) == document
    assert len(world.services.objects) < 5


def test_a_start_that_is_late_takes_no_place_of_one_that_was_deleted(
    world: World, histories: ObjectStore
) -> None:
    """It has seen no execution; meanwhile there was one, which is deleted."""
    document = create(histories, status="completed", closed_at=1)
    assert histories.delete("a", document, 5)
    found = histories.read("a")
    assert found == Deleted(1, found.etag if found else "", finished=True)
    assert histories.create(creation("a"), None, "late") is None
    # What is left has a time, and nothing of the execution.
    items = [item for (key, _), item in world.services.tables.items.items() if key == KEY]
    assert len(items) == len(orders(world)) == 3
    for item in items:
        assert int(item["expires"]["N"]) >= BEGAN + MARKED_FOR
        assert "started" not in item["body"]["S"]
    again = histories.create(creation("a"), None, "", over=found)
    assert again is not None
    assert again.deleted == 1
    assert histories.read("a") == again


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("n", range(1, 12))
def test_a_deletion_that_dies_is_finished_by_the_next(
    world: World, histories: ObjectStore, n: int, after: bool
) -> None:
    document = create(histories, status="completed", closed_at=1)
    document = add(histories, document, '{"x":"' + "x" * INLINE_UP_TO + '"}')
    world.after(Fault(n, "dies", after))
    try:
        assert histories.delete("a", document, 5)
    except Death:
        world.faults.clear()
        found = histories.read("a")
        assert found is not None
        assert histories.delete("a", found, 5)
    found = histories.read("a")
    assert isinstance(found, Deleted)
    assert found.finished
    assert not world.services.objects
    left = [item for item in world.services.tables.items.values() if "expires" not in item]
    assert left == []


def test_what_batches_leave_is_deleted_after_all(world: World, histories: ObjectStore) -> None:
    document = create(histories, status="completed", closed_at=1)
    for _ in range(60):
        document = add(histories, document, "{}")
    world.services.tables.refused = 7
    assert histories.delete("a", document, 5)
    assert orders(world) == [1, 62, 63]


def test_the_store_that_is_asked_for_is_the_one_of_the_engine() -> None:
    with pytest.raises(UsageError, match='give "s3" or "dynamodb"'):
        AWSRuntime.from_env(ENVIRONMENT, store="redis")
    runtime = AWSRuntime.from_env(ENVIRONMENT, store="dynamodb")
    with pytest.raises(SettingMissing, match=TABLE_NAME):
        runtime.list_executions()
    runtime = AWSRuntime.from_env({**ENVIRONMENT, TABLE_NAME: "flows"}, store="s3")
    with pytest.raises(UsageError, match="in the table 'flows'"):
        runtime.list_executions()
