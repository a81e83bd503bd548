"""A signal ends the wait of a command, at whatever instruction of the wait it comes."""

import subprocess
import sys

from tests.waiting import WAIT

PROGRAM = """
import os, signal, sys, threading
from mini_workflow.cli.commands.run import until_stopped

def end_at(n):
    seen, over = 0, threading.Event()

    def trace(frame, event, arg):
        nonlocal seen
        seen += 1
        if seen == n:
            os.kill(os.getpid(), signal.SIGTERM)
        return trace

    def insist():  # behind the last instruction it waits, as it should
        while not over.wait(0.05):
            os.kill(os.getpid(), signal.SIGTERM)

    with until_stopped() as stop:
        insisting = threading.Thread(target=insist)
        insisting.start()
        sys.settrace(trace)
        stop.wait()
        sys.settrace(None)
        over.set()
        insisting.join()
    return seen

n = 1
while end_at(n) >= n:
    n += 1
print("ended", n)
"""


def test_a_signal_ends_the_wait_wherever_it_comes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ended ")


ELSEWHERE = """
import pathlib, signal, threading
from mini_workflow.cli.commands.run import until_stopped

status = pathlib.Path(f"/proc/self/task/{threading.get_native_id()}/stat")  # of the main thread

def end():
    sleeps = 0 if status.exists() else 100
    while sleeps < 100:  # in a row: once it waits for a signal, and not only for this thread
        state = status.read_text().rpartition(")")[2].split()[0]
        sleeps = sleeps + 1 if state == "S" else 0
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

with until_stopped() as stop:
    threading.Thread(target=end).start()
    stop.wait()
print("ended")
"""


def test_a_signal_that_another_thread_gets_ends_the_wait() -> None:
    """So does one that comes before the main thread waits: Python runs its handler in the main thread, which
    nothing wakes from waiting for a lock.
    """
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ended\n", "")
