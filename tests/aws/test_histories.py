"""ObjectStore in a bucket: what is written, what is read, and what a crash leaves behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow import Context
from mini_workflow.errors import StoreCorrupt, StoreTooNew, StoreUnavailable
from mini_workflow.ports import STATUSES, Commit, Head, Query, QueuedMessage
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS, PendingEffects, Wakeup, Wakeups
from mini_workflow.stores.aws.limits import HEADER_BYTES, SEAL_OVER
from mini_workflow.stores.cached import CachedStore
from mini_workflow.stores.s3 import execution_object as form
from mini_workflow.stores.s3 import index, object_store
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.stores.s3.object_store import ObjectStore
from mini_workflow.stores.s3.store import S3Store
from mini_workflow.testing.contracts.backend import creation, head
from tests.aws.world import Death, Fault, World, registry_of
from tests.paths import ROOT

texts = st.text(st.characters(codec="utf-8"))
lines = st.one_of(
    texts, st.sampled_from(["", "{}", '"', '{"a":\n1}', "[", "]}", "],", '"events":['])
)
numbers = st.integers(0, 2**53)
pending = st.builds(
    PendingEffects,
    tasks=st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    outbox=st.lists(st.builds(QueuedMessage, texts, texts, texts), max_size=3).map(tuple),
    wakeup=st.booleans(),
    caused_by=st.lists(texts, max_size=3).map(tuple),
    unconfirmed=st.booleans(),
)
heads = st.builds(
    Head,
    execution_id=texts,
    workflow=texts,
    status=st.sampled_from(STATUSES),
    started_at=numbers,
    closed_at=st.none() | numbers,
    busy=st.booleans(),
    wake_at=st.none() | numbers,
    blocked_kind=st.none() | texts,
    blocked_reason=st.none() | texts,
    run=numbers,
    base=numbers,
    tags=st.sampled_from(["", '{"customer": "c-7"}']),
    waits=texts,
    progress=texts,
)


def family(document: ExecutionObject) -> ExecutionObject:
    """The document with the parent in its head."""
    parent = None if document.parent is None else document.parent["id"]
    return replace(document, head=replace(document.head, parent=parent))


documents = st.builds(
    ExecutionObject,
    head=heads,
    parent=st.none() | st.just({"id": "p", "seq": 0}),
    fingerprint=texts,
    wakeup=st.builds(
        Wakeups,
        st.none() | st.builds(Wakeup, numbers, texts),
        st.none() | st.builds(Wakeup, numbers, texts),
    ),
    pending=pending,
    parked=st.lists(lines, max_size=4).map(tuple),
    tail=st.lists(lines, max_size=4).map(tuple),
    **dict.fromkeys(("born", "length", "sealed", "segments", "first", "turn", "tries"), numbers),
    writer=texts,
).map(family)


@given(documents)
def test_a_document_comes_back_as_it_was(document: ExecutionObject) -> None:
    body = form.encode(document)
    # Causes matter to effects only.
    wanted = document.pending or replace(document.pending, caused_by=())
    assert form.decode(body, "etag") == replace(document, pending=wanted, etag="etag")
    header = form.decode_header(body)
    assert header == replace(document, pending=NO_EFFECTS, parked=(), tail=())
    first, _, second = body.partition(b"\n")
    without = form.decode_header(first + b"\n" + second[:3])
    assert without is not None
    assert without.head == replace(document.head, waits="", progress="")


def test_what_older_processes_can_read_is_written_in_their_form() -> None:
    assert b'"schema":2' in form.encode(ExecutionObject(head("a"), {"id": "p", "seq": 1}))
    waits = form.encode(ExecutionObject(head("a", waits="{}", progress="[]")))
    assert b'"schema":2' in waits
    assert b"waits" not in waits.partition(b"\n")[0]
    assert b'"schema":3' in form.encode(ExecutionObject(head("a", tags='{"a": "b"}')))


@given(st.lists(lines))
def test_a_segment_comes_back_as_it_was(found: list[str]) -> None:
    assert form.decode_segment(form.encode_segment(found)) == found


@pytest.mark.parametrize("cut", [0, 1, 20, -1, -3, -12])
def test_what_is_not_whole_is_corrupt(cut: int) -> None:
    body = form.encode(ExecutionObject(head("a"), tail=("{}", "{}")))
    with pytest.raises(StoreCorrupt, match="not the object of an execution"):
        form.decode(body[:cut], "")


def test_what_a_newer_version_has_written_is_left_alone() -> None:
    body = form.encode(ExecutionObject(head("a"))).replace(b'"schema":2', b'"schema":5')
    with pytest.raises(StoreTooNew, match="deploy a newer version"):
        form.decode(body, "")


@pytest.fixture
def world() -> Iterator[World]:
    with World(registry_of()) as made:
        made.acting = "test"
        made.prone = ("test",)
        yield made


@pytest.fixture
def histories(world: World) -> ObjectStore:
    return world.client._parts.histories


def create(histories: ObjectStore, name: str = "a", **fields: Any) -> ExecutionObject:
    made = histories.create(creation(name, "{}", **fields), None, "")
    assert made is not None
    return made


def write(
    histories: ObjectStore, document: ExecutionObject, *events: str, **kw: Any
) -> ExecutionObject:
    commit = Commit(document.head.execution_id, document.length, events, **kw)
    written = histories.write(document, commit, NO_EFFECTS, NO_WAKEUPS, 0)
    assert written is not None
    return written


def event(number: int, size: int = 100) -> str:
    return '{"n":' + f"{number:0{size}}" + "}"


def test_a_hundred_thousand_events_are_linear(world: World, histories: ObjectStore) -> None:
    """In bytes and in calls, to write and to read."""
    turns, each = 2_000, 50
    document = create(histories)
    marks: list[tuple[int, int]] = []
    for turn in range(turns):
        if turn in (turns // 2, turns - 1):
            marks.append((len(world.calls), sum(world.sizes)))
        events = [event(turn * each + n) for n in range(each)]
        document = write(histories, document, *events)
    (calls, sent), (all_calls, all_sent) = marks
    # The second half costs what the first has cost.
    assert 1.98 < all_calls / calls < 2.02
    assert 1.95 < all_sent / sent < 2.05
    assert max(world.sizes) < SEAL_OVER + 3 * each * len(event(0))
    assert document.segments == world.cost()["s3.PutObject"] - turns - 2
    before = len(world.calls)
    read = histories.read("a")
    assert read is not None
    found = histories.lines(read)
    assert found == ["{}", *map(event, range(turns * each))]
    assert world.cost(before) == {"s3.GetObject": 1 + document.segments}
    # The newest ones take no more than the last segment.
    before = len(world.calls)
    assert histories.lines(read, read.length - 5) == found[-5:]
    assert histories.lines(read, read.sealed - 5) == found[read.sealed - 5 :]
    assert world.cost(before) == {"s3.GetObject": 1}


def test_only_the_segments_of_the_run_are_read(world: World, histories: ObjectStore) -> None:
    document = create(histories)
    for run in range(2, 6):
        for _ in range(20):
            document = write(histories, document, *map(event, range(100)))
        anew = head("a", run=run, base=document.length)
        document = write(histories, document, '{"begin":1}', head=anew)
    document = write(histories, document, *map(event, range(100)))
    before = len(world.calls)
    read = histories.read("a")
    assert read is not None
    assert histories.lines(read) == ['{"begin":1}', *map(event, range(100))]
    assert document.segments > 8
    assert world.cost(before)["s3.GetObject"] <= 2
    assert len(histories.lines(read, 0)) == read.length


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_a_segment_of_a_writer_that_died_is_adopted(
    n: int, after: bool, world: World, histories: ObjectStore
) -> None:
    """It died before or after it wrote the segment, or the head that knows of it."""
    document = write(histories, create(histories), *map(event, range(1_000)))
    world.after(Fault(n, "dies", after))
    with pytest.raises(Death):
        write(histories, document, event(1_000))
    world.faults.clear()
    found = histories.read("a")
    assert found is not None
    done = int(n == 2 and after)
    assert (found.segments, found.length) == (done, 1_001 + done)
    for number in range(found.length - 1, 3_000):
        found = write(histories, found, event(number))
    assert histories.lines(found) == ["{}", *map(event, range(3_000))]
    assert histories.lines(found, 900) == [event(number) for number in range(899, 3_000)]


def test_a_segment_that_is_gone_is_named(world: World, histories: ObjectStore) -> None:
    document = write(histories, create(histories), *map(event, range(1_000)))
    document = write(histories, document, "{}")
    (key,) = [key for key in world.services.objects if "segments/" in key]
    del world.services.objects[key]
    with pytest.raises(StoreCorrupt, match=r"segment 'executions/segments/a/00000000.json'"):
        histories.lines(document)


# The index


def listed(world: World, **fields: Any) -> list[str]:
    store = S3Store(world.client._parts.histories, lambda messages: None)
    return [found.execution_id for found in store.list(Query(**fields)).heads]


CLOSED = {"status": "completed", "closed_at": 2_000}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_an_execution_is_found_by_its_status_whenever_its_writer_dies(
    n: int, after: bool, world: World, histories: ObjectStore
) -> None:
    document = create(histories)
    world.after(Fault(n, "dies", after))
    with pytest.raises(Death):
        write(histories, document, "{}", head=head("a", **CLOSED))
    world.faults.clear()
    done = n == 3 or (n == 2 and after)
    assert listed(world, status="completed") == ["a"] * done
    assert listed(world, status="running") == ["a"] * (not done)
    # Once, even if it has markers under two statuses.
    assert listed(world) == ["a"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_an_execution_that_was_not_created_is_not_listed(
    n: int, after: bool, world: World, histories: ObjectStore
) -> None:
    world.after(Fault(n, "dies", after))
    with pytest.raises(Death):
        create(histories)
    world.faults.clear()
    assert listed(world) == ["a"] * (n == 2 and after)


# Executions that a client has started are listed from their first turn on


async def waits(ctx: Context) -> Any:
    """Records nothing in its first turn."""
    return await ctx.wait_for_signal("end")


async def ends(ctx: Context) -> str:
    return "at once"


def markers(world: World) -> list[str]:
    """The statuses under which there are markers."""
    keys = [key for key in world.services.objects if key.startswith(index.SPREAD)]
    return sorted(key.removeprefix(index.SPREAD).split("/")[0] for key in keys)


@pytest.mark.parametrize(("flow", "status"), [(waits, "running"), (ends, "completed")])
def test_the_first_turn_lists_an_execution_under_the_status_that_it_leaves(
    flow: Any, status: str
) -> None:
    with World(registry_of(flow)) as world:
        world.client.start_execution(flow.__name__, id="a")
        assert markers(world) == []
        world.acting = "client"
        # Who comes second writes nothing and removes nothing.
        world.process().start_execution(flow.__name__, id="a")
        world.acting = ""
        assert set(world.cost()) == {"s3.GetObject", "sqs.SendMessage"}
        world.deliver()
        assert markers(world) == [status]
        assert "s3.DeleteObject" not in world.cost()
        assert listed(world, status=status) == listed(world) == ["a"]
        # Once, and not with every turn.
        before = len(world.calls)
        if status == "running":
            world.client.get_execution("a").signal("other")
        world.settle()
        assert world.cost(before)["s3.PutObject"] == (status == "running")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("written", [False, True], ids=["only sent", "written"])
@pytest.mark.parametrize(("flow", "status"), [(waits, "running"), (ends, "completed")])
def test_no_execution_is_lost_from_the_listing_whichever_call_a_process_dies_at(
    flow: Any, status: str, written: bool, after: bool
) -> None:
    """The client, before it has written the object, and then the orchestrator, at each of its calls."""
    deaths, n = 1, 0
    while deaths:
        n += 1
        with World(registry_of(flow)) as world:
            if not written:
                world.prone = ("client",)
                world.acting = "client"
                world.after(Fault(1, "dies", call="s3.PutObject"))
                with pytest.raises(Death):
                    world.client.start_execution(flow.__name__, id="a")
                world.faults.clear()
            else:
                world.client.start_execution(flow.__name__, id="a")
            world.acting, world.prone = "", ("orchestrator",)
            world.after(Fault(n, "dies", after))
            world.settle()
            deaths = world.deaths
            assert listed(world, status=status) == listed(world) == ["a"], n
    assert n > 3


def test_a_start_that_lost_its_race_leaves_no_marker(world: World, histories: ObjectStore) -> None:
    create(histories)
    assert histories.create(creation("a", "{}"), None, "") is None
    assert len([key for key in world.services.objects if key.startswith(index.ROOT)]) == 1


def test_a_page_reads_the_heads_that_it_shows(world: World, histories: ObjectStore) -> None:
    for number in range(120):
        fields = CLOSED if number % 2 else {}
        create(histories, f"e{number}", started_at=number, workflow=f"w{number % 3}", **fields)
    spread = {key.rpartition("/")[0] for key in world.services.objects if index.SPREAD in key}
    running = {prefix for prefix in spread if "/running/" in prefix}
    before = len(world.calls)
    assert len(listed(world, limit=10)) == 10
    # For each status which prefixes there are, and those of before; and then each of them.
    lists = 2 * len(STATUSES) + len(spread)
    assert world.cost(before) == {"s3.ListObjectsV2": lists, "s3.GetObject": 10}
    before = len(world.calls)
    assert len(listed(world, limit=10, status="running")) == 10
    assert world.cost(before) == {"s3.ListObjectsV2": 2 + len(running), "s3.GetObject": 10}
    before = len(world.calls)
    assert len(listed(world, limit=10, status="completed", workflow="w1")) == 10
    # A workflow is seen by the key: no head of another one is read.
    assert world.cost(before)["s3.GetObject"] <= 20
    assert world.cost(before)["s3.ListObjectsV2"] == 2 + len(spread) - len(running)


def test_markers_are_spread_over_many_prefixes(world: World, histories: ObjectStore) -> None:
    """Executions that start one after the other do not go to the same one."""
    for number in range(200):
        create(histories, f"e{number}", started_at=1_000 + number)
    keys = [key for key in world.services.objects if key.startswith(index.SPREAD)]
    prefixes = {key.rpartition("/")[0] for key in keys}
    assert len(keys) == 200
    assert len(prefixes) == 16
    assert {len(prefix) for prefix in prefixes} == {len(f"{index.SPREAD}running/0")}


class Marking(World):
    """A world that knows which prefixes of the index its processes have written to."""

    def __init__(self, *flows: Any) -> None:
        self.marked: Counter[str] = Counter()
        super().__init__(registry_of(*flows))

    def answer(self, request: Any, event_name: str) -> Any:
        if event_name.endswith(("PutObject", "DeleteObject")) and index.SPREAD in request.url:
            self.marked[request.url.partition(index.SPREAD)[2].rpartition("/")[0]] += 1
        return super().answer(request, event_name)


WRITES_OF_A_PREFIX = 3_500
"""A second. Source: S3 User Guide, "Optimizing Amazon S3 performance"."""


@pytest.mark.parametrize(("flow", "most"), [(ends, 1), (waits, 2)])
def test_a_prefix_takes_few_writes_of_an_execution_and_the_document_says_how_many(
    flow: Any, most: int
) -> None:
    """In its whole life: so many executions a second can start and end with 16 prefixes."""
    with Marking(flow) as world:
        world.client.start_execution(flow.__name__, id="a")
        world.settle()
        if flow is waits:
            world.client.get_execution("a").signal("end")
        world.run()
        assert listed(world, status="completed") == ["a"]
        assert max(world.marked.values()) == most
        starts = 16 * WRITES_OF_A_PREFIX // most
        assert f"{starts:,} a second" in (ROOT / "docs" / "cost.md").read_text()


def test_pages_follow_each_other_over_all_prefixes(world: World, histories: ObjectStore) -> None:
    for number in range(150):
        create(histories, f"e{number}", started_at=number, **(CLOSED if number % 3 else {}))
    store = S3Store(histories, lambda messages: None)
    for limit in (7, 40, 149, 150, 1_000):
        found: list[str] = []
        after: str | None = None
        while True:
            page = store.list(Query(limit=limit, after=after))
            found += [head.execution_id for head in page.heads]
            after = page.next
            if after is None:
                break
            assert len(page.heads) == limit
        assert found == [f"e{n}" for n in reversed(range(150))]


def test_executions_of_before_are_listed_among_the_others(
    world: World, histories: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their markers are where they were, and stay there when they move on."""
    before = form.ExecutionObject
    monkeypatch.setattr(
        object_store,
        "ExecutionObject",
        lambda *args, **fields: before(*args, **{**fields, "spread": 0}),
    )
    old = [create(histories, f"old{n}", started_at=10 * n) for n in range(6)]
    monkeypatch.undo()
    for number in range(6):
        create(histories, f"new{number}", started_at=10 * number + 5)
    for document in old[::2]:
        read = histories.read(document.head.execution_id)
        assert read is not None
        assert read.spread == 0
        name, started = read.head.execution_id, read.head.started_at
        write(histories, read, "{}", head=head(name, started_at=started, **CLOSED))
    everything = [f"{kind}{n}" for n in reversed(range(6)) for kind in ("new", "old")]
    assert listed(world) == everything
    assert listed(world, status="completed") == ["old4", "old2", "old0"]
    assert listed(world, status="running", limit=3) == ["new5", "old5", "new4"]
    markers = [key for key in world.services.objects if key.startswith(index.ROOT)]
    assert len(markers) == 12


