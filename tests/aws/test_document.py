"""docs/aws.md says what the code does."""

from __future__ import annotations

import re

from mini_workflow import settings
from mini_workflow.engine import effects, orchestrator
from mini_workflow.runtimes.aws import event_batch as inbox
from mini_workflow.runtimes.aws import hold, runtime, worker
from mini_workflow.runtimes.aws import telemetry as observe
from mini_workflow.stores.aws import clients, limits
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "aws.md").read_text()
BOUNDS = (limits, clients, orchestrator, effects, worker, inbox, hold, runtime)


def test_every_setting_is_there() -> None:
    found = dict(re.findall(r"(?m)^\| `([A-Z_]+)` \| ([^|]+) \|$", TEXT))
    assert found == {
        name: meaning + ("; may be absent" if name in settings.OPTIONAL else "")
        for name, meaning in settings.MEANING.items()
    }


def test_every_limit_has_its_value() -> None:
    found = {n: float(v) for n, v in re.findall(r"(?m)^\| `([A-Z_]+)` \| ([\d.]+) \|", TEXT)}
    known = {
        name: float(value)
        for module in BOUNDS
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, (int, float))
    }
    assert found.items() <= known.items()
    ours = {name for name in vars(limits) if name.isupper()}
    assert ours <= set(found)


def test_every_metric_is_there() -> None:
    (table,) = re.findall(r"(?s)\| metric \| alarm \|(.*?)\n\n", TEXT)
    assert set(re.findall(r"`([A-Z]\w+)`", table)) == set(observe._UNITS)
    assert f"namespace `{observe.NAMESPACE}`" in TEXT
