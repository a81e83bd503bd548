"""Refuse what must not be in the repository: traces of the machine a file was written on.

Looks at every text file that git tracks or would track, for
 - absolute paths into somebody's home, work folder or checkout,
 - links to hosts that are not listed in pyproject.toml under ``tool.hygiene`` (which also keeps
   out package registries and mirrors, whatever their names),
 - pins in requirements/ that are more than a name, a version and a marker.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

ROOT = Path(__file__).resolve().parent.parent

_HOME = re.compile(r"(?<![\w.~*{}-])/(?:home|root|Users|work)/[\w.]")
_HOST = re.compile(r"\bhttps?://(?:[^\s/@\"'`]*@)?([A-Za-z0-9.-]+)")

# Names that lead nowhere, by convention: loopback and the domains reserved for examples.
_NOWHERE = re.compile(
    r"localhost|127\.0\.0\.\d+|0\.0\.0\.0|([\w-]+\.)*(example(\.com|\.org)?|test)"
)


def findings(path: str, text: str, hosts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Line number and complaint, for everything in the file that does not belong there."""
    places = (f"{ROOT}/", f"{Path.home()}/")
    for number, line in enumerate(text.splitlines(), start=1):
        if _HOME.search(line) or any(place in line for place in places if place != "//"):
            yield number, "an absolute path of a machine"
        for host in _HOST.findall(line):
            if not _NOWHERE.fullmatch(host) and not _allowed(host, hosts):
                yield number, f"a link to {host}, which tool.hygiene in pyproject.toml lacks"
        if path.startswith("requirements/") and not _is_pin(line):
            yield number, "not a plain pin: name==version ; marker"


def _is_pin(line: str) -> bool:
    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        return False
    return wanted.url is None and [each.operator for each in wanted.specifier] == ["=="]


def _allowed(host: str, hosts: Iterable[str]) -> bool:
    return any(host == name or host.endswith(f".{name}") for name in hosts)


def _files() -> Iterator[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            yield ROOT / name


def main() -> int:
    hosts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hygiene"]["hosts"]
    count = 0
    for path in _files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        name = path.relative_to(ROOT).as_posix()
        for number, complaint in findings(name, text, hosts):
            count += 1
            print(f"{name}:{number}: {complaint}")
    print(f"hygiene: {count} found" if count else "hygiene: clean")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
