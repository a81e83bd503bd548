"""The ledger: an object for everything that a task has done, which nothing ever overwrites."""

import os
from uuid import uuid4

import boto3
from botocore.exceptions import ClientError

from mini_workflow import current_task

s3 = boto3.client("s3")


def note(step: object) -> None:
    """Write down that this attempt has done this."""
    task = current_task()
    seq = task.idempotency_key.rpartition(":")[2]
    entry = f"{os.getpid()}.{task.attempt}.{seq}.{uuid4().hex}"
    key = f"{task.execution_id}/{step}/{entry}"
    s3.put_object(Bucket=os.environ["LEDGER"], Key=key, Body=b"")


def is_told(what: str) -> bool:
    """Whether the test has told this to the execution, by an object in the ledger."""
    key = f"told/{current_task().execution_id}/{what}"
    try:
        s3.head_object(Bucket=os.environ["LEDGER"], Key=key)
    except ClientError:
        return False
    return True
