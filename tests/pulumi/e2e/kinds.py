"""The types that the components use: what replaces them, and how AWS makes, changes and removes them.

Which property replaces a resource, which defaults are filled in and what AWS decides are the real
provider's rules. Everything else is an update in place, by the call that AWS has for it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import boto3
from botocore.exceptions import ClientError

from tests.aws.emulator import functions
from tests.aws.emulator.server import ACCOUNT, CLIENT, REGION
from tests.pulumi.tables import create_table

Values = dict[str, Any]


@functools.cache
def client(service: str) -> Any:
    """A boto3 client of the account that the environment names."""
    return boto3.client(service, config=CLIENT)


def arn(service: str, rest: str, region: str = REGION, account: str = ACCOUNT) -> str:
    return f"arn:aws:{service}:{region}:{account}:{rest}"


def shaped(value: Any) -> Any:
    """Pulumi's names of properties, in the form that AWS gives them; what is None is left out."""
    if isinstance(value, Mapping):
        return {
            key[:1].upper() + key[1:]: shaped(part)
            for key, part in value.items()
            if part is not None
        }
    return [shaped(part) for part in value] if isinstance(value, list) else value


def tag_list(values: Values) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in (values.get("tags") or {}).items()]


def without(values: Values, *names: str) -> Values:
    return {key: value for key, value in values.items() if key not in (*names, "tags", "region")}


_GONE = {
    "404",
    "NoSuchBucket",
    "NoSuchEntity",
    "NoSuchBucketPolicy",
    "NoSuchLifecycleConfiguration",
    "NoSuchPublicAccessBlockConfiguration",
    "ServerSideEncryptionConfigurationNotFoundError",
    "ResourceNotFoundException",
    "ResourceNotFound",
    "NotFoundException",
    "ParameterNotFound",
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "DashboardNotFoundError",
}


def is_gone(error: ClientError) -> bool:
    """Whether AWS says that the thing is not there."""
    return error.response["Error"]["Code"] in _GONE


class Kind:
    """A type of resource. Without more, one that is an entry of something else."""

    package = "aws"
    replaces: tuple[str, ...] = ()
    """Inputs whose change makes another resource."""
    name: str | None = None
    """The input that is made up where it is not given."""
    longest = 255
    """Characters of a name."""
    defaults: ClassVar[Values] = {}
    json: tuple[str, ...] = ()
    """Inputs that are compared as JSON."""
    outputs: tuple[str, ...] = ()
    """What AWS decides."""
    secrets: tuple[str, ...] = ()
    """Outputs that are secret by themselves."""

    def made_up(self, logical: str, suffix: str, inputs: Values) -> str:
        """A name for a resource that has none."""
        return f"{logical}-{suffix}"

    def id_of(self, values: Values) -> str:
        """The id of a resource, from all of its properties."""
        assert self.name is not None
        return values[self.name]

    def create(self, values: Values) -> Values:
        """Make it; what AWS has decided."""
        raise NotImplementedError

    def update(self, olds: Values, news: Values) -> Values | None:
        """Bring it from its old properties to the new ones; what AWS has decided anew."""
        raise NotImplementedError

    def decided_anew(self, olds: Values, news: Values) -> tuple[str, ...]:
        """The outputs of which a preview cannot say what an update makes of them."""
        return ()

    def delete(self, values: Values) -> None:
        """Remove it. What is gone already raises an error that `is_gone`."""
        raise NotImplementedError

    def read(self, made: str, values: Values) -> Values | None:
        """What AWS has of it now, as far as that is told: inputs and outputs. None if it is gone.

        `values` are what is known of it: nothing, when it is imported.
        """
        raise NotImplementedError


# Random values


class Random(Kind):
    package = "random"
    replaces = ("*",)

    def update(self, olds: Values, news: Values) -> None:
        raise AssertionError("random values are never changed")

    def delete(self, values: Values) -> None:
        pass

    def read(self, made: str, values: Values) -> Values | None:
        return values


class RandomId(Random):
    outputs = ("hex", "dec", "b64Std", "b64Url")

    def id_of(self, values: Values) -> str:
        return values["b64Url"]

    def create(self, values: Values) -> Values:
        content = secrets.token_bytes(values["byteLength"])
        return {
            "hex": content.hex(),
            "dec": str(int.from_bytes(content, "big")),
            "b64Std": base64.b64encode(content).decode(),
            "b64Url": base64.urlsafe_b64encode(content).decode().rstrip("="),
        }


class RandomPassword(Random):
    outputs = ("result", "bcryptHash")
    secrets = ("result", "bcryptHash")
    defaults: ClassVar[Values] = {"lower": True, "upper": True, "numeric": True, "special": True}

    def id_of(self, values: Values) -> str:
        return "none"

    def create(self, values: Values) -> Values:
        result = secrets.token_hex(values["length"])[: values["length"]]
        return {"result": result, "bcryptHash": f"of-{secrets.token_hex(8)}"}


# S3


