"""A runner that runs nothing, for tests of what gives attempts to runners."""

from mini_workflow.ports import TaskRequest


class Shelf:
    """A runner that keeps what it is given."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int, int], TaskRequest] = {}
        self.cancelled: list[tuple[str, int, str]] = []
        self.calls: list[str] = []

    def submit(self, request: TaskRequest) -> None:
        self.kept[request.key] = request

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        self.cancelled.append((execution_id, seq, reason))

    def holds(self, key: tuple[str, int, int]) -> bool:
        return key in self.kept

    def details(self, key: tuple[str, int, int]) -> str | None:
        return None

    def prepare_close(self) -> None:
        self.calls.append("prepare_close")

    def close(self, grace: float) -> list[TaskRequest]:
        self.calls.append("close")
        kept, self.kept = list(self.kept.values()), {}
        return kept
