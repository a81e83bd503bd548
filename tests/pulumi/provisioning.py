"""Mocks that make every resource for real, by boto3: whatever AWS would refuse is refused here.

Inputs are given to botocore, which holds them to the models of AWS's own API, and then to the
emulator. A type of resource that has no method here is an error.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks

from tests.aws.emulator import functions
from tests.aws.emulator.server import Server
from tests.pulumi.recording import revealed, rpc_secret
from tests.pulumi.tables import create_table

Made = tuple[str, dict[str, Any]]
"""A resource's id, and what it has besides its inputs."""


ATTRIBUTES = {
    "contentBasedDeduplication": "ContentBasedDeduplication",
    "deduplicationScope": "DeduplicationScope",
    "fifoQueue": "FifoQueue",
    "fifoThroughputLimit": "FifoThroughputLimit",
    "maxMessageSize": "MaximumMessageSize",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "redrivePolicy": "RedrivePolicy",
    "sqsManagedSseEnabled": "SqsManagedSseEnabled",
    "visibilityTimeoutSeconds": "VisibilityTimeout",
}


def aws_shape(value: Any) -> Any:
    """Pulumi's names of properties, in the form that AWS gives them."""
    if isinstance(value, Mapping):
        return {key[:1].upper() + key[1:]: aws_shape(part) for key, part in value.items()}
    return [aws_shape(part) for part in value] if isinstance(value, list) else value


def _path(archive: Any) -> str:
    assert isinstance(archive, pulumi.FileArchive)
    return archive.path


def tags_of(inputs: Mapping[str, Any]) -> dict[str, str]:
    return dict(inputs.get("tags") or {})


def tag_list(inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags_of(inputs).items()]


