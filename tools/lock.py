"""Pin every dependency, for all supported Pythons at once, in requirements/<profile>.txt.

Each profile is the extra of the same name in pyproject.toml. The first list binds the others, so
that all environments agree on the version of what they share, except where UNBOUND says otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

from env import BARE

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"

OLDEST = "3.11"
PROFILES = ("dev", "test", "bench", "bench-aws-durable", "bench-dbos", *BARE)

UNBOUND = ("emulator",)
"""Lists that share nothing with the others: what they pin may differ, it runs by itself."""


def main() -> None:
    REQUIREMENTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = Path(scratch) / "bin" / "python"
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([python, "-m", "pip", "install", *quiet, "uv"], check=True)
        for profile in PROFILES:
            _compile(python, profile)


def _compile(python: Path, profile: str) -> None:
    output = REQUIREMENTS / f"{profile}.txt"
    output.unlink(missing_ok=True)
    command = [python, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--no-config"]
    command += ["--python-version", OLDEST, "--output-file", output]
    # Nothing of the machine that made the list may be left in it.
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    if profile != PROFILES[0] and profile not in UNBOUND:
        command += ["--constraint", REQUIREMENTS / f"{PROFILES[0]}.txt"]
    if profile in BARE:
        # By itself: with the project would come what the project depends on.
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = "\n".join(project["optional-dependencies"][profile])
        subprocess.run([*command, "-"], cwd=ROOT, check=True, input=wanted, text=True)
    else:
        subprocess.run([*command, "--extra", profile, "pyproject.toml"], cwd=ROOT, check=True)
    print(f"{output.relative_to(ROOT)}: {len(output.read_text().splitlines())} pins")


if __name__ == "__main__":
    sys.exit(main())
