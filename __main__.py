"""The examples on AWS: `pulumi up` deploys it; docs/deploy.md tells what that takes."""

import pulumi
import pulumi_aws as aws

from pulumi_component import Function, WorkflowEngine

uploads = aws.s3.Bucket("uploads", force_destroy=True)
environment = {"BUCKET": uploads.bucket}

engine = WorkflowEngine(
    "WorkflowEngine",
    {
        "worker": "example.index.execute",
        "orchestrator": "example.index.orchestrate",
        "environment": environment,
        "permissions": [
            {
                "actions": ["s3:GetObject", "s3:PutObject"],
                "resources": [pulumi.Output.concat(uploads.arn, "/*")],
            }
        ],
    },
)
api = Function(
    "Api",
    {
        "handler": "example.index.api",
        "url": True,
        "link": [engine],
        "environment": environment,
    },
)


# An agent, as an engine of its own: it shares nothing with the other one.
agents = WorkflowEngine(
    "Agents",
    {
        "worker": "example.agents.index.execute",
        "orchestrator": "example.agents.index.orchestrate",
        "requirements": "example/agents/requirements.txt",
        # It costs a second of processor time to load the framework.
        "memory": "1792 MB",
    },
)
agents_api = Function(
    "AgentsApi",
    {
        "handler": "example.agents.index.api",
        "url": True,
        "link": [agents],
        "requirements": "example/agents/requirements.txt",
    },
)

pulumi.export("url", api.url)
pulumi.export("api", api.name)
pulumi.export("uploads", uploads.bucket)
pulumi.export("agents_url", agents_api.url)
pulumi.export("agents_api", agents_api.name)
