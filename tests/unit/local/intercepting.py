"""An interceptor and tasks for worker processes, which import them from here."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from os import getpid

from mini_workflow import Context, CurrentTask, Interceptor, current_task, workflow

TENANT: ContextVar[str] = ContextVar("tenant", default="none")


class Tenants(Interceptor):
    """Has each task know its tenant."""

    @contextmanager
    def around_task(self, task: CurrentTask) -> Generator[None]:
        token = TENANT.set(task.headers["tenant"])
        try:
            yield
        finally:
            TENANT.reset(token)


def where() -> tuple[str, str, int]:
    return TENANT.get(), current_task().headers["tenant"], getpid()


async def where_async() -> tuple[str, str, int]:
    return where()


@workflow("intercepting.order")
async def order(ctx: Context) -> list[tuple[str, str, int]]:
    return [await ctx.task(where), await ctx.task(where_async), await ctx.task(where, inline=True)]