class Bucket(Kind):
    replaces = ("bucket", "objectLockEnabled")
    name = "bucket"
    longest = 63
    defaults: ClassVar[Values] = {"forceDestroy": False}
    outputs = ("arn", "bucketDomainName", "bucketRegionalDomainName", "hostedZoneId")

    def made_up(self, logical: str, suffix: str, inputs: Values) -> str:
        return f"{logical}-{suffix}".lower()

    def create(self, values: Values) -> Values:
        client("s3").create_bucket(Bucket=values["bucket"])
        self._tag(values)
        return self._outputs(values["bucket"])

    def _tag(self, values: Values) -> None:
        client("s3").put_bucket_tagging(
            Bucket=values["bucket"], Tagging={"TagSet": tag_list(values)}
        )

    def _outputs(self, bucket: str) -> Values:
        return {
            "arn": f"arn:aws:s3:::{bucket}",
            "bucketDomainName": f"{bucket}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{bucket}.s3.{REGION}.amazonaws.com",
            "hostedZoneId": "Z3AQBSTGFYJSTF",
        }

    def update(self, olds: Values, news: Values) -> None:
        self._tag(news)

    def delete(self, values: Values) -> None:
        s3 = client("s3")
        if values.get("forceDestroy"):
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=values["bucket"]):
                for found in page.get("Contents", ()):
                    s3.delete_object(Bucket=values["bucket"], Key=found["Key"])
        s3.delete_bucket(Bucket=values["bucket"])

    def read(self, made: str, values: Values) -> Values | None:
        client("s3").head_bucket(Bucket=made)
        imported = {} if values else {"forceDestroy": False}
        return {**imported, "bucket": made, **self._outputs(made)}


class OfBucket(Kind):
    """A setting of a bucket, which has the id of the bucket."""

    replaces = ("bucket",)
    call = ""
    removal = ""

    def id_of(self, values: Values) -> str:
        return values["bucket"]

    def request(self, values: Values) -> Values:
        raise NotImplementedError

    def create(self, values: Values) -> Values:
        put = getattr(client("s3"), f"put_{self.call}")
        put(Bucket=values["bucket"], **self.request(without(values, "bucket")))
        return {}

    def update(self, olds: Values, news: Values) -> None:
        self.create(news)

    def delete(self, values: Values) -> None:
        removal = getattr(client("s3"), f"delete_{self.removal or self.call}")
        removal(Bucket=values["bucket"])

    def read(self, made: str, values: Values) -> Values | None:
        getattr(client("s3"), f"get_{self.call}")(Bucket=made)
        return {"bucket": made}


class BucketPublicAccessBlock(OfBucket):
    call = "public_access_block"

    def request(self, values: Values) -> Values:
        return {"PublicAccessBlockConfiguration": shaped(values)}

    def read(self, made: str, values: Values) -> Values | None:
        found = client("s3").get_public_access_block(Bucket=made)["PublicAccessBlockConfiguration"]
        return {"bucket": made, **{key[:1].lower() + key[1:]: found[key] for key in found}}


class BucketServerSideEncryptionConfiguration(OfBucket):
    call = "bucket_encryption"

    def request(self, values: Values) -> Values:
        asked = [rule["applyServerSideEncryptionByDefault"] for rule in values["rules"]]
        rules = [
            {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": one["sseAlgorithm"]}}
            for one in asked
        ]
        return {"ServerSideEncryptionConfiguration": {"Rules": rules}}


class BucketLifecycleConfiguration(OfBucket):
    call = "bucket_lifecycle_configuration"
    removal = "bucket_lifecycle"

    def request(self, values: Values) -> Values:
        rules = [{**shaped(without(rule, "id")), "ID": rule["id"]} for rule in values["rules"]]
        return {"LifecycleConfiguration": {"Rules": rules}}


class BucketPolicy(OfBucket):
    call = "bucket_policy"
    json = ("policy",)

    def request(self, values: Values) -> Values:
        return {"Policy": values["policy"]}

    def read(self, made: str, values: Values) -> Values | None:
        return {"bucket": made, "policy": client("s3").get_bucket_policy(Bucket=made)["Policy"]}


def package(archive: Values) -> bytes:
    """An archive of code, as the emulator runs it: with a bootstrap that names its Python."""
    return functions.runnable(Path(archive["path"]))


class BucketObjectv2(Kind):
    replaces = ("bucket", "key")
    outputs = ("arn", "etag", "versionId")

    def id_of(self, values: Values) -> str:
        return f"{values['bucket']}/{values['key']}"

    def create(self, values: Values) -> Values:
        made = client("s3").put_object(
            Bucket=values["bucket"], Key=values["key"], Body=package(values["source"])
        )
        place = f"{values['bucket']}/{values['key']}"
        return {"arn": f"arn:aws:s3:::{place}", "etag": made["ETag"], "versionId": ""}

    def update(self, olds: Values, news: Values) -> None:
        self.create(news)

    def delete(self, values: Values) -> None:
        client("s3").delete_object(Bucket=values["bucket"], Key=values["key"])

    def read(self, made: str, values: Values) -> Values | None:
        bucket, _, key = made.partition("/")
        client("s3").head_object(Bucket=bucket, Key=key)
        return {"bucket": bucket, "key": key}


# SQS

_ATTRIBUTES = {
    "contentBasedDeduplication": "ContentBasedDeduplication",
    "deduplicationScope": "DeduplicationScope",
    "delaySeconds": "DelaySeconds",
    "fifoQueue": "FifoQueue",
    "fifoThroughputLimit": "FifoThroughputLimit",
    "kmsDataKeyReusePeriodSeconds": "KmsDataKeyReusePeriodSeconds",
    "maxMessageSize": "MaximumMessageSize",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "redrivePolicy": "RedrivePolicy",
    "sqsManagedSseEnabled": "SqsManagedSseEnabled",
    "visibilityTimeoutSeconds": "VisibilityTimeout",
}
_READ_BACK = (
    "delaySeconds",
    "maxMessageSize",
    "messageRetentionSeconds",
    "visibilityTimeoutSeconds",
)


class Queue(Kind):
    replaces = ("name", "fifoQueue")
    name = "name"
    longest = 80
    defaults: ClassVar[Values] = {
        "delaySeconds": 0,
        "receiveWaitTimeSeconds": 0,
        "kmsDataKeyReusePeriodSeconds": 300,
        "visibilityTimeoutSeconds": 30,
        "maxMessageSize": 262_144,
        "messageRetentionSeconds": 345_600,
    }
    json = ("redrivePolicy",)
    outputs = ("arn", "url")

    def made_up(self, logical: str, suffix: str, inputs: Values) -> str:
        return f"{logical}-{suffix}" + ".fifo" * bool(inputs.get("fifoQueue"))

    def id_of(self, values: Values) -> str:
        return values["url"]

    def _attributes(self, values: Values) -> dict[str, str]:
        return {
            _ATTRIBUTES[key]: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in without(values, "name", "arn", "url").items()
            if value is not None
        }

    def create(self, values: Values) -> Values:
        made = client("sqs").create_queue(
            QueueName=values["name"],
            Attributes=self._attributes(values),
            tags=values.get("tags") or {},
        )
        return {"url": made["QueueUrl"], "arn": arn("sqs", values["name"])}

    def update(self, olds: Values, news: Values) -> None:
        attributes = self._attributes(news)
        attributes.pop("FifoQueue", None)
        client("sqs").set_queue_attributes(QueueUrl=olds["url"], Attributes=attributes)
        client("sqs").tag_queue(QueueUrl=olds["url"], Tags=news.get("tags") or {})

    def delete(self, values: Values) -> None:
        client("sqs").delete_queue(QueueUrl=values["url"])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("sqs").get_queue_attributes(QueueUrl=made, AttributeNames=["All"])
        attributes = found["Attributes"]
        live = {
            key: int(attributes[_ATTRIBUTES[key]])
            for key in _READ_BACK
            if _ATTRIBUTES[key] in attributes
        }
        return {**live, "name": made.rpartition("/")[2], "url": made, "arn": attributes["QueueArn"]}


# IAM


class QueuePolicy(Kind):
    replaces = ("queueUrl",)
    json = ("policy",)

    def id_of(self, values: Values) -> str:
        return values["queueUrl"]

    def create(self, values: Values) -> Values:
        self._set(values["queueUrl"], values["policy"])
        return {}

    def _set(self, url: str, policy: str) -> None:
        client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})

    def update(self, olds: Values, news: Values) -> None:
        self.create(news)

    def delete(self, values: Values) -> None:
        self._set(values["queueUrl"], "")

    def read(self, made: str, values: Values) -> Values | None:
        found = client("sqs").get_queue_attributes(QueueUrl=made, AttributeNames=["Policy"])
        policy = found.get("Attributes", {}).get("Policy")
        return {"queueUrl": made, "policy": policy} if policy else None


