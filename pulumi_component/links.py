"""Link functions to engines.

The settings of each engine are in variables that begin with the engine's name (`of_engine` in
`mini_workflow/settings.py` reads them). The engine that a function belongs to, or the only one that
it is linked to, has the settings by their plain names too: those that `AWSRuntime.from_env()` reads.
"""

import itertools
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import pulumi

from mini_workflow import settings
from pulumi_component import inputs
from pulumi_component.args import Link
from pulumi_component.errors import BadOption

_PARTS: MutableMapping[pulumi.Resource, Link] = WeakKeyDictionary()
"""The nodes of engines that can be linked alone."""

OWN = ""
"""In place of an engine's name: the link is that of an engine to its own functions."""

Links = Sequence[Any] | pulumi.Output[Any]
"""Links, or an output of a list of them."""


def given(link: inputs.List) -> Links:
    """Return what comes with each link: of a component that can be linked, or given as it is.

    Raises BadOption for what is no link.
    """
    if isinstance(link, pulumi.Output):
        return link.apply(lambda items: pulumi.Output.all(*(_linked(item) for item in items)))
    parts: dict[str, list[Link]] = {}
    found: list[Any] = []
    for item in link:
        part = _PARTS.get(item) if isinstance(item, pulumi.Resource) else None
        if part is None:
            found.append(_linked(item))
        else:
            parts.setdefault(part.get("engine", ""), []).append(part)
    found += [joined(of_one) for of_one in parts.values()]
    if any(isinstance(one, pulumi.Output) for one in found):
        return pulumi.Output.all(*found)
    return found


def offer(node: pulumi.Resource, link: Link) -> None:
    """Let `link=[node]` give this."""
    _PARTS[node] = link


def joined(parts: Sequence[Link]) -> Link:
    """Join the links of one engine."""

    def each_once(lists: Sequence[Any]) -> list[Any]:
        grants: list[Any] = []
        for grant in itertools.chain.from_iterable(lists):
            if grant not in grants:
                grants.append(grant)
        return grants

    granted: Any = pulumi.Output.all(*(part["permissions"] for part in parts)).apply(each_once)
    variables = {key: value for part in parts for key, value in part["environment"].items()}
    return {
        "engine": parts[0].get("engine", OWN),
        "environment": variables,
        "permissions": granted,
    }


def as_output(link: Link) -> pulumi.Output[Link]:
    """Return a link as one output."""
    return pulumi.Output.all(**link)  # type: ignore[return-value]


def of_engine(links: Links) -> bool:
    """Return whether they are the links of one of an engine's own functions."""
    known = [] if isinstance(links, pulumi.Output) else links
    return any(isinstance(one, Mapping) and one.get("engine") == OWN for one in known)


def permissions(links: Links) -> pulumi.Output[list[Any]]:
    """Return all that the links allow."""
    if isinstance(links, pulumi.Output):
        return links.apply(_permissions)
    return pulumi.Output.all(*(one["permissions"] for one in links)).apply(
        lambda lists: [permission for one in lists for permission in one]
    )


def _permissions(links: Sequence[Any]) -> list[Any]:
    return [permission for one in links for permission in one["permissions"]]


def environment(links: Links, own: inputs.Map) -> inputs.Map:
    """Return the variables of the links, and those that are the function's own.

    In one map whose values may be outputs, as far as the names are known; else one output. Raises
    BadOption, or has the output raise it, if two of them set the same variable.
    """
    if isinstance(links, pulumi.Output) or isinstance(own, pulumi.Output):
        known = links if isinstance(links, pulumi.Output) else pulumi.Output.all(*links)
        return pulumi.Output.all(known, own).apply(lambda both: _merged(*both))
    return _merged(links, own)


def _merged(links: Sequence[Any], own: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for variables, origin in [*_variables(links), (own, "environment")]:
        for name, value in variables.items():
            if name in origins:
                raise BadOption(
                    f"{origin}: {name} is set by {origins[name]} too; a variable can have one value"
                )
            found[name], origins[name] = value, origin
    return found


def _variables(links: Sequence[Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Return the variables of each link, under the names that they have in the function."""
    own = any(one.get("engine") == OWN for one in links)
    named = [one for one in links if one.get("engine")]
    for one in links:
        name = one.get("engine")
        if not name:
            yield one["environment"], "the engine" if name == OWN else "a link"
            continue
        prefix = settings.prefix_of(name)
        yield {prefix + key: value for key, value in one["environment"].items()}, f"link to {name}"
        if not own and len(named) == 1:
            yield one["environment"], f"link to {name}"


def _linked(item: Any) -> Any:
    # An output has every attribute.
    link = item if isinstance(item, pulumi.Output) else getattr(item, "linked", item)
    if isinstance(link, pulumi.Output):
        return link
    if not isinstance(link, Mapping) or not {"environment", "permissions"} <= link.keys():
        raise BadOption(
            f"link: {item!r} is not an engine, nor its output link, nor one of its nodes history, "
            "events and orchestrator"
        )
    if isinstance(link["environment"], pulumi.Output):
        return pulumi.Output.all(**link)
    return link
