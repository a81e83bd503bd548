"""Refuse values that must not be captured or stored, although some picklers would silently accept them.

A lock would become another lock, a file opened for writing would be truncated when it is loaded, a client
would take its connections along. Such types are recognised by the names of their base classes, so that
nothing has to be imported.

Any class can be refused: set `__mini_workflow_refused__` on it to a noun for its instances, for example
``"the workflow's context"``, and `__mini_workflow_instead__` to the remedy, for example ``"pass its .id"``.
"""

from __future__ import annotations

from typing import Any, Final

from mini_workflow.codecs.names import is_local

MARK: Final = "__mini_workflow_refused__"
INSTEAD: Final = "__mini_workflow_instead__"

_LOCK: Final = "a lock"
_EVENT: Final = "a thread synchronisation primitive"
_QUEUE: Final = "a queue"
_FILE: Final = "an open file"
_FUTURE: Final = "a future"
_DATABASE: Final = "a database connection"
_CLIENT: Final = "a client with open connections"

_REFUSED: Final[dict[str, str]] = {
    "_thread.lock": _LOCK,
    "_thread.RLock": _LOCK,
    "threading._RLock": _LOCK,
    "threading.Event": _EVENT,
    "threading.Condition": _EVENT,
    "threading.Semaphore": _EVENT,
    "threading.Barrier": _EVENT,
    "threading.Thread": "a thread",
    "_thread._local": "thread-local data",
    "queue.Queue": _QUEUE,
    "_queue.SimpleQueue": _QUEUE,
    "multiprocessing.synchronize.SemLock": _LOCK,
    "multiprocessing.queues.Queue": _QUEUE,
    "multiprocessing.queues.SimpleQueue": _QUEUE,
    "multiprocessing.process.BaseProcess": "a process",
    "multiprocessing.connection._ConnectionBase": "an open pipe",
    "concurrent.futures._base.Future": _FUTURE,
    "concurrent.futures._base.Executor": "an executor",
    "_asyncio.Future": _FUTURE,
    "asyncio.futures.Future": _FUTURE,
    "asyncio.events.AbstractEventLoop": "an event loop",
    "asyncio.events.Handle": "a handle of an event loop",
    "asyncio.mixins._LoopBoundMixin": "an asyncio synchronisation primitive",
    "asyncio.taskgroups.TaskGroup": "a task group",
    "asyncio.timeouts.Timeout": "a timeout",
    "asyncio.streams.StreamReader": "an open stream",
    "asyncio.streams.StreamWriter": "an open stream",
    "asyncio.transports.BaseTransport": "an open transport",
    "_io._IOBase": _FILE,
    "mmap.mmap": "a memory map",
    "_socket.socket": "a socket",
    "_ssl._SSLContext": "an SSL context",
    "select.epoll": "a selector",
    "selectors.BaseSelector": "a selector",
    "subprocess.Popen": "a process",
    "sqlite3.Connection": _DATABASE,
    "sqlite3.Cursor": _DATABASE,
    "weakref.ReferenceType": "a weak reference",
    "builtins.generator": "a generator",
    "builtins.async_generator": "an asynchronous generator",
    "builtins.coroutine": "a coroutine",
    "builtins.frame": "a frame",
    "builtins.traceback": "a traceback",
    "_contextvars.Context": "a context of context variables",
    "botocore.client.BaseClient": "a boto3 client",
    "botocore.session.Session": "a boto3 session",
    "boto3.session.Session": "a boto3 session",
    "boto3.resources.base.ServiceResource": "a boto3 resource",
    "boto3.resources.collection.CollectionManager": "a boto3 resource",
    "psycopg._connection_base.BaseConnection": _DATABASE,
    "psycopg2.extensions.connection": _DATABASE,
    "sqlalchemy.engine.base.Engine": _DATABASE,
    "sqlalchemy.engine.base.Connection": _DATABASE,
    "sqlalchemy.orm.session.Session": _DATABASE,
    "redis.client.Redis": _CLIENT,
    "redis.asyncio.client.Redis": _CLIENT,
    "pymongo.mongo_client.MongoClient": _CLIENT,
    "pymongo.synchronous.mongo_client.MongoClient": _CLIENT,
    "httpx.Client": _CLIENT,
    "httpx.AsyncClient": _CLIENT,
    "httpx._client.BaseClient": _CLIENT,
    "aiohttp.client.ClientSession": _CLIENT,
    "urllib3.poolmanager.PoolManager": _CLIENT,
}

# Files in memory contain only data.
_ACCEPTED: Final = frozenset({"_io.BytesIO", "_io.StringIO"})

_REMEMBERED: Final = 4096
_decided: dict[type, str | None] = {}


class Refused(Exception):
    """Raised in a pickler for an object that must not be captured; `noun` describes the object."""

    def __init__(self, noun: str) -> None:
        super().__init__(noun)
        self.noun = noun


def refusal(kind: type[Any]) -> str | None:
    """Return a noun for the instances of a class if they are refused, otherwise None."""
    try:
        return _decided[kind]
    except KeyError:
        pass
    noun = _decide(kind)
    if is_local(kind):
        return noun  # the cache would keep the class alive
    if len(_decided) >= _REMEMBERED:
        _decided.clear()
    _decided[kind] = noun
    return noun


def instead_of(kind: type[Any], otherwise: str) -> str:
    """Return the remedy that a refused class names, or `otherwise`."""
    remedy = getattr(kind, INSTEAD, None)
    return remedy if isinstance(remedy, str) else otherwise


def _decide(kind: type[Any]) -> str | None:
    noun = getattr(kind, MARK, None)
    if isinstance(noun, str):
        return noun
    for base in kind.__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        if name in _ACCEPTED:
            return None
        if name in _REFUSED:
            return _REFUSED[name]
    # An iterator would do its work in the place where it is read, and again at each read.
    if hasattr(kind, "__next__") and hasattr(kind, "__iter__"):
        return "an iterator"
    return None
