"""Declare interceptors around workflows, tasks and calls of a client, and behind commits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.headers import check_headers
from mini_workflow.core.records import record
from mini_workflow.errors import UsageError
from mini_workflow.task import CurrentTask

if TYPE_CHECKING:
    from mini_workflow.core.endings import Ended
    from mini_workflow.core.run import Definition, Run

log = logging.getLogger("mini_workflow.interceptors")


class ClientCall:
    """A call of a client to an execution.

    `kind` is "start", "signal", "update", "query", "cancel", "terminate", "pause", "resume", "retry",
    "restart", "fork", "delete", or "promise". `workflow` is the name of what is started, `name` that of the
    signal, update or query; of a start, that of the message which goes with it. `count` says how many
    executions are started or deleted at once; `execution_id` is the first one.

    `headers` may be changed: a start has them recorded with the execution, a signal and an update with the
    message. Others carry none.
    """

    __slots__ = ("count", "execution_id", "headers", "kind", "name", "workflow")

    def __init__(
        self, kind: str, execution_id: str, workflow: str = "", name: str = "", count: int = 1
    ) -> None:
        self.kind = kind
        self.execution_id = execution_id
        self.workflow = workflow
        self.name = name
        self.count = count
        self.headers: dict[str, str] = {}


class WorkflowCall:
    """A call of a workflow's code: `kind` is "workflow", or "signal", "update" or "query" for a handler,
    whose `name` it is then. `headers` came with the signal or update; else they are the execution's.
    """

    __slots__ = ("_run", "headers", "kind", "name")

    def __init__(self, run: Run, kind: str, name: str, headers: dict[str, str] | None) -> None:
        self._run = run
        self.kind = kind
        self.name = name
        self.headers: dict[str, str] = dict(headers or {})

    @property
    def execution_id(self) -> str:
        """The id of the execution."""
        return self._run.execution_id

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        return self._started.workflow

    @property
    def run(self) -> int:
        """Which run this is, counted from 1."""
        return self._started.run

    @property
    def replaying(self) -> bool:
        """Whether what happens now has happened before: then nothing may be told to the outside."""
        return self._run.recorder.quiet

    @property
    def _started(self) -> events.ExecutionStarted:
        started = self._run.started
        assert started is not None
        return started


_MESSAGES: Final = ("signal", "update")
"""What goes to an execution that has headers of its own."""


class SentCall:
    """A call that a workflow's code sends to the execution `target`: `kind` is "child" or "start",
    of the workflow
    `name`, or "signal" or "update", which is called so. `execution_id` is the sender; `replaying` as in
    WorkflowCall.

    `headers` may be changed. Those of a child or a start are the execution's at first, with what the code has
    given beside, and those of a signal or an update are none. They are recorded: what a replay makes of
    them does not count. `workflow` and `run` are those of the sender, whose own headers are `received`.
    """

    __slots__ = (
        *("execution_id", "headers", "kind", "name", "received", "replaying", "run", "target"),
        "workflow",
    )

    def __init__(self, run: Run, kind: str, name: str, target: str) -> None:
        self.kind = kind
        self.name = name
        self.target = target
        started = run.started
        assert started is not None
        self.execution_id = run.execution_id
        self.workflow = started.workflow
        self.run = started.run
        self.replaying = run.recorder.quiet
        self.received: dict[str, str] = dict(run.state.headers or {})
        self.headers: dict[str, str] = {} if kind in _MESSAGES else dict(self.received)


@record
class Committed:
    """The commit of one turn of an execution, once: its `events`, in order, and how it stands
    after that. `run` is the number of the run that they belong to, `headers` are the execution's;
    `run_started_at` and `started_at` are milliseconds since the epoch, of the run and of the first one, and
    `at` is the time of the last event.

    `ended` are the attempts of tasks and the updates that have come to their end, with when they began.
    `rerun` is the number of the run with which somebody has last had the execution run again; 0 for none.
    Where it is blocked, which may be with no event, `blocked_by` is the name of the error, and of the pause
    "ExecutionPaused".
    """

    execution_id: str
    workflow: str
    run: int
    status: str
    events: Sequence[Event]
    headers: dict[str, str]
    started_at: int
    run_started_at: int
    at: int = 0
    ended: Sequence[Ended] = ()
    rerun: int = 0
    blocked_by: str = ""


class Interceptor:
    """Goes around what a runtime does: derive a class, and override what is of interest.

    The methods that return a context manager may be written as generators, with
    ``contextlib.contextmanager``. It is entered before the call and left after it, with the exception if
    there is one; it may raise another one instead, and cannot suppress one. Of several interceptors the first
    is the outermost.
    """

    def around_call(self, call: ClientCall) -> AbstractContextManager[object]:
        """Return what goes around a call of a client, on the thread that makes it. It may change
        ``call.headers``, or refuse the call by raising.
        """
        return nullcontext()

    def around_workflow(self, call: WorkflowCall) -> AbstractContextManager[object]:
        """Return what goes around the code of a workflow, in its deterministic loop: it runs again whenever
        the execution is replayed (``call.replaying`` says so), and has to do the same then. It may raise, and
        start tasks, as the code itself may.
        """
        return nullcontext()

    def sending(self, call: SentCall) -> None:
        """Change the headers of what a workflow sends. In the loop of the workflow, as `around_workflow`."""

    def around_task(self, task: CurrentTask) -> AbstractContextManager[object]:
        """Return what goes around the code of one attempt of a task, where that runs: on a thread, on an
        event loop, in another process or function. An async task may go on beside others on its thread.
        """
        return nullcontext()

    def committed(self, committed: Committed) -> None:
        """Hear of what was committed of an execution, once, and never of a replay. It is called by the engine
        and must be quick. What it raises is logged. What is committed just before the process dies is not
        told.
        """

    def flush(self) -> None:
        """Hand on what is held back: what runs here ends after this, or is frozen. It is called when a
        runtime or a client is closed, at the end of a worker process, and at the end of each invocation of a
        Lambda function. What it raises is logged.
        """


class Around:
    """Several context managers as one, the first outermost. What one of them suppresses is raised even so."""

    __slots__ = ("_entered", "_managers")

    def __init__(self, managers: Sequence[AbstractContextManager[object]]) -> None:
        self._managers = managers
        self._entered: list[AbstractContextManager[object]] = []

    def __enter__(self) -> None:
        try:
            for manager in self._managers:
                manager.__enter__()
                self._entered.append(manager)
        except BaseException as error:
            self._leave(error)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        last = self._leave(error)
        if last is not None and last is not error:
            raise last

    def _leave(self, error: BaseException | None) -> BaseException | None:
        while self._entered:
            manager = self._entered.pop()
            try:
                if error is None:
                    manager.__exit__(None, None, None)
                else:
                    manager.__exit__(type(error), error, error.__traceback__)
            except BaseException as other:
                error = other
        return error


class Interceptors:
    """The interceptors of a runtime, in their order."""

    __slots__ = ("_committed", "_each", "_flushing", "_sending", "_tasks", "_workflows")

    def __init__(self, each: Sequence[Interceptor] = ()) -> None:
        self._each: Final = each
        self._workflows: Final = _overriding(each, "around_workflow")
        self._sending: Final = _overriding(each, "sending")
        self._tasks: Final = _overriding(each, "around_task")
        self._committed: Final = _overriding(each, "committed")
        self._flushing: Final = _overriding(each, "flush")

    @classmethod
    def of(cls, given: Iterable[Interceptor]) -> Interceptors:
        """Return those that a runtime was given. Raises UsageError if one is none."""
        each = tuple(given) if isinstance(given, Iterable) else (given,)  # pyright: ignore[reportUnnecessaryIsInstance]
        for one in each:
            if not isinstance(one, Interceptor):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UsageError(
                    f"interceptors={given!r}: {one!r} is none; give a list of objects whose class "
                    "derives from mini_workflow.Interceptor"
                )
        return cls(each) if each else NO_INTERCEPTORS

    def __bool__(self) -> bool:
        return bool(self._each)

    def __iter__(self) -> Any:
        return iter(self._each)

    def around_call(self, call: ClientCall) -> AbstractContextManager[object]:
        """Return what goes around a call of a client."""
        return Around([one.around_call(call) for one in self._each])

    @property
    def around_task(self) -> Callable[[CurrentTask], AbstractContextManager[object]] | None:
        """What gives what goes around an attempt of a task; None if nothing does."""
        return self._around_task if self._tasks else None

    def _around_task(self, task: CurrentTask) -> AbstractContextManager[object]:
        return Around([one.around_task(task) for one in self._tasks])

    @property
    def hear(self) -> bool:
        """Whether any of them hears of commits."""
        return bool(self._committed)

    @property
    def stand_around(self) -> bool:
        """Whether any of them stands around the code of workflows."""
        return bool(self._workflows or self._sending)

    def committed(self, committed: Committed) -> None:
        """Tell them what was committed. Never raises."""
        for one in self._committed:
            try:
                one.committed(committed)
            except Exception:
                log.exception("[%s] an interceptor failed", committed.execution_id)

    def flush(self) -> None:
        """Have them hand on what they hold back. Never raises."""
        for one in self._flushing:
            try:
                one.flush()
            except Exception:
                log.exception("an interceptor failed")

    def definitions(self, find: Callable[[str], Any]) -> Callable[[str], Any]:
        """Return the same look-up of workflows, with interceptors around what it finds."""
        if not (self._workflows or self._sending or self._committed):
            return find
        return lambda name: InterceptedWorkflow(find(name), self)

    def around_workflow(self, call: WorkflowCall) -> AbstractContextManager[object]:
        """Return what goes around code of a workflow."""
        return Around([one.around_workflow(call) for one in self._workflows])

    def sending(self, call: SentCall) -> None:
        """Have the headers of what a workflow sends changed."""
        for one in self._sending:
            one.sending(call)


def _overriding(each: Sequence[Interceptor], method: str) -> tuple[Any, ...]:
    """Return those whose class has a method of its own."""
    return tuple(
        one for one in each if getattr(type(one), method) is not getattr(Interceptor, method)
    )


class InterceptedWorkflow:
    """A definition of a workflow with interceptors around its code."""

    __slots__ = ("_definition", "_interceptors")

    def __init__(self, definition: Definition, interceptors: Interceptors) -> None:
        self._definition = definition
        self._interceptors = interceptors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._definition, name)

    def begin(self, run: Run, args: list[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of a new run. Raises InvalidArguments."""
        code = self._definition.begin(run, args, kwargs)
        interceptors = self._interceptors
        if interceptors.hear:
            from mini_workflow.core.endings import Endings

            run.state.endings = Endings(run.recorder)
        if not interceptors.stand_around:
            return code
        hooks = run.recorder.hooks = RunHooks(run, interceptors)
        return _within(hooks.around("workflow", self._definition.name, run.state.headers), code)


async def _within(around: AbstractContextManager[object], code: Coroutine[Any, Any, Any]) -> Any:
    try:
        with around:
            return await code
    finally:
        code.close()


class RunHooks:
    """See `core.headers.Hooks`."""

    __slots__ = ("_interceptors", "_run")

    def __init__(self, run: Run, interceptors: Interceptors) -> None:
        self._run = run
        self._interceptors = interceptors

    def around(
        self, kind: str, name: str, headers: dict[str, str] | None
    ) -> AbstractContextManager[object]:
        """See `Hooks.around`."""
        if kind == "query":
            headers = self._run.state.headers
        return self._interceptors.around_workflow(WorkflowCall(self._run, kind, name, headers))

    def sending(
        self, kind: str, name: str, target: str, given: dict[str, str] | None = None
    ) -> dict[str, str] | None:
        """See `Hooks.sending`."""
        call = SentCall(self._run, kind, name, target)
        if given is not None:
            call.headers = dict(given)
        before = dict(call.headers)
        self._interceptors.sending(call)
        if call.headers == before:
            return given
        headers = check_headers(call.headers)
        return headers if kind in _MESSAGES else headers or {}


NO_INTERCEPTORS: Final = Interceptors()
