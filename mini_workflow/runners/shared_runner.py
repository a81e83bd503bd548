"""SharedRunner: has other processes run attempts whose workers this one does not serve, and runs theirs.

The processes exchange attempts and outcomes through the store, so that either of them may die at any time:
an offered attempt stays offered, a taken one is lost when the process that took it is gone, and an outcome
waits for the process that holds the execution by then.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

from mini_workflow.attempts import broken, cancelled, failed, lost
from mini_workflow.core.records import replace
from mini_workflow.errors import RuntimeClosed, StoreError, StoreRefused, TaskError
from mini_workflow.ports import HandIn, Report, TaskOutcome, TaskRequest
from mini_workflow.ports.shared_tasks import Key, SharedTask, SharedTasks, unserved_workers
from mini_workflow.runners.routed import Closing, worker_message
from mini_workflow.threads import NoThread, has_begun, join_thread, start_thread

log = logging.getLogger("mini_workflow.engine")

Item = TypeVar("Item")

RETRY: Final = 1.0
"""Seconds to wait before another try when the store has failed."""

_GONE: Final = "its process was taken for dead, and the attempt counts as lost"


class SharedRunner:
    """Offers, takes and settles attempts on a thread of its own, which starts with the first work for it.

    Args:
        tasks: the attempts that owners of the store offer to each other.
        call: turns the captured call of an attempt into bytes that another process can run.
        message: turns an outcome into the text of the message that brings it to the execution.
        report: takes the outcomes of attempts that cannot be offered, or were cancelled before.
        notify: tells other processes to look at the store, where the store does not do so itself.
        interval: seconds between two looks at the store without a notification.
    """

    def __init__(
        self,
        tasks: SharedTasks,
        *,
        call: Callable[[TaskRequest], bytes],
        message: Callable[[TaskOutcome], str],
        report: Report,
        notify: Callable[[], None],
        interval: float,
    ) -> None:
        self._tasks: Final = tasks
        self._call: Final = call
        self._message: Final = message
        self._report: Final = report
        self._notify: Final = notify
        self._interval: Final = interval
        self._serves: dict[str, tuple[Closing, int]] = {}
        """By the name of a worker: the runner of its attempts here, and how many it runs at a time."""
        self._changed: Final = threading.Condition()
        self._offers: Final[list[tuple[TaskRequest, SharedTask]]] = []
        self._cancels: Final[list[tuple[str, int, str]]] = []
        self._outcomes: Final[list[TaskOutcome]] = []
        self._running: Final[dict[Key, SharedTask]] = {}
        """The attempts that were taken, and are not settled."""
        self._ended: Final[set[Key]] = set()
        """The keys of those among them that were told to end."""
        self._warned: Final[set[str]] = set()
        """The workers about which a warning was logged."""
        self._open = False
        """Whether an offered attempt may be unsettled."""
        self._looks_at = 0.0
        self._failing = False
        self._woken = False
        self._closing = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def serve(self, runners: Mapping[str, tuple[Closing, int]]) -> None:
        """Take attempts of these workers, given by name with their runner and how many it runs at a time."""
        self._serves = dict(runners)
        if runners:
            self.look()

    def reporting(self, report: Report) -> Report:
        """Return a report for the runners of the served workers. It takes outcomes of taken attempts to the
        store, and the others to `report`.
        """

        def to(outcome: TaskOutcome) -> None:
            if not self._takes(outcome):
                report(outcome)

        return to

    def hand_in(self, hand_in: HandIn) -> HandIn:
        """Return a HandIn that takes outcomes of taken attempts to the store, and the others to `hand_in`."""

        def to(outcome: TaskOutcome, /, *, more: bool = False) -> None:
            if not self._takes(outcome):
                hand_in(outcome, more=more)

        return to

    def _takes(self, outcome: TaskOutcome) -> bool:
        """Take the outcome if it is that of a taken attempt. Answers whether it is."""
        if outcome.key not in self._running:
            return False
        with self._changed:
            self._outcomes.append(outcome)
            self._wake()
        return True

    # Called by the engine

    def submit(self, request: TaskRequest) -> None:
        """See TaskRunner. Raises RuntimeClosed after `close`."""
        try:
            body = to_text(request, self._call(request))
        except Exception as error:
            self._report(failed(request, error))
            return
        task = SharedTask(*request.key, request.worker, body, request.heartbeat)
        with self._changed:
            if self._closing:
                raise RuntimeClosed("the runner of tasks was closed. Open a new runtime.")
            self._offers.append((request, task))
            self._open = True
            try:
                self._wake()
            except NoThread:
                self._offers.remove((request, task))
                raise

    def cancel(self, execution_id: str, seq: int, reason: str) -> None:
        """See TaskRunner."""
        with self._changed:
            if self._open:
                self._cancels.append((execution_id, seq, reason))
                self._wake()

    def holds(self, key: Key) -> bool:
        """See TaskRunner. Raises StoreError."""
        with self._changed:
            if not self._open:
                return False
            pending = any(request.key == key for request, _ in self._offers)
        return pending or bool(self._tasks.kept(key))

    def kept(self) -> list[Key]:
        """See NamedWorkerRunner."""
        found = self._tasks.kept()
        self.look()  # the lease may be a new one, under which no attempt was taken yet
        if found:
            with self._changed:
                self._open = True
                self._wake()
        return found

    def unserved(self, execution_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
        """See NamedWorkerRunner. Raises StoreError."""
        with self._changed:
            offered = [(task.execution_id, task.worker) for _, task in self._offers]
        return unserved_workers(self._tasks, execution_ids, offered)

    def look(self) -> None:
        """Look at the store, which another process may have changed. Does not wait."""
        if self._serves:
            with self._changed:
                self._looks_at = 0.0
                self._wake()

    # Closing

    def prepare_close(self) -> None:
        """Take no attempt any more."""
        with self._changed:
            self._closing = True

    def close(self, handed_back: Sequence[TaskRequest]) -> list[TaskRequest]:
        """Stop. `handed_back` are the attempts that the runners have handed back: those that were taken from
        other processes go back to them. Returns the others, and those that could not be offered. Offered
        attempts stay offered.
        """
        self.prepare_close()
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        join_thread(thread)
        mine = [request for request in handed_back if request.key in self._running]
        try:
            self._outcomes.extend(
                [
                    cancelled(request, request.heartbeat)
                    for request in mine
                    if request.key in self._ended
                ]
            )
            changed = self._send()
            back = [
                replace(self._running[request.key], heartbeat=request.heartbeat)
                for request in mine
                if request.key in self._running
            ]
            if back:
                self._tasks.hand_back(back)
            if changed or back:
                self._notify()
        except StoreError as error:
            log.error(
                "attempts of other processes could not be handed back, and count as lost: %s", error
            )
        rest = [request for request in handed_back if request not in mine]
        return [*rest, *(request for request, _ in self._offers)]

    # The thread

    def _wake(self) -> None:
        """Have the thread work. With the lock held."""
        self._woken = True
        if not has_begun(self._thread) and not self._closed:
            self._thread = threading.Thread(
                target=self._run, name="mini-workflow-shared-tasks", daemon=True
            )
            start_thread(self._thread)
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._woken and not self._closed:
                    self._changed.wait(self._pause())
                if self._closed:
                    return
                if self._failing and self._woken:
                    self._changed.wait(RETRY)
                self._woken = False
            self.step()

    def _pause(self) -> float | None:
        if self._failing:
            return RETRY
        if not self._serves and not self._open:
            return None
        return max(0.0, self._looks_at - time.monotonic())

    def step(self) -> None:
        """Exchange attempts and outcomes with the store. Does not raise: if the store fails, the next step
        tries again.
        """
        try:
            changed = self._send()
            if (self._serves or self._open) and time.monotonic() >= self._looks_at:
                changed = self._receive() or changed
            if changed:
                self._notify()
            self._failing = False
        except StoreError as error:
            if not self._failing:
                log.error(
                    "attempts for other processes wait, because the store failed; trying again"
                    " every %g s: %s",
                    RETRY,
                    error,
                )
            self._failing = True
        except Exception:
            # A fault of the library: attempts go on with the next step.
            log.exception(
                "attempts for other processes wait after an error; trying again every %g s", RETRY
            )
            self._failing = True

    def _send(self) -> bool:
        """Write offers, cancellations and outcomes to the store. Answers whether there were any."""
        with self._changed:
            offers, cancels = list(self._offers), list(self._cancels)
            outcomes = list(self._outcomes)
        if offers:
            _each(offers, lambda some: self._tasks.offer([t for _, t in some]), self._cannot_offer)
            with self._changed:
                del self._offers[: len(offers)]
            self._warn(offers)
        for about in cancels:
            for key in self._tasks.cancel(*about):
                self._report(cancelled(TaskRequest(*key, name="", payload=b"")))
            with self._changed:
                del self._cancels[0]
        if outcomes:
            known = [(self._running[o.key], o) for o in outcomes if o.key in self._running]
            _each(known, self._settle, self._cannot_settle)
            with self._changed:
                del self._outcomes[: len(outcomes)]
                for task, _ in known:
                    self._running.pop(task.key, None)
                    self._ended.discard(task.key)
            self._looks_at = 0.0  # there is room for other attempts
        return bool(offers or cancels or outcomes)

    def _settle(self, known: Sequence[tuple[SharedTask, TaskOutcome]]) -> None:
        self._tasks.settle([(task, self._message(outcome)) for task, outcome in known])

    def _cannot_settle(self, known: tuple[SharedTask, TaskOutcome], error: StoreRefused) -> None:
        task, outcome = known
        request = TaskRequest(*outcome.key, name="", payload=b"")
        self._tasks.settle([(task, self._message(failed(request, TaskError(str(error)))))])

    def _cannot_offer(self, offer: tuple[TaskRequest, SharedTask], error: StoreRefused) -> None:
        self._report(failed(offer[0], error))

    def _receive(self) -> bool:
        """Settle attempts whose process is gone, and take attempts of the served workers. Answers whether
        other processes are to be notified.
        """
        self._looks_at = time.monotonic() + self._interval
        gone = self._tasks.lost()
        if gone:
            log.info("attempts whose worker process is gone: %d", len(gone))
            self._tasks.settle([(task, self._message(_lost(task))) for task in gone])
        if not self._serves:
            # `submit` sets `_open` again if an attempt is offered meanwhile.
            with self._changed:
                offered = bool(self._offers)
            if not offered and not self._tasks.kept():
                with self._changed:
                    self._open = bool(self._offers)
            return bool(gone)
        mine = {task.key: task for task in self._tasks.taken()}
        self._tell(mine)
        self._beat()
        taken = sum(
            self._tasks.take(worker, room)
            for worker, (_, size) in self._serves.items()
            if not self._closing and (room := self._room(worker, size)) > 0
        )
        if taken:
            mine = {task.key: task for task in self._tasks.taken()}
        for task in mine.values():
            self._begin(task)
        return bool(gone)

    def _room(self, worker: str, size: int) -> int:
        with self._changed:
            return size - sum(task.worker == worker for task in self._running.values())

    def _tell(self, mine: Mapping[Key, SharedTask]) -> None:
        """Tell attempts that run here to end when nobody waits for them any more."""
        with self._changed:
            over = {outcome.key for outcome in self._outcomes}
            running = [task for key, task in self._running.items() if key not in over]
        for task in running:
            found = mine.get(task.key)
            reason = _GONE if found is None else found.cancelled
            if reason is not None and task.key not in self._ended:
                self._ended.add(task.key)
                self._serves[task.worker][0].cancel(task.execution_id, task.seq, reason)

    def _beat(self) -> None:
        """Keep the newest heartbeats, for the case that this process ends."""
        with self._changed:
            running = list(self._running.values())
        news = [
            replace(task, heartbeat=details)
            for task in running
            if (details := self._serves[task.worker][0].details(task.key)) is not None
            and details != task.heartbeat
        ]
        if news:
            self._tasks.beat(news)
            with self._changed:
                self._running.update({t.key: t for t in news if t.key in self._running})

    def _begin(self, task: SharedTask) -> None:
        with self._changed:
            if task.key in self._running or self._closing:
                return
            self._running[task.key] = task
        runner = self._serves[task.worker][0]
        try:
            runner.submit(to_request(task))
        except RuntimeClosed:
            with self._changed:
                del self._running[task.key]
            self._tasks.hand_back([task])
        except Exception as error:
            log.exception(
                "[%s] attempt %d of task #%d, taken from another process, cannot be run",
                *(task.execution_id, task.attempt, task.seq),
            )
            outcome = broken(TaskRequest(*task.key, name="", payload=b""), error)
            with self._changed:
                self._outcomes.append(outcome)
                self._wake()

    def _warn(self, offers: Sequence[tuple[TaskRequest, SharedTask]]) -> None:
        news = {task.worker: request for request, task in offers if task.worker not in self._warned}
        if not news:
            return
        for worker in news.keys() - self._tasks.served():
            self._warned.add(worker)
            log.warning(
                "[%s] task %r waits for worker %r, which no process serves; so do other tasks that name "
                "it. Remedy: %s",
                news[worker].execution_id,
                news[worker].name,
                worker,
                worker_message(worker),
            )


def to_text(request: TaskRequest, call: bytes) -> str:
    """Return the text of an attempt for other processes, with `call`, its captured call."""
    return json.dumps(
        {
            "name": request.name,
            "call": b64encode(call).decode(),
            "timeout": request.timeout,
            "is_async": request.is_async,
            "heartbeat_timeout": request.heartbeat_timeout,
            "headers": request.headers,
        }
    )


def to_request(task: SharedTask) -> TaskRequest:
    """Return the attempt to run. Raises ValueError, KeyError or TypeError if its text is not of `to_text`."""
    plain: Any = json.loads(task.body)
    return TaskRequest(
        *task.key,
        name=plain["name"],
        payload=b64decode(plain["call"]),
        timeout=plain["timeout"],
        is_async=plain["is_async"],
        heartbeat_timeout=plain["heartbeat_timeout"],
        heartbeat=task.heartbeat,
        worker=task.worker,
        headers=plain["headers"],
    )


def _lost(task: SharedTask) -> TaskOutcome:
    try:
        name = to_request(task).name
    except (ValueError, KeyError, TypeError):  # another version of the library wrote it
        name = ""
    request = TaskRequest(*task.key, name=name, payload=b"")
    if task.cancelled is not None:
        return cancelled(request, task.heartbeat)
    return lost(request, "its worker process is gone, or was cut off for too long.", task.heartbeat)


def _each(
    items: Sequence[Item],
    do: Callable[[Sequence[Item]], None],
    refused: Callable[[Item, StoreRefused], None],
) -> None:
    """Call `do` with all items; if the store refuses one of them, with each alone, and `refused` with that
    one. Raises StoreError.
    """
    try:
        do(items)
    except StoreRefused as error:
        if len(items) == 1:
            refused(items[0], error)
            return
        for item in items:
            _each([item], do, refused)
