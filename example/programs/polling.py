"""Ask a service again and again, for an hour at most; the pauses cost nothing."""

import asyncio
from datetime import timedelta

from mini_workflow import Context, RetryPolicy, workflow
from mini_workflow.testing import WorkflowEnvironment

PATIENCE = timedelta(hours=1)
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)


class Cluster:
    """A service that is ready after so many questions, and not always there."""

    def __init__(self, ready_after: int) -> None:
        self.questions = 0
        self._ready_after = ready_after

    def status(self) -> str:
        self.questions += 1
        if self.questions % 4 == 3:
            raise ConnectionError("try again")
        return "ready" if self.questions >= self._ready_after else "starting"


CLUSTERS = {"small": Cluster(8), "huge": Cluster(1_000)}


def status(name: str) -> str:
    return CLUSTERS[name].status()


@workflow
async def wait_until_ready(ctx: Context, name: str) -> timedelta:
    began = ctx.now()
    pause = FIRST_PAUSE
    retry = RetryPolicy(max_attempts=10, retry_on=(ConnectionError,))
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while await ctx.task(status, name, retry=retry) != "ready":
            await ctx.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    return ctx.now() - began


def main() -> None:
    with WorkflowEnvironment() as env:
        took = env.start_execution(wait_until_ready, "small").result()
        print("ready after", took.seconds // 60, "minutes; questions:", CLUSTERS["small"].questions)
        try:
            env.start_execution(wait_until_ready, "huge").result()
        except TimeoutError:
            print("gave up after", CLUSTERS["huge"].questions, "questions")


if __name__ == "__main__":
    main()
