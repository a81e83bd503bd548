"""AWSRuntime: workflows on AWS Lambda, S3, SQS and EventBridge."""

from mini_workflow.runtimes.aws.runtime import AWSRuntime

__all__ = ["AWSRuntime"]
