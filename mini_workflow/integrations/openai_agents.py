"""Make agents of the OpenAI Agents SDK durable: each request to a model and each call of a tool is a task.

Pass an agent to `make_durable`, and run it with `DurableRunner` in a workflow. The history has the answers
of models and the results of tools, so that the agent continues after a crash. Outside of a workflow the
agent runs as before. Needs the extra ``mini-workflow[openai-agents]``.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

from agents import (
    Agent,
    AgentOutputSchema,
    AgentOutputSchemaBase,
    FunctionTool,
    Handoff,
    ModelBehaviorError,
    ModelResponse,
    ModelSettings,
    MultiProvider,
    RunConfig,
    Runner,
    RunResult,
    RunState,
    Tool,
    TResponseInputItem,
    Usage,
    function_span,
    handoff,
    trace,
)
from agents.items import TResponseStreamEvent
from agents.memory import Session, SessionABC
from agents.models.interface import Model, ModelProvider, ModelTracing
from agents.run import RunOptions
from agents.tool import (
    ApplyPatchTool,
    ComputerTool,
    CustomTool,
    LocalShellTool,
    ShellTool,
)
from agents.tool_context import ToolContext
from openai import APIConnectionError
from openai.types.responses import Response
from pydantic import TypeAdapter
from typing_extensions import TypedDict, Unpack

from mini_workflow.core.retry import RetryPolicy
from mini_workflow.errors import UsageError
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


def is_transient(error: Exception) -> bool:
    """Return whether a request to a model is to be made again: it got no answer, or the status 408, 409, 429,
    or 500 and above.
    """
    return isinstance(error, APIConnectionError) or is_transient_status(error)


MODEL: Final[TaskOptions] = model_options(is_transient)
"""The default options of requests to models."""

SESSION: Final[TaskOptions] = {
    "retry": RetryPolicy(max_attempts=5, initial=0.1, maximum=10.0),
    "timeout": 60.0,
}
"""The default options of reads and writes of sessions. Items that a lost attempt has added are recognized."""


class ToolEvent(TypedDict, total=False):
    """An event of a tool in a stream: its call, or its result."""

    type: Literal["tool_called", "tool_output"]
    tool: str
    call_id: str
    arguments: str
    output: str


def make_durable(
    agent: Agent[Any],
    *,
    model: TaskOptions | None = None,
    tools: TaskOptions | None = None,
    tool_options: Mapping[str, TaskOptions | Literal[False]] | None = None,
    stream: str | None = None,
    tracing: bool = False,
    provider: Callable[[], ModelProvider] = MultiProvider,
) -> Agent[Any]:
    """Make the requests and the tools of an agent tasks when it runs in a workflow, and return the agent.

    Call it at the top level of a module which workers import too, once the agent has all its tools and
    handoffs. Agents that it hands over to become durable with it; an agent behind `handoff()` or
    `as_tool()` needs a call of its own. Histories contain the names of agents and tools, so that a changed
    name is changed code.

    Args:
        agent: the agent; it is changed in place.
        model: options of requests to models, added to `MODEL`.
        tools: options of tools, added to `TOOL`.
        tool_options: options of single tools by name, added to those; False runs a tool in the workflow,
            which a tool of `as_tool()` needs.
        stream: the name of a stream of the execution that gets the events of models while they answer, and
            the calls and results of tools; read them by `event_of`.
        tracing: whether the tasks write spans of models and tools, in one trace for each execution.
        provider: makes the provider of models that are given by name; called in the task.

    Raises:
        UsageError: a part of the agent cannot be a task, or an option is for an unknown tool.
    """
    options = _Options(
        {**MODEL, **(model or {})},
        {**TOOL, **(tools or {})},
        dict(tool_options or {}),
        stream,
        tracing,
        provider,
        module_of_caller(1),
    )
    family = _family(agent)
    names = {tool_name(tool) for member in family for tool in member.tools}
    if unknown := sorted(options.by_tool.keys() - names):
        raise UsageError(
            f"tool_options has {unknown[0]!r}, which is no tool of agent {agent.name!r}; it has "
            f"{', '.join(sorted(names)) or 'none'}"
        )
    for member in family:
        _refuse_unfit(member)
    for member in family:
        durable = _DurableAgent(member, options)
        member.tools = [durable.wrap_tool(tool) for tool in member.tools]
        member.handoffs = [
            _checked(to) if isinstance(to, Handoff) else to for to in member.handoffs
        ]
        member.model = _TaskModel(durable)
        AGENTS.add(member.name, durable)
    return agent


@dataclass(frozen=True)
class _Options:
    model: TaskOptions
    tools: TaskOptions
    by_tool: dict[str, TaskOptions | Literal[False]]
    stream: str | None
    tracing: bool
    provider: Callable[[], ModelProvider]
    module: str

    def of_tool(self, name: str) -> TaskOptions | Literal[False]:
        """Return the options of a tool; False if it runs in the workflow itself."""
        found = self.by_tool.get(name, {})
        if found is False:
            return False
        return {**self.tools, **found}


def _family(agent: Agent[Any]) -> list[Agent[Any]]:
    """Return the agent and all agents that it hands over to, without those that are durable already."""
    found: list[Agent[Any]] = []
    waiting = [agent]
    while waiting:
        member = waiting.pop()
        if member not in found and not isinstance(member.model, _TaskModel):
            found.append(member)
            waiting += [to for to in member.handoffs if isinstance(to, Agent)]
    return found


def _refuse_unfit(agent: Agent[Any]) -> None:
    """Raise UsageError if a part of the agent cannot be a task."""
    if agent.mcp_servers:
        raise UsageError(
            f"agent {agent.name!r} has MCP servers, which would be called in the workflow: give it a "
            "function_tool that opens the server and calls it, which runs in a task"
        )
    if agent.model_settings.retry is not None:
        raise UsageError(
            f"agent {agent.name!r} has model_settings.retry, which would multiply with the retries of the "
            'task: leave it out, and give make_durable(model={"retry": RetryPolicy(...)})'
        )
    for tool in agent.tools:
        if isinstance(tool, _OF_THE_MACHINE):
            raise UsageError(
                f"tool {tool_name(tool)!r} of agent {agent.name!r} is a {type(tool).__name__}, which "
                "would run in the workflow: wrap it in a function_tool, which runs in a task"
            )


_OF_THE_MACHINE: Final = (ApplyPatchTool, ComputerTool, CustomTool, LocalShellTool, ShellTool)
"""The kinds of tools, besides functions, that the SDK itself runs. The provider runs all others."""


_REDEPLOY: Final = "it has changed; deploy the same code to workflows and workers"


def tool_name(tool: Tool) -> str:
    """Return the name by which a tool is called."""
    return tool.qualified_name if isinstance(tool, FunctionTool) else tool.name


def _checked(target: Handoff[Any, Any]) -> Handoff[Any, Any]:
    """Return a handoff that refuses an agent which is not durable, in a workflow."""
    invoke = target.on_invoke_handoff

    async def invoke_checked(context: Any, arguments: str) -> Any:
        agent = await invoke(context, arguments)
        if running_workflow() is not None:
            _require_durable(agent)
        return agent

    checked = copy.copy(target)
    checked.on_invoke_handoff = invoke_checked
    return checked


def _require_durable(agent: Any) -> None:
    if not isinstance(getattr(agent, "model", None), _TaskModel):
        name: Any = getattr(agent, "name", agent)
        raise UsageError(
            f"agent {name!r} is not durable: call make_durable(agent) at the top level of its module"
        )


class DurableRunner:
    """Runs agents like the SDK's `Runner`; in a workflow only durable ones."""

    @staticmethod
    async def run(
        agent: Agent[Any],
        input: str | list[TResponseInputItem] | RunState[Any],  # noqa: A002
        **options: Unpack[RunOptions[Any]],
    ) -> RunResult:
        """Run an agent like ``Runner.run``, with the same arguments.

        In a workflow the run's own spans are left out, since a replay would write them again. The tasks
        write the spans of models and tools (``make_durable(agent, tracing=True)``).

        Raises:
            UsageError: in a workflow, the agent is not durable, or ``run_config`` has a model or a
                provider of its own, which would be called in the workflow.
        """
        if running_workflow() is None:
            return await Runner.run(agent, input, **options)
        _require_durable(agent)
        config = options.get("run_config") or RunConfig()
        if isinstance(config, dict):
            config = RunConfig(**config)
        if config.model is not None or type(config.model_provider) is not MultiProvider:
            raise UsageError(
                "run_config has a model or a model_provider, which would be called in the workflow: give "
                "the agent its model, and the provider by make_durable(provider=...)"
            )
        options["run_config"] = replace(config, tracing_disabled=True)
        return await Runner.run(agent, input, **options)


