"""Handle lists and maps among the arguments that are outputs as a whole, and not known yet.

Programs in other languages pass such outputs as soon as one part is an output.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pulumi

List = Sequence[Any] | pulumi.Output[Any]
Map = Mapping[str, Any] | pulumi.Output[Any]


def checked(value: Any, check: Callable[[Any], None]) -> Any:
    """Return the value, checked now, or as soon as it is known."""
    if isinstance(value, Sequence) and any(isinstance(item, pulumi.Output) for item in value):
        value = pulumi.Output.all(*value)

    def passed(known: Any) -> Any:
        check(known)
        return known

    return value.apply(passed) if isinstance(value, pulumi.Output) else passed(value)


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return what the function makes of the value, now, or as soon as it is known."""
    return value.apply(function) if isinstance(value, pulumi.Output) else function(value)


def checked_text(value: Any, check: Callable[[Any], None]) -> Any:
    """Return the text, checked now or as soon as it is known; None stays None."""
    return None if value is None else checked(value, check)


def joined(*lists: List | None) -> List:
    """Return one list of all; an output if one of them is."""
    given = [one for one in lists if one is not None]
    if any(isinstance(one, pulumi.Output) for one in given):
        return pulumi.Output.all(*given).apply(
            lambda known: [item for one in known for item in one]
        )
    return [item for one in given for item in one]  # type: ignore[union-attr]


def merged(*maps: Map | None) -> Map:
    """Return one map of all, where later ones win; an output if one of them is."""
    given = [one for one in maps if one is not None]
    if any(isinstance(one, pulumi.Output) for one in given):
        return pulumi.Output.all(*given).apply(_merge)
    return _merge(given)


def _merge(maps: Sequence[Any]) -> dict[str, Any]:
    return {key: value for one in maps for key, value in one.items()}
