"""Write the turns of a batch in one commit, and remember which executions have just closed."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from mini_workflow.core.commands import StartChild
from mini_workflow.engine.batch import Batch
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.dispatch import Dispatcher
from mini_workflow.engine.engine_parts import EngineParts
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.metrics import TurnCounts
from mini_workflow.engine.requests import Waited
from mini_workflow.engine.takeover import Ports
from mini_workflow.engine.turn_data import Delivery, Turn
from mini_workflow.errors import ExecutionNotFound, StoreError, StoreRefused
from mini_workflow.ports import Commit

log = logging.getLogger("mini_workflow.engine")

REFUSALS: Final = (StoreRefused, UnicodeEncodeError, OverflowError)
"""The errors of a store that concern the given values, not its own condition."""


class GroupCommit:
    """Commits a batch; a turn that cannot be stored does not stop the others. The `dispatcher` forgets
    attempts whose outcomes are dropped, `counts` counts the executions in the `cache`, and `parts` are those
    that the turns are made of.
    """

    def __init__(
        self, ports: Ports, parts: EngineParts, dispatcher: Dispatcher, cache: Cache
    ) -> None:
        self._store = ports.store
        self._mailbox = ports.mailbox
        self._begin: Final = ports.begin_commit
        self._keeps_streams = ports.streams is not None
        self._parts = parts
        self._heard_of = dispatcher.acknowledge
        self.closed_here: Final = ClosedHere()
        self.counts: Final = TurnCounts(cache)

    def commit(self, batch: Batch, now: int) -> list[bool]:
        """Write the turns of the batch; one answer each, in order, as by `Store.commit`.

        If the store refuses the values of one turn, each is written alone, with the children that begin
        in it. A turn that is refused then is replaced in the batch by one that blocks its execution;
        a start is failed with the error. Raises other errors of the store, and has written nothing then.
        """
        if not batch.turns and not batch.deliveries:
            return []
        # Deliveries that have no effect may mean that the lease is lost: the store says so.
        concerns_others = False
        for turn in batch.turns.values():
            concerns_others |= bool(turn.commit.outbox) or StartChild in turn.commands
            for message in turn.final_messages:  # a commit that deletes posts nothing
                with contextlib.suppress(ExecutionNotFound):  # the asker was deleted, too
                    self._mailbox.post(message.execution_id, message.body, message.key)
        if concerns_others:
            self._parts.children.see_to_others(batch, now)
        try:
            return self._write(list(batch.turns.values()))
        except REFUSALS as error:
            return self._write_alone(batch, error)

    def begin(self, batch: Batch) -> Callable[[], list[bool]]:
        """Begin to write the turns of the batch, which have neither final messages nor chunks. The function
        that is returned waits for the end; it answers and raises as `commit` does.
        """
        assert self._begin is not None
        turns = list(batch.turns.values())
        begun = self._begin([turn.commit for turn in turns])

        def finish() -> list[bool]:
            try:
                return self._write(turns, begun)
            except REFUSALS as error:
                return self._write_alone(batch, error)

        return finish

    def _write_alone(self, batch: Batch, refusal: Exception) -> list[bool]:
        """Write each turn alone, after the store has refused the values of one."""
        groups = _groups(batch)
        if len(groups) > 1:
            log.warning("the store refused a commit, each turn is written alone: %s", refusal)
        answers: dict[str, bool] = {}
        for group in groups:
            names = [turn.head.execution_id for turn in group]
            try:
                if len(groups) > 1:
                    answers.update(zip(names, self._write(group), strict=True))
                    continue
            except REFUSALS as error:
                refusal = error
            except StoreError as error:
                if not any(answers.values()):
                    raise
                # Other turns are written already: this one and those behind it come again.
                answers.update(dict.fromkeys(names, False))
                if group[0].start is not None:
                    group[0].start.reply.fail(error)
                continue
            self._refuse(group, batch, answers, refusal)
        return [answers[name] for name in batch.turns]

    def _write(
        self, group: list[Turn], begun: Callable[[], list[bool]] | None = None
    ) -> list[bool]:
        if begun is None:
            commits = list(map(_commit_of, group))
            if not self._keeps_streams and any(commit.chunks for commit in commits):
                raise StoreRefused("it keeps no streams, and the code of a workflow writes to one")
            answers = self._store.commit(commits)
        else:
            answers = begun()
        self.counts.commits += 1
        self.counts.turns += answers.count(True)
        closed = self.closed_here
        for turn, committed in zip(group, answers, strict=True):
            if committed and (turn.closing is not None or turn.commit.execution_id in closed.ends):
                closed.committed(turn)
            if committed and (turn.closing or turn.failed or turn.head.status == "blocked"):
                self.counts.add(turn)
        return answers

    def _refuse(
        self, group: list[Turn], batch: Batch, answers: dict[str, bool], error: Exception
    ) -> None:
        """Undo a turn, with the children that it begins, and block its execution instead."""
        root, *children = group
        name = root.head.execution_id
        for turn in group:
            self._parts.turns.discard(turn)
        for child in children:
            del batch.turns[child.head.execution_id]
        reason = StoreRefused(
            f"the store cannot keep the events or messages of this turn: {error}. Use smaller values, or "
            "values of a kind that the store can keep"
        )
        if root.start is not None:
            root.start.reply.fail(reason)
            del batch.turns[name]
            return
        try:
            self._block(root.delivery, reason, batch, answers)
        except StoreError as unavailable:
            if not any(answers.values()):
                raise
            log.error("[%s] could not be blocked, and is tried again: %s", name, unavailable)
            answers[name] = False

    def _block(
        self, delivery: Delivery, reason: StoreRefused, batch: Batch, answers: dict[str, bool]
    ) -> None:
        """Block an execution, and keep its delivery if the store can."""
        name = delivery.execution_id
        for arrived in (delivery, Delivery(name)):
            turn = self._parts.turns.block(arrived, reason)
            if turn is None:
                break
            try:
                answers[name] = self._write([turn])[0]
            except REFUSALS as error:
                log.error(
                    "[%s] the store cannot keep messages that have arrived, and they are dropped: %s",
                    *(name, error),
                )
                self._drop(delivery, reason)
            else:
                batch.turns[name] = turn
                return
        self._drop(delivery, reason)
        del batch.turns[name]

    def _drop(self, delivery: Delivery, reason: StoreRefused) -> None:
        """Fail the requests of a delivery that cannot be kept, and drop its messages."""
        for request in delivery.requests:
            if isinstance(request, Waited):
                request.reply.fail(reason)
        delivery.requests.clear()
        self._heard_of(delivery.execution_id, delivery.messages)
        delivery.messages.clear()


_commit_of: Final[Callable[[Turn], Commit]] = attrgetter("commit")


def _groups(batch: Batch) -> list[list[Turn]]:
    """Return the turns in groups: each turn with those of the children that begin in it, and of theirs."""
    children = {child for turn in batch.turns.values() for child in turn.children}
    groups: list[list[Turn]] = []
    for name, turn in batch.turns.items():
        if name not in children:
            group = [turn]
            for member in group:
                group.extend(batch.turns[child] for child in member.children)
            groups.append(group)
    return groups


MOST: Final = 1_000
"""The number of executions that are remembered. Our own bound."""

LARGEST: Final = 16 * 1024
"""Characters that the events of the last turn of such an execution may take. Our own bound: 16 MiB for all
executions."""

SECONDS: Final = 5.0
"""Seconds for which the end of an execution is remembered. Meanwhile this process holds the execution, unless
it has lost its lease without knowing: then the answer is as old as a read just before that. Our own bound."""


class ClosedHere:
    """The executions that have closed here last. The thread that leads the engine changes it; any thread may
    read it.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self.ends: Final[OrderedDict[str, tuple[Settled, float]]] = OrderedDict()
        """The remembered ends, by id, each with the time until which it counts."""

    def committed(self, turn: Turn) -> None:
        """Remember the end of an execution in a committed turn, or forget it if the execution goes on."""
        name = turn.head.execution_id
        is_end = turn.closing is not None and turn.head.closed_at is not None
        if is_end and sum(map(len, turn.commit.events)) <= LARGEST:
            self.ends[name] = (Settled(turn.head, turn.closing), self._seconds() + SECONDS)
            self.ends.move_to_end(name)
            if len(self.ends) > MOST:
                self.ends.popitem(last=False)
        else:
            self.ends.pop(name, None)

    def find(self, execution_id: str) -> Settled | None:
        """Return how the execution has ended, if that is remembered."""
        found = self.ends.get(execution_id)
        return found[0] if found is not None and self._seconds() < found[1] else None

    def clear(self) -> None:
        """Forget all ends: another process may have the executions now."""
        self.ends.clear()
