"""Tables of DynamoDB as far as the engine uses them, in this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Item = dict[str, Any]

BATCH = 25
"""Items in one call (DynamoDB API Reference, BatchWriteItem)."""

LARGEST = 400 * 1024
"""Bytes of an item (DynamoDB quotas)."""


@dataclass(slots=True)
class Tables:
    """The items of one table, by their keys. Of a batch `refused` items are not processed, once."""

    items: dict[tuple[str, str], Item] = field(default_factory=dict[tuple[str, str], Item])
    refused: int = 0
    written: int = 0
    """Units that were written: one for each KiB of an item that has begun."""
    read: int = 0
    """Units that were read: one for each 4 KiB that has begun."""

    def answer(self, call: str, plain: Item) -> tuple[int, Item]:
        """Do what a call asks for; the status and the answer."""
        return getattr(self, "_" + call.lower())(plain)

    def _putitem(self, plain: Item) -> tuple[int, Item]:
        item = plain["Item"]
        place, old = _place(item), self.items.get(_place(item))
        assert size(item) <= LARGEST
        self.written += _units(item, 1024)
        if "ConditionExpression" in plain and old is not None:
            assert plain["ConditionExpression"] == "attribute_not_exists(id)"
            error = {"__type": "ConditionalCheckFailedException", "message": "no", "Item": old}
            return 400, error
        self.items[place] = item
        return 200, {}

    def _getitem(self, plain: Item) -> tuple[int, Item]:
        found = self.items.get(_place(plain["Key"]))
        self.read += _units(found or {}, 4096)
        return 200, {} if found is None else {"Item": found}

    def _batchwriteitem(self, plain: Item) -> tuple[int, Item]:
        ((table, entries),) = plain["RequestItems"].items()
        assert len(entries) <= BATCH
        left, self.refused = entries[: self.refused], 0
        for entry in entries[len(left) :]:
            gone = self.items.pop(_place(entry["DeleteRequest"]["Key"]), {})
            self.written += _units(gone, 1024)
        return 200, {"UnprocessedItems": {table: left} if left else {}}

    def _query(self, plain: Item) -> tuple[int, Item]:
        assert plain["ConsistentRead"]
        names = plain["ExpressionAttributeNames"]
        values = plain["ExpressionAttributeValues"]
        assert names == {"#key": "id", **({"#order": "turn"} if "#order" in names else {})}
        key, _, order = plain["KeyConditionExpression"].partition(" AND ")
        assert key == "#key = :key"
        sign = order.split()[1] if order else ""
        bound = values.get(":place", {}).get("S", "")
        found = sorted(
            (place[1], item)
            for place, item in self.items.items()
            if place[0] == values[":key"]["S"]
            and (not sign or (place[1] < bound if sign == "<" else place[1] > bound))
        )
        if not plain["ScanIndexForward"]:
            found.reverse()
        items, taken = [item for _, item in found[: plain["Limit"]]], 0
        for number, item in enumerate(items):
            taken += size(item)
            if taken > 1024 * 1024 and number:
                items = items[:number]
                break
        self.read += max(1, -(-sum(map(size, items)) // 4096))
        more = {"LastEvaluatedKey": {}} if len(items) < len(found) else {}
        if "ProjectionExpression" in plain:
            assert plain["ProjectionExpression"] == "#order"
            items = [{"turn": item["turn"]} for item in items]
        return 200, {"Items": items, **more}


def size(item: Item) -> int:
    """The bytes of an item, with the names of its attributes (DynamoDB Developer Guide, "Item sizes")."""
    return sum(len(name) + len(next(iter(value.values())).encode()) for name, value in item.items())


def _units(item: Item, each: int) -> int:
    return max(1, -(-size(item) // each))


def _place(item: Item) -> tuple[str, str]:
    return item["id"]["S"], item["turn"]["S"]
