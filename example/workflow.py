"""The example: put an object into S3 and read it back, in steps that survive a crash."""

import os

import boto3

from mini_workflow import Context, workflow

BUCKET = os.environ["BUCKET"]
s3 = boto3.client("s3")  # set AWS_ENDPOINT_URL_S3 for an S3 that is not at AWS


@workflow("uploadObjectWorkflow")
async def upload_object(ctx: Context, key: str, data: str) -> str:
    await ctx.sleep(1)
    await ctx.task(lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=data))

    @ctx.task
    def fetch() -> str:
        return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()

    return await fetch
