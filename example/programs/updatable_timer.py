"""A timer whose time can be changed while it runs."""

from datetime import datetime, timedelta

from mini_workflow import Context, workflow
from mini_workflow.testing import WorkflowEnvironment


@workflow
async def alarm(ctx: Context, wake_at: datetime) -> datetime:
    deadline, moved = wake_at, False

    def check(when: datetime) -> None:
        if when.tzinfo is None:
            raise ValueError("the time needs a time zone")

    def move(when: datetime) -> timedelta:
        nonlocal deadline, moved
        deadline, moved = when, True
        return when - ctx.now()

    ctx.on_update("move", move, validator=check)
    ctx.on_query("deadline", lambda: deadline)

    def has_moved() -> bool:
        return moved

    while True:
        moved = False
        try:
            # Either the deadline moves, or its time comes.
            await ctx.wait_for(has_moved, timeout=deadline - ctx.now())
        except TimeoutError:
            return ctx.now()


def main() -> None:
    with WorkflowEnvironment() as env:
        noon = env.now() + timedelta(hours=12)
        execution = env.start_execution(alarm, noon)
        env.advance(timedelta(hours=1))
        print("moved; still to wait:", execution.update("move", noon + timedelta(days=30)))
        try:
            execution.update("move", datetime(2026, 1, 5))  # noqa: DTZ001 - that is the mistake
        except ValueError as error:
            print("refused:", error)
        env.advance(timedelta(days=2))
        print("moved; still to wait:", execution.update("move", noon + timedelta(days=2)))
        print("woken at", execution.result())


if __name__ == "__main__":
    main()
