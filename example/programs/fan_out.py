"""A thousand tasks, at most fifty of them at a time."""

import threading

from mini_workflow import Context, workflow
from mini_workflow.testing import WorkflowEnvironment

LIMIT = 50


class Service:
    """A service that counts its callers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = 0
        self.now = 0
        self.peak = 0

    def square(self, number: int) -> int:
        with self._lock:
            self.calls += 1
            self.now += 1
            self.peak = max(self.peak, self.now)
        try:
            return number * number
        finally:
            with self._lock:
                self.now -= 1


SERVICE = Service()


def square(number: int) -> int:
    return SERVICE.square(number)  # the module's own: a task does not take it along


@workflow
async def sum_of_squares(ctx: Context, count: int, limit: int = LIMIT) -> int:
    # The results come in the order of the items, whatever the order in which tasks end. The first
    # failure would cancel what is still open.
    squares = await ctx.map(square, range(count), concurrency=limit)
    return sum(squares)


def main() -> None:
    with WorkflowEnvironment() as env:
        print("sum:", env.start_execution(sum_of_squares, 1_000).result())
        print("calls:", SERVICE.calls, "- never more than 50 at a time:", SERVICE.peak <= LIMIT)


if __name__ == "__main__":
    main()
