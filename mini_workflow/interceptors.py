"""Declare interceptors around workflows, tasks and calls of a client, and observers of commits."""

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
    "restart", "fork", "delete", or "promise". `workflow` is the name of the workflow that is started.
    `name` is the name of the signal, update or query; for a start, that of the message which goes with it.
    `count` is the number of executions that are started or deleted at once, of which `execution_id` is the
    first.

    `headers` may be changed. A start records them with the execution, a signal or update with the message.
    Other calls carry none.
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
    """A call of a workflow's code. `kind` is "workflow", or "signal", "update" or "query" for the handler of
    the message `name`. `headers` came with the signal or update; otherwise they are the execution's.
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
        """The number of the run, counted from 1."""
        return self._started.run

    @property
    def replaying(self) -> bool:
        """Whether the code is being replayed. Then an interceptor must have no effects outside."""
        return self._run.recorder.quiet

    @property
    def _started(self) -> events.ExecutionStarted:
        started = self._run.started
        assert started is not None
        return started


_MESSAGES: Final = ("signal", "update")
"""The kinds of messages whose target has headers of its own."""


class SentCall:
    """A message that a workflow's code sends to the execution `target`. `kind` is "child" or "start" (`name`
    is the workflow), or "signal" or "update" (`name` is that of the message). `execution_id` is the sender;
    `replaying` is as in WorkflowCall.

    `headers` may be changed. For a child or a start they are at first the headers of the sender and those
    that the code has given, for a signal or an update none. They are recorded, so that changes in a replay
    have no effect. `workflow` and `run` are those of the sender, whose own headers are `received`.
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
    """The commit of one turn of an execution: its `events` in order, and the `status` of the execution after
    them. `run` is the number of their run, and `headers` are the execution's. `started_at` and
    `run_started_at` are the starts of the first run and of this one, and `at` is the time of the last
    event, in milliseconds since the epoch.

    `ended` are the attempts of tasks and the updates that have ended, with their begin. `rerun` is the
    number of the last run that somebody asked for by a retry or restart; 0 for none. If the execution is
    blocked, perhaps without an event, `blocked_by` is the class of the error; for a pause
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
    """Base class of interceptors. Derive a class from it, and override the methods that you need.

    The methods that return a context manager may be written as generators, with
    ``contextlib.contextmanager``. The context manager is entered before the call and left after it, with
    the exception of the call if there is one. It may raise another exception instead, but cannot suppress
    one. Of several interceptors the first is the outermost.
    """

    def around_call(self, call: ClientCall) -> AbstractContextManager[object]:
        """Return the context manager around a call of a client, on the calling thread. It may change
        ``call.headers``, or refuse the call by an exception.
        """
        return nullcontext()

    def around_workflow(self, call: WorkflowCall) -> AbstractContextManager[object]:
        """Return the context manager around the code of a workflow, in its deterministic loop. It runs again
        in each replay (``call.replaying``), and must then behave in the same way. It may raise, and start
        tasks, as the code itself may.
        """
        return nullcontext()

    def sending(self, call: SentCall) -> None:
        """Change the headers of a message that a workflow sends, in its loop, like `around_workflow`."""

    def around_task(self, task: CurrentTask) -> AbstractContextManager[object]:
        """Return the context manager around the code of one attempt of a task, in the place where it runs: on
        a thread, on an event loop, in another process or function. Several async tasks may run on one
        thread at a time.
        """
        return nullcontext()

    def committed(self, committed: Committed) -> None:
        """Observe a commit of an execution. The engine calls the method once for each commit, never in a
        replay, and not for a commit just before the process dies. The method must be quick. Its exceptions
        are logged.
        """

    def flush(self) -> None:
        """Write buffered data, because this process ends or is frozen afterwards. The method is called when a
        runtime or a client is closed, at the end of a worker process, and at the end of each invocation of
        a Lambda function. Its exceptions are logged.
        """


class Around:
    """Several context managers as one, the first outermost. None of them can suppress an exception."""

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
        """Return the interceptors of a runtime. Raises UsageError if an object is no Interceptor."""
        each = tuple(given) if isinstance(given, Iterable) else (given,)  # pyright: ignore[reportUnnecessaryIsInstance]
        for interceptor in each:
            if not isinstance(interceptor, Interceptor):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UsageError(
                    f"interceptors={given!r}: {interceptor!r} is not an interceptor; give a list of "
                    "objects whose class derives from mini_workflow.Interceptor"
                )
        return cls(each) if each else NO_INTERCEPTORS

    def __bool__(self) -> bool:
        return bool(self._each)

    def __iter__(self) -> Any:
        return iter(self._each)

    def around_call(self, call: ClientCall) -> AbstractContextManager[object]:
        """Return the context manager around a call of a client."""
        return Around([interceptor.around_call(call) for interceptor in self._each])

    @property
    def around_task(self) -> Callable[[CurrentTask], AbstractContextManager[object]] | None:
        """The function that returns the context manager around an attempt of a task; None for none."""
        return self._around_task if self._tasks else None

    def _around_task(self, task: CurrentTask) -> AbstractContextManager[object]:
        return Around([interceptor.around_task(task) for interceptor in self._tasks])

    @property
    def hear(self) -> bool:
        """Whether any interceptor observes commits."""
        return bool(self._committed)

    @property
    def stand_around(self) -> bool:
        """Whether any interceptor stands around the code of workflows, or changes headers of messages."""
        return bool(self._workflows or self._sending)

    def committed(self, committed: Committed) -> None:
        """Tell the interceptors of a commit. Never raises."""
        for interceptor in self._committed:
            try:
                interceptor.committed(committed)
            except Exception:
                log.exception("[%s] an interceptor failed", committed.execution_id)

    def flush(self) -> None:
        """Have the interceptors write their buffered data. Never raises."""
        for interceptor in self._flushing:
            try:
                interceptor.flush()
            except Exception:
                log.exception("an interceptor failed")

    def definitions(self, find: Callable[[str], Any]) -> Callable[[str], Any]:
        """Return a look-up like `find`, whose workflows have the interceptors around their code."""
        if not (self._workflows or self._sending or self._committed):
            return find
        return lambda name: InterceptedWorkflow(find(name), self)

    def around_workflow(self, call: WorkflowCall) -> AbstractContextManager[object]:
        """Return the context manager around code of a workflow."""
        return Around([interceptor.around_workflow(call) for interceptor in self._workflows])

    def sending(self, call: SentCall) -> None:
        """Have the interceptors change the headers of a message that a workflow sends."""
        for interceptor in self._sending:
            interceptor.sending(call)


def _overriding(each: Sequence[Interceptor], method: str) -> tuple[Any, ...]:
    """Return the interceptors whose class overrides the method."""
    inherited = getattr(Interceptor, method)
    return tuple(given for given in each if getattr(type(given), method) is not inherited)


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
