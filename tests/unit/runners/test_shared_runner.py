"""Attempts of other processes whose text this version of the library cannot read."""

from mini_workflow.ports import TaskOutcome
from mini_workflow.ports.shared_tasks import SharedTask
from mini_workflow.runners.shared_runner import SharedRunner


class Lost:
    """A store in which another process has left an attempt behind."""

    def __init__(self, *tasks: SharedTask) -> None:
        self.left = list(tasks)
        self.settled: list[str] = []

    def lost(self) -> list[SharedTask]:
        return self.left

    def settle(self, outcomes: list[tuple[SharedTask, str]]) -> None:
        for task, text in outcomes:
            self.left.remove(task)
            self.settled.append(text)

    def kept(self) -> list[tuple[str, int, int]]:
        return []


def test_an_attempt_that_cannot_be_read_is_lost_as_any_other() -> None:
    tasks = Lost(SharedTask("e", 1, 1, "gpu", '{"of": "another version"}'))

    def message(outcome: TaskOutcome) -> str:
        assert outcome.failure is not None
        return str(outcome.failure["message"])

    runner = SharedRunner(
        tasks,  # type: ignore[arg-type]
        call=lambda _: b"",
        message=message,
        report=print,
        notify=lambda: None,
        interval=1.0,
    )
    runner._open = True
    runner.step()
    assert not tasks.left
    assert "its worker process is gone" in tasks.settled[0]
