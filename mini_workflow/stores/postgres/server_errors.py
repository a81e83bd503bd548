"""Translate the errors of the server and of the driver into the library's own."""

from __future__ import annotations

from typing import Final

import psycopg

from mini_workflow.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)

UNREAD: Final = "MW002"
"""The SQLSTATE of a commit that must not delete an execution, since there are messages for it."""

LOST: Final = "MW001"
"""The SQLSTATE of our own functions for a lease that is lost."""

AGAIN: Final = ("40001", "40P01")
"""Serialization failure and deadlock: nothing was done, and a second try helps."""

LOCKED: Final = "55P03"
"""The SQLSTATE of a statement that has waited for the lock of another transaction for too long."""

ENDED: Final = ("08", "57P", "25P03", "25P04")
"""The server has ended the session, or the pooler has lost it."""

READERS: Final = 4
"""Connections of a process, at most, for calls from any thread. Our own bound."""

_REMEDIES: Final = {
    "53300": f"; each process takes up to {READERS + 3} connections: raise max_connections of the server, "
    "or run fewer processes",
    "25006": "; the server is a standby, or default_transaction_read_only is on for this user: give the "
    "primary one's address, or turn that setting off",
    "42501": "; give the user the rights that docs/postgres.md lists, or have the owner of the tables run "
    "`mini-workflow migrate`",
    "3F000": "; the tables are missing or too old for this version: run `mini-workflow migrate`",
    "25P03": "; this process stood still during the transaction: try again",
    "25P04": "; transaction_timeout of this user or of the database is too short: raise it",
    LOCKED: "; another transaction holds what this one needs, such as one that has started an execution "
    "with the same id and is still open: end it, and try again",
    "57014": "; statement_timeout of this user or of the database is too short, or somebody has cancelled "
    "the statement: raise it, and try again",
}
_REMEDIES["42P01"] = _REMEDIES["42883"] = _REMEDIES["3F000"]

_ADDRESS: Final = (
    "; the server has answered: correct the address, or have its administrator allow this user"
)
_REFUSED: Final = {
    "too many": _REMEDIES["53300"],
    "connection slots are reserved": _REMEDIES["53300"],
    "does not exist": _ADDRESS,
    "authentication failed": _ADDRESS,
    "pg_hba.conf": _ADDRESS,
    "permission denied": _ADDRESS,
    "not permitted to log in": _ADDRESS,
    "the database system is": "; try again in a moment",
}
"""The remedies by what the server says when it refuses a connection, for which the driver has no SQLSTATE."""


def translated(error: psycopg.Error, place: str) -> StoreError:
    """Return the library's error for an error at a place, with what to do about it."""
    state = error.sqlstate or ""
    text = f"{place}: {_said(error)}"
    match state:
        case "53100":
            return StoreFull(
                f"{text}: the disk of the server is full and nothing was written. Free some space: "
                "the next commit then works again"
            )
        case "54000" | "22003" | "22021" | "23502" | "22P05":
            return StoreRefused(text)
        case _ if state in _REMEDIES:
            return StoreUnavailable(f"{text}{_REMEDIES[state]}")
        case _ if state.startswith("XX"):
            return StoreCorrupt(f"{text}; restore the database from a backup")
        case _ if state.startswith(("08", "53", "55", "57", "40")):
            return StoreUnavailable(text)
        case _:
            pass
    if isinstance(error, psycopg.DataError):
        return StoreRefused(text)
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        if not state and "FATAL:" in text:
            for words, remedy in _REFUSED.items():
                if words in text.rpartition("FATAL:")[2]:
                    return StoreUnavailable(f"{text}{remedy}")
        return StoreUnavailable(f"{text}; check that the server runs and can be reached")
    return StoreError(text)


def _said(error: psycopg.Error) -> str:
    """Return the words of the server, without the statement that it quotes."""
    diagnosis = error.diag
    parts = (diagnosis.message_primary, diagnosis.message_detail, diagnosis.message_hint)
    said = ". ".join(part.rstrip(".") for part in parts if part) or str(error)
    return " ".join(said.split()) or type(error).__name__