class Role(Kind):
    replaces = ("name", "path")
    name = "name"
    longest = 64
    defaults: ClassVar[Values] = {
        "path": "/",
        "maxSessionDuration": 3600,
        "forceDetachPolicies": False,
    }
    json = ("assumeRolePolicy",)
    outputs = ("arn", "uniqueId", "createDate")

    def create(self, values: Values) -> Values:
        made = client("iam").create_role(
            RoleName=values["name"],
            AssumeRolePolicyDocument=values["assumeRolePolicy"],
            MaxSessionDuration=values["maxSessionDuration"],
            Tags=tag_list(values),
            **shaped({"permissionsBoundary": values.get("permissionsBoundary")}),
        )["Role"]
        return {
            "arn": made["Arn"],
            "uniqueId": made["RoleId"],
            "createDate": made["CreateDate"].isoformat(),
        }

    def update(self, olds: Values, news: Values) -> None:
        name = news["name"]
        client("iam").update_assume_role_policy(
            RoleName=name, PolicyDocument=news["assumeRolePolicy"]
        )
        boundary = news.get("permissionsBoundary")
        if boundary:
            client("iam").put_role_permissions_boundary(RoleName=name, PermissionsBoundary=boundary)
        elif olds.get("permissionsBoundary"):
            client("iam").delete_role_permissions_boundary(RoleName=name)
        client("iam").tag_role(RoleName=name, Tags=tag_list(news))

    def delete(self, values: Values) -> None:
        iam, name = client("iam"), values["name"]
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy)
        iam.delete_role(RoleName=name)

    def read(self, made: str, values: Values) -> Values | None:
        found = client("iam").get_role(RoleName=made)["Role"]
        policy = found["AssumeRolePolicyDocument"]
        text = policy if isinstance(policy, str) else json.dumps(policy)
        return {"name": made, "arn": found["Arn"], "assumeRolePolicy": text}


