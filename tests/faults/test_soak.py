"""Many executions over several processes, of which one after the other is killed or stands still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.soak import Soak
from tests.postgres.server import PostgresServer
from tests.waiting import WAIT, eventually

ORDERS, WORKERS = 60, 3


@pytest.fixture(params=["postgres", "sqlite"])
def soak(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Soak]:
    place, schema = str(tmp_path / "soak.db"), ""
    if request.param == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        place, schema = postgres.url, postgres.schema()
    with closing(Soak(place, schema, tmp_path / "ledger", lease=1)) as made:
        yield made


def test_nothing_is_lost_and_nothing_recorded_twice(soak: Soak) -> None:
    with soak.client() as client:
        for number in range(WORKERS):
            soak.start_worker(waited_for=number == WORKERS - 1)
        soak.start(client, ORDERS)
        for part, happens in ((5, soak.kill), (2, soak.stop if soak.may_stop else soak.kill)):
            eventually(lambda part=part: soak.ran() >= soak.steps // part)
            happens()
        assert list(soak.wrong(client, WAIT)) == []
        # Who stood still for longer than its lease does not write any more.
        soak.let_go_on()
        assert soak.end() == []
        assert list(soak.wrong(client, WAIT)) == []
    assert soak.killed + soak.stopped == 2