class Provisioning(Mocks):
    """Makes resources on the emulator. `made` has (type, name, id) of each, in order.

    What a program asks for again stays as it is, except that functions get new code and settings, and
    that aliases and settings of asynchronous calls follow their versions. Nothing else is updated, and
    nothing is deleted.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._known: dict[tuple[str, str], tuple[Any, Made]] = {}
        self.made: list[tuple[str, str, str]] = []
        self.bucket_policies: dict[str, Any] = {}

    def new_resource(self, args: MockResourceArgs) -> Made:
        if not args.custom:
            return "", dict(args.inputs)
        kind = args.typ.rpartition(":")[2]
        method = getattr(self, f"_{kind}", None)
        assert method is not None, f"{args.typ} is not known here"
        inputs = revealed(args.inputs)
        described = json.dumps(inputs, default=_path, sort_keys=True)
        before, answer = self._known.get((args.typ, args.name), (described, None))
        if answer is None:
            made, more = method(args.name, inputs)
            self.made.append((args.typ, args.name, made))
            answer = made, {**args.inputs, **more}
        elif before != described:
            update = getattr(self, f"_update_{kind}", None)
            assert update is not None, f"{args.name} would have to be changed"
            answer = answer[0], {**answer[1], **args.inputs, **update(answer[0], inputs)}
        self._known[args.typ, args.name] = described, answer
        return answer

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(f"nothing needs to be asked of the provider: {args.token}")

    def _client(self, service: str) -> Any:
        return self.server.client(service)

    @staticmethod
    def _name(logical: str, inputs: Mapping[str, Any], suffix: str = "") -> str:
        """The physical name, made up as Pulumi makes it up where there is none."""
        return inputs.get("name") or f"{logical}-{secrets.token_hex(4)[:7]}{suffix}"

    # Random values

    def _RandomId(self, name: str, inputs: Mapping[str, Any]) -> Made:
        return "id", {"hex": secrets.token_hex(inputs["byteLength"])}

    def _RandomPassword(self, name: str, inputs: Mapping[str, Any]) -> Made:
        return "none", {"result": rpc_secret(secrets.token_hex(inputs["length"] // 2))}

    # S3

    def _Bucket(self, name: str, inputs: Mapping[str, Any]) -> Made:
        bucket = self._name(name, inputs).lower()
        self._client("s3").create_bucket(Bucket=bucket)
        return bucket, {"bucket": bucket, "arn": f"arn:aws:s3:::{bucket}"}

    def _BucketPublicAccessBlock(self, name: str, inputs: Mapping[str, Any]) -> Made:
        blocked = {key: value for key, value in inputs.items() if key != "bucket"}
        self._client("s3").put_public_access_block(
            Bucket=inputs["bucket"], PublicAccessBlockConfiguration=aws_shape(blocked)
        )
        return inputs["bucket"], {}

    def _BucketServerSideEncryptionConfiguration(
        self, name: str, inputs: Mapping[str, Any]
    ) -> Made:
        rules = [
            {
                "ApplyServerSideEncryptionByDefault": {
                    "SSEAlgorithm": rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"]
                }
            }
            for rule in inputs["rules"]
        ]
        self._client("s3").put_bucket_encryption(
            Bucket=inputs["bucket"], ServerSideEncryptionConfiguration={"Rules": rules}
        )
        return inputs["bucket"], {}

    def _BucketLifecycleConfiguration(self, name: str, inputs: Mapping[str, Any]) -> Made:
        rules = [{**aws_shape(rule), "ID": rule["id"]} for rule in inputs["rules"]]
        for rule in rules:
            del rule["Id"]
        self._client("s3").put_bucket_lifecycle_configuration(
            Bucket=inputs["bucket"], LifecycleConfiguration={"Rules": rules}
        )
        return inputs["bucket"], {}

    def _BucketPolicy(self, name: str, inputs: Mapping[str, Any]) -> Made:
        s3 = self._client("s3")
        s3.put_bucket_policy(Bucket=inputs["bucket"], Policy=inputs["policy"])
        self.bucket_policies[inputs["bucket"]] = s3.get_bucket_policy(Bucket=inputs["bucket"])
        # Loopback has no TLS, which is what the policy asks for.
        s3.delete_bucket_policy(Bucket=inputs["bucket"])
        return inputs["bucket"], {}

    # SQS

    def _QueuePolicy(self, name: str, inputs: Mapping[str, Any]) -> Made:
        url, policy = inputs["queueUrl"], inputs["policy"]
        self._client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        return url, {}

    def _Queue(self, name: str, inputs: Mapping[str, Any]) -> Made:
        queue = self._name(name, inputs, ".fifo" if inputs.get("fifoQueue") else "")
        attributes = {
            ATTRIBUTES[key]: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in inputs.items()
            if key not in ("name", "tags")
        }
        url = self._client("sqs").create_queue(
            QueueName=queue, Attributes=attributes, tags=tags_of(inputs)
        )["QueueUrl"]
        arn = f"arn:aws:sqs:{self.server.region}:{self.server.account}:{queue}"
        return url, {"name": queue, "url": url, "arn": arn}

    # IAM

    def _Role(self, name: str, inputs: Mapping[str, Any]) -> Made:
        role = self._name(name, inputs)
        made = self._client("iam").create_role(
            RoleName=role,
            AssumeRolePolicyDocument=inputs["assumeRolePolicy"],
            Tags=tag_list(inputs),
        )
        return role, {"name": role, "arn": made["Role"]["Arn"]}

    def _RolePolicy(self, name: str, inputs: Mapping[str, Any]) -> Made:
        policy = self._name(name, inputs)
        self._client("iam").put_role_policy(
            RoleName=inputs["role"], PolicyName=policy, PolicyDocument=inputs["policy"]
        )
        return f"{inputs['role']}:{policy}", {"name": policy}

    # Functions

    def _LogGroup(self, name: str, inputs: Mapping[str, Any]) -> Made:
        logs, group = self._client("logs"), self._name(name, inputs)
        logs.create_log_group(logGroupName=group, tags=tags_of(inputs) or {"made": "here"})
        if inputs["retentionInDays"]:
            logs.put_retention_policy(logGroupName=group, retentionInDays=inputs["retentionInDays"])
        region, account = self.server.region, self.server.account
        arn = f"arn:aws:logs:{region}:{account}:log-group:{group}"
        return group, {"name": group, "arn": arn}

    def _Function(self, name: str, inputs: Mapping[str, Any]) -> Made:
        function = self._name(name, inputs)
        code = inputs["code"]
        assert isinstance(code, pulumi.FileArchive)
        self._check_runtime(inputs)
        made = functions.create(
            self.server,
            function,
            inputs["handler"],
            functions.runnable(Path(code.path)),
            role=inputs["role"],
            variables=inputs["environment"]["variables"],
            timeout=inputs["timeout"],
            MemorySize=inputs["memorySize"],
            Architectures=inputs["architectures"],
            LoggingConfig=aws_shape(inputs["loggingConfig"]),
            Tags=tags_of(inputs),
        )
        if inputs.get("reservedConcurrentExecutions") is not None:
            self._client("lambda").put_function_concurrency(
                FunctionName=function,
                ReservedConcurrentExecutions=inputs["reservedConcurrentExecutions"],
            )
        return function, {"name": function, "arn": made, "version": self._version(function, inputs)}

    def _version(self, name: str, inputs: Mapping[str, Any]) -> str:
        """The number of the newest version, which is published if there is something new."""
        if not inputs.get("publish"):
            return "$LATEST"
        return self._client("lambda").publish_version(FunctionName=name)["Version"]

    def _update_Function(self, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        client, waiting = self._client("lambda"), {"Delay": 0.1, "MaxAttempts": 300}
        package = functions.runnable(Path(inputs["code"].path))
        updated = client.get_waiter("function_updated_v2")
        client.update_function_code(FunctionName=name, ZipFile=package)
        updated.wait(FunctionName=name, WaiterConfig=waiting)
        variables = {"Variables": inputs["environment"]["variables"]}
        client.update_function_configuration(FunctionName=name, Environment=variables)
        updated.wait(FunctionName=name, WaiterConfig=waiting)
        return {"version": self._version(name, inputs)}

    def _Alias(self, name: str, inputs: Mapping[str, Any]) -> Made:
        made = self._client("lambda").create_alias(**aws_shape(inputs))
        return f"{inputs['functionName']}/{inputs['name']}", {"arn": made["AliasArn"]}

    def _update_Alias(self, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self._client("lambda").update_alias(**aws_shape(inputs))
        return {}

    def _check_runtime(self, inputs: Mapping[str, Any]) -> None:
        """Lambda has this runtime: what the function runs on here is another one."""
        model = self._client("lambda").meta.service_model
        assert inputs["runtime"] in model.shape_for("Runtime").enum

    def _FunctionRecursionConfig(self, name: str, inputs: Mapping[str, Any]) -> Made:
        self._client("lambda").put_function_recursion_config(**aws_shape(inputs))
        return inputs["functionName"], {}

    def _FunctionEventInvokeConfig(self, name: str, inputs: Mapping[str, Any]) -> Made:
        self._client("lambda").put_function_event_invoke_config(**aws_shape(inputs))
        return inputs["functionName"], {}

    def _update_FunctionEventInvokeConfig(
        self, name: str, inputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Those of another version are made; those of the one before stay, as the program asks."""
        self._FunctionEventInvokeConfig(name, inputs)
        return {}

    def _EventSourceMapping(self, name: str, inputs: Mapping[str, Any]) -> Made:
        made = self._client("lambda").create_event_source_mapping(**aws_shape(inputs))
        return made["UUID"], {"uuid": made["UUID"]}

    def _FunctionUrl(self, name: str, inputs: Mapping[str, Any]) -> Made:
        request = aws_shape(inputs)
        request["AuthType"] = request.pop("AuthorizationType")
        made = self._client("lambda").create_function_url_config(**request)
        return inputs["functionName"], {"functionUrl": made["FunctionUrl"]}

    def _Permission(self, name: str, inputs: Mapping[str, Any]) -> Made:
        request = aws_shape(inputs)
        request["FunctionName"] = request.pop("Function")
        self._client("lambda").add_permission(StatementId=name, **request)
        return name, {}

    # Pipes and schedules

    def _Pipe(self, name: str, inputs: Mapping[str, Any]) -> Made:
        made = self._client("pipes").create_pipe(**aws_shape(inputs))
        return inputs["name"], {"arn": made["Arn"]}

    def _ScheduleGroup(self, name: str, inputs: Mapping[str, Any]) -> Made:
        group = self._name(name, inputs)
        made = self._client("scheduler").create_schedule_group(Name=group, Tags=tag_list(inputs))
        return group, {"name": group, "arn": made["ScheduleGroupArn"]}

    def _Table(self, name: str, inputs: Mapping[str, Any]) -> Made:
        table = self._name(name, inputs)
        return table, {
            "name": table,
            "arn": create_table(self._client("dynamodb"), table, inputs),
        }

    # Monitoring

    def _MetricAlarm(self, name: str, inputs: Mapping[str, Any]) -> Made:
        alarm = self._name(name, inputs)
        request = aws_shape({key: value for key, value in inputs.items() if key != "tags"})
        request["Dimensions"] = [
            {"Name": key, "Value": value} for key, value in inputs["dimensions"].items()
        ]
        request["OKActions"] = request.pop("OkActions")
        self._client("cloudwatch").put_metric_alarm(
            AlarmName=alarm, Tags=tag_list(inputs), **request
        )
        return alarm, {}

    def _Dashboard(self, name: str, inputs: Mapping[str, Any]) -> Made:
        assert json.loads(inputs["dashboardBody"])["widgets"]
        self._client("cloudwatch").put_dashboard(
            DashboardName=inputs["dashboardName"], DashboardBody=inputs["dashboardBody"]
        )
        return inputs["dashboardName"], {}

    def _QueryDefinition(self, name: str, inputs: Mapping[str, Any]) -> Made:
        found = self._client("logs").describe_log_groups()["logGroups"]
        assert set(inputs["logGroupNames"]) <= {group["logGroupName"] for group in found}
        assert inputs["queryString"]
        return inputs["name"], {"queryDefinitionId": inputs["name"]}
