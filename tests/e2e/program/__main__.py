"""An engine for the end-to-end tests: short timeouts, and workflows that get into trouble."""

import os

import pulumi
import pulumi_aws as aws

from pulumi_component import Function, WorkflowEngine

ledger = aws.s3.Bucket("ledger", force_destroy=True)
environment = {"LEDGER": ledger.bucket}
may_write = {
    "sid": "Ledger",
    "actions": ["s3:GetObject", "s3:PutObject"],
    "resources": [pulumi.Output.concat(ledger.arn, "/*")],
}

engine = WorkflowEngine(
    "Flows",
    {
        "store": os.environ.get("STORE", "s3"),
        "worker": {"handler": "flows.index.execute", "timeout": "10 seconds"},
        "orchestrator": {
            "handler": "flows.index.orchestrate",
            "timeout": "10 seconds",
            # For faults.py: the orchestrator itself has no such needs.
            "permissions": [may_write],
        },
        "memory": "256 MB",
        "environment": environment,
        "permissions": [may_write],
    },
)
Function("Starter", {"handler": "flows.index.start", "link": [engine], "environment": environment})

pulumi.export("ledger", ledger.bucket)