class RolePolicy(Kind):
    replaces = ("name", "role")
    name = "name"
    longest = 128
    json = ("policy",)

    def id_of(self, values: Values) -> str:
        return f"{values['role']}:{values['name']}"

    def create(self, values: Values) -> Values:
        client("iam").put_role_policy(
            RoleName=values["role"], PolicyName=values["name"], PolicyDocument=values["policy"]
        )
        return {}

    def update(self, olds: Values, news: Values) -> None:
        self.create(news)

    def delete(self, values: Values) -> None:
        client("iam").delete_role_policy(RoleName=values["role"], PolicyName=values["name"])

    def read(self, made: str, values: Values) -> Values | None:
        role, _, name = made.partition(":")
        found = client("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        text = found if isinstance(found, str) else json.dumps(found)
        return {"role": role, "name": name, "policy": text}


# Functions


class LogGroup(Kind):
    replaces = ("name", "logGroupClass")
    name = "name"
    longest = 512
    defaults: ClassVar[Values] = {"skipDestroy": False}
    outputs = ("arn",)

    def create(self, values: Values) -> Values:
        more = {"tags": values.get("tags"), "kmsKeyId": values.get("kmsKeyId")}
        client("logs").create_log_group(
            logGroupName=values["name"], **{name: one for name, one in more.items() if one}
        )
        self._keep(values)
        return {"arn": arn("logs", f"log-group:{values['name']}")}

    def _keep(self, values: Values) -> None:
        name, days = values["name"], values.get("retentionInDays")
        if days:
            client("logs").put_retention_policy(logGroupName=name, retentionInDays=days)
        else:
            client("logs").delete_retention_policy(logGroupName=name)

    def update(self, olds: Values, news: Values) -> None:
        self._keep(news)
        key = news.get("kmsKeyId")
        if key:
            client("logs").associate_kms_key(logGroupName=news["name"], kmsKeyId=key)
        elif olds.get("kmsKeyId"):
            client("logs").disassociate_kms_key(logGroupName=news["name"])
        if news.get("tags"):
            client("logs").tag_resource(
                resourceArn=arn("logs", f"log-group:{news['name']}"), tags=news["tags"]
            )

    def delete(self, values: Values) -> None:
        client("logs").delete_log_group(logGroupName=values["name"])

    def read(self, made: str, values: Values) -> Values | None:
        groups = client("logs").describe_log_groups(logGroupNamePrefix=made)["logGroups"]
        for group in groups:
            if group["logGroupName"] == made:
                days, key = group.get("retentionInDays", 0), group.get("kmsKeyId")
                found = {"name": made, "retentionInDays": days}
                return {**found, "kmsKeyId": key} if key or "kmsKeyId" in values else found
        return None


class Function(Kind):
    replaces = ("name", "packageType")
    name = "name"
    longest = 64
    defaults: ClassVar[Values] = {
        "packageType": "Zip",
        "publish": False,
        "reservedConcurrentExecutions": -1,
        "skipDestroy": False,
        "timeout": 3,
        "memorySize": 128,
    }
    outputs = ("arn", "invokeArn", "version", "qualifiedArn", "lastModified")

    def _configuration(self, values: Values) -> Values:
        handler = {"Handler": values["handler"]} if "handler" in values else {}
        return {
            **handler,
            "Role": values["role"],
            "Timeout": values["timeout"],
            "MemorySize": values["memorySize"],
            "Environment": {"Variables": (values.get("environment") or {}).get("variables", {})},
            "LoggingConfig": shaped(values["loggingConfig"]),
            **self._surroundings(values),
        }

    def _surroundings(self, values: Values) -> Values:
        """What is asked for even when it is not given any more: without, AWS leaves it as it was."""
        files = values.get("fileSystemConfig")
        tracing = values.get("tracingConfig") or {"mode": "PassThrough"}
        return {
            "VpcConfig": shaped(
                values.get("vpcConfig") or {"subnetIds": [], "securityGroupIds": []}
            ),
            "FileSystemConfigs": [shaped(files)] if files else [],
            "Layers": values.get("layers") or [],
            "EphemeralStorage": shaped(values.get("ephemeralStorage") or {"size": 512}),
            "TracingConfig": shaped(tracing),
            "KMSKeyArn": values.get("kmsKeyArn") or "",
            "SnapStart": shaped(values.get("snapStart") or {"applyOn": "None"}),
        }

    def _code(self, values: Values) -> Values:
        """Where the code is: in an image, in the request, or in a bucket."""
        if values["packageType"] == "Image":
            return {"ImageUri": values["imageUri"]}
        if "code" in values:
            return {"ZipFile": package(values["code"])}
        return {"S3Bucket": values["s3Bucket"], "S3Key": values["s3Key"]}

    def _reserve(self, values: Values) -> None:
        name, reserved = values["name"], values["reservedConcurrentExecutions"]
        if reserved == -1:
            client("lambda").delete_function_concurrency(FunctionName=name)
        else:
            client("lambda").put_function_concurrency(
                FunctionName=name, ReservedConcurrentExecutions=reserved
            )

    def _wait(self, name: str, waiter: str) -> None:
        client("lambda").get_waiter(waiter).wait(
            FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600}
        )

    def create(self, values: Values) -> Values:
        packaged: Values = {"PackageType": values["packageType"]}
        if values["packageType"] == "Zip":
            known = client("lambda").meta.service_model.shape_for("Runtime").enum
            assert values["runtime"] in known, values["runtime"]
            packaged["Runtime"] = functions.RUNTIME
        made = client("lambda").create_function(
            FunctionName=values["name"],
            **packaged,
            Code=self._code(values),
            Architectures=values["architectures"],
            Tags=values.get("tags") or {},
            **self._configuration(values),
        )
        self._wait(values["name"], "function_active_v2")
        self._reserve(values)
        return {
            "arn": made["FunctionArn"],
            "invokeArn": arn("apigateway", f"lambda:path/functions/{values['name']}"),
            "lastModified": made["LastModified"],
            **self._publish(values, made["FunctionArn"]),
        }

    def _publish(self, values: Values, function: str) -> Values:
        """The newest version, which is published if there is something new."""
        version = "$LATEST"
        if values["publish"]:
            made = client("lambda").publish_version(FunctionName=values["name"])
            version = made["Version"]
            client("lambda").get_waiter("published_version_active").wait(
                FunctionName=values["name"],
                Qualifier=version,
                WaiterConfig={"Delay": 0.1, "MaxAttempts": 600},
            )
        return {"version": version, "qualifiedArn": f"{function}:{version}"}

    def decided_anew(self, olds: Values, news: Values) -> tuple[str, ...]:
        return ("lastModified", *(("version", "qualifiedArn") if news["publish"] else ()))

    def update(self, olds: Values, news: Values) -> Values:
        name = news["name"]
        client("lambda").update_function_code(
            FunctionName=name, **self._code(news), Architectures=news["architectures"]
        )
        self._wait(name, "function_updated_v2")
        client("lambda").update_function_configuration(
            FunctionName=name, **self._configuration(news)
        )
        self._wait(name, "function_updated_v2")
        self._reserve(news)
        if news.get("tags"):
            client("lambda").tag_resource(Resource=olds["arn"], Tags=news["tags"])
        return self._publish(news, olds["arn"])

    def delete(self, values: Values) -> None:
        client("lambda").delete_function(FunctionName=values["name"])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("lambda").get_function_configuration(FunctionName=made)
        return {
            "name": made,
            "arn": found["FunctionArn"],
            "role": found["Role"],
            **({"handler": found["Handler"]} if found["PackageType"] == "Zip" else {}),
            "timeout": found["Timeout"],
            "memorySize": found["MemorySize"],
            "environment": {"variables": found["Environment"]["Variables"]},
            **self._found(found, values),
        }

    def _found(self, found: Values, values: Values) -> Values:
        """What is read of a function's key and snapshots, where there are any or there ought to be."""
        key, snapshots = found.get("KMSKeyArn"), found["SnapStart"]["ApplyOn"]
        read: Values = {}
        if key or "kmsKeyArn" in values:
            read["kmsKeyArn"] = key
        if snapshots != "None" or "snapStart" in values:
            read["snapStart"] = {"applyOn": snapshots}
        return read