_RESPONSE: Final = TypeAdapter[ModelResponse](ModelResponse)
_STREAMED: Final = TypeAdapter[TResponseStreamEvent](TResponseStreamEvent)


def event_of(value: Any) -> Any:
    """Return the event in a chunk's value: one of a model's stream, or a `ToolEvent`.

    Raises pydantic's ValidationError if the value is no event.
    """
    if isinstance(value, dict) and cast("Any", value).get("type") in ("tool_called", "tool_output"):
        return cast("ToolEvent", value)
    return _STREAMED.validate_python(value)


class _DurableAgent:
    """An agent with its model and tools from before `make_durable`, which the tasks call."""

    def __init__(self, agent: Agent[Any], options: _Options) -> None:
        self.agent = agent
        self.name = agent.name
        self.options = options
        self.model = agent.model
        self.tools = list(agent.tools)

    def wrap_tool(self, tool: Tool) -> Tool:
        """Return a tool that runs in a task when a workflow calls it; other kinds of tools unchanged."""
        options = self.options.of_tool(tool_name(tool))
        if not isinstance(tool, FunctionTool) or options is False:
            return tool
        invoke = tool.on_invoke_tool

        async def invoke_in_task(context: ToolContext[Any], arguments: str) -> Any:
            if running_workflow() is None:
                return await invoke(context, arguments)
            return await self.call_tool(tool_name(tool), options, context, arguments)

        wrapped = copy.copy(tool)
        wrapped.on_invoke_tool = invoke_in_task
        return wrapped

    async def call_tool(
        self, name: str, options: TaskOptions, context: ToolContext[Any], arguments: str
    ) -> Any:
        """Call a tool in a task, and return its output."""
        workflow, call_id = current_workflow(), context.tool_call_id
        stream = None if self.options.stream is None else workflow.stream(self.options.stream)
        if stream is not None:
            about = {"tool": name, "call_id": call_id, "arguments": arguments}
            stream.write({"type": "tool_called", **about})
        output = await workflow.task(
            call_tool,
            self.name,
            name,
            Sent((self.options.module, context.context, call_id, arguments)),
            name=f"{self.name}.tool:{name}"[:100],
            **cast("dict[str, Any]", options),
        )
        if stream is not None:
            about = {"tool": name, "call_id": call_id, "output": str(output)}
            stream.write({"type": "tool_output", **about})
        return output

    def find_tool(self, name: str) -> Tool:
        """Return the original tool of that name. Raises UsageError if the agent has none."""
        for tool in self.tools:
            if tool_name(tool) == name:
                return tool
        raise UsageError(f"agent {self.name!r} has no tool {name!r} in this process: {_REDEPLOY}")

    def find_handoffs(self, names: list[str]) -> list[Handoff[Any, Any]]:
        """Return the handoffs of those names. Raises UsageError if the agent lacks one."""
        handoffs = [to if isinstance(to, Handoff) else handoff(to) for to in self.agent.handoffs]
        known = {to.tool_name: to for to in handoffs}
        if missing := sorted(set(names) - set(known)):
            raise UsageError(f"agent {self.name!r} has no handoff {missing[0]!r} here: {_REDEPLOY}")
        return [known[name] for name in names]

    def output_schema(self) -> AgentOutputSchemaBase | None:
        """Return the schema of the agent's output; None for text."""
        kind: Any = self.agent.output_type
        if kind is None or kind is str:
            return None
        return kind if isinstance(kind, AgentOutputSchemaBase) else AgentOutputSchema(kind)

    async def ask(self, given: dict[str, Any]) -> ModelResponse:
        """Send a request to the model, in a task, and return the response."""
        request = {
            **given,
            "tools": [self.find_tool(name) for name in given["tools"]],
            "handoffs": self.find_handoffs(given["handoffs"]),
            "output_schema": self.output_schema() if given["output_schema"] else None,
            "tracing": ModelTracing.ENABLED if self.options.tracing else ModelTracing.DISABLED,
        }
        if isinstance(self.model, Model):
            return await self._ask(self.model, request)
        provider = self.options.provider()
        try:
            return await self._ask(provider.get_model(self.model), request)
        finally:
            await provider.aclose()

    async def _ask(self, model: Model, request: dict[str, Any]) -> ModelResponse:
        if self.options.stream is None:
            return await model.get_response(**request)
        stream = current_task().stream(self.options.stream)
        response: Response | None = None
        async for event in model.stream_response(**request):
            stream.write(event.model_dump(mode="json", exclude_unset=True))
            if event.type in ("response.completed", "response.incomplete", "response.failed"):
                response = cast("Any", event).response
        if response is None or response.status == "failed":
            raise ModelBehaviorError("the model's stream has ended without a response")
        return _response_of(response)

    @contextmanager
    def tracing(self) -> Generator[ExitStack]:
        """Write the spans of the block to the trace of the execution, with the option `tracing`."""
        with ExitStack() as stack:
            if self.options.tracing:
                execution = current_task().execution_id
                digest = hashlib.sha256(execution.encode()).hexdigest()
                stack.enter_context(
                    trace(self.name, trace_id=f"trace_{digest[:32]}", group_id=execution)
                )
            yield stack


