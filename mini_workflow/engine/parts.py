"""Make each part of a client when it is first used: a process needs a few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mini_workflow.core.codec import Codec
from mini_workflow.engine.transport import CheckedStore, Transport
from mini_workflow.interceptors import Interceptors
from mini_workflow.workflow import Registry

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client
    from mini_workflow.engine.debounce import Debounce
    from mini_workflow.engine.deletions import Deletions
    from mini_workflow.engine.forks import Forks
    from mini_workflow.engine.limits import Limits
    from mini_workflow.engine.looks import Looks
    from mini_workflow.engine.queries import QueryClient
    from mini_workflow.engine.schedules import Schedules
    from mini_workflow.engine.starts import StartExecutions
    from mini_workflow.engine.updates import Updates, UpdateWithStart


class Given(NamedTuple):
    """The arguments of a client."""

    transport: Transport
    store: CheckedStore
    codec: Codec
    registry: Registry
    interceptors: Interceptors


def deletions(client: Client) -> Deletions:
    """Return the part that deletes executions that have closed."""
    from mini_workflow.engine.deletions import Deletions

    return Deletions(client.given.transport, client.given.store)


def forks(client: Client) -> Forks:
    """Return the part that makes forks, and finds open promises."""
    from mini_workflow.engine.forks import Forks

    given = client.given
    definitions = given.interceptors.definitions(given.registry.get)
    return Forks(given.transport, given.store, given.codec, definitions)


def queries(client: Client) -> QueryClient:
    """Return the part that sends queries."""
    from mini_workflow.engine.queries import QueryClient

    return QueryClient(client.given.transport, client.given.codec)


def updates(client: Client) -> Updates:
    """Return the part that sends updates."""
    from mini_workflow.engine.updates import Updates

    given = client.given
    return Updates(given.transport, given.store, given.codec, client.again)


def start_executions(client: Client) -> StartExecutions:
    """Start many executions at once: see `StartExecutions.__call__`."""
    from mini_workflow.engine.starts import StartExecutions

    return StartExecutions(client, client.given.transport)


def update_with_start(client: Client) -> UpdateWithStart:
    """Start an execution with an update: see `UpdateWithStart.__call__`."""
    from mini_workflow.engine.updates import UpdateWithStart

    return UpdateWithStart(client)


def debounce(client: Client) -> Debounce:
    """Start an execution when calls have ceased: see `Debounce.__call__`."""
    from mini_workflow.engine.debounce import Debounce

    return Debounce(client)


def schedules(client: Client) -> Schedules:
    """Return the schedules of the store, to create and to list them."""
    from mini_workflow.engine.schedules import Schedules

    return Schedules(client, client.given.registry)


def limits(client: Client) -> Limits:
    """Return the limits of the store, to look at them and to change them."""
    from mini_workflow.engine.limits import Limits

    return Limits(client)


def looks(client: Client) -> Looks:
    """Return the part that reads histories to describe executions."""
    from mini_workflow.engine.looks import Looks
    from mini_workflow.ports.heartbeats import heartbeats_of

    return Looks(client.given.store, heartbeats_of(client.given.transport.streams))
