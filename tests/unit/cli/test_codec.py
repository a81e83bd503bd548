"""`--codec`: the command line reads and writes what a runtime with that codec does."""

from __future__ import annotations

import pytest

from mini_workflow import LocalRuntime
from mini_workflow.codecs import EncryptionCodec
from tests.unit.cli.world import World
from tests.waiting import WAIT

SECRET = "a-number-that-nobody-else-may-see"
MODULE = """\
from mini_workflow.codecs import EncryptionCodec


def codec() -> EncryptionCodec:
    return EncryptionCodec({"k": b"k" * 32})


CODEC = [codec()]
NEITHER = "a text"
"""


@pytest.fixture
def encrypted(mw: World) -> World:
    """An execution with encrypted values in the folder, and a module with the codec."""
    import cli_flows  # pyright: ignore[reportMissingImports] - made by the conftest

    (mw.folder / "keys.py").write_text(MODULE, encoding="utf-8")
    codec = EncryptionCodec({"k": b"k" * 32})
    with LocalRuntime(mw.folder / "state.db", codec=codec) as runtime:
        execution = runtime.start_execution(cli_flows.greet, SECRET, id="g-1")
        assert execution.result(WAIT) == f"hello {SECRET}"
    return mw


@pytest.mark.parametrize("name", ["keys:CODEC", "keys:codec"])
def test_a_result_is_decoded_with_the_codec(encrypted: World, name: str) -> None:
    said = encrypted("--codec", name, "result", "g-1", status=None)
    assert (said.status, SECRET in said.out) == (0, True), said


def test_without_the_codec_it_says_what_is_missing(encrypted: World) -> None:
    said = encrypted("result", "g-1", status=None)
    assert "encoded by aes-gcm (key k)" in said.out
    assert SECRET not in said.err + said.out


def test_get_timeline_and_export_show_values_with_the_codec_alone(encrypted: World) -> None:
    shown = encrypted("--codec", "keys:CODEC", "get", "g-1", status=None)
    assert SECRET in shown.out, shown
    hidden = encrypted("get", "g-1", status=None)
    assert "encoded by aes-gcm" in hidden.out, hidden
    assert SECRET not in hidden.out
    assert SECRET in exported(encrypted, "g-1", "--codec", "keys:CODEC", decoded=True)
    assert SECRET not in exported(encrypted, "g-1")


def exported(world: World, name: str, *options: str, decoded: bool = False) -> str:
    """The file of an execution that the command exports."""
    folder = "decoded" if decoded else "encoded"
    world(*options, "export", folder, *(["--decoded"] if decoded else []))
    return (world.folder / folder / f"{name}.json").read_text(encoding="utf-8")


def test_what_is_started_is_encoded(encrypted: World) -> None:
    started = encrypted(
        "--codec", "keys:CODEC", "start", "cli_flows:greet", f"name={SECRET}", "--id", "g-2"
    )
    assert started.status == 0, started
    assert SECRET not in exported(encrypted, "g-2")
    assert SECRET in exported(encrypted, "g-2", "--codec", "keys:CODEC", decoded=True)


def test_the_environment_names_a_codec_too(encrypted: World) -> None:
    encrypted.environment["MINI_WORKFLOW_CODEC"] = "keys:CODEC"
    assert SECRET in encrypted("result", "g-1", status=None).out


@pytest.mark.parametrize("name", ["keys:NEITHER", "keys:ABSENT", "absent:CODEC", "keys"])
def test_what_is_no_codec_is_refused(encrypted: World, name: str) -> None:
    said = encrypted("--codec", name, "result", "g-1", status=None)
    assert said.status != 0
    assert "codec" in said.err.lower(), said
    assert "Traceback" not in said.err