class OfFunction(Kind):
    """A setting of a function."""

    replaces = ("functionName", "qualifier")
    call = ""
    removal = ""

    def id_of(self, values: Values) -> str:
        return values["functionName"]

    def request(self, values: Values) -> Values:
        return shaped(without(values))

    def create(self, values: Values) -> Values:
        getattr(client("lambda"), f"put_{self.call}")(**self.request(values))
        return {}

    def update(self, olds: Values, news: Values) -> None:
        self.create(news)

    def delete(self, values: Values) -> None:
        getattr(client("lambda"), f"delete_{self.call}")(FunctionName=values["functionName"])

    def read(self, made: str, values: Values) -> Values | None:
        client("lambda").get_function_configuration(FunctionName=made)
        getattr(client("lambda"), f"get_{self.call}")(FunctionName=made)
        return {"functionName": made}


class FunctionRecursionConfig(OfFunction):
    replaces = ("functionName",)
    call = "function_recursion_config"

    def delete(self, values: Values) -> None:
        client("lambda").put_function_recursion_config(
            FunctionName=values["functionName"], RecursiveLoop="Terminate"
        )


class FunctionEventInvokeConfig(OfFunction):
    call = "function_event_invoke_config"

    def id_of(self, values: Values) -> str:
        return ":".join(self._of(values).values())

    def _of(self, values: Values) -> dict[str, str]:
        of = {"FunctionName": values["functionName"]}
        return of | ({"Qualifier": values["qualifier"]} if values.get("qualifier") else {})

    def delete(self, values: Values) -> None:
        client("lambda").delete_function_event_invoke_config(**self._of(values))

    def read(self, made: str, values: Values) -> Values | None:
        name, _, qualifier = made.partition(":")
        of = {"functionName": name, **({"qualifier": qualifier} if qualifier else {})}
        client("lambda").get_function_event_invoke_config(**self._of(of))
        return of


class ProvisionedConcurrencyConfig(OfFunction):
    call = "provisioned_concurrency_config"

    def id_of(self, values: Values) -> str:
        return f"{values['functionName']},{values['qualifier']}"

    def delete(self, values: Values) -> None:
        client("lambda").delete_provisioned_concurrency_config(
            FunctionName=values["functionName"], Qualifier=values["qualifier"]
        )

    def read(self, made: str, values: Values) -> Values | None:
        function, _, qualifier = made.partition(",")
        found = client("lambda").get_provisioned_concurrency_config(
            FunctionName=function, Qualifier=qualifier
        )
        asked = found["RequestedProvisionedConcurrentExecutions"]
        return {
            "functionName": function,
            "qualifier": qualifier,
            "provisionedConcurrentExecutions": asked,
        }


class Alias(Kind):
    replaces = ("functionName", "name")
    outputs = ("arn", "invokeArn")

    def id_of(self, values: Values) -> str:
        return values["arn"]

    def create(self, values: Values) -> Values:
        made = client("lambda").create_alias(**shaped(without(values)))["AliasArn"]
        return {"arn": made, "invokeArn": arn("apigateway", f"lambda:path/{made}")}

    def update(self, olds: Values, news: Values) -> None:
        weights = news.get("routingConfig") or {}
        client("lambda").update_alias(**shaped({**without(news), "routingConfig": weights}))

    def delete(self, values: Values) -> None:
        client("lambda").delete_alias(FunctionName=values["functionName"], Name=values["name"])

    def read(self, made: str, values: Values) -> Values | None:
        *_, function, name = made.split(":")
        found = client("lambda").get_alias(FunctionName=function, Name=name)
        version = found["FunctionVersion"]
        return {"functionName": function, "name": name, "functionVersion": version, "arn": made}