def _response_of(response: Response) -> ModelResponse:
    usage = response.usage
    counted = Usage()
    if usage is not None:
        counted = Usage(
            requests=1,
            input_tokens=usage.input_tokens,
            input_tokens_details=usage.input_tokens_details,
            output_tokens=usage.output_tokens,
            output_tokens_details=usage.output_tokens_details,
            total_tokens=usage.total_tokens,
        )
    return ModelResponse(output=response.output, usage=counted, response_id=response.id)


AGENTS: Final[Agents[_DurableAgent]] = Agents("make_durable")


async def ask_model(agent: str, sent: Sent) -> Any:
    """Send a request to the model of an agent, in a task; return its response as plain JSON."""
    module, given = sent.content
    durable = AGENTS.find(agent, module)
    with with_asked_wait(), durable.tracing():
        response = await durable.ask(given)
    return _RESPONSE.dump_python(response, mode="json", exclude_unset=True)


async def call_tool(agent: str, tool: str, sent: Sent) -> Any:
    """Call a tool of an agent, in a task, and return its output."""
    module, context, call_id, arguments = sent.content
    durable = AGENTS.find(agent, module)
    found = durable.find_tool(tool)
    if not isinstance(found, FunctionTool):
        raise UsageError(f"tool {tool!r} of agent {agent!r} is no function here: {_REDEPLOY}")
    given = ToolContext(
        context=context,
        tool_name=found.name,
        tool_call_id=call_id,
        tool_arguments=arguments,
        agent=durable.agent,
    )
    with durable.tracing() as stack:
        span = None
        if durable.options.tracing:
            span = stack.enter_context(function_span(tool, input=arguments))
        output = await found.on_invoke_tool(given, arguments)
        if span is not None:
            span.span_data.output = str(output)
        return output


