"""Table: the items of a table of DynamoDB, in order below each key, with writes that may be retried."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from mini_workflow.core.records import frozen
from mini_workflow.errors import StoreUnavailable
from mini_workflow.settings import TABLE_EXPIRES as EXPIRES
from mini_workflow.settings import TABLE_KEY as KEY
from mini_workflow.settings import TABLE_ORDER as ORDER
from mini_workflow.stores.aws.clients import Clients, code_of, translate_errors

DELETED_AT_ONCE: Final = 25
"""Items that one call deletes (DynamoDB API Reference, BatchWriteItem)."""

TRIES: Final = 10
"""How often a call that deletes items may delete none of them, while the table gets more writes than it
takes. The pauses between grow from about 50 ms to a second. Our own bound."""

_TAKEN: Final = "ConditionalCheckFailedException"


@frozen
class Item:
    """An item: its place below its key, and its text. `at` is the key of the object in the bucket with
    the whole text, if the item has only its beginning.
    """

    order: str
    text: str = ""
    at: str = ""


class Table:
    """The items whose keys begin with a prefix. Reads see the last write.

    Every method raises StoreUnavailable if a call of DynamoDB fails.
    """

    def __init__(
        self,
        clients: Clients,
        name: Callable[[], str],
        prefix: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._clients = clients
        self._name = name
        self._prefix = prefix

    def create(self, key: str, item: Item, expires: int | None = None) -> bool:
        """Write an item unless there is one in its place. Return whether it was written.

        `item` must differ from items that others write to the same place.
        """
        options = {
            "ConditionExpression": f"attribute_not_exists({KEY})",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            self._put(key, item, expires, options)
        except _Taken as taken:
            # It may be our own: boto3 tries a write again whose answer was lost.
            return taken.by == item
        return True

    def put(self, key: str, item: Item, expires: int | None = None) -> None:
        """Write an item, in the place of any other."""
        self._put(key, item, expires, {})

    def newest(self, key: str, limit: int, before: str = "") -> list[Item]:
        """Return the last items below a key, or those before a place, newest first.

        Returns `limit` of them, or fewer where they are large.
        """
        items, _ = self._page(key, "<", before, limit, forward=False)
        return items

    def orders(self, key: str, *, after: str = "", before: str = "", limit: int) -> list[str]:
        """Return the places of the first items below a key, in order, between two places if given."""
        found: list[str] = []
        more = True
        while more and len(found) < limit:
            items, more = self._page(key, ">", after, limit - len(found), forward=True, bare=True)
            found += [item.order for item in items]
            if items:
                after = items[-1].order
            if before and found and found[-1] >= before:
                return [order for order in found if order < before]
        return found

    def delete(self, key: str, orders: Sequence[str]) -> None:
        """Delete items. Harmless if there are none."""
        keys = [{KEY: {"S": self._prefix + key}, ORDER: {"S": order}} for order in orders]
        tries = 0
        while keys:
            entries = [{"DeleteRequest": {"Key": one}} for one in keys[:DELETED_AT_ONCE]]
            with self._doing("deleting", key):
                answer = self._dynamodb.batch_write_item(RequestItems={self._name(): entries})
            left = answer.get("UnprocessedItems", {}).get(self._name(), [])
            keys = [one["DeleteRequest"]["Key"] for one in left] + keys[DELETED_AT_ONCE:]
            tries = tries + 1 if len(left) == len(entries) else 0
            if tries == TRIES:
                raise StoreUnavailable(
                    f"deleting {self._prefix + key!r} in table {self._name()!r}: DynamoDB has left all "
                    f"items {TRIES} times, since the table gets more writes than it takes: try again"
                )
            if left:
                self._sleep(random.uniform(0.5, 1) * min(1.0, 0.06 * 2**tries))

    @property
    def _dynamodb(self) -> Any:
        return self._clients.get("dynamodb")

    @contextmanager
    def _doing(self, what: str, key: str) -> Generator[None]:
        with translate_errors(f"{what} {self._prefix + key!r} in table {self._name()!r}"):
            yield

    def _put(self, key: str, item: Item, expires: int | None, options: dict[str, str]) -> None:
        attributes: dict[str, Any] = {
            KEY: {"S": self._prefix + key},
            ORDER: {"S": item.order},
            **({"body": {"S": item.text}} if item.text else {}),
            **({"at": {"S": item.at}} if item.at else {}),
            **({EXPIRES: {"N": str(expires)}} if expires is not None else {}),
        }
        with self._doing("writing", key):
            try:
                self._dynamodb.put_item(TableName=self._name(), Item=attributes, **options)
            except Exception as error:
                if code_of(error) != _TAKEN:
                    raise
                old: Any = getattr(error, "response", {}).get("Item")
                raise _Taken(_item(old) if old else self._one(key, item.order)) from None

    def _one(self, key: str, order: str) -> Item | None:
        place = {KEY: {"S": self._prefix + key}, ORDER: {"S": order}}
        with self._doing("reading", key):
            found = self._dynamodb.get_item(
                TableName=self._name(), Key=place, ConsistentRead=True
            ).get("Item")
        return None if found is None else _item(found)

    def _page(
        self, key: str, sign: str, place: str, limit: int, *, forward: bool, bare: bool = False
    ) -> tuple[list[Item], bool]:
        """Return items below a key, and whether there may be more of them."""
        values = {":key": {"S": self._prefix + key}}
        condition, options = "#key = :key", dict[str, Any]()
        names = {"#key": KEY}
        if place:
            condition += f" AND #order {sign} :place"
            values[":place"] = {"S": place}
        if place or bare:
            names["#order"] = ORDER
        if bare:
            options["ProjectionExpression"] = "#order"
        with self._doing("reading", key):
            answer = self._dynamodb.query(
                TableName=self._name(),
                KeyConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
                ConsistentRead=True,
                ScanIndexForward=forward,
                Limit=limit,
                **options,
            )
        return [_item(found) for found in answer["Items"]], "LastEvaluatedKey" in answer


class TableMarkers:
    """The markers of an index in a table: the folder of each is its key, and its name its place."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def put(self, key: str, body: bytes) -> None:
        """See `Markers.put`."""
        folder, name = _parted(key)
        self._table.put(folder, Item(name))

    def delete(self, key: str) -> None:
        """See `Markers.delete`."""
        folder, name = _parted(key)
        self._table.delete(folder, [name])

    def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """See `Markers.keys`. The prefix is that of a folder."""
        names = self._table.orders(prefix, after=after[len(prefix) :], limit=limit)
        return [prefix + name for name in names]

    def folders(self, prefix: str) -> list[str]:
        """See `Markers.folders`. Returns all that there may be, without a call."""
        return [f"{prefix}{digit:x}/" for digit in range(16)]


class _Taken(Exception):
    """The place of a new item is taken."""

    def __init__(self, by: Item | None) -> None:
        self.by = by


def _item(attributes: dict[str, Any]) -> Item:
    text, at = (attributes.get(name, {}).get("S", "") for name in ("body", "at"))
    return Item(attributes[ORDER]["S"], text, at)


def _parted(key: str) -> tuple[str, str]:
    folder, slash, name = key.rpartition("/")
    return folder + slash, name
