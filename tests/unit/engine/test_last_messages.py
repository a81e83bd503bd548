"""An execution that is deleted answers those who have asked it, as far as they are there."""

from types import SimpleNamespace
from typing import Any

from mini_workflow.engine.cache import Cache
from mini_workflow.engine.group_commit import GroupCommit
from mini_workflow.engine.turn_data import Delivery, Turn
from mini_workflow.errors import ExecutionNotFound
from mini_workflow.ports import Commit, Head, QueuedMessage


class Posts:
    """A mailbox for one execution, and a store that commits everything."""

    def __init__(self) -> None:
        self.posted: list[str] = []

    def post(self, execution_id: str, body: str, _key: str) -> None:
        if execution_id != "there":
            raise ExecutionNotFound(execution_id, execution_id=execution_id)
        self.posted.append(body)

    def commit(self, commits: list[Commit]) -> list[bool]:
        return [True for _ in commits]


def test_an_asker_that_is_gone_keeps_nobody_from_the_deletion() -> None:
    posts = Posts()
    ports: Any = SimpleNamespace(store=posts, mailbox=posts, streams=None, begin_commit=None)
    nothing: Any = SimpleNamespace(acknowledge=None)
    group = GroupCommit(ports, nothing, nothing, Cache(1))
    head = Head("e", "w", "completed", 1, closed_at=2)
    turn = Turn(Delivery("e"), Commit("e", 2, deleted_at=3), head, None)
    turn.final_messages = (
        QueuedMessage("deleted before", "a", "1"),
        QueuedMessage("there", "b", "2"),
    )
    batch: Any = SimpleNamespace(turns={"e": turn}, deliveries={})
    assert group.commit(batch, 4) == [True]
    assert posts.posted == ["b"]
