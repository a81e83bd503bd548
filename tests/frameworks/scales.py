"""What the agents of all frameworks do: weigh two cities, and say what was found."""

from __future__ import annotations

from tests.integrations.deaths import CITIES, stop_once


async def weigh(city: str) -> str:
    """A tool, in a task."""
    await stop_once()
    return city


def wanted(seen: list[str]) -> str | None:
    """The city that is to be weighed next; None if all are known."""
    return CITIES[len(seen)] if len(seen) < len(CITIES) else None


def conclusion(seen: list[str]) -> str:
    return " and ".join(seen)
