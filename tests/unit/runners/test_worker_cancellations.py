"""A cancellation that reaches a worker process at the moment at which its attempt begins."""

from multiprocessing import Pipe

from mini_workflow.ports import TaskRequest
from mini_workflow.runners.processes import protocol
from mini_workflow.runners.processes.child import _Worker
from mini_workflow.task import CurrentTask
from tests.contracts import worker_code


def test_a_sync_attempt_that_begins_meanwhile_is_told() -> None:
    (work, far), (control, to_control) = Pipe(), Pipe(duplex=False)
    config = worker_code.make(b"a key for tests only, nothing else")
    worker = _Worker(work, control, config)
    request = TaskRequest("e", 1, 1, "work", b"")
    current = CurrentTask(request)

    class Early(dict[tuple[str, int, int], str]):
        """The early cancellations, just before one is kept: the attempt begins, and finds none."""

        def __setitem__(self, key: tuple[str, int, int], reason: str) -> None:
            worker._current = (key, current)
            assert self.get(key) is None
            super().__setitem__(key, reason)

    worker._early = Early()  # type: ignore[misc]
    to_control.send_bytes(protocol.cancellation(request.key, "enough", config.seal))
    try:
        worker._on_control()
        assert current.is_told
        assert not worker._early
    finally:
        worker._loop.close()
        for end in (work, far, control, to_control):
            end.close()
