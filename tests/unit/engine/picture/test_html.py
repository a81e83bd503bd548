"""The picture of an execution in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from mini_workflow import Context, workflow
from mini_workflow.engine.picture.folding import ROWS
from mini_workflow.engine.timeline import Timeline
from mini_workflow.testing import WorkflowEnvironment

HOSTILE = "<script>alert(1)</script>"


@workflow("pictured")
async def pictured(ctx: Context, n: int) -> None:
    await ctx.task(lambda: None, name=HOSTILE)
    await ctx.map(lambda number: number, range(n), name="load", concurrency=n or 1)
    await ctx.wait_for_signal("approve")
    raise ValueError(HOSTILE)


class Checked(HTMLParser):
    """Holds that every tag is closed, and remembers the tags and the text."""

    EMPTY = ("rect", "line", "circle", "text")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") for name, _ in attrs)
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def html_of(thing: object) -> str:
    made: str = thing._repr_html_()  # type: ignore[attr-defined]
    return made


def test_an_execution_shows_what_it_waits_for_over_its_picture() -> None:
    with WorkflowEnvironment() as runtime:
        execution = runtime.start_execution(pictured, 30, id="p-1")
        runtime.advance(0)
        shown = Checked(html_of(execution))
        assert "script" not in shown.tags
        assert HOSTILE in shown.text  # as text
        assert "p-1: Waits for signal" in shown.text
        assert "30 of 30" in shown.text
        assert shown.tags.count("details") == 1


def test_a_timeline_shows_a_failure_and_the_messages() -> None:
    with WorkflowEnvironment() as runtime:
        execution = runtime.start_execution(pictured, 0, id="p-1")
        execution.signal("approve")
        with pytest.raises(ValueError, match="script"):
            execution.result(10)
        shown = Checked(html_of(execution.timeline()))
        assert "script" not in shown.tags
        assert "messages" in shown.text
        assert "approve" in shown.text
        said = Checked(html_of(execution)).text
        assert "p-1: Failed" in said
        assert f"ValueError: {HOSTILE}" in said


def test_a_picture_of_many_events_is_small() -> None:
    with WorkflowEnvironment() as runtime:
        runtime.start_execution(pictured, 2_000, id="p-1")
        runtime.advance(0)
        html = html_of(runtime.get_execution("p-1"))
        assert Checked(html).tags.count("svg") <= ROWS
        assert len(html) < 100_000


def test_what_is_not_there_is_said_so() -> None:
    with WorkflowEnvironment() as runtime:
        execution = runtime.start_execution(pictured, 0, id="p-1")
        execution.terminate("no more")
        execution.delete()
        assert "there is no execution 'p-1'" in Checked(html_of(execution)).text
    assert Checked(html_of(Timeline([]))).text == "no events"
