"""Sends values and calls across a boundary, and tells what comes back from what was sent."""

import collections
import datetime as dt
import decimal
import enum
import functools
import json

from mini_workflow.codecs import StandardCodec, closures
from mini_workflow.core.payload import Payload
from tests.unit.codecs.samples import (
    Money,
)

CODEC = StandardCodec()
KIND = len(closures._HEADER)


def round_trip(value, codec=CODEC):
    """Through the text and through the tree, as both stores and replays do."""
    payload = codec.encode(value, "result")
    from_text = codec.decode(Payload(text=payload.text))
    from_tree = codec.decode(Payload(tree=json.loads(payload.text)))
    assert type(from_text).__qualname__ == type(from_tree).__qualname__
    return from_tree if len(payload.text) % 2 else from_text


def outline(value):
    """What tells a value from every other: types, order, and what equality overlooks."""
    kind = type(value)
    if isinstance(value, (float, complex, decimal.Decimal)):
        return kind, repr(value)
    if isinstance(value, dict):
        inner = [(outline(key), outline(item)) for key, item in value.items()]
        return kind, inner, getattr(value, "default_factory", None)
    if isinstance(value, (list, tuple, collections.deque)):
        return kind, [outline(item) for item in value], getattr(value, "maxlen", None)
    if isinstance(value, (set, frozenset)):
        return kind, sorted((outline(item) for item in value), key=repr)
    if isinstance(value, dt.datetime):
        return kind, value.replace(tzinfo=None), value.fold, repr(value.tzinfo)
    if isinstance(value, Money):
        return kind, outline(value.amount), value.currency
    if hasattr(kind, "__pydantic_fields__"):
        return kind, outline(value.__getstate__())
    if type(getattr(value, "__dict__", None)) is dict and not isinstance(value, enum.Enum):
        return kind, outline(vars(value))
    return kind, value


def same(one, other):
    return outline(one) == outline(other)


def restored(function, *args, **kwargs):
    """A function that makes the restored call."""
    again, args, kwargs = CODEC.restore(CODEC.capture(function, args, kwargs))
    return functools.partial(again, *args, **kwargs)


def is_dilled(payload):
    return payload[KIND : KIND + 1] == b"D"
