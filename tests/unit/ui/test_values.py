"""Values as trees."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

from mini_workflow.codecs.decoding import Shown
from mini_workflow.engine.timeline import Unreadable
from mini_workflow.ui.values import COPIED, DEEPEST, LONGEST, MOST, json_of, tree_of


def test_values_are_shown_with_their_types_where_these_say_more() -> None:
    node = tree_of({"price": Decimal("42.50"), "n": 3, "who": None, "to": ["a", "b"]}, "order")
    shown = {one.name: (one.text, one.kind) for one in node.items}
    assert shown["price"] == ("42.50", "Decimal")
    assert shown["n"] == ("3", "")
    assert shown["who"] == ("None", "")
    assert shown["to"] == ("", "list, 2")
    assert [one.text for one in node.items[3].items] == ['"a"', '"b"']


def test_nothing_is_cut_without_saying_how_much_is_left() -> None:
    assert tree_of("x" * (LONGEST + 7)).left_out == "7 characters more"
    long = tree_of(list(range(MOST + 5)))
    assert len(long.items) == MOST
    assert long.left_out == "5 more"


def test_what_cannot_be_read_is_shown_as_it_is_stored() -> None:
    node = tree_of(Unreadable('{"$":"x"}', "no such class"))
    assert node.text == '{"$":"x"}'
    assert "no such class" in node.kind
    assert tree_of(Shown("shop:Money(amount='42.50')")).text == "shop:Money(amount='42.50')"


def test_a_deep_value_ends_somewhere() -> None:
    value: list[object] = []
    for _ in range(100):
        value = [value]
    node, depth = tree_of(value), 0
    while node.items:
        node, depth = node.items[0], depth + 1
    assert depth == DEEPEST
    assert node.text.startswith("[")


def test_a_value_is_copied_as_json_and_what_is_too_long_is_not() -> None:
    value = {"at": date(2026, 5, 4), "price": Decimal("1.10"), "of": (1, {2})}
    assert json.loads(json_of(value)) == {"at": "2026-05-04", "price": "1.10", "of": [1, [2]]}
    assert json_of({(1, 2): 3}) == "{(1, 2): 3}"
    assert json_of(Unreadable('"raw"', "no key")) == json.dumps('"raw"')
    assert json_of("x" * COPIED) == ""
