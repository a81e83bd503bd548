"""Count how often a process makes certain that what it has written is on the disk.

A few lines of C stand before the system's fsync and fdatasync and count the calls: exact on a machine
however busy. They are compiled by `cc` where there is one, on Linux; elsewhere nothing is counted.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_SOURCE: Final = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>

static atomic_long calls;
long counted_syncs(void) { return atomic_load(&calls); }

static int pass_on(const char *name, int file) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    atomic_fetch_add(&calls, 1);
    return next(file);
}
int fsync(int file) { return pass_on("fsync", file); }
int fdatasync(int file) { return pass_on("fdatasync", file); }
"""


def environment(folder: Path) -> dict[str, str]:
    """The environment variables of a process whose calls are to be counted; none where that cannot be."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return {}
    library, source = folder / "syncs.so", folder / "syncs.c"
    if not library.exists():
        source.write_text(_SOURCE)
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return {}
    return {"LD_PRELOAD": str(library)}


def syncs() -> int | None:
    """How often this process has called them; None where that is not counted."""
    try:
        counted = ctypes.CDLL(None).counted_syncs
    except (AttributeError, OSError):
        return None
    counted.restype = ctypes.c_long
    return int(counted())
