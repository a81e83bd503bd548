"""Texts from elsewhere, so that they cannot steer a terminal or forge a line of a log."""

from __future__ import annotations

import logging
import re
import traceback
from typing import Final

_UNSAFE: Final = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # what terminals obey, but for tab and newline
    r"\u2028\u2029"  # what some programs take for the end of a line
    r"\u202a-\u202e\u2066-\u2069"  # what changes the direction of writing
    r"\ud800-\udfff"  # what no encoding can say
)
_IN_TEXT: Final = f"[{_UNSAFE}]"
_IN_LINE: Final = f"[{_UNSAFE}\t\n]"
_COLOUR: Final = r"(\x1b\[(?:0|1|3[0-7]|9[0-7])m)"
"""Colours, as the command line itself makes them; they are harmless."""

LOGGERS: Final = (
    "mini_workflow.engine",
    "mini_workflow.workflow",
    "mini_workflow.runtimes.aws",
    "mini_workflow.runtimes.aws.turns",
)
"""The loggers that the library writes to."""

_OWN: Final = __file__.removesuffix("printable.py")


def printable(text: str, *, line: bool = True, json: bool = False, colours: bool = False) -> str:
    r"""Return the text with control characters and the like escaped, as in ``\x1b``.

    As a `line`, newlines and tabs are escaped as well. In `json` the escapes are those of JSON, so
    that it says the same; `colours` leaves those of the command line.
    """
    unsafe = _IN_LINE if line else _IN_TEXT
    if re.search(unsafe, text) is None:
        return text
    if colours:
        parts = re.split(_COLOUR, text)
        parts[::2] = [printable(part, line=line) for part in parts[::2]]
        return "".join(parts)
    if json:
        return re.sub(unsafe, lambda found: f"\\u{ord(found[0]):04x}", text)
    return re.sub(unsafe, lambda found: ascii(found[0])[1:-1], text)


class _OneLine(logging.Filter):
    """Makes records of the library printable: a message is one line, and a traceback is indented.

    What workflows and tasks log themselves is left as it is.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        if not record.pathname.startswith(_OWN):
            return True
        message = record.getMessage()
        safe = printable(message)
        if safe != message:
            record.msg, record.args = safe, ()
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            lines = "".join(traceback.format_exception(record.exc_info[1])).splitlines()
            record.exc_text = "\n".join(f"  {printable(one)}" for one in lines)
        return True


def protect_logs() -> None:
    """Have what the library logs be printable, whatever handlers there are."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, _OneLine) for one in logger.filters):
            logger.addFilter(_OneLine())
