"""Follow and control an execution from outside, by its handle."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event
from mini_workflow.core.records import frozen, replace
from mini_workflow.durations import seconds
from mini_workflow.errors import (
    ExecutionBlocked,
    ExecutionCancelled,
    ExecutionPaused,
    ExecutionTerminated,
    MiniWorkflowError,
    StoreCorrupt,
    WireError,
)
from mini_workflow.ports import Head

if TYPE_CHECKING:
    from mini_workflow.core.history import History
    from mini_workflow.engine.client import Client
    from mini_workflow.engine.description import Description
    from mini_workflow.engine.open_promises import OpenPromise
    from mini_workflow.engine.recording import Recording
    from mini_workflow.engine.streams import ExecutionStream
    from mini_workflow.engine.timeline import Reader, Timeline
    from mini_workflow.engine.updates import UpdateHandle


R_co = TypeVar("R_co", covariant=True)


@frozen
class Settled:
    """An execution that has closed or is blocked, with its closing event where that is known."""

    head: Head
    closing: Event | None = None


class Execution(Generic[R_co]):
    """One durable execution. Handles are cheap; any number may exist for the same execution."""

    __slots__ = ("_codec", "_client", "_settled", "id")

    def __init__(
        self, execution_id: str, client: Client, codec: Codec, settled: Settled | None = None
    ) -> None:
        self.id = execution_id
        self._client = client
        self._codec = codec.for_execution(execution_id)
        self._settled = settled

    def result(self, timeout: float | timedelta | None = None) -> R_co:
        """Wait for the workflow's result, for at most `timeout` seconds (or a timedelta).

        In asynchronous code ``await execution`` does the same without blocking the loop.

        Raises:
            TimeoutError: it is still running after `timeout` seconds; call again to wait on.
            ExecutionBlocked: it cannot go on; the message says why. Raised at once.
            ExecutionCancelled, ExecutionTerminated: it ended that way.
            ExecutionFailed: the workflow failed with an exception that cannot be rebuilt here;
                otherwise that exception itself is raised.
            RuntimeClosed: the runtime was closed meanwhile.
        """
        limit = None if timeout is None else seconds(timeout)
        settled = self._settled or self._client.wait(self.id, limit)
        return self.result_of(settled)

    def __await__(self) -> Generator[Any, None, R_co]:
        return self._result_async().__await__()

    async def _result_async(self) -> R_co:
        return self.result_of(await self.settled())

    async def settled(self) -> Settled:
        """Wait on the running event loop until it has closed or is blocked."""
        return self._settled or await self._client.wait_async(self.id)

    def describe(self) -> Description:
        """Return a description of the execution as of now. Raises ExecutionNotFound.

        Operations that are open beside the one that the code awaits (the further `waits`, maps in `progress`,
        a cancellation) are in the history alone. So the first description of a running execution in a process
        may read the whole run, and each later one only the new events. `list_executions` reads no history.
        """
        from mini_workflow.engine.activity import Activity
        from mini_workflow.engine.description import described

        head = self._client.head(self.id)
        (one,) = self._client.described([head])
        looks = self._client.looks
        try:
            started = looks.started(self.id)
            closing = looks.closing(self.id) if head.status == "failed" else None
            activity = looks.activity(head, self._codec)
        except (WireError, StoreCorrupt):
            return replace(one, activity=Activity.of(head))
        if started is None:
            return replace(one, activity=activity)
        return described(one, started, closing or started, activity, self._codec)

    def history(self) -> History:
        """Return all events so far, in order. Raises ExecutionNotFound."""
        return self._client.history(self.id)

    def timeline(self, *, trust: bool = False) -> Timeline:
        """Return all events so far as people read them: with times, durations and values.

        Reading it runs no code from the store, and imports nothing by a stored name: an object of a user's
        class appears as the class's name and fields, an exception that is not one of Python's as a
        TaskError. With `trust` every value is loaded as itself; only do that where you trust
        everybody who can write to the store. A value that cannot be decoded appears as `Unreadable`.
        The entry of a running attempt's start has its last heartbeat. Raises ExecutionNotFound.
        """
        from mini_workflow.engine.timeline import Timeline

        history = self.history()
        tasks = history.state().tasks.items()
        running = {seq: task.attempt for seq, task in tasks if task.in_flight}
        beats = self._client.looks.heartbeats(self.id, running)
        return Timeline.of(history, self._codec, trust=trust).with_heartbeats(beats, self._codec)

    @property
    def codec(self) -> Codec:
        """The codec of its values, with the runtime's signing key if it has one."""
        return self._codec

    def reader(self, *, trust: bool = False) -> Reader:
        """Make entries of a timeline from events as they come, one at a time."""
        from mini_workflow.engine.timeline import Reader

        return Reader(self._codec, trust=trust)

    def recording(self) -> Recording:
        """Return a recording, by which the execution can be replayed elsewhere; `to_plain` makes JSON of it.

        Raises ExecutionNotFound, or WireError if the history cannot be read.
        """
        from mini_workflow.engine.recording import Recording

        return Recording.from_stored(self._client.stored(self.id))

    def stream(self, name: str, after: int = 0) -> ExecutionStream:
        """Return a stream that the execution and its tasks write to, to be read behind the offset
        `after`: ``for chunk in execution.stream("tokens"): print(chunk.value)``.

        Raises InvalidIdentifier, and UsageError if `after` is no offset.
        """
        from mini_workflow.engine.streams import ExecutionStream

        return ExecutionStream(self.id, name, after, self._client, self._codec)

    def stream_names(self) -> list[str]:
        """Return the names of the streams that have chunks, in order."""
        return self._client.stream_names(self.id)

    def signal(self, name: str, value: Any = None, *, by: str = "") -> None:
        """Send a signal; when this returns, it survives a crash. `by` says who sends it, and is recorded.

        Raises:
            ExecutionNotFound, ExecutionClosed: there is no open execution to receive it.
            MailboxFull: on AWS, the execution gets messages faster than it takes them.
            ValueNotSerializable: the value cannot be sent.
        """
        self._client.signal(self.id, name, value, by)

    def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Query the workflow, also one that has closed or is blocked.

        Raises:
            UnknownHandler: it answers no such query; the message lists those it does.
            NotAllowedInWorkflow: its handler tried to start or change something.
            NonDeterminismError: the history no longer fits the code; the message names the line.
            Exception: whatever the handler raises.
        """
        return self._client.query(self.id, name, args, kwargs)

    def update(
        self,
        name: str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002 - the API's own word
        timeout: float | timedelta | None = None,
        asked_by: str = "",
        **kwargs: Any,
    ) -> Any:
        """Have the workflow handle a request, and wait for its answer.

        Args:
            name: the update's name.
            *args: its arguments.
            **kwargs: its arguments by name.
            id: the same id again is the same request: it is handled once, and answered again.
            timeout: seconds (or a timedelta) to wait; the request goes on all the same.
            asked_by: who asks, which is recorded; `by` may be an argument of the update's own.

        Raises:
            UnknownHandler: it handles no such update; the message lists those it does.
            ExecutionNotFound, ExecutionClosed: there is no open execution to handle it.
            TimeoutError: it is not done after `timeout` seconds.
            Exception: whatever the validator or the handler raises.
        """
        limit = None if timeout is None else seconds(timeout)
        return self._client.updates.ask(self.id, name, args, kwargs, id, limit, asked_by)

    def start_update(
        self,
        name: str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        timeout: float | timedelta | None = None,
        asked_by: str = "",
        **kwargs: Any,
    ) -> UpdateHandle:
        """Have the workflow accept a request; ``.result()`` of the handle waits for its answer.

        When this returns, the update survives a crash, and any process may ask for its answer later,
        by its id: see `get_update`. `timeout` are the seconds to wait until it is accepted. Raises the
        errors of `update`, without those of the handler.
        """
        limit = None if timeout is None else seconds(timeout)
        return self._client.updates.start(self, name, args, kwargs, id, limit, asked_by)

    def get_update(self, id: str) -> UpdateHandle:  # noqa: A002
        """Return a handle to an update that was accepted, by its id. Raises UpdateNotFound."""
        return self._client.updates.get(self, id)

    def cancel(self, reason: str = "", *, by: str = "") -> None:
        """Ask the execution to cancel itself: `asyncio.CancelledError` is raised where it waits. `by` says
        who asks, and is recorded.

        It may catch that, clean up with tasks, and even complete. A second request changes
        nothing. Raises ExecutionNotFound, or ExecutionClosed if it has ended before.
        """
        self._client.cancel(self.id, reason, by)

    def terminate(self, reason: str = "", *, by: str = "") -> None:
        """End the execution at once, without running any of its code. `by` says who asks, and is recorded.

        Raises ExecutionNotFound, or ExecutionClosed if it has ended before.
        """
        self._client.terminate(self.id, reason, by)

    def resume(self, *, by: str = "") -> None:
        """Let a blocked execution go on, after the cause has been fixed, or a paused one. A running execution
        goes on too if a message to it was lost: attempts that are overdue, or that nobody runs any more,
        fail with WorkerLost at once, and messages that its children and other executions have not got are
        sent again. Without effect where nothing is missing. `by` says who asks, which is logged.

        Raises ExecutionNotFound, or ExecutionClosed if it has ended.
        """
        self._client.resume(self.id, by)

    def retry(self, *, by: str = "") -> None:
        """Have an execution that has failed, or was cancelled or terminated, go on from its last good
        point, in a new run: failed tasks are run again, and finished ones stay finished. When
        this returns, the request survives a crash.

        It goes on before the failure of the task (or of the child, which is retried too) that its own
        failure comes from, before the request to cancel it, or before its termination; if its code
        itself has raised, before the turn in which it did. Tasks that were taken back by their ``undo``
        are run again. An execution that runs again already is left alone. `by` says who asks, and is
        recorded.

        Raises ExecutionNotFound, ExecutionNotClosed, or ExecutionClosed if it has completed.
        """
        self._client.again.ask(self.id, "retry", by)
        self._settled = None

    def restart(self, *, by: str = "") -> None:
        """Have an execution that has closed begin anew, with the arguments that it was started with, in
        a new run. When this returns, it survives a crash. `by` says who asks, and is recorded.

        Raises ExecutionNotFound or ExecutionNotClosed, or UsageError if an older version has not
        recorded its arguments.
        """
        self._client.again.ask(self.id, "restart", by)
        self._settled = None

    def delete(self, reason: str = "", *, by: str = "") -> None:
        """Delete an execution that has closed: its history, its tags and the messages to it. Its children
        stay. When this returns it is gone, and its id can be used again at once; to keep what it was,
        save its `recording` before. Nothing of it stays in the store: the `reason`, and `by`, who asks for
        it, are logged at INFO with its id.

        Raises ExecutionNotFound, or ExecutionNotClosed if it runs or is blocked, or was run again
        meanwhile: then nothing was deleted. Raises TimeoutError if another process has it and has not deleted
        it within 60 s; it does so once it works again.
        """
        self._client.delete_execution(self.id, reason, by=by)
        self._settled = None

    def fork(
        self,
        *,
        before: str | int | None = None,
        at: int | None = None,
        id: str | None = None,  # noqa: A002 - the API's own word
        patch: Mapping[str | int, Any] | None = None,
        by: str = "",
    ) -> Execution[R_co]:
        """Begin a new execution with the first events of this one, open or closed, and go on from there with
        today's code. This one stays as it is. When this returns, the new one survives a crash.

        Its code runs through these events first, here, and the fork is refused if it does not fit them.
        Finished operations stay finished: recorded results are taken, and no such task runs again. What was
        open at the cut is begun anew: a task is made again, with all its attempts; a child is started again
        under a new id, as is what its code had asked of other executions; a timer ends at its time,
        at once if that has passed; a deadline is as far away as it was at first. A promise has a new token:
        see `open_promises`. An update that was being handled is handled again, and its answer is for nobody.
        Messages behind the cut are not there: signals, updates and requests to cancel have to be
        sent again. Only events of the present run count: see ``describe().run``.

        Args:
            before: the name, or the number, of a task, child, promise, signal, update or other operation
                (a timer is called "timer"): what stands before it is kept.
            at: how many events are kept instead, as `timeline` numbers them.
            id: the id of the new execution; by default it is made of the id of this one.
            patch: other results of tasks and children that ended before the cut, by name or number, also
                of those that failed: ``{"charge": 7}``. The code must do the same with them up to the cut.
            by: who asks, which is recorded.

        Raises:
            UsageError: nothing has that name, or more than one; the message lists what there is.
            NonDeterminismError: today's code, or the code with the other results, does not fit the events.
            UnknownWorkflow: the workflow is not registered here.
            ExecutionAlreadyExists: the id is taken.
            ExecutionNotFound: there is no such execution.
        """
        made = self._client.forks.make(self.id, before, at, id, patch or {}, by)
        return Execution(made, self._client, self._codec)

    def open_promises(self) -> list[OpenPromise]:
        """Return the promises that wait to be completed, with their tokens. Raises ExecutionNotFound."""
        return self._client.forks.open_promises(self.id)

    def pause(self, why: str = "", *, by: str = "") -> None:
        """Have no code of the execution run, and no task begin, until `resume` is called. Messages that
        arrive meanwhile are kept; attempts that have begun run on, and timers that come due wait. The
        execution counts as blocked, and `describe` says why, and `by` whom.

        Raises ExecutionNotFound, or ExecutionClosed if it has ended.
        """
        self._client.pause(self.id, why, by)

    def __repr__(self) -> str:
        return f"<execution {self.id!r}>"

    def _repr_html_(self) -> str:
        """Return its description in a sentence, and its timeline as a picture, for notebooks."""
        from mini_workflow.engine.picture.html import html_of, html_of_text

        try:
            one = self.describe()
            return html_of(self.timeline(), f"{self.id}: {one.sentence(datetime.now(UTC))}")
        except MiniWorkflowError as error:  # it was deleted, or the runtime is closed
            return html_of_text(f"{self!r}: {error}")

    def result_of(self, settled: Settled) -> Any:
        """Return the result of a settled execution. Raises the errors of `result`."""
        if settled.head.blocked_kind == ExecutionPaused.__name__:
            why = (settled.head.blocked_reason or "").partition(": ")[2]
            raise ExecutionPaused(
                f"execution {self.id!r} is paused{_because(why)}. Call resume() to continue",
                execution_id=self.id,
            )
        if settled.head.status == "blocked":
            raise ExecutionBlocked(
                f"execution {self.id!r} is blocked: {settled.head.blocked_reason}. Fix the cause, "
                "then call resume() to continue",
                execution_id=self.id,
            )
        closing = settled.closing or self._client.closing(self.id)
        self._settled = settled if settled.closing is closing else Settled(settled.head, closing)
        if isinstance(closing, events.ExecutionCompleted):
            return self._codec.decode(closing.result)
        if isinstance(closing, events.ExecutionFailed):
            from mini_workflow.core.asks import failure_of_result

            raise failure_of_result(self._codec, closing.failure, self.id)
        if isinstance(closing, events.ExecutionTerminated):
            raise ExecutionTerminated(
                f"execution {self.id!r} was terminated{_because(closing.reason)}",
                execution_id=self.id,
            )
        reason = closing.reason if isinstance(closing, events.ExecutionCancelled) else ""
        raise ExecutionCancelled(
            f"execution {self.id!r} was cancelled{_because(reason)}", execution_id=self.id
        )


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
