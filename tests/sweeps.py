"""Which calls of the sweeps go wrong: each n-th one, beginning with another one at each commit, so that n
commits have all of them. SWEEP=all asks for all in one run, as `make sweep` does, and SWEEP=less for
those that are enough on a second Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import count, islice
from typing import Final

from tests.paths import ROOT


def _commit() -> int:
    """The number of the commit; zero where the tests are no checkout, or there is no git."""
    if shutil.which("git") is None:
        return 0
    asked = ["git", "rev-list", "--count", "HEAD"]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return int(answer.stdout or "0")


_ASKED = os.environ.get("SWEEP")
_COMMIT = 0 if _ASKED == "all" else _commit()

EVERY: Final = 3 if _ASKED == "less" else 1
"""The sweeps of the laws in memory with all in the cache crash at each n-th call."""

FIRST: Final = _COMMIT % EVERY
"""How many calls they leave out at the beginning."""

OTHERS_EVERY: Final = {"all": 1, "less": 9}.get(_ASKED or "", 3)
"""The same of the other sweeps: in files and databases, with nothing cached, with a second crash."""

OTHERS_FIRST: Final = _COMMIT % OTHERS_EVERY


def calls_of(number: int | None = None, every: int = OTHERS_EVERY) -> islice[int]:
    """The calls at which this run has something go wrong, counted from 1, of so many or without an end:
    each n-th one of them.
    """
    step = 1 if _ASKED == "all" else every
    return islice(count(1), _COMMIT % step, number, step)
