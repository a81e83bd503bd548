"""Read the options of an engine that name the bucket and the table of its histories, and share them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from pulumi_component import units
from pulumi_component.errors import BadOption

_HISTORY = ("bucket", "prefix")
_PREFIX = re.compile(r"[\w.-][\w./-]*/")
_STORE = ("table",)
_PRINCIPAL = re.compile(r"\d{12}|arn:aws[\w-]*:iam::\d{12}:(role|user)/[\w+=,.@/-]+")


@dataclass(frozen=True, slots=True)
class History:
    """The bucket with the histories: its name if it exists, and what its keys begin with.

    What is `managed` is kept private, encrypted and rid of old payloads by the engine.
    """

    name: Any
    prefix: str
    managed: bool


@dataclass(frozen=True, slots=True)
class Store:
    """The place of the histories: in a table if it `has_table`, else in the bucket. `name` is that of a
    table that is there already; None for one that is made.
    """

    has_table: bool = False
    name: Any = None


def history(value: Any) -> History:
    """Return the bucket that an option names. Raises BadOption."""
    if not isinstance(value, Mapping):
        if value is not None and not isinstance(value, str | pulumi.Output):
            raise BadOption(f'history: {value!r} is not the name of a bucket, or {{"bucket": ...}}')
        return History(value, "", managed=True)
    units.known("history", value, _HISTORY)
    name, prefix = value.get("bucket"), value.get("prefix") or ""
    if not name:
        raise BadOption(f'history: {value!r} names no bucket: {{"bucket": ..., "prefix": ...}}')
    if prefix and (not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix)):
        raise BadOption(
            f'history: prefix: {prefix!r} is not one such as "flows/": letters, digits and - _ . /, '
            "with a slash at the end and none at the beginning"
        )
    return History(name, prefix, managed=False)


def store(value: Any) -> Store:
    """Return the store that an option names. Raises BadOption."""
    if isinstance(value, Mapping):
        units.known("store", value, _STORE)
        name = value.get("table")
        if not name or not isinstance(name, str | pulumi.Output):
            raise BadOption(f'store: {value!r} names no table: {{"table": ...}}')
        return Store(True, name)
    return Store(units.one_of("store", value or "s3", ("s3", "dynamodb")) == "dynamodb")


def shared_with(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the accounts, roles and users of the option shared_with. Raises BadOption."""
    value = given.get("shared_with") or ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise BadOption(f'shared_with: {value!r}: give a list, such as ["123456789012"]')
    for one in value:
        if not isinstance(one, str) or not _PRINCIPAL.fullmatch(one):
            raise BadOption(
                f"shared_with: {one!r} is neither the ID of an account, 12 digits in a text, nor the ARN "
                "of a role or user"
            )
    if value and given.get("signing_key_store") in ("parameter", "secret"):
        raise BadOption(
            "shared_with: functions of other accounts cannot read the key that is made in a "
            f"{given['signing_key_store']}. Leave out signing_key_store, or give it the ARN of a secret "
            "whose policy and key allow them to"
        )
    if value and given.get("store") not in (None, "s3"):
        raise BadOption(
            "shared_with: a table is found by its name in its own account alone. Leave out store, or have "
            "functions of other accounts call one of this account"
        )
    return tuple(dict.fromkeys(value))
