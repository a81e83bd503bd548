"""Pulumi's engine for the tests: what is installed, or else built from its Go modules.

    python -m tests.pulumi.e2e.build        # build it ahead, which takes minutes once

The modules and their sums are those of `engine/` and `yaml/`. What is built is kept in the folder
.mini-workflow/pulumi, named for the versions, and built again when they change. A folder named by
PULUMI_ENGINE_CACHE is used in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
VERSION_OF_FORMAT = "1"

PROGRAMS = {
    "engine": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
    "yaml": "github.com/pulumi/pulumi-yaml/cmd/pulumi-language-yaml",
}
SDK = "github.com/pulumi/pulumi/sdk/v3"
EXECUTOR = "pulumi-language-python-exec"


class CannotBuild(Exception):
    """The engine is not there and cannot be built; the message says why."""


def missing() -> str | None:
    """Why there is no engine to test with, or None if there is one or one can be built."""
    if (folder() / EXECUTOR).is_file() or shutil.which("go"):
        return None
    return "neither Go nor an engine that was built before is there"


def folder() -> Path:
    """Where these versions are kept."""
    modules = [HERE / module / name for module in PROGRAMS for name in ("go.mod", "go.sum")]
    digest = hashlib.sha256(VERSION_OF_FORMAT.encode())
    for path in modules:
        digest.update(path.read_bytes())
    cache = os.environ.get("PULUMI_ENGINE_CACHE") or ROOT / ".mini-workflow" / "pulumi"
    return Path(cache, f"{version()}-{digest.hexdigest()[:12]}")


def version() -> str:
    """The engine's version, such as "v3.100.0"."""
    found = re.search(r"pulumi/pkg/v3 (v\S+)", (HERE / "engine" / "go.mod").read_text())
    assert found is not None
    return found[1]


def engine() -> Path:
    """The folder with `pulumi` and the hosts of its languages. Raises CannotBuild."""
    place = folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place.parent):
        if not (place / EXECUTOR).is_file():
            _build(place)
    return place


def _build(place: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise CannotBuild("Go is not installed")
    started = time.monotonic()
    print(f"pulumi: building {version()} into {place}", file=sys.stderr, flush=True)
    work = place.with_name(f"{place.name}.part")
    work.mkdir(exist_ok=True)
    named = f"-X {SDK}/go/common/version.Version={version()}"
    for module, program in PROGRAMS.items():
        options = ["-trimpath", "-tags", "osusergo,grpcnotrace", "-ldflags", f"-w -s {named}"]
        _go(module, "build", *options, "-o", f"{work}{os.sep}", program)
    # A script, which Go does not build.
    sources = _go("engine", "list", "-m", "-f", "{{.Dir}}", SDK).strip()
    script = Path(sources, "python", "cmd", EXECUTOR)
    shutil.copyfile(script, work / EXECUTOR)
    work.rename(place)
    print(f"pulumi: built after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _go(module: str, *arguments: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    done = subprocess.run(
        ["nice", "go", *arguments],
        cwd=HERE / module,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotBuild(f"go {' '.join(arguments)}:\n{done.stderr[-4_000:]}")
    return done.stdout


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One process builds; the others wait for it."""
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    why = missing()
    if why:
        print(f"pulumi: left out the tests with its engine: {why}", file=sys.stderr)
    else:
        print(engine())
