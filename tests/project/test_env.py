"""The environments of the tools: who makes one, makes it alone."""

from __future__ import annotations

import threading

from tools import env


def test_threads_make_environments_one_after_the_other() -> None:
    """Two that clear the same folder at a time would both fail."""
    order: list[str] = []
    there = threading.Event()

    def other() -> None:
        there.set()
        with env._alone(), env._alone():
            order.append("other")

    thread = threading.Thread(target=other)
    with env._alone():
        thread.start()
        there.wait()
        with env._alone():
            order.append("first")
        order.append("first")
    thread.join()
    assert order == ["first", "first", "other"]
