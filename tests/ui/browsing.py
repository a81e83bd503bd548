"""A browser for the tests of a module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, expect, sync_playwright

from tests.left_out import left_out
from tests.waiting import WAIT

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

expect.set_options(timeout=WAIT * 1000)


# Not of the session: as long as Playwright is open, its loop counts as running in this thread, and
# no test of another module could call asyncio.run().
def open_chromium() -> Iterator[Browser]:
    """Open a browser, for a fixture."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        left_out("the pages in a browser", f"none of {', '.join(PROGRAMS)} is on the PATH")
    with sync_playwright() as playwright:
        # As root Chromium does not start in its sandbox; what it opens here is our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
