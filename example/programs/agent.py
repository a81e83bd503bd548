"""An agent: a model says what to do, tools do it, and a person is asked before the dangerous ones.

The model and its tools are tasks: an answer that was paid for is never asked for again.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from mini_workflow import Context, RetryPolicy, workflow
from mini_workflow.testing import WorkflowEnvironment

Message = dict[str, Any]

HISTORY_LIMIT = 20
"""After so many events the conversation goes on in a new run."""

USED: list[str] = []
"""What the tools have done, in order."""


def disk_usage(host: str) -> str:
    USED.append(f"disk_usage {host}")
    return {"web-1": "97 %", "web-2": "12 %"}[host]


def list_files(host: str) -> list[str]:
    USED.append(f"list_files {host}")
    return ["access.log", "database"]


def delete(host: str, file: str) -> str:
    USED.append(f"delete {host} {file}")
    return "deleted"


TOOLS: dict[str, Callable[..., Any]] = {
    tool.__name__: tool for tool in (disk_usage, list_files, delete)
}
DANGEROUS = {"delete"}

SCRIPT: list[dict[str, Any]] = [
    {"calls": [("disk_usage", {"host": "web-1"}), ("disk_usage", {"host": "web-2"})]},
    {"calls": [("list_files", {"host": "web-1"}), ("disk_usage", {"host": "web-9"})]},
    {
        "calls": [
            ("delete", {"host": "web-1", "file": "database"}),
            ("delete", {"host": "web-1", "file": "access.log"}),
        ]
    },
    {"text": "web-1 has room again: I deleted access.log, and was not allowed to delete database."},
]


async def ask_model(messages: Sequence[Message]) -> dict[str, Any]:
    """Stands in for the call of a model: it follows a script, whatever the tools have found."""
    return SCRIPT[sum(message["role"] == "model" for message in messages)]


@workflow
async def agent(ctx: Context, messages: Sequence[Message]) -> str:
    conversation = list(messages)
    approvals: dict[str, str] = {}
    ctx.on_query("conversation", lambda: conversation)
    ctx.on_query("approvals", lambda: approvals)

    async def use(tool: str, arguments: dict[str, Any]) -> Any:
        if tool in DANGEROUS:
            approval = ctx.promise(f"may I {tool}")
            question = f"{tool}({', '.join(map(str, arguments.values()))})"
            approvals[question] = approval.token
            allowed = await approval
            del approvals[question]
            if not allowed:
                return "a person has refused this"
        try:
            return await ctx.task(TOOLS[tool], **arguments, name=tool, timeout=60)
        except Exception as error:  # for the model to read
            return f"{type(error).__name__}: {error}"

    while True:
        reply = await ctx.task(ask_model, conversation, retry=RetryPolicy(max_attempts=5))
        conversation.append({"role": "model", **reply})
        if "text" in reply:
            return reply["text"]
        answers = await asyncio.gather(*(use(tool, given) for tool, given in reply["calls"]))
        conversation.append({"role": "tools", "answers": answers})
        if ctx.info.history_length >= HISTORY_LIMIT:
            ctx.continue_as_new(conversation)


def main() -> None:
    with WorkflowEnvironment() as env:
        question = {"role": "user", "text": "Make room on the full disk."}
        execution = env.start_execution(agent, [question])
        env.advance(timedelta(minutes=1))
        for call, token in execution.query("approvals").items():
            print("may it", call)
            env.complete_promise(token, "database" not in call)
        print(execution.result())
        print("runs:", execution.describe().run)
        for message in execution.query("conversation"):
            print(*(message[key] for key in ("role", "text", "calls", "answers") if key in message))


if __name__ == "__main__":
    main()
