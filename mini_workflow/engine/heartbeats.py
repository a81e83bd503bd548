"""Heartbeats: what people read of the last ones of attempts that run."""

from __future__ import annotations

from mini_workflow.core.codec import Codec
from mini_workflow.core.payload import Payload
from mini_workflow.errors import SerializationError
from mini_workflow.ports.heartbeats import Heartbeat


def details_of(beat: Heartbeat, codec: Codec) -> object:
    """Return the details of a heartbeat as people read them; nothing of the store's code runs."""
    if beat.details is None:
        return None
    try:
        return codec.show(Payload(text=beat.details))
    except SerializationError:
        return beat.details
