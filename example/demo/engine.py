"""The engine process of the demo: runs the workflow, and prints its history as it happens.

python -m example.demo.engine DATABASE EXECUTION_ID KEY FILE SEEN

SEEN is how many events have been printed before, by a process that was killed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from example.demo.timeline import timeline
from example.workflow import upload_object
from mini_workflow import Execution, LocalRuntime


def main(database: str, execution_id: str, key: str, file: str, seen: str) -> None:
    data = Path(file).read_bytes().decode()
    with LocalRuntime(database) as runtime:
        # The same call in both processes: an id stands for one execution, new or not.
        execution = runtime.start_execution(upload_object, key, data, id=execution_id)
        for line in follow(execution, int(seen)):
            print(line, flush=True)
        execution.result()


def follow(execution: Execution, seen: int) -> Iterator[str]:
    running = True
    while running:
        # Asked before the history is read, so that the last events are not missed.
        running = execution.describe().status == "running"
        lines = list(timeline(execution.history()))
        yield from lines[seen:]
        seen = len(lines)
        if running:
            time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
