"""`make demo-postgres` goes as it says."""

import subprocess
import sys

from tests.paths import ROOT
from tests.postgres.server import PostgresServer


def test_a_killed_worker_loses_nothing(postgres: PostgresServer) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "example.postgres", postgres.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "executions that have completed: 40 of 40" in done.stdout
    assert "steps recorded: 400, of 400" in done.stdout
