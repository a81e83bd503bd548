"""Many executions over several processes, of which one is killed every second: make soak.

On Postgres another one stands still every few seconds for longer than its lease, and goes on then. A new
process takes the place of each. At the end all histories are compared with what has to be in them, and with
what the tasks have written down themselves. The exit status is 0 if nothing is lost and nothing recorded
twice.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mini_workflow.engine.client import Client
from tests.faults.soak import LEASE, STEPS, Soak
from tests.postgres.server import server

EVERY: Final = 1.0
"""Seconds between two that are killed."""
STANDS: Final = 6
"""So many kills later another one stands still, and the one before it goes on."""
assert STANDS * EVERY >= 2 * LEASE
SAYS_EVERY: Final = 5.0


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    made = argparse.ArgumentParser(prog="make soak", description=__doc__)
    made.add_argument("--executions", type=int, default=10_000, metavar="N", help="in all (10000)")
    made.add_argument(
        "--open", type=int, default=500, metavar="N", help="at most so many at a time (500)"
    )
    made.add_argument("--processes", type=int, default=8, metavar="N", help="at a time (8)")
    made.add_argument(
        "--seconds", type=float, default=60, metavar="S", help="how long processes are killed (60)"
    )
    made.add_argument(
        "--store", choices=("postgres", "sqlite"), default="postgres", help="(postgres)"
    )
    made.add_argument("--url", help="of a Postgres database; otherwise a server is started")
    made.add_argument("--seed", type=int, help="of the choice of who is killed")
    made.add_argument(
        "--timeout", type=float, default=1800, metavar="S", help="for the rest to be done (1800)"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, and say what has become of it; the exit status."""
    asked = parser().parse_args(arguments)
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        place, schema = str(Path(folder, "soak.db")), ""
        if asked.store == "postgres":
            place, schema = asked.url or stack.enter_context(server()).url, f"soak_{time.time_ns()}"
        soak = stack.enter_context(
            closing(Soak(place, schema, Path(folder, "ledger"), seed=asked.seed))
        )
        client = stack.enter_context(soak.client())
        return soaked(soak, client, asked)


def soaked(soak: Soak, client: Client, asked: argparse.Namespace) -> int:
    """Run all phases, from the first process to the verdict."""
    began = time.monotonic()
    for _ in range(asked.processes):
        soak.start_worker(waited_for=True)
    say(began, f"processes that serve {asked.store}: {asked.processes}")
    strike(soak, client, asked, began)
    say(began, f"nobody is killed any more; killed: {soak.killed}, stood still: {soak.stopped}")
    wrong = list(soak.wrong(client, asked.timeout))
    wrong += soak.end()
    say(began, f"executions that were to be done: {soak.started}, steps recorded: {soak.steps}")
    say(began, f"runs of steps that were lost with their process, and made again: {soak.again()}")
    for one in wrong[:20]:
        print(f"WRONG: {one}")
    print(f"wrong: {len(wrong)}" if wrong else "nothing is lost, and nothing is recorded twice")
    return 1 if wrong else 0


def strike(soak: Soak, client: Client, asked: argparse.Namespace, began: float) -> None:
    """Start executions as others end, and kill a process every second, until the time is over; then start
    those that are left.
    """
    first = said = time.monotonic()
    while (passed := time.monotonic() - first) < asked.seconds or soak.started < asked.executions:
        room = asked.open - (soak.steps - soak.ran()) // STEPS
        if room >= asked.open // 4 and soak.started < asked.executions:
            # A few at a time, so that nobody lives for longer than a second because of them.
            soak.start(client, min(20, room, asked.executions - soak.started))
        if passed < asked.seconds and passed >= (soak.killed + 1) * EVERY:
            soak.start_worker()
            soak.kill()
            if soak.may_stop and soak.killed % STANDS == 0:
                if not soak.let_go_on():
                    soak.start_worker()
                soak.stop()
        if time.monotonic() - said >= SAYS_EVERY:
            said = time.monotonic()
            say(began, soak.progress())
        time.sleep(0.01)


def say(began: float, what: str) -> None:
    """A line of progress."""
    print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
