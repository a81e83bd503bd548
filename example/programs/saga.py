"""Three bookings that are made together or not at all: each task brings along what takes it back."""

from datetime import timedelta

from mini_workflow import Context, ExecutionCancelled, RetryPolicy, workflow
from mini_workflow.testing import WorkflowEnvironment

LEDGER: list[str] = []
"""What the three services have been asked, in order."""


class SoldOut(Exception):
    """There is nothing left to book."""


def book(what: str, traveller: str) -> str:
    if what == "car" and traveller == "unlucky":
        raise SoldOut(what)
    LEDGER.append(f"book {what}")
    return f"{what}-1"


def cancel_booking(reference: str) -> None:
    LEDGER.append(f"cancel {reference}")


@workflow
async def book_trip(ctx: Context, traveller: str, change_of_mind: timedelta) -> list[str]:
    # If the execution fails or is cancelled after a task has succeeded, the task's undo runs as a
    # task of its own, with that task's result: what was done last is taken back first.
    retry = RetryPolicy(max_attempts=3, retry_on=(ConnectionError,))
    bookings = [
        await ctx.task(book, what, traveller, name=what, retry=retry, undo=cancel_booking)
        for what in ("flight", "hotel", "car")
    ]
    await ctx.sleep(change_of_mind)  # until then, a cancel takes it all back
    return bookings


def main() -> None:
    with WorkflowEnvironment() as env:
        day = timedelta(days=1)
        print("booked:", *env.start_execution(book_trip, "ann", day).result())

        LEDGER.clear()
        failing = env.start_execution(book_trip, "unlucky", day)
        try:
            failing.result()
        except SoldOut as error:
            print(failing.describe().status, "- sold out:", error)
        print(*LEDGER, sep=", ")

        LEDGER.clear()
        cancelled = env.start_execution(book_trip, "bob", day, id="trip-bob")
        env.advance(timedelta(hours=1))
        cancelled.cancel("bob is ill")
        try:
            cancelled.result()
        except ExecutionCancelled as error:
            print(error)
        print(*LEDGER, sep=", ")


if __name__ == "__main__":
    main()
