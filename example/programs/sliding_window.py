"""A long batch: always a few children at work, across as many runs as it takes."""

from mini_workflow import Context, workflow
from mini_workflow.testing import WorkflowEnvironment

WINDOW = 5
RUN_LENGTH = 20
"""How many records one run starts; its history stays that short."""

PROCESSED: list[int] = []


def process(record: int) -> int:
    PROCESSED.append(record)
    if record % 10 == 7:
        raise ValueError(f"record {record} is broken")
    return record


@workflow
async def process_record(ctx: Context, record: int, batch: str) -> None:
    try:
        await ctx.task(process, record)
        good = True
    except ValueError:
        good = False
    # Not by its result: the run that started this child may be over.
    ctx.execution(batch).signal("done", {"record": record, "good": good})


@workflow
async def process_all(
    ctx: Context,
    count: int,
    next_record: int = 0,
    at_work: frozenset[int] = frozenset(),
    failed: tuple[int, ...] = (),
) -> dict[str, object]:
    me = ctx.info.execution_id
    open_records = set(at_work)
    ctx.on_query("progress", lambda: {"run": ctx.info.run, "at work": sorted(open_records)})
    last = min(count, next_record + RUN_LENGTH)
    while next_record < last or (last == count and open_records):
        while next_record < last and len(open_records) < WINDOW:
            ctx.child(process_record, next_record, me, id=f"{me}.{next_record}")
            open_records.add(next_record)
            next_record += 1
        done = await ctx.wait_for_signal("done")
        open_records.discard(done["record"])
        if not done["good"]:
            failed = (*failed, done["record"])
    if next_record < count:
        ctx.continue_as_new(count, next_record, frozenset(open_records), failed)
    return {"processed": count, "failed": sorted(failed), "runs": ctx.info.run}


def main() -> None:
    with WorkflowEnvironment() as env:
        batch = env.start_execution(process_all, 100, id="nightly")
        print(batch.result())
        print("each once:", sorted(PROCESSED) == list(range(100)))
        print("events in the last run:", len(batch.history()))


if __name__ == "__main__":
    main()
