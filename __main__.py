"""The example on AWS: `pulumi up` deploys it; docs/deploy.md tells what that takes."""

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

pulumi.export("url", api.url)
pulumi.export("api", api.name)
pulumi.export("uploads", uploads.bucket)
