"""What a function of AWS imports before it has seen its first event, and with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

NEVER = {
    *("sqlite3", "multiprocessing", "click", "rich", "pulumi", "pytest", "dill", "pydantic"),
    *("mini_workflow.runtimes.local", "mini_workflow.stores.sqlite", "mini_workflow.stores.memory"),
    *("mini_workflow.runners.processes", "mini_workflow.testing", "mini_workflow.cli"),
}
CLIENTS = {"boto3", "botocore"}
ORCHESTRATOR = {"mini_workflow.engine.orchestrator", "mini_workflow.runtimes.aws.event_batch"}
WORKER = {"mini_workflow.runtimes.aws.worker", "mini_workflow.runners.threads"}

PROGRAM = """
import sys
from mini_workflow import AWSRuntime, Context, workflow

@workflow
async def flow(ctx: Context) -> None: ...

runtime = AWSRuntime.from_env({"MINI_WORKFLOW_SIGNING_KEY": "k" * 32, "OBJECT_PREFIX": ""})
orchestrate, execute = runtime.orchestrate, runtime.execute
%s
print(*sys.modules)
"""

BAD_ATTEMPT = """
try:
    execute({"execution_id": "e", "seq": 1, "attempt": 1, "content": "{}", "code": ""})
except Exception as error:
    assert type(error).__name__ == "SignatureInvalid", error
"""


@pytest.mark.parametrize(
    ("event", "missing"),
    [
        ("", CLIENTS | ORCHESTRATOR | WORKER),
        ("assert orchestrate({'Records': []}) == {'batchItemFailures': []}", CLIENTS | WORKER),
        (BAD_ATTEMPT, CLIENTS | ORCHESTRATOR),
    ],
    ids=["import", "orchestrator", "worker"],
)
def test_a_function_imports_what_it_needs(event: str, missing: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % event], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "mini_workflow.runtimes.aws.runtime" in loaded
    assert loaded & (NEVER | missing) == set()