class Invocation(Kind):
    """A call when it is made, and with the scope CRUD when its input changes and when it goes: the
    function is told why, and what the input was before.
    """

    replaces = ("functionName", "qualifier", "terraformKey", "triggers", "tenantId")
    defaults: ClassVar[Values] = {
        "lifecycleScope": "CREATE_ONLY",
        "qualifier": "$LATEST",
        "terraformKey": "tf",
    }
    outputs = ("result",)

    def id_of(self, values: Values) -> str:
        digest = hashlib.sha256(values["input"].encode()).hexdigest()
        return f"{values['functionName']}_{values['qualifier']}_{digest[:32]}"

    def create(self, values: Values) -> Values:
        return self._invoke("create", values, None)

    def update(self, olds: Values, news: Values) -> Values | None:
        if olds["input"] == news["input"]:
            return None
        return self._invoke("update", news, olds["input"])

    def decided_anew(self, olds: Values, news: Values) -> tuple[str, ...]:
        return self.outputs if olds["input"] != news["input"] else ()

    def delete(self, values: Values) -> None:
        if values["lifecycleScope"] == "CRUD":
            self._invoke("delete", values, values["input"])

    def read(self, made: str, values: Values) -> Values | None:
        """Nobody can ask AWS what was called."""
        return values

    def _invoke(self, action: str, values: Values, before: str | None) -> Values:
        told = json.loads(values["input"])
        if values["lifecycleScope"] == "CRUD":
            old = None if before is None else json.loads(before)
            told[values["terraformKey"]] = {"action": action, "prev_input": old}
        answer = client("lambda").invoke(
            FunctionName=values["functionName"],
            Qualifier=values["qualifier"],
            Payload=json.dumps(told),
        )
        result = answer["Payload"].read().decode()
        if answer.get("FunctionError"):
            raise RuntimeError(f"invoking Lambda Function: {answer['FunctionError']}: {result}")
        return {"result": result}


class EventSourceMapping(Kind):
    replaces = ("eventSourceArn",)
    defaults: ClassVar[Values] = {"enabled": True}
    outputs = ("uuid", "functionArn", "state", "arn")

    def id_of(self, values: Values) -> str:
        return values["uuid"]

    def create(self, values: Values) -> Values:
        made = client("lambda").create_event_source_mapping(**shaped(without(values)))
        return {
            "uuid": made["UUID"],
            "functionArn": made["FunctionArn"],
            "state": "Enabled",
            "arn": arn("lambda", f"event-source-mapping:{made['UUID']}"),
        }

    def update(self, olds: Values, news: Values) -> None:
        asked = shaped(without(news, "eventSourceArn"))
        asked.setdefault("ScalingConfig", {})
        client("lambda").update_event_source_mapping(UUID=olds["uuid"], **asked)

    def delete(self, values: Values) -> None:
        client("lambda").delete_event_source_mapping(UUID=values["uuid"])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("lambda").get_event_source_mapping(UUID=made)
        return {"uuid": made, "batchSize": found["BatchSize"]}


class FunctionUrl(Kind):
    replaces = ("functionName", "qualifier")
    defaults: ClassVar[Values] = {"invokeMode": "BUFFERED"}
    outputs = ("functionUrl", "urlId", "functionArn")

    def id_of(self, values: Values) -> str:
        return values["functionName"]

    def _request(self, values: Values) -> Values:
        request = shaped(without(values))
        request["AuthType"] = request.pop("AuthorizationType")
        return request

    def create(self, values: Values) -> Values:
        made = client("lambda").create_function_url_config(**self._request(values))
        url = made["FunctionUrl"]
        return {
            "functionUrl": url,
            "urlId": url.split("/")[2].split(".")[0],
            "functionArn": made["FunctionArn"],
        }

    def update(self, olds: Values, news: Values) -> None:
        client("lambda").update_function_url_config(**self._request(news))

    def delete(self, values: Values) -> None:
        client("lambda").delete_function_url_config(FunctionName=values["functionName"])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("lambda").get_function_url_config(FunctionName=made)
        return {"functionName": made, "authorizationType": found["AuthType"]}


class Permission(Kind):
    replaces = ("*",)
    name = "statementId"
    longest = 100

    def create(self, values: Values) -> Values:
        request = shaped(without(values))
        request["FunctionName"] = request.pop("Function")
        client("lambda").add_permission(**request)
        return {}

    def delete(self, values: Values) -> None:
        client("lambda").remove_permission(
            FunctionName=values["function"], StatementId=values["statementId"]
        )

    def read(self, made: str, values: Values) -> Values | None:
        policy = client("lambda").get_policy(FunctionName=values["function"])["Policy"]
        there = any(statement["Sid"] == made for statement in json.loads(policy)["Statement"])
        return {"statementId": made} if there else None


# Keys


class Parameter(Kind):
    """A parameter of SSM."""

    replaces = ("name", "dataType")
    name = "name"
    longest = 2048
    outputs = ("arn", "version")

    def id_of(self, values: Values) -> str:
        return values["name"]

    def _put(self, values: Values, **more: Any) -> Values:
        made = client("ssm").put_parameter(
            **shaped({key: values.get(key) for key in ("name", "type", "value", "keyId")}), **more
        )
        return {"version": made["Version"]}

    def create(self, values: Values) -> Values:
        made = self._put(values, Tags=tag_list(values))
        return {**made, "arn": arn("ssm", f"parameter/{values['name']}")}

    def update(self, olds: Values, news: Values) -> Values:
        return self._put(news, Overwrite=True)

    def decided_anew(self, olds: Values, news: Values) -> tuple[str, ...]:
        return ("version",)

    def delete(self, values: Values) -> None:
        client("ssm").delete_parameter(Name=values["name"])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("ssm").get_parameter(Name=made, WithDecryption=True)["Parameter"]
        return {"name": made, "type": found["Type"], "value": found["Value"]}


