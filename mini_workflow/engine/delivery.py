"""Arrival: what a queue delivers for one execution, and how many of them are handled at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from mini_workflow.core.events import Message
from mini_workflow.errors import StoreError

T = TypeVar("T")
Item = TypeVar("Item")


class Each(Protocol):
    """Calls a function for many items, some at the same time; errors stand in their place."""

    def __call__(self, call: Callable[[Item], T], items: list[Item]) -> list[T | StoreError]:
        """Return the results, in order."""
        ...


def one_by_one(call: Callable[[Item], T], items: list[Item]) -> list[T | StoreError]:
    """Return an `Each` without any concurrency."""
    results: list[T | StoreError] = []
    for item in items:
        try:
            results.append(call(item))
        except StoreError as error:
            results.append(error)
    return results


@dataclass(slots=True)
class QueueDelivery:
    """What a queue has delivered for one execution. `ids` are those of the queue's messages, which
    are the same when they come again; `delivery` counts how often the queue has tried, from 1.
    `woken` are the times of alarms that went off.
    """

    execution_id: str
    messages: list[Message] = field(default_factory=list[Message])
    woken: list[int] = field(default_factory=list[int])
    resume: bool = False
    ids: tuple[str, ...] = ()
    delivery: int = 1