class _TaskModel(Model):
    """The model of a durable agent. In a workflow it sends its requests in tasks."""

    def __init__(self, durable: _DurableAgent) -> None:
        self._durable = durable

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],  # noqa: A002
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        tracing: ModelTracing,
        *,
        previous_response_id: str | None,
        conversation_id: str | None,
        prompt: Any,
    ) -> ModelResponse:
        durable = self._durable
        given: dict[str, Any] = {
            "system_instructions": system_instructions,
            "input": input,
            "model_settings": model_settings,
            "tools": tools,
            "output_schema": output_schema,
            "handoffs": handoffs,
            "tracing": tracing,
            "previous_response_id": previous_response_id,
            "conversation_id": conversation_id,
            "prompt": prompt,
        }
        workflow = running_workflow()
        if workflow is None:
            async with self._outside() as model:
                return await model.get_response(**given)
        given["tools"] = [tool_name(tool) for tool in tools]
        given["handoffs"] = [to.tool_name for to in handoffs]
        given["output_schema"] = output_schema is not None
        answered = await workflow.task(
            ask_model,
            durable.name,
            Sent((durable.options.module, given)),
            name=f"{durable.name}.model"[:100],
            **cast("dict[str, Any]", durable.options.model),
        )
        return _RESPONSE.validate_python(answered)

    async def stream_response(self, *args: Any, **given: Any) -> AsyncIterator[Any]:
        if running_workflow() is not None:
            raise UsageError(
                "Runner.run_streamed cannot stream in a workflow: use DurableRunner.run, and "
                "make_durable(stream=...) for the events of the model while it answers"
            )
        async with self._outside() as model:
            async for event in model.stream_response(*args, **given):
                yield event

    @asynccontextmanager
    async def _outside(self) -> AsyncGenerator[Model]:
        """Give the original model, for a run outside of a workflow."""
        if isinstance(self._durable.model, Model):
            yield self._durable.model
            return
        provider = self._durable.options.provider()
        try:
            yield provider.get_model(self._durable.model)
        finally:
            await provider.aclose()


