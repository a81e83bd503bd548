"""Make the clients of AWS services when they are first used, and translate their errors."""

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
"""Seconds without an answer of AWS after which boto3 tries again. Our own bound."""

LONGEST_ANSWER: Final = 910
"""Seconds within which the orchestrator answers: a function of Lambda runs for at most 900 (Lambda
quotas), and ten more are for the transport."""


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
        """Return the client of a service, such as ``s3``, which waits `answers_within` seconds."""
        key = (service, answers_within)
        client = self._made.get(key)
        if client is None:
            with self._lock:
                client = self._made.get(key)
                if client is None:
                    client = self._made[key] = self._make(service, answers_within)
        return client

    def each(self, call: Callable[[Item], T], items: list[Item]) -> list[T | StoreError]:
        """Call a function for every item, many at a time. Return its results or errors, in order.

        The function may call `each` again, for items of its own.
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
                # A pool for each depth, so that no call waits for a thread that waits for the call.
                name = f"mini-workflow-aws-{depth}"
                self._pools.append(ThreadPoolExecutor(PARALLEL, thread_name_prefix=name))
        return list(self._pools[depth].map(attempt, items))

    def all(self, call: Callable[[Item], T], items: list[Item]) -> list[T]:
        """Return the results of `each`; raise the first error once every call has been made."""
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
    """Return the package boto3. Raises StoreUnavailable if it is missing."""
    try:
        return importlib.import_module("boto3")
    except ImportError as error:
        raise StoreUnavailable(
            f"AWS needs the package boto3, which cannot be imported ({error}): run "
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
                # A fixed text: building it takes a third of the Python time of each call.
                user_agent=f"mini-workflow Boto3/{boto3.__version__}",
                # This library builds all parameters, and its types hold them to the API.
                parameter_validation=False,
            ),
        )

    return make


def code_of(error: BaseException) -> str:
    """Return the code of an error of AWS, such as ``PreconditionFailed``; empty for other errors."""
    response: Any = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def is_refused(error: StoreError) -> bool:
    """Return whether AWS will refuse the same call again: no permission, or no such target."""
    cause = error.__cause__
    return cause is not None and code_of(cause) in (*_DENIED, *_MISSING)


@contextmanager
def translate_errors(doing: str) -> Generator[None]:
    """Turn the errors of boto3 into StoreUnavailable. `doing` names the action and its object."""
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
            remedy = "; allow this to the role of the function, or to the user of the process"
        elif code in _MISSING:
            remedy = "; the resource does not exist: check the settings"
        raise StoreUnavailable(f"{doing}: {error}{remedy}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"{doing}: {error}") from error