class Secret(Kind):
    """A secret of Secrets Manager, without a value."""

    replaces = ("name", "namePrefix")
    name = "name"
    longest = 512
    defaults: ClassVar[Values] = {"recoveryWindowInDays": 30, "forceOverwriteReplicaSecret": False}
    outputs = ("arn",)

    def id_of(self, values: Values) -> str:
        return values["arn"]

    def create(self, values: Values) -> Values:
        key = {"kmsKeyId": values.get("kmsKeyId")}
        made = client("secretsmanager").create_secret(
            Name=values["name"], Tags=tag_list(values), **shaped(key)
        )
        return {"arn": made["ARN"]}

    def update(self, olds: Values, news: Values) -> None:
        if news.get("kmsKeyId"):
            client("secretsmanager").update_secret(SecretId=olds["arn"], KmsKeyId=news["kmsKeyId"])
        client("secretsmanager").tag_resource(SecretId=olds["arn"], Tags=tag_list(news))

    def delete(self, values: Values) -> None:
        client("secretsmanager").delete_secret(
            SecretId=values["arn"], RecoveryWindowInDays=int(values["recoveryWindowInDays"])
        )

    def read(self, made: str, values: Values) -> Values | None:
        found = client("secretsmanager").describe_secret(SecretId=made)
        gone = "DeletedDate" in found
        return None if gone else {"name": found["Name"], "arn": found["ARN"]}


class SecretVersion(Kind):
    """A value of a secret. The newest is the present one, and stays so when it is removed."""

    replaces = ("secretId", "secretString", "secretBinary")
    outputs = ("arn", "versionId", "secretArn")

    def id_of(self, values: Values) -> str:
        return f"{values['secretId']}|{values['versionId']}"

    def create(self, values: Values) -> Values:
        made = client("secretsmanager").put_secret_value(
            SecretId=values["secretId"], SecretString=values["secretString"]
        )
        return {"arn": made["ARN"], "secretArn": made["ARN"], "versionId": made["VersionId"]}

    def delete(self, values: Values) -> None:
        """Nothing of it can be removed but labels that the components do not give."""

    def read(self, made: str, values: Values) -> Values | None:
        secret, _, version = made.partition("|")
        found = client("secretsmanager").get_secret_value(SecretId=secret, VersionId=version)
        return {"secretId": secret, "versionId": version, "secretString": found["SecretString"]}


# Pipes and schedules


class Pipe(Kind):
    replaces = ("name", "source")
    name = "name"
    longest = 64
    defaults: ClassVar[Values] = {"desiredState": "RUNNING"}
    outputs = ("arn",)

    def create(self, values: Values) -> Values:
        made = client("pipes").create_pipe(
            **self._request(values), Source=values["source"], Tags=values.get("tags") or {}
        )
        return {"arn": made["Arn"]}

    def _request(self, values: Values) -> Values:
        known = client("pipes").meta.service_model.shape_for("UpdatePipeRequest").members
        request = shaped(without(values, "arn", "source"))
        sources = request.pop("SourceParameters", None)
        logs = request.get("LogConfiguration")
        if logs and "CloudwatchLogsLogDestination" in logs:
            logs["CloudwatchLogsLogDestination"] = {
                "LogGroupArn": logs["CloudwatchLogsLogDestination"]["LogGroupArn"]
            }
        unknown = set(request) - set(known)
        assert not unknown, unknown
        return {**request, **({"SourceParameters": sources} if sources else {})}

    def update(self, olds: Values, news: Values) -> None:
        client("pipes").update_pipe(**self._request(news))
        if news.get("tags"):
            client("pipes").tag_resource(resourceArn=olds["arn"], tags=news["tags"])

    def delete(self, values: Values) -> None:
        client("pipes").delete_pipe(Name=values["name"])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("pipes").describe_pipe(Name=made)
        return {
            "name": made,
            "arn": found["Arn"],
            "source": found["Source"],
            "target": found["Target"],
            "roleArn": found["RoleArn"],
        }


class ScheduleGroup(Kind):
    replaces = ("name",)
    name = "name"
    longest = 64
    outputs = ("arn", "state", "creationDate", "lastModificationDate")

    def create(self, values: Values) -> Values:
        made = client("scheduler").create_schedule_group(Name=values["name"], Tags=tag_list(values))
        return {"arn": made["ScheduleGroupArn"], "state": "ACTIVE"}

    def update(self, olds: Values, news: Values) -> None:
        client("scheduler").tag_resource(ResourceArn=olds["arn"], Tags=tag_list(news))

    def delete(self, values: Values) -> None:
        client("scheduler").delete_schedule_group(Name=values["name"])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("scheduler").get_schedule_group(Name=made)
        return {"name": made, "arn": found["Arn"]}


class Table(Kind):
    replaces = ("name", "hashKey", "rangeKey")
    name = "name"
    outputs = ("arn", "streamArn", "streamLabel")

    def create(self, values: Values) -> Values:
        return {"arn": create_table(client("dynamodb"), values["name"], values)}

    def update(self, olds: Values, news: Values) -> None:
        client("dynamodb").tag_resource(ResourceArn=olds["arn"], Tags=tag_list(news))

    def delete(self, values: Values) -> None:
        client("dynamodb").delete_table(TableName=values["name"])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("dynamodb").describe_table(TableName=made)["Table"]
        return {"name": made, "arn": found["TableArn"]}


# Monitoring


