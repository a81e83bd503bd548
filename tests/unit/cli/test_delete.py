"""delete: one execution, or all that match; vacuum."""

import logging

import cli_flows
import pytest

from tests.unit.cli.world import World


def test_one_is_deleted_and_its_id_is_free(served: World) -> None:
    served("start", "cli_flows:waiting", "--id", "gone")
    told = served("delete", "gone", status=2).err
    assert "'gone' is running, and only what has closed can be deleted" in told
    served("terminate", "gone")
    served("result", "gone", status=1)
    assert served("delete", "gone").out == "gone: deleted"
    assert "there is no execution 'gone'" in served("delete", "gone", status=3).err
    served("start", "cli_flows:waiting", "--id", "gone")
    served("terminate", "gone")
    served("result", "gone", status=1)
    assert served("delete", "gone", "--json").json == {"id": "gone", "deleted": True}


def test_why_it_is_deleted_is_logged(served: World, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("gone", "also"):
        served("start", "cli_flows:waiting", "--id", name)
        served("terminate", name)
        served("result", name, status=1)
    with caplog.at_level(logging.INFO, "mini_workflow.engine.executions"):
        served("delete", "gone", "--reason", "a test", "--by", "ann")
        served("delete", "--status", "terminated", "--yes", "--reason", "old")
    assert "[gone] was asked to delete by ann: a test" in caplog.text
    assert "[also] was asked to delete: old" in caplog.text


def test_all_that_match_are_deleted(served: World) -> None:
    for name in ("one", "two", "other"):
        tag = "kind=other" if name == "other" else "kind=old"
        served("start", "cli_flows:waiting", "--id", name, "--tag", tag)
    same = ("--workflow", cli_flows.waiting.name, "--tag", "kind=old")
    assert served("delete", *same, "--yes", "--json").json == {"matched": 0, "deleted": 0}
    for name in ("one", "two"):
        served("terminate", name)
        served("result", name, status=1)
    refused = served("delete", *same, status=2).err
    assert "this would delete 2 executions, and there is no terminal to ask at" in refused
    assert "add --yes" in refused
    assert served("delete", *same, "--yes", "--json").json == {"matched": 2, "deleted": 2}
    assert served("get", "other", "--json").json["status"] == "running"
    wrong = served("delete", "--status", "running", "--yes", status=2).err
    assert "not running; nothing was changed" in wrong
    served("terminate", "other")


def test_vacuum_writes_the_file_anew(mw: World) -> None:
    mw("start", "cli_flows:waiting", "--id", "one")
    said = mw("vacuum", "--json").json
    assert 0 < said["bytes"] <= said["before"]
    assert mw("get", "one", "--json").json["status"] == "running"
    with mw.served():
        assert "is in use" in mw("vacuum", status=2).err
        assert "bytes" in mw("vacuum", "--force").out
