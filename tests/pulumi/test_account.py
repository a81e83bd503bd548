"""Calls that are the orchestrator's own, where nobody has said how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from pulumi_component import WorkflowEngine, account
from pulumi_component.account import AccountLimit
from tests.pulumi.recording import Recording, record
from tests.pulumi.test_engine import engine, made

pytestmark = pytest.mark.usefixtures("packaged_once")

WORKER = {"handler": "app.index.execute"}
ORCHESTRATOR = {"handler": "app.index.orchestrate"}


class Account:
    """What the account answers, and what the programs were told."""

    def __init__(self) -> None:
        self.limit: AccountLimit | Exception = AccountLimit(1_000, 1_000)
        self.asked = 0
        self.told: list[str] = []

    def ask(self, _profile: str | None, _region: str | None) -> tuple[AccountLimit, str]:
        self.asked += 1
        if isinstance(self.limit, Exception):
            raise self.limit
        return self.limit, "eu-west-1"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Account:
    found = Account()
    monkeypatch.setattr(account, "_is_deployed", lambda: True)
    monkeypatch.setattr(account, "_ask", found.ask)
    monkeypatch.setattr(account, "_given", {})
    monkeypatch.setattr(pulumi.log, "warn", lambda message, **_: found.told.append(message))
    return found


def calls(recording: Recording, name: str = "Flow") -> tuple[Any, Any]:
    """How many calls are reserved for the orchestrator, and how many batches there may be."""
    function = recording.get(f"{name}-orchestrator-function")
    mapping = recording.get(f"{name}-events-mapping")
    batches = (mapping.inputs.get("scalingConfig") or {}).get("maximumConcurrency")
    ignored = [function.options["ignored"], mapping.options["ignored"]]
    assert ignored in ([[], []], [["reservedConcurrentExecutions"], ["scalingConfig"]])
    kept = "kept" if ignored[0] else None
    return function.inputs.get("reservedConcurrentExecutions") or kept, batches or kept


@pytest.mark.parametrize(
    ("most", "free", "share"),
    [
        (1_000, 1_000, 100),
        (1_000, 350, 100),
        (1_000, 349, None),
        (3_000, 3_000, 100),
        (500, 500, 50),
        (120, 120, 12),
        (110, 110, None),  # Lambda leaves 100 to the others
        (10, 10, None),  # a new account
    ],
)
def test_an_orchestrator_has_a_tenth_of_the_calls(
    asked: Account, root: Path, most: int, free: int, share: int | None
) -> None:
    asked.limit = AccountLimit(most, free)
    reserved, batches = calls(record(lambda: made(engine(root))))
    if share is None:
        assert (reserved, batches) == ("kept", "kept")
        (told,) = asked.told
        assert told.startswith(
            f"Flow: of the {most:,} calls that the account may run at a time, {free:,} "
        )
        assert "Give the engine the option concurrency" in told
    else:
        # A tenth of them is for queries and updates, which no mapping bounds.
        assert (reserved, batches) == (share, share - share // 10)
        assert asked.told == []


def test_what_is_reserved_stays_when_the_account_cannot_be_asked(
    asked: Account, root: Path
) -> None:
    asked.limit = RuntimeError("AccessDenied: lambda:GetAccountSettings")
    assert calls(record(lambda: made(engine(root)))) == ("kept", "kept")
    (told,) = asked.told
    assert (
        "cannot be asked how many calls it may run: AccessDenied: lambda:GetAccountSettings" in told
    )


def test_another_account_is_not_taken_for_this_one(asked: Account, root: Path) -> None:
    def program() -> None:
        there = aws.Provider("there", region="eu-central-1")
        given: Any = {"worker": WORKER, "orchestrator": ORCHESTRATOR, "root": str(root)}
        WorkflowEngine("Flow", given, pulumi.ResourceOptions(provider=there))

    assert calls(record(program)) == ("kept", "kept")
    assert asked.asked == 0
    assert "a provider of its own" in asked.told[0]


@pytest.mark.parametrize("key", ["assumeRole", "assumeRoles", "accessKey"])
def test_nor_is_the_account_of_a_role(
    asked: Account, root: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulumi.Config, "get", lambda _, name: "given" if name == key else None)
    assert calls(record(lambda: made(engine(root)))) == ("kept", "kept")
    assert asked.asked == 0
    assert "in the name of" in asked.told[0]


def test_several_engines_leave_some_to_the_others(asked: Account, root: Path) -> None:
    """The account does not know yet what this program is about to reserve."""

    def program() -> None:
        for name in ("One", "Two", "Three"):
            engine(root, name)

    asked.limit = AccountLimit(1_000, 500)
    recording = record(program)
    assert [calls(recording, name) for name in ("One", "Two", "Three")] == [
        (100, 90),
        (100, 90),
        ("kept", "kept"),
    ]
    assert asked.told[0].startswith("Three: ")


def test_nobody_is_asked_who_has_said_it(asked: Account, root: Path) -> None:
    for options, expected in (
        ({"concurrency": 20}, (20, 20)),
        ({"orchestrator": {**ORCHESTRATOR, "concurrency": 30}}, (30, None)),
        ({"orchestrator": {**ORCHESTRATOR, "concurrency": -1}}, (-1, None)),
        ({"worker": {**WORKER, "concurrency": 50}}, (None, None)),
    ):
        assert calls(record(lambda options=options: made(engine(root, **options)))) == expected
    assert (asked.asked, asked.told) == (0, [])


def test_every_worker_has_to_be_limited(asked: Account, root: Path) -> None:
    limited = {"worker": {**WORKER, "concurrency": 50}}
    workers = {"workers": {"gpu": {**WORKER, "concurrency": 5}}}
    assert calls(record(lambda: made(engine(root, **limited, **workers)))) == (None, None)
    workers = {"workers": {"gpu": WORKER}}
    assert calls(record(lambda: made(engine(root, **limited, **workers)))) == (100, 90)


def test_what_is_kept_ready_is_among_what_is_reserved(asked: Account, root: Path) -> None:
    ready = {"orchestrator": {**ORCHESTRATOR, "provisioned_concurrency": 150}}
    assert calls(record(lambda: made(engine(root, **ready)))) == (150, 135)


def test_the_account_is_asked_once_with_the_settings_of_the_deployment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an engine was given may be gone from the account by the time at which the next one is made."""
    made_with: dict[str, Any] = {}
    answers = iter([900, 800])

    class Session:
        def __init__(self, **options: Any) -> None:
            made_with.update(options)

        def client(self, service: str, config: Any) -> Any:
            assert service == "lambda"
            return self

        class meta:  # noqa: N801
            region_name = "eu-west-1"

        def get_account_settings(self) -> Any:
            return {
                "AccountLimit": {
                    "ConcurrentExecutions": 1_000,
                    "UnreservedConcurrentExecutions": next(answers),
                }
            }

    monkeypatch.setattr("boto3.Session", Session)
    for _ in range(2):
        found = account._ask("team", "eu-west-1")
        assert found == (AccountLimit(1_000, 900), "eu-west-1")
    account._ask.cache_clear()
    assert made_with == {"profile_name": "team", "region_name": "eu-west-1"}
