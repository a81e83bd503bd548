"""The table of all kinds of values, by the tags under which they are stored."""

from __future__ import annotations

from typing import Any, Final

from mini_workflow.codecs.containers import CONTAINERS
from mini_workflow.codecs.exceptions import EXCEPTION
from mini_workflow.codecs.kinds import Kind
from mini_workflow.codecs.objects import OBJECTS, tag_of
from mini_workflow.codecs.payload_codecs import ENCODED, ENCODED_KIND
from mini_workflow.codecs.pickled import DILL, PICKLE, show_opaque
from mini_workflow.codecs.scalars import SCALARS

_OPAQUE: Final = Kind(
    (),
    lambda encoder, value: encoder.pickled(value),
    lambda decoder, tagged: decoder.load_opaque(tagged),
    lambda _decoder, tagged: show_opaque(tagged),
)

KINDS: Final[dict[str, Kind]] = {
    **SCALARS,
    **CONTAINERS,
    **OBJECTS,
    "exception": EXCEPTION,
    ENCODED: ENCODED_KIND,
    PICKLE: _OPAQUE,
    DILL: _OPAQUE,
}

_BY_TYPE: Final = {type_: kind for kind in KINDS.values() for type_ in kind.types}


def kind_of(type_: type[Any]) -> Kind:
    """Return the kind of the values of exactly this class. Values without another kind are pickled."""
    kind = _BY_TYPE.get(type_)
    if kind is None:
        # In some versions of Python the class is in a submodule of the package that is named.
        kind = _BY_TYPE.get(f"{type_.__module__.partition('.')[0]}.{type_.__qualname__}")
    if kind is not None:
        return kind
    tag = tag_of(type_) or ("exception" if issubclass(type_, BaseException) else PICKLE)
    return KINDS[tag]
