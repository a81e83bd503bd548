"""Law: whatever is done, in whatever order, memory and SQLite answer the same."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mini_workflow.errors import MiniWorkflowError
from mini_workflow.ports import STATUSES, Backend, Commit, Head, Query, QueuedMessage
from mini_workflow.stores.memory import MemoryBackend, MemoryLeases, MemoryState
from mini_workflow.stores.sqlite import SQLiteBackend
from mini_workflow.stores.sqlite.leases import SQLiteLeases
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import length

OWNERS = ("one", "two", "three")
NAMES = ("a", "b", "c", "d")
LEASE = 100

owners = st.sampled_from(OWNERS)
names = st.sampled_from(NAMES)
times = st.integers(0, 20)
texts = st.text(max_size=3)
keys = st.sampled_from("xyz")
heads = st.builds(
    Head,
    names,
    workflow=st.sampled_from(["order", "refund"]),
    status=st.sampled_from(STATUSES),
    started_at=times,
    busy=st.booleans(),
    wake_at=st.none() | times,
    blocked_kind=st.sampled_from([None, "code", "limit"]),
    run=st.integers(1, 3),
)
lines = st.lists(texts, max_size=3).map(tuple)
# What a writer knows is right most of the time, and off by one otherwise; what creates is whole
# most of the time. Messages to take are given by their place in the mailbox, as their numbers may
# differ.
items = st.builds(
    dict,
    name=names,
    off=st.sampled_from([0, 0, 0, 0, 0, 0, -1, 1]),
    lacking=st.sampled_from([False, False, False, False, False, False, False, True]),
    head=st.none() | heads,
    events=lines,
    park=lines,
    unpark=st.booleans(),
    taken=st.lists(st.integers(0, 3), max_size=2),
    # Where a new run begins, in events before the last; 0 would leave it none.
    anew=st.sampled_from([None, None, None, None, 1, 1, 2, 3, 0]),
    outbox=st.lists(st.builds(QueuedMessage, names, texts, keys), max_size=3).map(tuple),
)


def take_all(
    leases: SQLiteLeases,
    take: Callable[..., Any],
    raw: Any,
    lease: int,
    free: list[int],
    _living: int,
) -> Any:
    """Take what is free as the only one who lives."""
    return take(leases, raw, lease, free, 1)


class BackendsAgree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # Each divides in another way, so that shares differ: here whoever comes first takes all.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(MemoryLeases, "_living", lambda *_: 1)
        self.patch.setattr(SQLiteLeases, "_take", partialmethod(take_all, SQLiteLeases._take))
        self.clock = ManualClock(1_000)
        self.folder = tempfile.TemporaryDirectory()
        self.state = MemoryState()
        self.pairs = {owner: self.open(owner) for owner in OWNERS}

    def open(self, owner: str) -> tuple[Backend, Backend]:
        arguments: dict[str, Any] = {"address": owner, "clock": self.clock, "lease": LEASE}
        return (
            MemoryBackend(self.state, owner=owner, **arguments),
            SQLiteBackend(
                Path(self.folder.name) / "state.db",
                owner=owner,
                synchronous="NORMAL",
                **arguments,
            ),
        )

    def teardown(self) -> None:
        for pair in self.pairs.values():
            for backend in pair:
                backend.close()
        self.folder.cleanup()
        self.patch.undo()

    def same(self, owner: str, act: Callable[[Backend], object]) -> None:
        answers: list[object] = []
        for backend in self.pairs[owner]:
            try:
                answers.append(act(backend))
            except MiniWorkflowError as error:
                answers.append(type(error))
        assert answers[0] == answers[1]

    @rule(owner=owners, batch=st.lists(items, max_size=4))
    def hold_and_commit(self, owner: str, batch: list[dict[str, Any]]) -> None:
        self.acquire(owner)
        self.commit(owner, batch)

    @rule(owner=owners, item=items)
    def hold_and_commit_one(self, owner: str, item: dict[str, Any]) -> None:
        self.hold_and_commit(owner, [item])

    @rule(owner=owners, batch=st.lists(items, max_size=4))
    def commit(self, owner: str, batch: list[dict[str, Any]]) -> None:
        def act(backend: Backend) -> object:
            commits: list[Commit] = []
            entries = backend.mailbox.entries(0, 100)
            for item in batch:
                name, head, stored = item["name"], item["head"], backend.store.head(item["name"])
                expected = max(0, length(backend, name) + item["off"])
                events = item["events"]
                if expected == 0 and not item["lacking"]:
                    events, head = ("started", *events), head or Head(name, "order", "running", 1)
                if head is not None:
                    base = stored.base if stored else 0
                    if item["anew"] is not None:
                        base = max(0, expected + len(events) - item["anew"])
                    head = replace(head, execution_id=name, base=base)
                commits.append(
                    Commit(
                        name,
                        expected,
                        events,
                        head,
                        item["park"],
                        item["unpark"],
                        tuple(entries[n].number for n in item["taken"] if n < len(entries)),
                        item["outbox"],
                    )
                )
            return backend.store.commit(commits)

        self.same(owner, act)

    @rule(owner=owners, name=names, body=texts, key=keys)
    def post(self, owner: str, name: str, body: str, key: str) -> None:
        self.same(owner, lambda backend: backend.mailbox.post(name, body, key))

    @rule(owner=owners)
    def acquire(self, owner: str) -> None:
        self.same(owner, lambda backend: backend.leases.acquire(self.clock.now()))

    @rule(owner=owners)
    def renew(self, owner: str) -> None:
        self.same(owner, lambda backend: backend.leases.renew(self.clock.now()))

    @rule(owner=owners)
    def release(self, owner: str) -> None:
        self.same(owner, lambda backend: backend.leases.release())

    @rule(owner=owners)
    def go_away_and_come_back(self, owner: str) -> None:
        for backend in self.pairs[owner]:
            backend.close()
        self.pairs[owner] = self.open(owner)

    @rule(milliseconds=st.sampled_from([1, LEASE // 2, LEASE, LEASE + 1]))
    def time_passes(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)

    @invariant()
    def all_read_the_same(self) -> None:
        def listing(backend: Backend, query: Query) -> list[Head]:
            page = backend.store.list(query)
            return page.heads + (
                listing(backend, replace(query, after=page.next)) if page.next else []
            )

        for name in NAMES:
            self.same("one", lambda backend, name=name: backend.store.head(name))
            self.same("one", lambda backend, name=name: backend.store.history(name))
        for query in (Query(limit=2), Query("order", limit=1), Query(None, "blocked", 1)):
            self.same("one", lambda backend, query=query: listing(backend, query))
        self.same("one", lambda backend: sorted(backend.leases.peers()))

    @rule(owner=owners, limit=st.integers(1, 5), now=times)
    def what_an_owner_sees(self, owner: str, limit: int, now: int) -> None:
        def held(backend: Backend) -> list[object]:
            agenda = backend.agenda
            due = agenda.due(now, limit)
            wakes = [head.wake_at for name in due if (head := backend.store.head(name))]
            return [
                # Among equal times the order is free.
                wakes,
                sorted(due) if len(due) < limit else len(due),
                agenda.next_wake(),
                agenda.busy("", limit),
                agenda.blocked("code", "a", limit),
                [(entry.execution_id, entry.body) for entry in backend.mailbox.entries(0, limit)],
            ]

        # Who has lost its lease without having learnt it may still see what it held.
        if all([stands(backend, self.clock.now()) for backend in self.pairs[owner]]):  # noqa: C419 - both are to learn it
            self.same(owner, held)
            for name in NAMES:
                self.same(owner, lambda backend, name=name: backend.store.load(name))


def stands(backend: Backend, now: int) -> bool:
    """Whether the lease stands, which renewing it tells."""
    try:
        backend.leases.renew(now)
    except MiniWorkflowError:
        return False
    return True


TestBackendsAgree = BackendsAgree.TestCase
TestBackendsAgree.settings = settings(max_examples=60, stateful_step_count=30)
