"""Make the clients of AWS services when they are first needed, and translate their errors."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from mini_workflow.errors import StoreError, StoreUnavailable
from mini_workflow.stores.aws.limits import PARALLEL

_DENIED: Final = ("AccessDenied", "AccessDeniedException", "403", "AllAccessDisabled")
_MISSING: Final = (
    *("NoSuchBucket", "ResourceNotFoundException", "QueueDoesNotExist"),
    "AWS.SimpleQueueService.NonExistentQueue",
)

T = TypeVar("T")
Item = TypeVar("Item")

ATTEMPTS: Final = 4
"""How often boto3 tries a call that is throttled or gets no answer. Our own bound."""

ANSWERS_WITHIN: Final = 10
"""Seconds after which AWS is taken not to have answered, and boto3 tries again. Our own bound."""

LONGEST_ANSWER: Final = 910
"""Seconds within which the orchestrator answers: no function of Lambda runs for longer than 900 (Lambda
quotas), and what is left is the way."""


class Clients:
    """One client per service, shared by all threads. `make` stands in for `boto3.client`."""

    def __init__(self, make: Callable[[str], Any] | None = None) -> None:
        self._make: Callable[[str, int], Any] = _boto3_client()
        if make is not None:
            self._make = lambda service, answers_within: make(service)
        self._made: dict[tuple[str, int], Any] = {}
        self._lock = threading.Lock()
        self._pools: list[ThreadPoolExecutor] = []
        self._depth = threading.local()

    def get(self, service: str, *, answers_within: int = ANSWERS_WITHIN) -> Any:
        """Return the client of a service, such as ``s3``; it waits so many seconds
        for an answer.
        """
        key = (service, answers_within)
        client = self._made.get(key)
        if client is None:
            with self._lock:
                client = self._made.get(key)
                if client is None:
                    client = self._made[key] = self._make(service, answers_within)
        return client

    def each(self, call: Callable[[Item], T], items: list[Item]) -> list[T | StoreError]:
        """Call for every item, many at a time; the results in order, or the errors in their place.

        A call may do the same with items of its own.
        """
        depth: int = getattr(self._depth, "value", 0)

        def attempt(item: Item) -> T | StoreError:
            self._depth.value = depth + 1
            try:
                return call(item)
            except StoreError as error:
                return error
            finally:
                self._depth.value = depth

        if len(items) < 2:
            return [attempt(item) for item in items]
        with self._lock:
            while len(self._pools) <= depth:
                # One for each depth: no call waits for a thread that waits for it.
                name = f"mini-workflow-aws-{depth}"
                self._pools.append(ThreadPoolExecutor(PARALLEL, thread_name_prefix=name))
        return list(self._pools[depth].map(attempt, items))

    def all(self, call: Callable[[Item], T], items: list[Item]) -> list[T]:
        """Return the same, but the first error is raised once every call has been made."""
        found: list[T] = []
        for result in self.each(call, items):
            if isinstance(result, StoreError):
                raise result
            found.append(result)
        return found

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            pools, self._pools = self._pools, []
        for pool in pools:
            pool.shutdown()


def import_boto3() -> Any:
    """Return the package boto3. Raises StoreUnavailable, with the extra that brings it, if it is
    missing.
    """
    try:
        return importlib.import_module("boto3")
    except ImportError as error:
        raise StoreUnavailable(
            f"AWS needs the package boto3, which cannot be imported ({error}): "
            'pip install "mini-workflow[aws]"'
        ) from error


def _boto3_client() -> Callable[[str, int], Any]:
    session: Any = None

    def make(service: str, answers_within: int) -> Any:
        nonlocal session
        boto3 = import_boto3()
        from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

        session = session or boto3.Session()
        return session.client(
            service,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                connect_timeout=3,
                read_timeout=answers_within,
                max_pool_connections=PARALLEL,
                tcp_keepalive=True,
                # Made once: put together for each call it is a third of all Python that a call takes.
                user_agent=f"mini-workflow Boto3/{boto3.__version__}",
                # What is sent is built by this library, whose types say what fits.
                parameter_validation=False,
            ),
        )

    return make


def code_of(error: BaseException) -> str:
    """Return the code by which AWS names an error, such as ``PreconditionFailed``; empty for
    others.
    """
    response: Any = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def is_refused(error: StoreError) -> bool:
    """Return whether AWS will refuse the same call again: it is not allowed, or its target not
    there.
    """
    cause = error.__cause__
    return cause is not None and code_of(cause) in (*_DENIED, *_MISSING)


@contextmanager
def translate_errors(doing: str) -> Generator[None]:
    """Turn the errors of boto3 into ours. `doing` says what was tried, on what."""
    from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
        BotoCoreError,
        ClientError,
    )

    try:
        yield
    except ClientError as error:
        code = code_of(error)
        remedy = ""
        if code in _DENIED:
            remedy = "; the role of this function does not allow it"
        elif code in _MISSING:
            remedy = "; it does not exist: check the settings"
        raise StoreUnavailable(f"{doing}: {error}{remedy}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"{doing}: {error}") from error
