"""Escape texts from outside, so that they cannot control a terminal or forge a line of a log."""

from __future__ import annotations

import logging
import re
import traceback
from typing import Final

_UNSAFE: Final = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters of terminals, except tab and newline
    r"\u2028\u2029"  # ends of a line for some programs
    r"\u202a-\u202e\u2066-\u2069"  # changes of the direction of writing
    r"\ud800-\udfff"  # surrogates, which no encoding has
)
_IN_TEXT: Final = f"[{_UNSAFE}]"
_IN_LINE: Final = f"[{_UNSAFE}\t\n]"
_COLOUR: Final = r"(\x1b\[(?:0|1|3[0-7]|9[0-7])m)"
"""The colours that the command line itself writes. They are harmless."""

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

    With `line`, newlines and tabs are escaped too. With `json` the escapes are those of JSON, so that the
    text keeps its meaning; with `colours` the colours of the command line stay.
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
    """Makes log records of the library printable: a message is one line, and a traceback is indented.

    Records of workflows and tasks themselves stay as they are.
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
            record.exc_text = "\n".join(f"  {printable(line)}" for line in lines)
        return True


def protect_logs() -> None:
    """Make all log records of the library printable, for any logging handler."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, _OneLine) for known in logger.filters):
            logger.addFilter(_OneLine())
