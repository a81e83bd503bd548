"""Make the bucket and the table of the histories, or take on those of another engine or a bucket of yours."""

import pulumi
import pulumi_aws as aws

from mini_workflow import settings
from pulumi_component import policies
from pulumi_component.options import EngineOptions

DELETIONS_KEPT = 30
"""Days for which the place of a deleted execution is marked, so that what is late for it is known."""


def bucket(
    name: str, options: EngineOptions, parent: pulumi.Resource
) -> tuple[aws.s3.Bucket, pulumi.Output[str]]:
    """Return the bucket, and its ARN with the prefix of the engine's objects."""
    mine = pulumi.ResourceOptions(parent=parent)
    history = options.history
    if history.name is None:
        retained = options.removal == "retain"
        # What is kept stays as private and encrypted as it was.
        kept = pulumi.ResourceOptions(parent=parent, retain_on_delete=retained)
        found = aws.s3.Bucket(
            f"{name}-history", force_destroy=not retained, tags=options.tags, opts=kept
        )
    else:
        kept = pulumi.ResourceOptions(parent=parent, retain_on_delete=True)
        # What is only read is never deleted.
        found = aws.s3.Bucket.get(f"{name}-history", history.name, opts=mine)
    if history.managed:
        _configure(name, found, options, kept)
    return found, pulumi.Output.concat(found.arn, "/", history.prefix)


def table(name: str, options: EngineOptions, parent: pulumi.Resource) -> aws.dynamodb.Table | None:
    """Return the table with the histories; None where they are in the bucket."""
    if not options.store.has_table:
        return None
    if options.store.name is not None:
        mine = pulumi.ResourceOptions(parent=parent)
        return aws.dynamodb.Table.get(f"{name}-executions", options.store.name, opts=mine)
    return aws.dynamodb.Table(
        f"{name}-executions",
        billing_mode="PAY_PER_REQUEST",
        hash_key=settings.TABLE_KEY,
        range_key=settings.TABLE_ORDER,
        attributes=[
            {"name": key, "type": "S"} for key in (settings.TABLE_KEY, settings.TABLE_ORDER)
        ],
        ttl={"attribute_name": settings.TABLE_EXPIRES, "enabled": True},
        server_side_encryption=(
            None if options.kms_key is None else {"enabled": True, "kms_key_arn": options.kms_key}
        ),
        tags=options.tags,
        opts=pulumi.ResourceOptions(parent=parent, retain_on_delete=options.removal == "retain"),
    )


def _configure(
    name: str, bucket: aws.s3.Bucket, options: EngineOptions, opts: pulumi.ResourceOptions
) -> None:
    """Keep it private and encrypted, and rid of old payloads."""
    private = aws.s3.BucketPublicAccessBlock(
        f"{name}-history-private",
        bucket=bucket.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=opts,
    )
    aws.s3.BucketServerSideEncryptionConfiguration(
        f"{name}-history-encryption",
        bucket=bucket.bucket,
        rules=[_encryption(options)],  # type: ignore[list-item]
        opts=opts,
    )
    aws.s3.BucketLifecycleConfiguration(
        f"{name}-history-lifecycle",
        bucket=bucket.bucket,
        rules=[
            {
                "id": "payloads",
                "status": "Enabled",
                "filter": {"prefix": "payloads/"},
                "expiration": {"days": options.payload_retention},
            },
            {
                "id": "deleted",
                "status": "Enabled",
                "filter": {"tag": {"key": "mini-workflow", "value": "deleted"}},
                "expiration": {"days": DELETIONS_KEPT},
            },
            {
                "id": "uploads",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
            },
        ],
        opts=opts,
    )
    aws.s3.BucketPolicy(
        f"{name}-history-policy",
        bucket=bucket.bucket,
        policy=bucket.arn.apply(lambda arn: policies.bucket(arn, options.shared_with)),
        # S3 changes one of the two at a time.
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[private])),
    )


def _encryption(options: EngineOptions) -> dict[str, object]:
    if options.kms_key is None:
        return {"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}
    return {
        "apply_server_side_encryption_by_default": {
            "sse_algorithm": "aws:kms",
            "kms_master_key_id": options.kms_key,
        },
        # One key for many objects: else KMS would be called for each of them.
        "bucket_key_enabled": True,
    }
