"""Make agents of pydantic-ai durable: each request to a model and each call of a tool is a task.

Give an agent a name and the capability `MiniWorkflowDurability`, and call ``agent.run(...)`` in a workflow.
The history has the answers of models and the results of tools, so that the agent continues after a crash.
Outside of a workflow the agent runs as without the capability. Needs the extra
``mini-workflow[pydantic-ai]``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, cast, get_args

from pydantic import TypeAdapter
from pydantic_ai._utils import disable_threads
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.agent.abstract import AbstractAgent
from pydantic_ai.capabilities.abstract import WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    BoundDurableOperation,
    DurabilityEngineSpec,
    DurableOperation,
    DurableOperationBackend,
    DurableOperationId,
    DurableRunContext,
    JournalOperationNamer,
    ParameterTransport,
    ParameterTransports,
    RegisteredOperationBackend,
    RoleBasedOperationConfig,
    ToolsetKind,
    conversation_id_from_run_id,
    durable_unit_scope,
    revalidate_function_call,
)
from pydantic_ai.exceptions import (
    ModelConnectionError,
    ModelServerError,
    ModelUnavailableError,
    UserError,
)
from pydantic_ai.messages import AgentStreamEvent, ModelResponseStreamEvent
from pydantic_ai.models import Model
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import RunContext

from mini_workflow.context import Context
from mini_workflow.errors import UsageError
from mini_workflow.integrations.agent_messages import Messages
from mini_workflow.integrations.agent_tasks import (
    TOOL,
    Agents,
    Sent,
    TaskOptions,
    is_transient_status,
    model_options,
    module_of_caller,
    running_workflow,
    with_asked_wait,
)
from mini_workflow.task import current_task
from mini_workflow.workflow import current_workflow

try:
    from pydantic_ai.durable_exec import replay_scope
except ImportError:  # before 2.68
    replay_scope = None

KEY: Final = "mini_workflow"
"""The key of a tool's metadata with its `TaskOptions`, or False for a tool that runs in the workflow."""


def is_transient(error: Exception) -> bool:
    """Return whether a request to a model is to be made again: it got no answer, or the status 408, 409, 429,
    or 500 and above.
    """
    if isinstance(error, (ModelConnectionError, ModelUnavailableError, ModelServerError)):
        return True
    return is_transient_status(error)


MODEL: Final[TaskOptions] = model_options(is_transient)
"""The default options of requests to models."""

MESSAGES: Final = "messages"
"""The field of an operation's parameters that is a conversation."""

AGENTS: Final[Agents[MiniWorkflowDurability]] = Agents("MiniWorkflowDurability")


