"""The command of limits."""

from __future__ import annotations

from tests.unit.cli.world import World
from tests.waiting import eventually


def test_limits_are_listed_shown_and_changed(served: World) -> None:
    assert served("limits").out == ""
    assert "give its NAME" in served("limits", "--concurrency", "2", status=2).err
    assert "there is no limit 'unknown'" in served("limits", "unknown", status=3).err
    assert "is no rate" in served("limits", "narrow", "--rate", "many/60", status=2).err
    for name in ("one", "two", "three"):
        served("start", "cli_flows:narrow", "--id", name)

    def waiting() -> int:
        # It is there once the code of an execution has asked for a slot.
        said = served("limits", "narrow", "--json", status=None)
        return int(said.json["waiting"]) if said.status == 0 else 0

    eventually(lambda: waiting() == 2)
    assert served("limits").out == "narrow\t1 at a time\t1\t2"
    shown = served("limits", "narrow").out.splitlines()
    assert shown == [
        "name       narrow",
        "allows     1 at a time",
        "held       1",
        "waiting    2",
        "key        k  held 1, waiting 2",
        "holder     one  1 for k",
    ]
    changed = served("limits", "narrow", "--concurrency", "2", "--rate", "100/60", "--json").json
    assert (changed["concurrency"], changed["rate"]) == (2, [100, 60.0])
    eventually(lambda: served("limits", "narrow", "--json").json["held"] == 2)
    assert "2 at a time, 100 within 60 s" in served("limits", "narrow").out
    changed = served("limits", "narrow", "--concurrency", "none", "--per-key", "--json").json
    assert (changed["concurrency"], changed["per_key"]) == (None, True)
    assert served("limits", "--json").json[0]["name"] == "narrow"
    start = ("start", "cli_flows:greet", "name=Ann", "--queue", "narrow", "--id", "greeting")
    served(*start, "--limit-key", "other", "--priority", "5")
    assert served("result", "greeting").out == "hello Ann"
    assert (
        "no limit 'unknown' is declared" in served(*start[:-4], "--queue", "unknown", status=2).err
    )
    wrong = served("limits", "narrow", "--rate", "none", status=2).err
    assert "give --concurrency, --rate or both" in wrong
