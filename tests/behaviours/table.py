"""The table of behaviours, in docs/behaviours.md: which tests each of them has."""

from __future__ import annotations

import re
from typing import Final

from tests.paths import ROOT

DOCUMENT: Final = (ROOT / "docs" / "behaviours.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$", re.MULTILINE)

TABLE: Final = {
    int(number): re.findall(r"`(test_\w+)`", names) for number, _, names in _ROW.findall(DOCUMENT)
}
"""Number of a behaviour -> its tests, in their order."""

FIRST: Final = frozenset(names[0] for names in TABLE.values() if names)
"""One test of each behaviour, which also runs on the emulator of AWS."""
