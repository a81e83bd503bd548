"""`make demo`, or `python -m example FILE`: the example with a crash in the middle."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path

from example.demo.upload import Upload, UploadRefused

README = Path(__file__).resolve().parent.parent / "README.md"

HELP = """\
Upload a file through a durable workflow, kill -9 the process that runs it
half-way, start another one on the same SQLite file, and watch it go on where
the first one was, without putting the object a second time.

The workflow is in example/workflow.py. It runs as it would against AWS; the
demo serves S3 on loopback, needs no network and no AWS account, and writes
nothing outside of a temporary directory.
"""

EPILOG = """\
exit status: 0 when everything went as told, 1 when it did not, 2 when the
file cannot be uploaded, 130 after Ctrl-C. No process is left behind.
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m example",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=README,
        help="the text file (UTF-8) to upload; by default the README of the project",
    )
    try:
        upload = Upload.from_file(parser.parse_args(arguments).file)
    except UploadRefused as refused:
        parser.error(str(refused))
    try:
        # Here, because the S3 server takes its time to be imported.
        from example.demo.stage import DemoFailed
        from example.demo.story import tell
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}; `make demo` runs this where everything is installed") from None
    # These would end the process on the spot; as exceptions they let it tidy up.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    # A file may have a name that the terminal cannot show.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        tell(upload)
    except DemoFailed as failure:
        print(f"The demo failed: {failure}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the processes of the demo have ended.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
