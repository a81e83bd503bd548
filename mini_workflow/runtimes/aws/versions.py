"""Route executions to versions of the orchestrator, during a canary and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from mini_workflow.core.records import frozen
from mini_workflow.errors import StoreUnavailable
from mini_workflow.settings import (
    FUNCTION_NAME,
    FUNCTION_VERSION,
    LIVE,
    WORKER_FUNCTION_NAME,
    Settings,
)
from mini_workflow.stores.aws.clients import LONGEST_ANSWER, Clients, translate_errors
from mini_workflow.stores.sqs.call_store import version_of
from mini_workflow.stores.sqs.envelopes import dump, parse

KNOWN_FOR: Final = 60_000
"""Milliseconds for which a process remembers where the alias leads. Our own bound: Lambda takes 15 such
requests a second from all functions of an account (Lambda quotas, "API requests")."""

AGAIN_AFTER: Final = 1_000
"""Milliseconds after which a process asks again if it meets a version newer than all that it knows of."""


@frozen
class Traffic:
    """The targets of an alias: its `main` version, and the `canary`, which takes the share `weight`, from 0
    to 1. `revision` is the revision of the alias itself.
    """

    main: str
    canary: str = ""
    weight: float = 0.0
    revision: str = ""

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that calls go to."""
        return (self.main, self.canary) if self.canary else (self.main,)

    def taker(self, written_by: str) -> str:
        """Return the version that has to take an execution that the version `written_by` has written last."""
        return written_by if written_by in self.versions else self.main


def read_traffic(client: Any, function: str) -> Traffic:
    """Ask Lambda where the alias of a function leads. Raises StoreUnavailable."""
    with translate_errors(f"reading the alias {LIVE!r} of function {function!r}"):
        found = client.get_alias(FunctionName=function, Name=LIVE)
    routing: dict[str, Any] = found.get("RoutingConfig") or {}
    weights: dict[str, float] = routing.get("AdditionalVersionWeights") or {}
    canary = next(iter(weights), "")
    return Traffic(
        found["FunctionVersion"], canary, weights.get(canary, 0.0), found.get("RevisionId", "")
    )


class VersionRouting:
    """The routing of executions to versions of the orchestrator.

    An alias that leads to two versions gives a batch to either of them. An execution stays with the
    version that wrote it, as long as the alias leads to that version; then the alias's main
    version goes on with it. `own` is the version that runs here, and empty where tasks are not called
    by version.
    """

    def __init__(self, clients: Clients, settings: Settings, now: Callable[[], int]) -> None:
        self._clients = clients
        self._settings = settings
        self._now = now
        self._known: tuple[int, Traffic] | None = None
        self.own = ""
        own = settings.optional(FUNCTION_VERSION)
        if own.isdecimal() and version_of(settings.optional(WORKER_FUNCTION_NAME)):
            self.own = own
        self.is_handed_over = False
        """Whether another version has handed over the event that this process handles now."""

    def other(self, written_by: str) -> str:
        """Return the version that has to take an execution instead of this process; empty for this
        one. Raises StoreUnavailable.
        """
        own = self.own
        if not own or not written_by or written_by == own or self.is_handed_over:
            return ""
        taker = self._traffic(written_by).taker(written_by)
        return "" if taker == own else taker

    def is_taken_back(self, written_by: str) -> bool:
        """Return whether `written_by` is newer than this version, and was taken back."""
        return bool(self.own and written_by and int(written_by) > int(self.own))

    def hand_over(self, version: str, event: dict[str, Any]) -> dict[str, Any]:
        """Have another version handle an event, and return its answer. Raises StoreUnavailable."""
        target = f"{self._settings.optional(FUNCTION_NAME)}:{version}"
        with translate_errors(f"handing over to function {target!r}"):
            client = self._clients.get("lambda", answers_within=LONGEST_ANSWER)
            answer = client.invoke(
                FunctionName=target, Payload=dump({**event, "handed_over": True}).encode()
            )
            text = answer["Payload"].read().decode()
        if answer.get("FunctionError"):
            raise StoreUnavailable(f"function {target!r} failed: {text[:1000]}")
        return parse(text)

    def _traffic(self, written_by: str) -> Traffic:
        now, known = self._now(), self._known
        if known is not None:
            at, traffic = known
            newer = all(int(written_by) > int(one) for one in (*traffic.versions, self.own))
            if now - at < (AGAIN_AFTER if newer else KNOWN_FOR):
                return traffic
        try:
            traffic = read_traffic(
                self._clients.get("lambda"), self._settings.optional(FUNCTION_NAME)
            )
        except StoreUnavailable:
            if known is None:
                raise
            traffic = known[1]  # the answer of a minute ago is better than none
        self._known = (now, traffic)
        return traffic


def remark_on(written_by: str, own: str) -> str:
    """Return the remark on an execution that is blocked after a roll back, with the remedy."""
    return (
        f"version {written_by} of the orchestrator has advanced it, which was taken back, and version "
        f"{own} does not fit what it did: deploy code that fits it, or have the alias lead to version "
        f"{written_by} again (mini-workflow deploy rollback --to {written_by}), then call resume()"
    )


def failed_records(
    answer: dict[str, Any], records: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the records that have to come again, by the answer of the version that took them."""
    failed = {item["itemIdentifier"] for item in answer.get("batchItemFailures", ())}
    return [record for record in records if record["messageId"] in failed]
