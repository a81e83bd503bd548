"""The ledger: an object for everything that a task has done, which nothing ever overwrites."""

import json
import os
from uuid import uuid4

import boto3

from mini_workflow import current_task

s3 = boto3.client("s3")


def note(step: object) -> None:
    """Write down that this attempt has done this."""
    task = current_task()
    told = {"pid": os.getpid(), "attempt": task.attempt, "key": task.idempotency_key}
    s3.put_object(
        Bucket=os.environ["LEDGER"],
        Key=f"{task.execution_id}/{step}/{uuid4().hex}",
        Body=json.dumps(told),
    )
