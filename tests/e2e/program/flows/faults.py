"""The death of a function's process at a chosen call of AWS, once for each execution.

The orchestrator of an execution whose id is "dies.orchestrator.before.lambda.Invoke.x" dies before
the first task is invoked, the worker of "dies.worker.after.sqs.SendMessage.x" when it has sent the
first outcome.
"""

import io
import os
import re
import signal

import boto3
from botocore.exceptions import ClientError

CALL = re.compile(rb"dies\.(worker|orchestrator)\.(before|after)\.([a-z0-9]+)\.([A-Za-z]+)\.\w+")

s3 = boto3.client("s3")


def client(service: str):
    """boto3's client of a service, whose calls may be the last."""
    made = boto3.client(service)
    about = {}

    def before(request, event_name, **_):
        body = request.body.getvalue() if isinstance(request.body, io.BytesIO) else request.body
        named = CALL.search(request.url.encode() + b" " + (body or b""))
        if named and _is_meant(named, service, event_name.rpartition(".")[2]):
            if named[2] == b"before":
                _die(named[0].decode())
            about["dying"] = named[0].decode()

    def after(**_):
        dying = about.pop("dying", None)
        if dying is not None:
            _die(dying)

    made.meta.events.register(f"before-send.{service}", before)
    made.meta.events.register(f"after-call.{service}", after)
    return made


def _is_meant(named, service: str, operation: str) -> bool:
    mine = f"Flows-{named[1].decode()}-"
    if not os.environ["AWS_LAMBDA_FUNCTION_NAME"].startswith(mine):
        return False
    return (named[3].decode(), named[4].decode()) == (service, operation)


def _die(execution: str) -> None:
    bucket = os.environ["LEDGER"]
    try:
        s3.put_object(Bucket=bucket, Key=f"died/{execution}", Body=b"", IfNoneMatch="*")
    except ClientError as error:
        if error.response["Error"]["Code"] == "PreconditionFailed":
            return  # it has died before
        raise
    os.kill(os.getpid(), signal.SIGKILL)
