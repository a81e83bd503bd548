"""Install packages for a function: wheels for its platform and Python, resolved by pip.

Only wheels are installed: a source distribution would be built for the machine that deploys, and its
author's code would run there.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pulumi_component.errors import BadPackage

ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Lambda's names of the architectures, and those in the names of wheels."""

_OLDEST_GLIBC = 17
# The C library of the runtimes: Amazon Linux 2 below Python 3.12, Amazon Linux 2023 from then on.
# Source: AWS Lambda Developer Guide, "Lambda runtimes".
_GLIBC_OF_AMAZON_LINUX_2 = 26
_GLIBC_OF_AMAZON_LINUX_2023 = 34

PROVIDED = ("mini-workflow",)
"""What is taken from the environment that deploys, whatever a list of requirements says."""

# Files that differ from one installation to the next, and that nobody reads.
_VOLATILE = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


@dataclass(frozen=True, slots=True)
class Target:
    """The platform on which a function runs: a minor version of Python, as in "3.12", and an architecture."""

    python: str
    architecture: str

    @property
    def platforms(self) -> list[str]:
        """The tags of the platforms whose wheels work there, best first."""
        newest = (
            _GLIBC_OF_AMAZON_LINUX_2
            if tuple(map(int, self.python.split("."))) < (3, 12)
            else _GLIBC_OF_AMAZON_LINUX_2023
        )
        machine = ARCHITECTURES[self.architecture]
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
        return [*tags, f"manylinux2014_{machine}"]


def requirements(given: Sequence[str] | str, root: Path) -> list[str]:
    """Return the requirements of a list, or of a file such as "requirements.txt" in `root`, in
    order.

    Raises BadPackage for a file that is not there, and for options of pip in it.
    """
    lines = list(given)
    if isinstance(given, str):
        try:
            lines = (root / given).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise BadPackage(f"requirements: {given} cannot be read in {root}: {error}") from None
    found = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    for line in found:
        if line.startswith(("-", ".", "/")) or "://" in line:
            raise BadPackage(
                f"requirements: {line!r} is not the name of a package, with or without a version. "
                "Options of pip go into its configuration; code of your own, into include"
            )
    return [line for line in found if line and _name(line) not in PROVIDED]


def install(wanted: Sequence[str], target: Target, folder: Path) -> None:
    """Install wheels into a folder, without what varies from one installation to the next.

    Raises BadPackage if there is a package with no wheel for the target.
    """
    folder.mkdir(parents=True)
    constraints = folder.with_name(f"{folder.name}.constraints")
    # Closures are pickled where the function was deployed from, or in another function.
    constraints.write_text(f"dill=={version('dill')}\n")
    command = _installer(target)
    command += ["--quiet", "--only-binary", ":all:", "--target", str(folder)]
    command += ["--python-version", target.python, "--constraint", str(constraints), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    constraints.unlink()
    if done.returncode != 0:
        raise _refusal(wanted, target, done.stderr)
    _remove_what_varies(folder)


def has_pip() -> bool:
    """Return whether the environment that deploys has pip."""
    return importlib.util.find_spec("pip") is not None


def _installer(target: Target) -> list[str]:
    """pip, or uv in its place: the environments that uv makes have no pip."""
    if has_pip():
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        command += ["install", "--no-compile", "--implementation", "cp"]
        for platform in target.platforms:
            command += ["--platform", platform]
        return command
    uv = shutil.which("uv")
    if uv is None:
        raise BadPackage(
            f"requirements: neither pip is installed for {sys.executable}, nor uv anywhere on PATH; "
            "install one of them to have packages fetched"
        )
    # One platform, for uv takes the wheels of older ones too, and it does not know all of them.
    machine = ARCHITECTURES[target.architecture]
    newest, oldest = target.platforms[0], target.platforms[-1]
    known = newest if f"_{_GLIBC_OF_AMAZON_LINUX_2023}_" in newest else oldest
    named = f"{machine}-{known.removesuffix(f'_{machine}')}"
    return [uv, "pip", "install", "--no-compile-bytecode", "--python-platform", named]


def _refusal(wanted: Sequence[str], target: Target, output: str) -> BadPackage:
    where = f"Python {target.python} on {target.architecture}"
    missing = re.search(r"No matching distribution found for ([^\s(]+)", output)
    if missing:
        return BadPackage(
            f"requirements: there is no wheel of {missing[1]} for {where}. Functions are made from "
            "wheels alone: choose another version, another architecture, or build a wheel for it "
            "and let pip find it (PIP_FIND_LINKS)"
        )
    last = "\n".join(line for line in output.strip().splitlines() if "WARNING" not in line)
    return BadPackage(f"requirements: {', '.join(wanted)} cannot be installed for {where}:\n{last}")


def _remove_what_varies(folder: Path) -> None:
    # Scripts begin with the path of the interpreter that installed them.
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for compiled in list(folder.rglob("__pycache__")):
        shutil.rmtree(compiled)
    for name in _VOLATILE:
        for path in folder.glob(f"*.dist-info/{name}"):
            path.unlink()


def _name(requirement: str) -> str:
    """Return the name of a requirement, in the form in which names are compared."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;@(]", requirement, maxsplit=1)[0]).lower()
