"""Check tags and write them as text. Executions are found by their tags."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.validation import shown
from mini_workflow.errors import UsageError

if TYPE_CHECKING:
    from mini_workflow.core.recorder import Recorder

MAXIMUM_TAGS: Final = 20
"""Tags that an execution may have at a time. Each is a row of its own in an index, and on S3 an object
that is written at the start. Our own bound."""

MAXIMUM_TAG_NAME: Final = 64
"""Characters of the name of a tag. Our own bound."""

MAXIMUM_TAG_VALUE: Final = 256
"""Characters of the value of a tag. Our own bound."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\-]*")


def check_tags(tags: Any, *, removable: bool = False) -> dict[str, Any]:
    """Return a copy of the tags in order of their names. With `removable` a value may be None.

    Raises UsageError if a name or value is not allowed, or there are too many tags.
    """
    if not isinstance(tags, Mapping):
        raise UsageError(f'tags={tags!r}: give a mapping, as in tags={{"customer": "c-7"}}')
    given = cast("Mapping[Any, Any]", tags)
    if len(given) > MAXIMUM_TAGS:
        raise UsageError(
            f"{len(given)} tags are too many: give at most {MAXIMUM_TAGS} to an execution"
        )
    for name, value in given.items():
        if not isinstance(name, str) or len(name) > MAXIMUM_TAG_NAME or not _NAME.fullmatch(name):
            raise UsageError(
                f"{shown(name)} cannot be the name of a tag: use 1 to {MAXIMUM_TAG_NAME} letters, digits "
                "and '_', '-', '.', ':', '@', beginning with a letter, a digit or '_'"
            )
        if removable and value is None:
            continue
        if not isinstance(value, str):
            raise UsageError(
                f"tag {name!r} has the value {shown(value)}: give a text, for example by str()"
            )
        if not 0 < len(value) <= MAXIMUM_TAG_VALUE or not value.isprintable():
            raise UsageError(
                f"tag {name!r} has the value {value[:300]!r}: use 1 to {MAXIMUM_TAG_VALUE} printable "
                "characters"
            )
    return dict(sorted(given.items()))


def set_tags(recorder: Recorder, changes: dict[str, str | None]) -> None:
    """Change tags of the execution. A call that changes nothing is not recorded.

    Raises UsageError if the execution would have too many tags.
    """
    if not recorder.may_start():
        return
    before = recorder.state.tags
    after = merge_tags(before, changes)
    if len(after) > MAXIMUM_TAGS:
        raise UsageError(
            f"ctx.set_tags(): {len(after)} tags would be set, and an execution has at most "
            f"{MAXIMUM_TAGS}; give None as the value of those that it no longer needs"
        )
    if after != before:
        recorder.emit(events.TagsSet(changes))


def merge_tags(before: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return the tags after `changes`, in order of their names. A change to None removes the tag."""
    merged = {**before, **changes}
    return {name: value for name, value in sorted(merged.items()) if value is not None}


def tags_as_text(tags: Mapping[str, str] | None) -> str:
    """Return tags as the text that stores keep: a JSON object, names in order; empty without tags."""
    return json.dumps(dict(sorted(tags.items())), ensure_ascii=False) if tags else ""


def tags_from_text(text: str) -> dict[str, str]:
    """Return the tags that `tags_as_text` wrote; no tags if the text is damaged."""
    if not text:
        return {}
    try:
        plain = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(plain, dict):
        return {}
    pairs = cast("dict[str, Any]", plain).items()
    return {name: value for name, value in pairs if isinstance(value, str)}


def tags_after(text: str, taken: Iterable[Event]) -> str:
    """Return, as text, the tags of an execution after the events `taken`."""
    for event in taken:
        if type(event) is events.TagsSet:
            text = tags_as_text(merge_tags(tags_from_text(text), event.tags))
    return text
