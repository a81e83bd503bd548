"""The first load of a page, by counts: few requests, few bytes, and nothing from another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from tests.ui.conftest import HOST
from tests.ui.flows import fan_out, order
from tests.waiting import WAIT, eventually

REQUESTS = 4
"""The page, its style, its script and its icon."""

KILOBYTES = 250
"""Of all of them together, as they are sent, without compression."""


class Loaded(HTMLParser):
    """What a browser asks for by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        if tag == "link":
            self.addresses.append(known["href"])
        elif "src" in known or "srcset" in known:
            self.addresses.append(known.get("src") or known["srcset"])
        assert "style" not in known
        assert tag not in ("iframe", "object", "embed", "base")


def loaded_by(browser: TestClient, address: str) -> dict[str, bytes]:
    """The answers to all that opening a page asks for, by address."""
    page = browser.get(address)
    assert page.status_code == 200
    found = {address: page.content}
    reader = Loaded()
    reader.feed(page.text)
    waiting = [urljoin(f"{HOST}{address}", one) for one in reader.addresses]
    while waiting:
        asked = waiting.pop()
        if asked in found:
            continue
        assert urlsplit(asked).netloc == urlsplit(HOST).netloc, asked
        answer = browser.get(asked)
        assert answer.status_code == 200, asked
        found[asked] = answer.content
        if asked.endswith(".css"):
            inside = re.findall(r"url\([\"']?([^\"')]+)|@import [\"']([^\"']+)", answer.text)
            names = [one or other for one, other in inside]
            waiting += [urljoin(asked, n) for n in names if not n.startswith(("data:", "#"))]
        if asked.endswith(".js"):
            assert not re.search(r"\bimport\b|https?://", answer.text)
    return found


@pytest.fixture
def filled(runtime: LocalRuntime) -> None:
    runtime.start_executions(order, [(str(number),) for number in range(60)])
    runtime.start_execution(fan_out, 150, id="f-1").result(WAIT)
    eventually(lambda: not any(one.busy for one in runtime.list_executions(status="running")))


@pytest.mark.parametrize(
    "address",
    [
        "/executions",
        "/executions/f-1",
        "/workflows",
        "/schedules",
        "/limits",
        "/workers",
        "/doctor",
    ],
)
def test_a_first_load_is_small_and_from_this_host(
    filled: None, browser: TestClient, address: str
) -> None:
    found = loaded_by(browser, address)
    size = sum(map(len, found.values()))
    assert len(found) <= REQUESTS, list(found)
    assert size <= KILOBYTES * 1024, {name: len(text) for name, text in found.items()}
    # And no page may ask for more: its policy forbids every other host.
    policy = browser.get(address).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "http" not in policy
