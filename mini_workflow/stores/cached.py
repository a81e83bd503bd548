"""Keep executions as documents, in any place that can write a document only if it is unchanged."""

from __future__ import annotations

import threading
from typing import Any, Generic, Protocol, TypeVar

from mini_workflow.core.records import frozen, mutable
from mini_workflow.errors import UsageError
from mini_workflow.ports import Commit, Extent, Head, Stored
from mini_workflow.ports.queue import ExecutionMeta, PendingEffects, Wakeups


class Document(Protocol):
    """An execution as it was read or written: see `Head`, `Stored` and `ExecutionMeta`."""

    @property
    def head(self) -> Head: ...  # noqa: D102
    @property
    def length(self) -> int: ...  # noqa: D102
    @property
    def parked(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def parent(self) -> dict[str, Any] | None: ...  # noqa: D102
    @property
    def pending(self) -> PendingEffects: ...  # noqa: D102
    @property
    def wakeup(self) -> Wakeups: ...  # noqa: D102
    @property
    def tries(self) -> int: ...  # noqa: D102
    @property
    def listed(self) -> bool: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102


D = TypeVar("D", bound=Document)


@frozen
class Deleted:
    """The rest of a deleted execution.

    `events` is the number of events that all deleted executions with the id had. Until the deletion
    is `finished`, data of the execution remain and the id cannot be used. `etag` is that of the
    stored rest.
    """

    events: int
    etag: str = ""
    finished: bool = True


class Documents(Protocol[D]):
    """A place of documents. Reads see the last write; nothing is cached.

    Every method may raise StoreError; a write may have been done all the same.
    """

    def read(self, execution_id: str) -> D | Deleted | None:
        """Return the document of an execution, the rest of a deleted one, or None."""
        ...

    def changed(self, document: D) -> bool:
        """Return whether the execution was written since the document was read or written."""
        ...

    def lines(self, document: D) -> list[str]:
        """Return the events of the run."""
        ...

    def create(
        self,
        commit: Commit,
        parent: dict[str, Any] | None,
        fingerprint: str,
        pending: PendingEffects,
        wakeup: Wakeups,
        over: Deleted | None = None,
    ) -> D | None:
        """Write a new execution in one durable step, in the place of `over`, the rest of a deleted one.

        None if there is an execution with the id, or another rest than `over`.
        """
        ...

    def delete(self, execution_id: str, found: D | Deleted, at: int) -> bool:
        """Delete an execution that is still as it was `found`, or finish its deletion.

        False if the document has `changed`. See `FencedStore.delete`.
        """
        ...

    def write(
        self, document: D, commit: Commit, pending: PendingEffects, wakeup: Wakeups, tries: int
    ) -> D | None:
        """Write a commit behind the document, in one durable step; None if it has `changed`."""
        ...


@mutable
class _Known(Generic[D]):
    document: D
    done: bool = False

    def is_of(self, version: int | None) -> bool:
        return version is None or self.document.version == version

    def fits(self, length: int, version: int | None) -> bool:
        return self.document.length == length and self.is_of(version)


class CachedStore(Generic[D]):
    """A FencedStore over documents, which caches those that this process has read and written.

    The cache holds the newest `size` executions. Threads may use it, each for its own executions.
    """

    def __init__(self, documents: Documents[D], size: int) -> None:
        self._documents = documents
        self._size = size
        self._known: dict[str, _Known[D]] = {}
        self._gone: dict[str, Deleted] = {}
        self._lock = threading.Lock()

    def head(self, execution_id: str) -> Head | None:
        """See `FencedStore.head`."""
        known = self._find(execution_id)
        return None if known is None else known.document.head

    def extent(self, execution_id: str) -> Extent | None:
        """See `FencedStore.extent`."""
        known = self._find(execution_id)
        return None if known is None else Extent(known.document.length, True)

    def load(self, execution_id: str) -> Stored | None:
        """See `FencedStore.load`."""
        known = self._find(execution_id)
        return None if known is None else stored(known.document, self._documents)

    def meta(self, execution_id: str) -> ExecutionMeta | None:
        """See `FencedStore.meta`."""
        known = self._find(execution_id)
        if known is None:
            return None
        one, done = known.document, known.done
        return ExecutionMeta(
            one.pending,
            done,
            one.wakeup,
            one.tries,
            one.parent,
            one.length,
            one.listed,
            one.version,
        )

    def document(self, execution_id: str) -> D | None:
        """Return the document of an execution, from memory where it is known; None if there is none."""
        known = self._find(execution_id)
        return None if known is None else known.document

    def is_current(self, execution_id: str) -> bool:
        """See `FencedStore.is_current`."""
        known = self._known.get(execution_id)
        if known is not None and not self._documents.changed(known.document):
            return True
        self.forget(execution_id)
        return False

    def commit(
        self,
        commit: Commit,
        pending: PendingEffects,
        wakeup: Wakeups,
        tries: int,
        version: int | None = None,
    ) -> bool:
        """See `FencedStore.commit`."""
        check(commit)
        name = commit.execution_id
        known, new = self._known.get(name), None
        try:
            if known is not None and known.fits(commit.expected, version):
                new = self._documents.write(known.document, commit, pending, wakeup, tries)
        finally:
            self.forget(name)  # also after an error, since the write may have been done
        if new is not None:
            self._remember(name, new)
        return new is not None

    def create(
        self,
        commit: Commit,
        parent: dict[str, Any] | None,
        fingerprint: str,
        pending: PendingEffects,
        wakeup: Wakeups,
    ) -> bool:
        """See `FencedStore.create`."""
        check(commit)
        over = self._gone.get(commit.execution_id)
        document = self._documents.create(commit, parent, fingerprint, pending, wakeup, over)
        if document is not None:
            self._remember(commit.execution_id, document)
        return document is not None

    def delete(self, execution_id: str, at: int, version: int | None = None) -> bool:
        """See `FencedStore.delete`."""
        known = self._known.get(execution_id)
        if known is None:
            found = self._documents.read(execution_id)
            if found is not None and not isinstance(found, Deleted):
                return False
        elif not known.is_of(version):
            return False
        else:
            found = known.document
        try:
            return found is None or self._documents.delete(execution_id, found, at)
        finally:
            self.forget(execution_id)

    def deleted_events(self, execution_id: str) -> int:
        """See `FencedStore.deleted_events`."""
        gone = self._gone.get(execution_id)
        return 0 if gone is None else gone.events

    def done(self, execution_id: str, version: int | None = None) -> None:
        """See `FencedStore.done`."""
        known = self._known.get(execution_id)
        if known is not None and known.is_of(version):
            known.done = True

    def forget(self, execution_id: str) -> None:
        """See `FencedStore.forget`."""
        with self._lock:
            self._known.pop(execution_id, None)
            self._gone.pop(execution_id, None)

    def forget_all(self) -> None:
        """Forget everything in memory."""
        with self._lock:
            self._known.clear()
            self._gone.clear()

    def _find(self, execution_id: str) -> _Known[D] | None:
        known = self._known.get(execution_id)
        if known is not None:
            return known
        document = self._documents.read(execution_id)
        if isinstance(document, Deleted):
            with self._lock:
                while len(self._gone) >= self._size:
                    del self._gone[next(iter(self._gone))]
                self._gone[execution_id] = document
            return None
        self._gone.pop(execution_id, None)
        return None if document is None else self._remember(execution_id, document)

    def _remember(self, execution_id: str, document: D) -> _Known[D]:
        with self._lock:
            while len(self._known) >= self._size:
                del self._known[next(iter(self._known))]
            known = self._known[execution_id] = _Known(document)
        return known


def stored(document: D, documents: Documents[D]) -> Stored:
    """Return the execution with the events of its run."""
    return Stored(document.head, documents.lines(document), list(document.parked))


def check(commit: Commit) -> None:
    """Check that a commit can be written. Raises UsageError, or ValueError for text without UTF-8."""
    name, length = commit.execution_id, commit.expected + len(commit.events)
    for line in (*commit.events, *commit.park):
        line.encode()
    if commit.deleted_at is not None and (commit.expected < 1 or commit.events or commit.head):
        raise UsageError(
            f"the commit that deletes {name!r} must give its number of events, and no events or head"
        )
    if commit.expected == 0 and (commit.head is None or not commit.events):
        raise UsageError(f"the commit that creates {name!r} must have a head and a first event")
    if commit.head is not None and not 0 <= commit.head.base < length:
        raise UsageError(
            f"a run of {name!r} that begins at event {commit.head.base} has no event among {length}"
        )