class MiniWorkflowDurability(BaseDurabilityCapability[Any]):
    """A capability that makes an agent durable in a workflow. Give it to ``Agent(capabilities=[...])``.

    The agent has to be made at the top level of a module which workers import too, and to have a name of its
    own. Histories contain the names of agents, toolsets and models, so that a changed name is changed code.

    Args:
        models: models beside the agent's own, by id, for ``agent.run(model=...)``.
        event_stream_handler: gets the events of a run; those of a model as they come, in the task.
        name: the agent's name in histories; by default the agent's own.
        model: options of requests to models, added to `MODEL`.
        tools: options of tools, added to `TOOL`. A tool's own ``metadata={"mini_workflow": {...}}`` is added
            to these, and ``{"mini_workflow": False}`` runs an asynchronous tool in the workflow.
        events: options of the tasks that call the event handler.
        stream: the name of a stream of the execution that gets the events of a run; read them by
            `event_of`. The events of a model are written while it answers.
    """

    engine_spec: ClassVar[DurabilityEngineSpec] = DurabilityEngineSpec(
        engine_name="mini-workflow",
        durable_unit_noun="task",
        durable_container_noun="workflow",
        codec=JSON_CODEC,
        serialization_failure=lambda error: UserError(
            f"the result of a tool or a model cannot be stored: {error}"
        ),
        toolset_lifecycles={
            "function": "enter-outside-durable",
            "mcp": "enter-outside-durable",
            "dynamic": "enter-never",
        },
        tool_config_key=KEY,
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[Any] | None = None,
        name: str | None = None,
        model: TaskOptions | None = None,
        tools: TaskOptions | None = None,
        events: TaskOptions | None = None,
        stream: str | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._model_options: TaskOptions = {**MODEL, **(model or {})}
        self._tool_options: TaskOptions = {**TOOL, **(tools or {})}
        self._event_options: TaskOptions = events or {}
        self._stream = stream
        self.module = module_of_caller(1)
        """The module that makes the agent, which workers import."""
        self._operations: _Operations | None = None

    # The interface of pydantic-ai

    def _bind_to_agent(self, agent: AbstractAgent[Any, Any]) -> None:
        self._operations = _Operations(self)
        if self._event_stream_handler is not None:
            self._bound_event_operation = self._bind_event_operation(self._operations)
        self._register_toolsets(agent)
        AGENTS.add(self.name, self)

    def get_durable_operation_backend(self) -> DurableOperationBackend[TaskOptions]:
        """Return the backend that runs the operations of the agent as tasks."""
        assert self._operations is not None
        return self._operations

    @property
    def operations(self) -> _Operations:
        """The operations that the agent runs as tasks."""
        assert self._operations is not None
        return self._operations

    def options(self, role: Literal["model", "event", "tool"]) -> TaskOptions:
        """Return the options of the tasks of a kind."""
        return {
            "model": self._model_options,
            "event": self._event_options,
            "tool": self._tool_options,
        }[role]

    def tool_options(
        self, operation: DurableOperationId, tool: object | None, name: str
    ) -> TaskOptions | Literal[False]:
        """Return the options of a tool with those of its metadata; False if it runs in the workflow itself.

        Raises UserError if the metadata has an option that tasks do not have.
        """
        found = self._build_resolve_tool_config(self._tool_options)(cast(Any, tool), name)
        if found is False:
            return False
        unknown = set(found) - set(TaskOptions.__annotations__)
        if unknown:
            raise UserError(
                f"tool {name!r}: metadata {KEY!r} has {min(unknown)!r}, which is no option of a task; "
                f"give one of {', '.join(TaskOptions.__annotations__)}"
            )
        return cast("TaskOptions", found)

    def _toolset_base_config(self, kind: ToolsetKind) -> TaskOptions:
        return self._tool_options

    @property
    def in_durable_context(self) -> bool:
        """Whether the calling code is that of a workflow."""
        return running_workflow() is not None

    def get_default_run_id(self) -> str | None:
        """Return an id for a run of the agent, which is the same in a replay."""
        context = running_workflow()
        return None if context is None else str(context.uuid4())

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Return the id of a conversation, which is the same in a replay."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    async def get_run_start_time(self, run_id: str) -> datetime | None:
        """Return the time of the workflow, at which a run's timeout begins."""
        context = running_workflow()
        return None if context is None else context.now()

    async def wrap_run(
        self, ctx: RunContext[Any], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        """Run the agent so that a replay repeats it: without threads, with durable waits, each span once."""
        context = running_workflow()
        if context is None:
            return await handler()
        with (
            disable_threads(),
            AbstractAgent.using_sleep(context.sleep),
            _spans_once(context),
        ):
            return await super().wrap_run(ctx, handler=handler)

    # Events, to a stream of the execution

    @property
    def has_wrap_run_event_stream(self) -> bool:
        """Whether the events of a run go to a stream or a handler."""
        streamed = self._stream is not None and self.in_durable_context
        return streamed or super().has_wrap_run_event_stream

    def _model_stream_event_handler(self) -> EventStreamHandler[Any] | None:
        handler = super()._model_stream_event_handler()
        return handler if self._stream is None else _streaming(self._stream, handler)

    async def wrap_run_event_stream(
        self, ctx: RunContext[Any], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterator[AgentStreamEvent]:
        """Write the events of the run itself to the stream; those of the model were written in its task."""
        events = super().wrap_run_event_stream(ctx, stream=stream)
        context = None if self._stream is None else running_workflow()
        async for event in events:
            if context is not None and not isinstance(event, _OF_MODEL):
                context.stream(self._stream or "").write(_EVENTS.dump_python(event, mode="json"))
            yield event


def _spans_once(context: Context) -> AbstractContextManager[None]:
    """Return a context manager in which a replay writes no spans, if this release of pydantic-ai has one."""
    if replay_scope is None:
        return nullcontext()
    return replay_scope(is_replaying=lambda: context.replaying)


_OF_MODEL: Final[tuple[type, ...]] = get_args(get_args(ModelResponseStreamEvent)[0])
"""The events of a model's answer, which the task of the request writes."""

_EVENTS: Final[TypeAdapter[AgentStreamEvent]] = TypeAdapter(AgentStreamEvent)


def event_of(value: Any) -> AgentStreamEvent:
    """Return the event in a chunk's value. Raises pydantic's ValidationError if the value is no event."""
    return _EVENTS.validate_python(value)


def _streaming(name: str, handler: EventStreamHandler[Any] | None) -> EventStreamHandler[Any]:
    """Return a handler that writes the events of a model to a stream of the task, and passes them on."""

    async def handle(ctx: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        stream = current_task().stream(name)

        async def written() -> AsyncIterator[AgentStreamEvent]:
            async for event in events:
                stream.write(_EVENTS.dump_python(event, mode="json"))
                yield event

        if handler is not None:
            await handler(ctx, written())
        else:
            async for _ in written():
                pass

    return handle


class _Bound(BoundDurableOperation[Any, Any, Any]):
    """An operation of an agent, which is called in the workflow and runs in a task."""

    def __init__(
        self,
        durability: MiniWorkflowDurability,
        name: str,
        namer: JournalOperationNamer,
        operation: DurableOperation[Any, Any, Any],
        options: TaskOptions,
    ) -> None:
        self._durability = durability
        self._name = name
        self._namer = namer
        self._operation = operation
        self._options = options

    @property
    def operation(self) -> DurableOperation[Any, Any, Any]:
        return self._operation

    async def __call__(self, params: Any, *, config: object | None = None) -> Any:
        options = cast("TaskOptions", config) if config else self._options
        label = self._operation.invocation_label
        shown = self._namer.invocation_name(
            self._operation.operation_id, label=None if label is None else label(params)
        )
        sent = self._operation.parameter_transport.dump(params)
        earlier = getattr(params, MESSAGES, None)
        messages = None if earlier is None else Messages(earlier)
        payload = await current_workflow().task(
            run_unit,
            self._durability.name,
            self._name,
            Sent((self._durability.module, sent), messages),
            name=shown.operation_name[:100],
            **cast("dict[str, Any]", options),
        )
        return self._operation.result_codec.load(payload)


class _Operations(RegisteredOperationBackend[TaskOptions]):
    """The operations of an agent, by their names in histories."""

    def __init__(self, durability: MiniWorkflowDurability) -> None:
        self._durability = durability
        namer = JournalOperationNamer(durability.name)
        super().__init__(
            namer=namer,
            config=RoleBasedOperationConfig(
                model=durability.options("model"),
                event=durability.options("event"),
                capability=durability.options("tool"),
                tool=durability.options("tool"),
                resolve_tool=durability.tool_options,
            ),
            parameter_transports=_Transports(durability),
        )
        self._journal = namer
        self.by_name: dict[str, DurableOperation[Any, Any, Any]] = {}

    def register(
        self, operation: DurableOperation[Any, Any, Any], *, name: str, config: TaskOptions
    ) -> tuple[BoundDurableOperation[Any, Any, Any], Sequence[Any]]:
        """Keep an operation by its name, for the tasks that run it."""
        self.by_name[name] = operation
        return _Bound(self._durability, name, self._journal, operation, config), ()


async def run_unit(agent: str, operation: str, wire: Sent) -> Any:
    """Run an operation of an agent, in a task."""
    module, content = wire.content
    durability = AGENTS.find(agent, module)
    found = durability.operations.by_name.get(operation)
    if found is None:
        raise UsageError(
            f"agent {agent!r} has no operation {operation!r} in this process: its toolsets and models have "
            "changed; deploy the same code to workflows and workers"
        )
    if wire.messages is not None:
        content[1][MESSAGES] = wire.messages
    params = found.parameter_transport.load(content, runtime=durability)
    with durable_unit_scope(), with_asked_wait():
        return found.result_codec.dump(await found.handler(params))


class _AcrossProcesses(ParameterTransport[Any, Any]):
    """Takes the parameters of an operation to another process. The context of a run is rebuilt there; the
    rest is sent as it is.
    """

    def __init__(self, durability: MiniWorkflowDurability) -> None:
        self._durability = durability

    def dump(self, params: Any) -> Any:
        """Return the parameters as they are sent."""
        sent: dict[str, Any] = {}
        for field in dataclasses.fields(params):
            value = getattr(params, field.name)
            if isinstance(value, RunContext):
                known = cast("RunContext[Any]", value)
                sent[field.name] = (DurableRunContext.serialize_run_context(known), known.deps)
            elif field.name not in ("tool", MESSAGES):  # found by its name; sent separately
                sent[field.name] = value
        return type(params), sent

    def load(self, payload: Any, *, runtime: object) -> Any:
        """Return the parameters that `dump` has sent."""
        kind, sent = payload
        given = dict(sent)
        names = {field.name for field in dataclasses.fields(kind)}
        for name in names & {"run_context", "ctx"}:
            if given.get(name) is not None:
                known, deps = given[name]
                given[name] = DurableRunContext.restore(
                    known,
                    deps=deps,
                    agent=self._durability.agent,
                    engine_spec=self._durability.engine_spec,
                )
        if "tool" in names:
            given["tool"] = None
        return kind(**given)


class _CallOfServer(ParameterTransport[Any, Any]):
    """Takes the call of a tool of an MCP server, which is found by its definition."""

    def __init__(self, way: _AcrossProcesses, toolset: Any) -> None:
        self._way = way
        self._toolset = toolset

    def dump(self, params: Any) -> Any:
        return params.tool.tool_def, self._way.dump(params)

    def load(self, payload: Any, *, runtime: object) -> Any:
        definition, sent = payload
        params = self._way.load(sent, runtime=runtime)
        tool = self._toolset.tool_for_tool_def(definition, ctx=params.ctx)
        return dataclasses.replace(params, tool=tool)


class _Transports(ParameterTransports):
    """The transports of all operations; nearly all of them share one."""

    def __init__(self, durability: MiniWorkflowDurability) -> None:
        self._durability = durability
        self._way = _AcrossProcesses(durability)

    def model_request(self, result_type: object) -> ParameterTransport[Any, Any]:
        return self._way

    def compact_messages(self) -> ParameterTransport[Any, Any]:
        return self._way

    def cancel_suspended_response(self) -> ParameterTransport[Any, Any]:
        return self._way

    def event_stream_handler(self) -> ParameterTransport[Any, Any]:
        return self._way

    def capability_operation(self, declaration: Any) -> ParameterTransport[Any, Any]:
        return self._way

    def workspace_call(self) -> ParameterTransport[Any, Any]:
        return self._way

    def function_call(self, toolset: Any) -> ParameterTransport[Any, Any]:
        return self._way

    async def prepare_function_call(self, toolset: Any, params: Any) -> Any:
        return await revalidate_function_call(
            toolset, params, engine_spec=MiniWorkflowDurability.engine_spec
        )

    def mcp_call(self, toolset: Any) -> ParameterTransport[Any, Any]:
        return _CallOfServer(self._way, toolset)

    def get_tools(self, toolset: Any) -> ParameterTransport[Any, Any]:
        return self._way

    def get_instructions(self, toolset: Any) -> ParameterTransport[Any, Any]:
        return self._way

    def dynamic_get_tools(self, toolset: Any) -> ParameterTransport[Any, Any]:
        return self._way

    def dynamic_call(self, toolset: Any) -> ParameterTransport[Any, Any]:
        return self._way


__all__ = [
    "KEY",
    "MODEL",
    "TOOL",
    "MiniWorkflowDurability",
    "TaskOptions",
    "event_of",
    "is_transient",
]
