"""Names of classes come from outside: nothing but a class of values is imported by one, or called."""

from __future__ import annotations

import collections
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.codecs.signing import Signer
from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.errors import PayloadNotReadable, TaskError

CODEC = StandardCodec(Signer(b"k" * 32))

CALLED: list[tuple[Any, ...]] = []


class Recorder:
    """No class of values: whoever calls it is found out."""

    _fields = ()

    def __init__(self, *args: Any) -> None:
        CALLED.append(args)

    def __class_getitem__(cls, item: Any) -> Any:
        CALLED.append((item,))
        return cls


class Members(ExceptionGroup[Exception]):
    """A group of one's own."""


NAME = f"{__name__}:Recorder"

TREES: tuple[Any, ...] = (
    {"$": "enum", "class": NAME, "name": "x"},
    {"$": "enum", "class": NAME, "v": 1},
    {"$": "namedtuple", "class": NAME, "v": {}},
    {"$": "dataclass", "class": NAME, "v": {}},
    {"$": "model", "class": NAME, "v": {}, "set": []},
    {"$": "model", "class": NAME, "args": [{"type": 1}], "v": {}, "set": []},
    {"$": "exception", "class": NAME, "v": {"args": ["x"]}},
    {"$": "exception", "class": NAME, "v": {"args": ["x"], "how": "new"}},
    {"$": "defaultdict", "factory": NAME, "v": []},
)


@pytest.mark.parametrize("tree", TREES, ids="-".join)
def test_a_value_names_only_classes_of_values(tree: dict[str, Any]) -> None:
    CALLED.clear()
    with pytest.raises(PayloadNotReadable, match="Recorder"):
        CODEC.decode(Payload(tree=tree))
    assert CALLED == []


@pytest.mark.parametrize(
    "state",
    [
        {"group": "x", "members": []},
        {"group": "x", "members": [Failure(type="builtins:ValueError", message="m").to_plain()]},
        {"args": ["x"]},
        {"args": ["x"], "how": "new"},
    ],
)
def test_a_failure_calls_only_exceptions(state: dict[str, Any]) -> None:
    CALLED.clear()
    error = CODEC.decode_failure(Failure(type=NAME, message="x", state=state))
    assert CALLED == []
    assert isinstance(error, (TaskError, ExceptionGroup))


def test_a_group_is_built_by_its_own_class_only() -> None:
    state = {"group": "x", "members": [Failure("builtins:ValueError", "m").to_plain()]}
    error = CODEC.decode_failure(Failure(type="builtins:ValueError", message="x", state=state))
    assert type(error) is ExceptionGroup
    made = CODEC.decode_failure(CODEC.encode_failure(Members("both", [ValueError("a")])))
    assert type(made) is Members


@pytest.mark.parametrize(
    "place", ["attr:Path.cwd", "builtins:eval", "builtins:object", "os:system", ":x", "x"]
)
def test_no_function_is_called_by_a_stored_name(place: str) -> None:
    for tag in ("enum", "dataclass", "namedtuple", "model"):
        with pytest.raises(PayloadNotReadable):
            CODEC.decode(Payload(tree={"$": tag, "class": place, "name": "x", "v": {}, "set": []}))


def test_a_module_that_is_a_program_is_not_imported(tmp_path: Path) -> None:
    package = tmp_path / "sub"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("print('it ran')\nclass E(Exception): pass\n")
    script = (
        "from mini_workflow.codecs.standard import StandardCodec\n"
        "from mini_workflow.core.payload import Payload\n"
        "for name in ('this:Zen', 'sub.__main__:E'):\n"
        "    try: StandardCodec().decode(Payload(tree={'$': 'enum', 'class': name, 'name': 'x'}))\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.split() == ["PayloadNotReadable", "PayloadNotReadable"]


@pytest.mark.parametrize("factory", [list, int, collections.Counter, Recorder, None, Members])
def test_what_a_default_dict_calls_survives(factory: Any) -> None:
    value = collections.defaultdict(factory, {"a": 1})
    again = CODEC.decode(CODEC.encode(value, "value"))
    assert again == value
    assert again.default_factory is factory
