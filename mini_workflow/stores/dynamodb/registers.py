"""TableRegisters: an item for each turn of an execution; the newest has the present state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from mini_workflow.core.records import replace
from mini_workflow.errors import StoreCorrupt
from mini_workflow.stores.dynamodb.table import Item, Table
from mini_workflow.stores.s3 import execution_object as form
from mini_workflow.stores.s3 import tombstone
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.stores.s3.object_store import SEGMENTS
from mini_workflow.stores.s3.tombstone import Tombstone

INLINE_UP_TO: Final = 16 * 1024
"""Bytes of a turn that its item holds. A larger turn is an object in the bucket that the item names: above
some 8 KB that is cheaper (docs/cost.md), and an item has 400 KB at most (DynamoDB quotas). Our own
bound."""

MARKED_FOR: Final = 30 * 86_400
"""Seconds for which the place of a deleted execution is marked, so that late messages are recognized: as
long as in the bucket. DynamoDB removes the item within days after."""

_READ_FIRST: Final = 40
"""Turns that the first read of an execution fetches. Our own bound."""

_READ_AT_ONCE: Final = 1_000
"""Turns that a later read fetches at most. Our own bound: a segment holds far fewer, and so does one call
of DynamoDB, with 1 MB."""

_FIRST: Final = f"{1:012}"
"""The place of the first turn of the first execution with an id."""

_EXECUTION: Final = "execution/"
"""The beginning of the keys of executions in the table."""


class TableRegisters:
    """Registers in a table. The fence is the place of the next turn, which is written only if it is free,
    so that no turn reads before it writes. An etag is the place of the newest turn and its writer.
    """

    def __init__(self, table: Table, bucket: Bucket, now: Callable[[], float] = time.time) -> None:
        self._table = table
        self._bucket = bucket
        self._now = now

    def get(self, execution_id: str) -> ExecutionObject | Tombstone | None:
        """See `Registers.get`."""
        while True:
            items = self._table.newest(_EXECUTION + execution_id, _READ_FIRST)
            if not items:
                return None
            newest = items.pop(0)
            try:
                return self._whole(execution_id, newest, items)
            except StoreCorrupt:
                # What others remove meanwhile, as in a deletion, is no damage: they wrote a turn before.
                if self._is_newest(execution_id, newest):
                    raise

    def look(self, execution_id: str) -> ExecutionObject | Tombstone | None:
        """See `Registers.look`."""
        items = self._table.newest(_EXECUTION + execution_id, 1)
        if not items:
            return None
        stone = tombstone.decode(items[0].text.encode(), "")
        if stone is not None:
            return replace(stone, etag=_etag(items[0].order, stone))
        header = form.decode_header(items[0].text.encode())
        if header is None:
            raise StoreCorrupt(f"turn {items[0].order} of execution {execution_id!r} has no head")
        return replace(header, etag=_etag(items[0].order, header))

    def changed(self, execution_id: str, etag: str) -> bool:
        """See `Registers.changed`."""
        found = self.look(execution_id)
        return found is None or found.etag != etag

    def write(
        self, execution_id: str, value: ExecutionObject | Tombstone, events: int, etag: str | None
    ) -> str | None:
        """See `Registers.write`."""
        order = _FIRST if etag is None else _next(etag)
        key, expires = _EXECUTION + execution_id, None
        if isinstance(value, Tombstone):
            item = Item(order, tombstone.encode(value).decode())
            expires = int(self._now()) + MARKED_FOR
            if value.finished:
                # A late start that has seen no execution must not become the first turn again.
                self._table.put(key, replace(item, order=_FIRST), expires)
        else:
            body = form.encode(replace(value, tail=value.tail[len(value.tail) - events :]))
            item = Item(order, body.decode())
            if len(body) > INLINE_UP_TO:
                # Below the segments, so that it is deleted with them.
                at = f"{SEGMENTS}{execution_id}/{order}-{value.writer}.json"
                self._bucket.put(at, body)
                item = Item(order, body[: body.index(b"\n") + 1].decode(), at)
        return _etag(order, value) if self._table.create(key, item, expires) else None

    def compact(self, execution_id: str, etag: str) -> None:
        """See `Registers.compact`. The place of the first turn stays taken."""
        key, last = _EXECUTION + execution_id, etag.partition(".")[0]
        while orders := self._table.orders(key, after=_FIRST, before=last, limit=1_000):
            self._table.delete(key, orders)
        self._table.put(key, Item(_FIRST))

    def _is_newest(self, execution_id: str, item: Item) -> bool:
        return [one.order for one in self._table.newest(_EXECUTION + execution_id, 1)] == [
            item.order
        ]

    def _whole(
        self, execution_id: str, newest: Item, items: list[Item]
    ) -> ExecutionObject | Tombstone:
        """Return the execution whose newest turn is given, with all events that are not sealed."""
        found = self._decode(newest)
        if isinstance(found, Tombstone):
            return found
        tail = self._tail(execution_id, found, newest.order, items)
        if tail is None:
            raise StoreCorrupt(
                f"turns of execution {execution_id!r} before {newest.order} are gone"
            )
        return replace(found, tail=tail)

    def _decode(self, item: Item) -> ExecutionObject | Tombstone:
        """Return the content of an item; of an execution only the events of the item's own turn."""
        body = item.text.encode()
        stone = tombstone.decode(body, "")
        if stone is not None:
            return replace(stone, etag=_etag(item.order, stone))
        if item.at:
            found = self._bucket.get(item.at)
            if found is None:
                raise StoreCorrupt(f"the turn {item.at!r} is gone from the bucket")
            body = found.body
        document = form.decode(body, "")
        return replace(document, etag=_etag(item.order, document))

    def _tail(
        self, execution_id: str, document: ExecutionObject, order: str, items: list[Item]
    ) -> tuple[str, ...] | None:
        """Return all events that are not sealed; None if some are gone. `items` are the earlier ones."""
        wanted = document.length - document.sealed
        tails, found = [document.tail], len(document.tail)
        while found < wanted:
            if not items:
                # As many as are left, if each holds as many events as the items before.
                rest = -(-(wanted - found) * len(tails) // max(found, 1))
                limit = min(max(rest, _READ_FIRST), _READ_AT_ONCE)
                items = self._table.newest(_EXECUTION + execution_id, limit, order)
                if not items:
                    return None
            item = items.pop(0)
            order = item.order
            older = self._decode(item)
            if isinstance(older, Tombstone):
                return None
            tails.append(older.tail)
            found += len(older.tail)
        events = [line for tail in reversed(tails) for line in tail]
        return tuple(events[len(events) - wanted :])


def _etag(order: str, value: ExecutionObject | Tombstone) -> str:
    return f"{order}.{value.writer}"


def _next(etag: str) -> str:
    return f"{int(etag.partition('.')[0]) + 1:012}"