class DurableSession(SessionABC):
    """A session in a store outside, which tasks read and write.

    Args:
        session_id: the id of the session.
        open_session: makes the session of an id, in the task; a function at the top level of a module.
            A session with ``close()`` is closed after each call.
        options: options of the tasks, added to `SESSION`.
    """

    def __init__(
        self,
        session_id: str,
        open_session: Callable[[str], Session],
        options: TaskOptions | None = None,
    ) -> None:
        self.session_id = session_id
        self._open_session = open_session
        self._options: TaskOptions = {**SESSION, **(options or {})}

    async def _call(self, operation: str, *args: Any) -> Any:
        if running_workflow() is None:
            return await call_session(self._open_session, self.session_id, operation, Sent(args))
        return await current_workflow().task(
            call_session,
            self._open_session,
            self.session_id,
            operation,
            Sent(args),
            name=f"session.{operation}",
            **cast("dict[str, Any]", self._options),
        )

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the items of the conversation, or the latest `limit` ones."""
        return await self._call("get_items", limit)

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items. If the session ends with the same items already, they are not added again."""
        await self._call("add_items", items)

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove and return the latest item. An attempt after a lost one may remove another item."""
        return await self._call("pop_item")

    async def clear_session(self) -> None:
        """Remove all items."""
        await self._call("clear_session")


async def call_session(
    open_session: Callable[[str], Session], session_id: str, operation: str, sent: Sent
) -> Any:
    """Call a method of a session, in a task."""
    session = open_session(session_id)
    try:
        if operation == "add_items":
            (items,) = sent.content
            # A lost attempt may have added them.
            if items and await session.get_items(len(items)) == items:
                return None
        return await getattr(session, operation)(*sent.content)
    finally:
        close = getattr(session, "close", None)
        closing = close() if callable(close) else None
        if isinstance(closing, Awaitable):
            await closing


__all__ = [
    "MODEL",
    "SESSION",
    "TOOL",
    "DurableRunner",
    "DurableSession",
    "TaskOptions",
    "ToolEvent",
    "event_of",
    "is_transient",
    "make_durable",
]