def test_stale_markers_do_not_end_a_page(world: World, histories: ObjectStore) -> None:
    for number in range(30):
        document = create(histories, f"e{number:02}", started_at=number)
        if number % 3:
            # It has closed, and its marker was not taken away.
            place = document.place
            write(
                histories, document, "{}", head=head(f"e{number:02}", started_at=number, **CLOSED)
            )
            index.enter(world.client._parts.bucket, "running", place, spread=True)
    store = S3Store(histories, lambda messages: None)
    first = store.list(Query(status="running", limit=4))
    assert [found.execution_id for found in first.heads] == ["e27", "e24", "e21", "e18"]
    second = store.list(Query(status="running", limit=100, after=first.next))
    assert [found.execution_id for found in second.heads] == [f"e{n:02}" for n in range(15, -1, -3)]
    assert second.next is None


def test_a_head_that_is_too_long_for_one_look_is_read_whole(histories: ObjectStore) -> None:
    reason = "x" * HEADER_BYTES
    create(histories, blocked_reason=reason)
    found = histories.header("a")
    assert found is not None
    assert found.head.blocked_reason == reason


# What a process remembers


def test_a_shelf_answers_from_memory_and_is_told_when_it_is_wrong(
    world: World, histories: ObjectStore
) -> None:
    create(histories)
    first, second = CachedStore(histories, 2), CachedStore(histories, 2)
    for cached in (first, second):
        assert cached.head("a") == head("a")
    assert first.commit(Commit("a", 1, ("{}",)), NO_EFFECTS, NO_WAKEUPS, 0)
    before = len(world.calls)
    stored = first.load("a")
    assert stored is not None
    assert stored.events == ["{}", "{}"]
    assert len(world.calls) == before
    assert not second.is_current("a")
    assert not second.commit(Commit("a", 1, ("{}",)), NO_EFFECTS, NO_WAKEUPS, 0)
    stored = second.load("a")
    assert stored is not None
    assert len(stored.events) == 2
    assert second.is_current("a")
    assert not first.commit(Commit("a", 1, ("{}",)), NO_EFFECTS, NO_WAKEUPS, 0)
    assert "s3.PutObject" not in world.cost(before)


def test_a_shelf_keeps_the_newest(world: World, histories: ObjectStore) -> None:
    for name in "abc":
        create(histories, name)
    cached = CachedStore(histories, 2)
    for name in "abcbc":
        cached.head(name)
    before = len(world.calls)
    cached.head("b")
    cached.head("c")
    assert len(world.calls) == before
    cached.head("a")
    assert world.cost(before) == {"s3.GetObject": 1}


def test_a_write_that_may_have_happened_is_forgotten(world: World, histories: ObjectStore) -> None:
    create(histories)
    cached = CachedStore(histories, 2)
    cached.head("a")
    world.after(Fault(1, "fails", after=True))
    with pytest.raises(StoreUnavailable, match=r"writing 'executions/a.json'"):
        cached.commit(Commit("a", 1, ("{}",)), PendingEffects(tasks=((1, 1),)), NO_WAKEUPS, 0)
    world.faults.clear()
    meta = cached.meta("a")
    assert meta is not None
    assert meta.length == 2
    assert not meta.done
