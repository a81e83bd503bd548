"""The ring of signing keys in a parameter or a secret: read at the start, and when it has changed."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from mini_workflow.codecs import Signer
from mini_workflow.errors import SettingMissing, StoreUnavailable, UsageError
from mini_workflow.runtimes.aws.signing_keys import RENEW_AFTER, RENEW_EVERY, SigningKeys
from mini_workflow.settings import SIGNING_KEY, SIGNING_KEY_ARN, Settings
from mini_workflow.stores.aws.clients import Clients

PARAMETER = "arn:aws:ssm:us-east-1:123456789012:parameter/key"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:key-AbCdEf"
OLD, NEW = "o" * 32, "n" * 32


class Store:
    """SSM and Secrets Manager, with one text."""

    def __init__(self, text: str = OLD) -> None:
        self.text = text
        self.calls: list[tuple[str, Any]] = []
        self.error: Exception | None = None

    def get_parameter(self, **asked: Any) -> Any:
        return {"Parameter": {"Value": self._answer("ssm", asked)}}

    def get_secret_value(self, **asked: Any) -> Any:
        return {"SecretString": self._answer("secretsmanager", asked)}

    def _answer(self, service: str, asked: Any) -> str:
        self.calls.append((service, asked))
        if self.error is not None:
            raise self.error
        return self.text


class World:
    def __init__(self, **variables: str) -> None:
        self.store = Store()
        self.time = 0.0
        self.settings = Settings(variables)
        self.clients = Clients(lambda service: self.store)
        self.keys = SigningKeys(self.settings, self.clients, lambda: self.time)


@pytest.mark.parametrize(
    ("arn", "call"),
    [
        (PARAMETER, ("ssm", {"Name": PARAMETER, "WithDecryption": True})),
        (SECRET, ("secretsmanager", {"SecretId": SECRET})),
    ],
)
def test_the_key_is_read_where_it_is(arn: str, call: tuple[str, Any]) -> None:
    world = World(**{SIGNING_KEY_ARN: arn})
    world.store.text = f"{NEW}|{OLD}"
    assert world.keys.read() == (NEW.encode(), OLD.encode())
    assert world.store.calls == [call]


def test_nothing_is_asked_where_the_setting_has_the_key() -> None:
    world = World(**{SIGNING_KEY: OLD})
    assert world.keys.read() == (OLD.encode(),)
    world.time = RENEW_EVERY * 2
    assert world.keys.renewed(True) is None
    assert world.keys.renewed(False) is None
    assert not world.store.calls
    with pytest.raises(SettingMissing, match=SIGNING_KEY):
        World().keys.read()


def test_strangers_cost_one_call_in_a_while() -> None:
    world = World(**{SIGNING_KEY_ARN: PARAMETER})
    world.keys.read()
    for _ in range(100):
        assert world.keys.renewed(True) is None
    world.time = RENEW_AFTER
    assert world.keys.renewed(False) is None
    assert world.keys.renewed(True) == (OLD.encode(),)
    assert len(world.store.calls) == 2


def test_no_process_goes_on_signing_with_a_key_that_is_gone() -> None:
    world = World(**{SIGNING_KEY_ARN: PARAMETER})
    world.keys.read()
    world.store.text = NEW
    world.time = RENEW_EVERY
    assert world.keys.renewed(False) == (NEW.encode(),)


def test_what_cannot_be_told_is_no_refusal() -> None:
    """A message whose key may be a new one comes again; it is not set aside."""
    world = World(**{SIGNING_KEY_ARN: PARAMETER})
    world.keys.read()
    denied: Any = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
    world.store.error = ClientError(denied, "GetParameter")
    world.time = RENEW_EVERY
    with pytest.raises(StoreUnavailable, match="reading the signing key"):
        world.keys.renewed(True)
    # What is signed is signed with what is known, and the store is left alone for a while.
    assert world.keys.renewed(False) is None
    assert world.keys.renewed(False) is None
    assert len(world.store.calls) == 3


def test_another_kind_of_resource_is_named() -> None:
    with pytest.raises(UsageError, match="give the ARN of a parameter"):
        World(**{SIGNING_KEY_ARN: "arn:aws:s3:::b"}).keys.read()


def test_a_ring_changes_under_running_processes_and_nothing_is_refused() -> None:
    """Three steps, as docs/deploy.md tells them, with processes that read at different times."""
    world = World(**{SIGNING_KEY_ARN: PARAMETER})
    processes = [SigningKeys(world.settings, world.clients, lambda: world.time) for _ in range(2)]
    signers = [Signer(keys.read, keys.renewed) for keys in processes]
    for step, notify in enumerate((OLD, f"{OLD}|{NEW}", f"{NEW}|{OLD}", NEW)):
        world.store.text = notify
        for moment in (0.0, RENEW_EVERY / 2, RENEW_EVERY + 1):
            world.time = step * RENEW_EVERY * 2 + moment
            for sender, receiver in (signers, signers[::-1]):
                receiver.check("text", sender.code("text", "purpose"), "purpose")
