"""SigningKeys: reads the ring of signing keys, from the settings, a parameter of SSM or a secret."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from mini_workflow.codecs.signing import read_keys
from mini_workflow.errors import StoreUnavailable, UsageError
from mini_workflow.settings import SIGNING_KEY, SIGNING_KEY_ARN, Settings
from mini_workflow.stores.aws.clients import Clients, translate_errors

RENEW_AFTER: Final = 10.0
"""Seconds between two readings of a parameter or secret after a signature was refused, at least: so messages
of strangers cost no more calls. Our own bound."""

RENEW_EVERY: Final = 300.0
"""Seconds after which a process reads a parameter or secret again before it signs, so that none
goes on with a key that others no longer accept. A change of the ring takes two steps, with a longer time
between them. Our own bound."""

log = logging.getLogger("mini_workflow.runtimes.aws")


class SigningKeys:
    """The signing keys. They are read when they are first needed: at the cold start of a function.

    A ring in a parameter or secret may change while the process lives; `renewed` reads it again.
    `now` is a clock in seconds.
    """

    def __init__(
        self, settings: Settings, clients: Clients, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._now = now
        self._read_at: float | None = None

    def read(self) -> tuple[bytes, ...]:
        """Return the keys. Raises SettingMissing, StoreUnavailable, UsageError."""
        arn = self._settings.get(SIGNING_KEY_ARN)
        if not arn:
            return read_keys(self._settings.get(SIGNING_KEY))
        text = self._fetch(arn)
        self._read_at = self._now()
        return read_keys(text)

    def renewed(self, refused: bool) -> tuple[bytes, ...] | None:
        """Return the keys as of now; None if they cannot have changed, or were read a moment ago.

        `refused` says that a signature fitted none of the known keys. If the keys cannot be read then, it
        is not known whether the signature is good: StoreUnavailable is raised.
        """
        age = RENEW_AFTER if refused else RENEW_EVERY
        if self._read_at is None or self._now() - self._read_at < age:
            return None
        try:
            return self.read()
        except StoreUnavailable as error:
            if refused:
                raise
            # Its signatures are accepted for as long as its key is in the ring. Read it again later.
            self._read_at = self._now()
            log.warning(
                "the signing keys cannot be read; going on with the known ones for %g s: %s",
                *(RENEW_EVERY, error),
            )
            return None

    def _fetch(self, arn: str) -> str:
        service = [*arn.split(":"), "", ""][2]
        with translate_errors(f"reading the signing key {arn!r}"):
            if service == "ssm":
                answer = self._clients.get("ssm").get_parameter(Name=arn, WithDecryption=True)
                return answer["Parameter"]["Value"]
            if service == "secretsmanager":
                return self._clients.get("secretsmanager").get_secret_value(SecretId=arn)[
                    "SecretString"
                ]
        raise UsageError(
            f"{SIGNING_KEY_ARN} is {arn!r}: give the ARN of a parameter of SSM or of a secret of "
            "Secrets Manager"
        )
