"""Law 22: looking runs no code from the store and imports nothing by a stored name.

Every door by which people look is tried on a history in which each value is what would run code, or
import a module, if it were loaded.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, Flag
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from mini_workflow import Context, LocalClient, LocalRuntime, TaskError, workflow
from mini_workflow.cli.app import cli
from mini_workflow.codecs.pickled import PYTHON
from mini_workflow.codecs.signing import Signer
from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.errors import PayloadNotReadable
from mini_workflow.testing import check_replay

MODULE = "law_22_module_that_nobody_imports"


class Evil:
    """What touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@workflow
async def looked_at(ctx: Context) -> Any:
    return await ctx.task(lambda: ["plain data"], name="make")


@dataclass
class Order:
    id: str
    lines: list[int] = field(default_factory=list)


class Colour(Enum):
    RED = 1


class Mode(Flag):
    READ = 1
    WRITE = 2


class Place(NamedTuple):
    x: int


class OutOfStock(Exception):
    """An exception of the user's."""


class Odd:
    """Neither a dataclass nor a model: it goes as a pickle."""


class Trap:
    """A file whose history loads what stands in `trees` instead of the task's result."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "trap.db"
        self.mark = folder / "it-ran"
        (folder / f"{MODULE}.py").write_text(
            f"import os\nfrom enum import Enum\nos.mkdir({str(self.mark)!r})\n"
            "class Colour(Enum):\n    RED = 1\nclass Broken(Exception): pass\n"
        )
        with LocalRuntime(self.path) as runtime:
            runtime.start_execution(looked_at, id="x").result(timeout=60)

    def put(self, tree: Any) -> None:
        with sqlite3.connect(self.path) as raw:
            raw.execute(
                "UPDATE events SET body = json_set(body, '$.result', json(?)) "
                "WHERE body LIKE '%Completed%'",
                (json.dumps(tree),),
            )
        raw.close()

    def fail(self, failure: Failure) -> None:
        with sqlite3.connect(self.path) as raw:
            raw.execute(
                "UPDATE events SET body = ? WHERE body LIKE '%ExecutionCompleted%'",
                (json.dumps({"event": "ExecutionFailed", "failure": failure.to_plain()}),),
            )
        raw.close()

    def sprung(self) -> bool:
        return self.mark.exists() or MODULE in sys.modules

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cli, ["--backend", f"sqlite:{self.path}", *words])


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    yield Trap(tmp_path)
    sys.modules.pop(MODULE, None)


def trees(mark: Path) -> dict[str, Any]:
    data = base64.b64encode(pickle.dumps(Evil(mark))).decode()
    return {
        "pickle": {"$": "pickle", "v": data},
        "dill": {"$": "dill", "python": PYTHON, "v": data},
        "in a list": [1, {"deep": {"$": "pickle", "v": data}}],
        "enum": {"$": "enum", "class": f"{MODULE}:Colour", "name": "RED"},
        "dataclass": {"$": "dataclass", "class": f"{MODULE}:Order", "v": {"id": 1}},
        "model": {"$": "model", "class": f"{MODULE}:Order", "v": {"id": 1}, "set": []},
        "named tuple": {"$": "namedtuple", "class": f"{MODULE}:Place", "v": {"x": 1}},
        "exception": {"$": "exception", "class": f"{MODULE}:Broken", "v": {"args": ["x"]}},
        "factory": {"$": "defaultdict", "factory": f"{MODULE}:Colour", "v": []},
    }


KINDS = tuple(trees(Path("x")))


@pytest.mark.parametrize("kind", KINDS)
def test_law_22_no_door_loads_what_is_stored(trap: Trap, tmp_path: Path, kind: str) -> None:
    trap.put(trees(trap.mark)[kind])
    for words in (
        ["get", "x"],
        ["get", "x", "--full"],
        ["get", "x", "--lines"],
        ["result", "x"],
        ["result", "x", "--json"],
        ["ls"],
        ["doctor"],
        ["export", str(tmp_path / "out")],
    ):
        said = trap.run(*words)
        assert said.exit_code == 0, (words, said.output, said.exception)
        assert not trap.sprung(), words
    exported = tmp_path / "out" / "x.json"
    said = trap.run("replay", str(exported))
    assert "PayloadNotReadable" in said.output
    assert "--trust" in said.output
    with pytest.raises(AssertionError, match="trust=True"):
        check_replay(exported, [looked_at])
    with LocalClient(trap.path, read_only=True) as client:
        execution = client.get_execution("x")
        assert len(list(execution.timeline())) == len(execution.history())
        assert client.list_executions()
        with pytest.raises(PayloadNotReadable, match="trust=True"):
            execution.result()
    with LocalRuntime(trap.path) as runtime:
        assert "make" in repr(runtime.get_execution("x").timeline())
    assert not trap.sprung()


@pytest.mark.parametrize("kind", ["pickle", "enum"])
def test_law_22_whoever_trusts_the_store_loads(trap: Trap, kind: str) -> None:
    trap.put(trees(trap.mark)[kind])
    with LocalClient(trap.path, read_only=True, trust=True) as client:
        client.get_execution("x").result()
    assert trap.sprung()


@pytest.mark.parametrize("door", ["timeline", "get", "result", "replay", "check_replay"])
def test_law_22_every_door_can_be_told_to_trust(trap: Trap, tmp_path: Path, door: str) -> None:
    trap.put(trees(trap.mark)["pickle"])
    trap.run("export", str(tmp_path / "out"))
    if door == "timeline":
        with LocalClient(trap.path) as client:
            told = client.get_execution("x").timeline(trust=True)
            assert [one.values for one in told]
    elif door == "check_replay":
        assert check_replay(tmp_path / "out", [looked_at], trust=True) == 1
    else:
        assert trap.run(door, "x", "--trust").exit_code == 0
    assert trap.sprung()


@pytest.mark.parametrize("name", [f"{MODULE}:Broken", "os:mkdir"])
def test_law_22_a_stored_failure_is_shown_and_not_loaded(trap: Trap, name: str) -> None:
    state = {"args": [str(trap.mark)]}
    trap.fail(Failure(type=name, message="it broke", state=state))
    said = trap.run("result", "x")
    assert said.exit_code == 1
    assert "it broke" in said.output
    answer = json.loads(trap.run("result", "x", "--json").output)
    assert {**answer["error"], "type": name, "message": "it broke"} == answer["error"]
    assert "it broke" in trap.run("get", "x").output
    with LocalClient(trap.path, read_only=True) as client:
        error = client.get_execution("x").timeline()[-1].error
        assert isinstance(error, TaskError)
        assert error.type_name == name
    assert not trap.sprung()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Order("o-1", [1, 2]), "Order(id='o-1', lines=[1, 2])"),
        ([Order("o-1")], "[Order(id='o-1', lines=[])]"),
        (Colour.RED, "Colour.RED"),
        (Mode.READ | Mode.WRITE, "Mode(3)"),
        (Place(3), "Place(x=3)"),
        (OutOfStock("none left"), "OutOfStock('none left')"),
        (ValueError("x"), "ValueError('x')"),
        ({(1, 2): b"x"}, "{(1, 2): b'x'}"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_law_22_shows_what_the_typed_json_says(value: Any, text: str) -> None:
    codec = StandardCodec()
    assert repr(codec.show(codec.encode(value, "value"))) == text


def test_law_22_shows_how_large_what_it_cannot_read_is() -> None:
    for codec in (StandardCodec(), StandardCodec(Signer(b"k" * 32))):
        payload = codec.encode({"odd": Odd()}, "value")
        size = len(base64.b64decode(payload.tree["odd"]["v"]))
        shown = repr(codec.show(payload))
        assert shown.startswith("{'odd': <pickled, ")
        assert abs(int(shown.split()[2]) - size) <= 2
    assert "unknown kind" in repr(StandardCodec().show(Payload(tree={"$": "of tomorrow", "v": 1})))


def test_law_22_a_replay_finds_the_classes_of_imported_modules_and_trusts_signatures() -> None:
    codec, reader = StandardCodec(), StandardCodec(trust=False)
    for value in (Order("o-1", [1]), Colour.RED, Mode.READ, Place(3)):
        assert reader.decode(codec.encode(value, "value")) == value
    failure = codec.encode_failure(OutOfStock("none left"))
    assert type(reader.decode_failure(failure)) is OutOfStock
    key = Signer(b"k" * 32)
    signed = StandardCodec(key).encode(Odd(), "value")
    assert type(StandardCodec(key, trust=False).decode(signed)) is Odd
    with pytest.raises(PayloadNotReadable, match="trust=True"):
        reader.decode(codec.encode(Odd(), "value"))
