"""Parts of a client, each imported and made when it is first used: a process needs a few of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

from mini_workflow.core.codec import Codec
from mini_workflow.engine.run_again import RunAgain
from mini_workflow.engine.transport import CheckedStore, Transport
from mini_workflow.interceptors import Interceptors
from mini_workflow.workflow import Registry

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client
    from mini_workflow.engine.debounce import Debounce
    from mini_workflow.engine.deletions import Deletions
    from mini_workflow.engine.forks import Forks
    from mini_workflow.engine.limits import Limits
    from mini_workflow.engine.questions import Questions
    from mini_workflow.engine.schedules import Schedules
    from mini_workflow.engine.starts import StartExecutions
    from mini_workflow.engine.updates import Updates, UpdateWithStart


class Parts:
    """What a client is made of, for the parts of it."""

    _transport: Transport
    _interceptors: Interceptors
    _store: CheckedStore
    _codec: Codec
    _registry: Registry
    again: RunAgain

    @cached_property
    def deletions(self) -> Deletions:
        """Deletes what has closed."""
        from mini_workflow.engine.deletions import Deletions

        return Deletions(self._transport, self._store)

    @cached_property
    def forks(self) -> Forks:
        """Makes forks."""
        from mini_workflow.engine.forks import Forks

        definitions = self._interceptors.definitions(self._registry.get)
        return Forks(self._transport, self._store, self._codec, definitions)

    @cached_property
    def questions(self) -> Questions:
        """Asks queries."""
        from mini_workflow.engine.questions import Questions

        return Questions(self._transport, self._codec)

    @cached_property
    def updates(self) -> Updates:
        """Sends updates."""
        from mini_workflow.engine.updates import Updates

        return Updates(self._transport, self._store, self._codec, self.again)

    @cached_property
    def start_executions(self) -> StartExecutions:
        """Starts many executions at once: see `StartExecutions.__call__`."""
        from mini_workflow.engine.starts import StartExecutions

        return StartExecutions(self._client, self._transport)

    @cached_property
    def update_with_start(self) -> UpdateWithStart:
        """Starts an execution with an update: see `UpdateWithStart.__call__`."""
        from mini_workflow.engine.updates import UpdateWithStart

        return UpdateWithStart(self._client)

    @cached_property
    def debounce(self) -> Debounce:
        """Starts an execution when calls have ceased: see `Debounce.__call__`."""
        from mini_workflow.engine.debounce import Debounce

        return Debounce(self._client)

    @cached_property
    def schedules(self) -> Schedules:
        """The schedules of the store, to create and to list them."""
        from mini_workflow.engine.schedules import Schedules

        return Schedules(self._client, self._registry)

    @cached_property
    def limits(self) -> Limits:
        """The limits of the store, to look at them and to change them."""
        from mini_workflow.engine.limits import Limits

        return Limits(self._client)

    @property
    def _client(self) -> Client:
        return cast("Client", self)
