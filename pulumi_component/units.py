"""Read durations, sizes and other options of users as the numbers that AWS takes."""

import difflib
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from pulumi_component.errors import BadOption

_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "week": 7 * 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}
_MEGABYTES = {"MB": 1, "GB": 1024}

LOG_RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
)  # fmt: skip
"""Days for which CloudWatch can keep logs. Source: API reference of CloudWatch Logs,
PutRetentionPolicy."""

FOREVER = "forever"


def seconds(option: str, value: Any, least: int, most: int) -> int:
    """Return a duration in seconds, from a number of them, a timedelta or text such as "10
    minutes".

    Raises BadOption if it cannot be read, is no whole number, or not between `least` and `most`.
    """
    if isinstance(value, timedelta):
        number = value.total_seconds()
    else:
        number = _quantity(option, value, _SECONDS, 'a duration such as "10 minutes"')
    return _within(option, value, number, least, most, "seconds")


def days(option: str, value: Any, least: int, most: int) -> int:
    """Return a duration in days, as `seconds` reads it; a bare number is refused.

    Raises BadOption.
    """
    if isinstance(value, bool | int | float):
        raise BadOption(f'{option}: {value!r} has no unit; write "{value} days"')
    whole = seconds(option, value, 0, 10**10)
    if whole % 86_400:
        raise BadOption(f"{option}: {value!r} is not a whole number of days")
    return _within(option, value, whole / 86_400, least, most, "days")


def log_retention(option: str, value: Any) -> int:
    """Return how many days logs are kept, 0 for ever. Raises BadOption."""
    if value == FOREVER:
        return 0
    wanted = days(option, value, 1, LOG_RETENTION_DAYS[-1])
    if wanted not in LOG_RETENTION_DAYS:
        nearest = next(days for days in LOG_RETENTION_DAYS if days > wanted)
        raise BadOption(
            f"{option}: CloudWatch cannot keep logs for {wanted} days; the next longer retention is "
            f'"{nearest} days"'
        )
    return wanted


def megabytes(option: str, value: Any, least: int, most: int) -> int:
    """Return a size in MB, from a number of them or text such as "1024 MB" or "2 GB".

    Raises BadOption if it cannot be read or is not between `least` and `most`.
    """
    number = _quantity(option, value, _MEGABYTES, 'a size such as "1024 MB"')
    return _within(option, value, number, least, most, "MB")


def whole(option: str, value: Any, least: int, most: int) -> int:
    """Return a whole number between `least` and `most`. Raises BadOption."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadOption(f"{option}: {value!r} is not a number")
    return _within(option, value, value, least, most, "")


def flag(option: str, value: Any) -> bool:
    """Return True or False; None is False. Raises BadOption for anything else."""
    if value is None or isinstance(value, bool):
        return bool(value)
    raise BadOption(f"{option}: {value!r} is not True or False")


def snake_case(name: str) -> str:
    """Return the name of an option. Programs in other languages write logRetention, and inside of
    Any nobody translates it.
    """
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()


def one_of(option: str, value: Any, choices: Collection[str]) -> str:
    """Return the value, if it is among the choices. Raises BadOption, with the one
    that is like it.
    """
    if value in choices:
        return value
    raise BadOption(f"{option}: {value!r} is not one of {', '.join(choices)}")


def known(what: str, given: Mapping[str, Any], options: Collection[str]) -> None:
    """Raise BadOption for an option that does not exist, with the one that was probably meant."""
    for name in given:
        if name not in options:
            close = difflib.get_close_matches(str(name), options, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            listed = ", ".join(sorted(options))
            raise BadOption(f"{what} has no option {name!r}{meant} (its options: {listed})")


def _quantity(option: str, value: Any, units: Mapping[str, int], wanted: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = re.fullmatch(
        r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value if isinstance(value, str) else ""
    )
    unit = match[2] if match else ""
    factor = units.get(unit, units.get(unit.lower().removesuffix("s")))
    if match is None or factor is None:
        raise BadOption(f"{option}: {value!r} is not {wanted}; the units are {', '.join(units)}")
    return float(match[1]) * factor


def _within(option: str, value: Any, number: float, least: int, most: int, unit: str) -> int:
    if number != int(number):
        raise BadOption(f"{option}: {value!r} is not a whole number of {unit or 'anything'}")
    if not least <= number <= most:
        raise BadOption(
            f"{option}: {value!r} is not between {least:,} and {most:,} {unit}".rstrip()
        )
    return int(number)
