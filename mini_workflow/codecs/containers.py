"""Write containers of Python that JSON does not have, with the values in them."""

from __future__ import annotations

import collections
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.codecs.kinds import Kind, Tagged, Unencodable, short_name
from mini_workflow.codecs.names import factory_name, load_factory
from mini_workflow.loop.ordered_set import OrderedFrozenSet, OrderedSet

if TYPE_CHECKING:
    from mini_workflow.codecs.decoding import Decoder
    from mini_workflow.codecs.encoding import Encoder


def step_to(key: Any) -> str:
    """Return the step from a dict to the item of a key, for a path."""
    return f"[{json.dumps(key, ensure_ascii=False)}]" if isinstance(key, str) else f"[{key!r}]"


def _encode_dict(encoder: Encoder, value: dict[Any, Any]) -> Any:
    tree: Tagged = {}
    for key, item in value.items():
        if type(key) is not str or key == "$":
            return {"$": "dict", "v": encoder.pairs(value)}
        try:
            tree[encoder.encode(key)] = encoder.encode(item)
        except Unencodable as stop:
            stop.place.append(step_to(key))
            raise
    return tree


def _encode_set(encoder: Encoder, value: set[Any] | frozenset[Any]) -> Tagged:
    trees = [encoder.part(item, f"{{{item!r}}}") for item in value]
    # In a fixed order, so that equal sets have equal trees in every process.
    trees.sort(key=lambda tree: json.dumps(tree, sort_keys=True))
    return {"$": "frozenset" if isinstance(value, frozenset) else "set", "v": trees}


def _encode_ordered_dict(encoder: Encoder, value: dict[Any, Any]) -> Any:
    if vars(value):
        return encoder.opaque(value)
    return {"$": type(value).__name__, "v": encoder.pairs(value)}


def _from_pairs(make: Callable[[Any], Any]) -> Callable[[Decoder, Tagged], Any]:
    return lambda decoder, tagged: make(decoder.pairs(tagged["v"]))


def _encode_default_dict(encoder: Encoder, value: collections.defaultdict[Any, Any]) -> Any:
    factory: Any = value.default_factory
    name = None if factory is None else factory_name(factory)
    if factory is not None and name is None:
        return encoder.opaque(value)
    return {"$": "defaultdict", "factory": name, "v": encoder.pairs(value)}


def _decode_default_dict(decoder: Decoder, tagged: Tagged) -> Any:
    name = tagged["factory"]
    factory = None if name is None else load_factory(name, decoder.load_class)
    return collections.defaultdict(factory, decoder.pairs(tagged["v"]))


def _show_default_dict(decoder: Decoder, tagged: Tagged) -> str:
    return f"defaultdict({short_name(tagged['factory'])}, {decoder.pairs(tagged['v'])!r})"


CONTAINERS: Final[dict[str, Kind]] = {
    "tuple": Kind(
        (tuple,),
        lambda encoder, value: {"$": "tuple", "v": encoder.items(value)},
        lambda decoder, tagged: tuple(decoder.items(tagged["v"])),
    ),
    "set": Kind(
        (set, OrderedSet), _encode_set, lambda decoder, tagged: decoder.members(set, tagged)
    ),
    "frozenset": Kind(
        (frozenset, OrderedFrozenSet),
        _encode_set,
        lambda decoder, tagged: decoder.members(frozenset, tagged),
    ),
    "slice": Kind(
        (slice,),
        lambda encoder, value: {
            "$": "slice",
            "v": encoder.items((value.start, value.stop, value.step)),
        },
        lambda decoder, tagged: slice(*decoder.items(tagged["v"])),
    ),
    "deque": Kind(
        (collections.deque,),
        lambda encoder, value: {
            "$": "deque",
            "maxlen": value.maxlen,
            "v": encoder.items(value),
        },
        lambda decoder, tagged: collections.deque(decoder.items(tagged["v"]), tagged["maxlen"]),
    ),
    "dict": Kind((dict,), _encode_dict, lambda decoder, tagged: decoder.pairs(tagged["v"])),
    "OrderedDict": Kind(
        (collections.OrderedDict,), _encode_ordered_dict, _from_pairs(collections.OrderedDict)
    ),
    "Counter": Kind((collections.Counter,), _encode_ordered_dict, _from_pairs(collections.Counter)),
    "defaultdict": Kind(
        (collections.defaultdict,), _encode_default_dict, _decode_default_dict, _show_default_dict
    ),
}
"""The kinds of containers by tag. A dict has its tag only if JSON cannot express a key, or a key is a tag."""