class MetricAlarm(Kind):
    replaces = ("name",)
    name = "name"
    defaults: ClassVar[Values] = {"actionsEnabled": True}
    outputs = ("arn",)

    def create(self, values: Values) -> Values:
        request = shaped(without(values, "name", "arn"))
        if "Dimensions" in request:
            request["Dimensions"] = [
                {"Name": key, "Value": value} for key, value in values["dimensions"].items()
            ]
        if "OkActions" in request:
            request["OKActions"] = request.pop("OkActions")
        for query in request.get("MetricQueries", ()):
            metric = query.get("Metric")
            if metric:
                given = metric.pop("Dimensions", {})
                named = [{"Name": key[:1] + key[1:], "Value": given[key]} for key in given]
                query["MetricStat"] = {
                    "Metric": {
                        "Namespace": metric["Namespace"],
                        "MetricName": metric["MetricName"],
                        "Dimensions": named,
                    },
                    "Period": metric["Period"],
                    "Stat": metric["Stat"],
                }
                del query["Metric"]
        if "MetricQueries" in request:
            request["Metrics"] = request.pop("MetricQueries")
        client("cloudwatch").put_metric_alarm(
            AlarmName=values["name"], Tags=tag_list(values), **request
        )
        return {"arn": arn("cloudwatch", f"alarm:{values['name']}")}

    def update(self, olds: Values, news: Values) -> None:
        self.create(news)

    def delete(self, values: Values) -> None:
        client("cloudwatch").delete_alarms(AlarmNames=[values["name"]])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("cloudwatch").describe_alarms(AlarmNames=[made])["MetricAlarms"]
        return {"name": made} if found else None


class Dashboard(Kind):
    replaces = ("dashboardName",)
    json = ("dashboardBody",)
    outputs = ("dashboardArn",)

    def id_of(self, values: Values) -> str:
        return values["dashboardName"]

    def create(self, values: Values) -> Values:
        client("cloudwatch").put_dashboard(
            DashboardName=values["dashboardName"], DashboardBody=values["dashboardBody"]
        )
        return {"dashboardArn": arn("cloudwatch", f"dashboard/{values['dashboardName']}", "")}

    def update(self, olds: Values, news: Values) -> None:
        self.create(news)

    def delete(self, values: Values) -> None:
        client("cloudwatch").delete_dashboards(DashboardNames=[values["dashboardName"]])

    def read(self, made: str, values: Values) -> Values | None:
        found = client("cloudwatch").get_dashboard(DashboardName=made)
        return {"dashboardName": made, "dashboardBody": found["DashboardBody"]}


class QueryDefinition(Kind):
    """The emulator keeps none: they are checked and remembered."""

    name = "name"
    outputs = ("queryDefinitionId",)

    def id_of(self, values: Values) -> str:
        return values["queryDefinitionId"]

    def create(self, values: Values) -> Values:
        self.update({}, values)
        return {"queryDefinitionId": str(uuid4())}

    def update(self, olds: Values, news: Values) -> None:
        pages = client("logs").get_paginator("describe_log_groups").paginate()
        found = {group["logGroupName"] for page in pages for group in page["logGroups"]}
        assert set(news["logGroupNames"]) <= found
        assert 0 < len(news["queryString"]) <= 10_000

    def delete(self, values: Values) -> None:
        """Nothing is kept."""

    def read(self, made: str, values: Values) -> Values | None:
        return values


KINDS: dict[str, Kind] = {
    "aws:s3/bucket:Bucket": Bucket(),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": BucketPublicAccessBlock(),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": (
        BucketServerSideEncryptionConfiguration()
    ),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": (
        BucketLifecycleConfiguration()
    ),
    "aws:s3/bucketPolicy:BucketPolicy": BucketPolicy(),
    "aws:s3/bucketObjectv2:BucketObjectv2": BucketObjectv2(),
    "aws:sqs/queue:Queue": Queue(),
    "aws:sqs/queuePolicy:QueuePolicy": QueuePolicy(),
    "aws:iam/role:Role": Role(),
    "aws:iam/rolePolicy:RolePolicy": RolePolicy(),
    "aws:cloudwatch/logGroup:LogGroup": LogGroup(),
    "aws:lambda/function:Function": Function(),
    "aws:lambda/functionRecursionConfig:FunctionRecursionConfig": FunctionRecursionConfig(),
    "aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig": FunctionEventInvokeConfig(),
    "aws:lambda/provisionedConcurrencyConfig:ProvisionedConcurrencyConfig": (
        ProvisionedConcurrencyConfig()
    ),
    "aws:lambda/alias:Alias": Alias(),
    "aws:lambda/invocation:Invocation": Invocation(),
    "aws:lambda/eventSourceMapping:EventSourceMapping": EventSourceMapping(),
    "aws:lambda/functionUrl:FunctionUrl": FunctionUrl(),
    "aws:lambda/permission:Permission": Permission(),
    "aws:ssm/parameter:Parameter": Parameter(),
    "aws:secretsmanager/secret:Secret": Secret(),
    "aws:secretsmanager/secretVersion:SecretVersion": SecretVersion(),
    "aws:pipes/pipe:Pipe": Pipe(),
    "aws:scheduler/scheduleGroup:ScheduleGroup": ScheduleGroup(),
    "aws:dynamodb/table:Table": Table(),
    "aws:cloudwatch/metricAlarm:MetricAlarm": MetricAlarm(),
    "aws:cloudwatch/dashboard:Dashboard": Dashboard(),
    "aws:cloudwatch/queryDefinition:QueryDefinition": QueryDefinition(),
    "random:index/randomId:RandomId": RandomId(),
    "random:index/randomPassword:RandomPassword": RandomPassword(),
}
"""The types by their tokens. One that is not here is an error of the program that asks for it."""
