"""Which calls of the widest sweeps go wrong: every third one, beginning with another one at each commit, so
that three commits have all of them. SWEEP_ALL=yes asks for all in one run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import count, islice
from typing import Final

from tests.paths import ROOT

EVERY: Final = 3


def _commit() -> int:
    """The number of the commit; zero where the tests are no checkout, or there is no git."""
    if shutil.which("git") is None:
        return 0
    asked = ["git", "rev-list", "--count", "HEAD"]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return int(answer.stdout or "0")


_ALL = "SWEEP_ALL" in os.environ
_COMMIT = 0 if _ALL else _commit()


def calls_of(number: int | None = None, every: int = EVERY) -> islice[int]:
    """The calls at which this run has something go wrong, counted from 1, of so many or without an end:
    each n-th one of them.
    """
    step = 1 if _ALL else every
    return islice(count(1), _COMMIT % step, number, step)
