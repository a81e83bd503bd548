"""Write a template of CloudFormation from the registered resources of the components.

Values that only AWS knows are references, in the form `@{Name.Attribute}` inside of texts, until
the template is written (see `resolved`).
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pulumi_component.errors import BadOption

CODE_BUCKET = "CodeBucket"
"""The parameter with the name of the bucket that the archives are in."""

SUFFIX = "Suffix"
"""What makes a name that is given unique: the last part of the stack's own ID."""

SERVICE_TIMEOUT = 300
"""Seconds within which the orchestrator has to say that it keeps the schedules. Our own bound."""

_PSEUDO = {name: f"AWS::{name}" for name in ("Partition", "Region", "AccountId")}
_REFERENCE = re.compile(r"@\{(\w+)(?:\.(\w+))?\}")
_SECRET = re.compile(r"@\{secret (\w+)\}")
_VERSION = re.compile(r".*Version(?=[0-9a-f]{12}$)")
_RETAINED = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}

Values = Mapping[str, Any]
Properties = dict[str, Any]


@dataclass(slots=True)
class Resource:
    """A resource as it was registered. `after` has the names of the resources that come before it."""

    type: str
    name: str
    inputs: Values
    after: Sequence[str] = ()
    retained: bool = False
    given: bool = False
    """It exists already, and is only read."""


@dataclass(slots=True)
class Template:
    """The resources of a template, by their names in it."""

    resources: dict[str, Properties] = field(default_factory=dict)
    archives: dict[str, str] = field(default_factory=dict)
    """The archives, by the names that they have in the bucket."""
    versions: dict[str, str] = field(default_factory=dict)
    """The version of a function, as programs refer to it, and as it is called in the template."""


def logical(name: str) -> str:
    """Return the name of a resource in the template: letters and digits alone."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))


# What programs see of a resource that is not made yet


_NAMED: Mapping[str, tuple[str, str]] = {
    "LogGroup": ("logs", "log-group:"),
    "ScheduleGroup": ("scheduler", "schedule-group/"),
    "Table": ("dynamodb", "table/"),
}
"""What the ARNs of resources are made of that are known by their names."""


def answer(resource: Resource, identity: str = "") -> Values:
    """Return the properties of a resource that AWS decides, as references."""
    name = logical(resource.name)

    def arn(service: str, *rest: str) -> str:
        return f"arn:@{{Partition}}:{service}:@{{Region}}:@{{AccountId}}:{''.join(rest)}"

    match resource.type.rpartition(":")[2]:
        case "Bucket":
            bucket = identity or f"@{{{name}}}"
            return {"bucket": bucket, "arn": f"arn:@{{Partition}}:s3:::{bucket}"}
        case "Queue":
            queue = f"@{{{name}.QueueName}}"
            return {"url": f"@{{{name}}}", "name": queue, "arn": arn("sqs", queue)}
        case "Table" | "LogGroup" | "ScheduleGroup" as kind:
            made = f"@{{{name}}}"
            return {"name": made, "arn": arn(*_NAMED[kind], made)}
        case "Role" | "Function":
            version = f"@{{{name}Version.Version}}"
            return {"name": f"@{{{name}}}", "arn": f"@{{{name}.Arn}}", "version": version}
        case "Alias":
            return {"arn": f"@{{{name}}}"}
        case "Secret":
            return {"arn": f"@{{{name}.Id}}", "id": f"@{{{name}.Id}}"}
        case "SecretVersion":
            return {"secretArn": resource.inputs["secretId"]}
        case "FunctionUrl":
            return {"functionUrl": f"@{{{name}.FunctionUrl}}"}
        case "Pipe":
            return {"arn": f"@{{{name}.Arn}}"}
        case "RandomId":
            return {"hex": f"@{{{SUFFIX}}}"}
        case "RandomPassword":
            return {"result": f"@{{secret {name}}}"}
        case _:
            return {}


# The resources of the template


def template(resources: Sequence[Resource]) -> Template:
    """Raise BadOption for what CloudFormation has no way to make."""
    made = Template()
    later: list[Resource] = []
    named: dict[str, str] = {}
    uploads = {one.inputs["key"]: one for one in resources if _kind(one) == "BucketObjectv2"}
    # Archives are uploaded before, and need no bucket of their own.
    unneeded = {_whole(one.inputs["bucket"]) for one in uploads.values()}
    for one in resources:
        name, kind = logical(one.name), _kind(one)
        if kind in ("BucketObjectv2", "RandomId") or name in unneeded:
            continue
        if _whole(one.inputs.get("bucket")) in unneeded:
            continue
        if one.given:
            continue
        one = replace(one, inputs=_with_versions(one.inputs, made.versions))
        if kind in _PARTS:
            later.append(one)
            continue
        if kind not in _TYPES:
            raise BadOption(f"{one.name}: a template cannot make a {kind}")
        if name in made.resources:
            raise BadOption(
                f"{one.name}: two names are {name} in a template, without their hyphens"
            )
        if kind == "FunctionEventInvokeConfig" and one.retained:
            # That of an older version stays: what is another one has another name.
            name += _VERSION.sub("", _whole(one.inputs["qualifier"]))
        kind_of_aws, properties = _TYPES[kind]
        entry: Properties = {"Type": kind_of_aws, "Properties": properties(one, made, uploads)}
        if one.retained:
            entry |= _RETAINED
        made.resources[name] = entry
        named[one.name] = name
        if kind == "Function" and one.inputs.get("publish"):
            _publish(name, made)
    for one in later:
        _PARTS[_kind(one)](one, made)
    for one in resources:
        dependent = made.resources.get(named.get(one.name, ""))
        before = sorted({logical(name) for name in one.after} & made.resources.keys())
        if dependent is not None and before:
            dependent["DependsOn"] = before
    return made


def _publish(function: str, made: Template) -> None:
    """Have a version of a function published. It never changes: another function is another version,
    with another name, and the older ones stay.
    """
    described = json.dumps(made.resources[function]["Properties"], sort_keys=True)
    version = f"{function}Version{hashlib.sha256(described.encode()).hexdigest()[:12]}"
    made.versions[f"@{{{function}Version.Version}}"] = f"@{{{version}.Version}}"
    made.resources[version] = {
        "Type": "AWS::Lambda::Version",
        "Properties": {"FunctionName": f"@{{{function}}}"},
        **_RETAINED,
    }


def _with_versions(value: Any, versions: Mapping[str, str]) -> Any:
    """Return a value with the versions in it as they are called in the template."""
    if isinstance(value, Mapping):
        return {key: _with_versions(part, versions) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_versions(part, versions) for part in value]
    if isinstance(value, str):
        for version, called in versions.items():
            value = value.replace(version, called)
    return value


def _kind(resource: Resource) -> str:
    return resource.type.rpartition(":")[2]


def _whole(value: Any) -> str:
    """Return the resource that a value is a reference to, if it is nothing else."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else ""


def _capital(value: Any) -> Any:
    """Names of properties in the form that CloudFormation gives them."""
    if isinstance(value, Mapping):
        return {key[:1].upper() + key[1:]: _capital(part) for key, part in value.items()}
    return [_capital(part) for part in value] if isinstance(value, list) else value


def _tags(inputs: Values) -> Properties:
    tags = inputs.get("tags") or {}
    return {"Tags": [{"Key": key, "Value": tags[key]} for key in sorted(tags)]} if tags else {}


def _picked(inputs: Values, **names: str) -> Properties:
    """Return the inputs of these names, by the names that they have in a template."""
    return {new: inputs[old] for old, new in names.items() if inputs.get(old) is not None}


Maker = Callable[[Resource, Template, Mapping[str, Resource]], Properties]


def _simple(**names: str) -> Maker:
    def make(one: Resource, _: Template, __: Mapping[str, Resource]) -> Properties:
        return _picked(one.inputs, **names) | _tags(one.inputs)

    return make


def _queue(one: Resource, *_: Any) -> Properties:
    renamed = {
        "maxMessageSize": "MaximumMessageSize",
        "messageRetentionSeconds": "MessageRetentionPeriod",
        "visibilityTimeoutSeconds": "VisibilityTimeout",
    }
    properties = {
        renamed.get(key, key[:1].upper() + key[1:]): value
        for key, value in one.inputs.items()
        if key != "tags" and value is not None
    }
    if "RedrivePolicy" in properties:
        properties["RedrivePolicy"] = json.loads(properties["RedrivePolicy"])
    return properties | _tags(one.inputs)


def _role(one: Resource, *_: Any) -> Properties:
    trusted = {"AssumeRolePolicyDocument": json.loads(one.inputs["assumeRolePolicy"])}
    return (
        trusted | _picked(one.inputs, permissionsBoundary="PermissionsBoundary") | _tags(one.inputs)
    )


def _role_policy(one: Resource, *_: Any) -> Properties:
    return {
        "PolicyName": logical(one.name),
        "PolicyDocument": json.loads(one.inputs["policy"]),
        "Roles": [one.inputs["role"]],
    }


def _log_group(one: Resource, *_: Any) -> Properties:
    names = {"name": "LogGroupName", "kmsKeyId": "KmsKeyId"}
    # 0 is for ever, which is said by saying nothing.
    kept = one.inputs.get("retentionInDays")
    properties = {"RetentionInDays": kept} if kept else {}
    return properties | _picked(one.inputs, **names) | _tags(one.inputs)


def _bucket_policy(one: Resource, *_: Any) -> Properties:
    return {"Bucket": one.inputs["bucket"], "PolicyDocument": json.loads(one.inputs["policy"])}


def _queue_policy(one: Resource, *_: Any) -> Properties:
    return {"Queues": [one.inputs["queueUrl"]], "PolicyDocument": json.loads(one.inputs["policy"])}


def _function(one: Resource, made: Template, uploads: Mapping[str, Resource]) -> Properties:
    inputs = one.inputs
    properties = _picked(
        inputs,
        role="Role",
        runtime="Runtime",
        handler="Handler",
        architectures="Architectures",
        timeout="Timeout",
        memorySize="MemorySize",
        layers="Layers",
        kmsKeyArn="KmsKeyArn",
        packageType="PackageType",
        reservedConcurrentExecutions="ReservedConcurrentExecutions",
    )
    for part in ("loggingConfig", "vpcConfig", "ephemeralStorage", "tracingConfig", "snapStart"):
        if inputs.get(part) is not None:
            properties[part[:1].upper() + part[1:]] = _capital(inputs[part])
    if properties.get("ReservedConcurrentExecutions") == -1:
        del properties["ReservedConcurrentExecutions"]
    if inputs.get("fileSystemConfig"):
        properties["FileSystemConfigs"] = [_capital(inputs["fileSystemConfig"])]
    if inputs.get("imageUri"):
        properties["Code"] = {"ImageUri": inputs["imageUri"]}
        properties["ImageConfig"] = {"Command": inputs["imageConfig"]["commands"]}
    else:
        source = inputs.get("code") or uploads[inputs["s3Key"]].inputs["source"]
        key = source.path.replace(chr(92), "/").rpartition("/")[2]
        made.archives[key] = source.path
        properties["Code"] = {"S3Bucket": f"@{{{CODE_BUCKET}}}", "S3Key": key}
    variables = inputs["environment"]["variables"]
    if variables:
        properties["Environment"] = {"Variables": dict(variables)}
    return properties | _tags(inputs)


def _invocations(one: Resource, *_: Any) -> Properties:
    return {
        "FunctionName": one.inputs["functionName"],
        "Qualifier": one.inputs.get("qualifier") or "$LATEST",
        "MaximumRetryAttempts": one.inputs["maximumRetryAttempts"],
        "MaximumEventAgeInSeconds": one.inputs["maximumEventAgeInSeconds"],
        "DestinationConfig": _capital(one.inputs["destinationConfig"]),
    }


def _deployed(one: Resource, *_: Any) -> Properties:
    return {
        "ServiceToken": f"@{{{_whole(one.inputs['functionName'])}.Arn}}",
        "ServiceTimeout": SERVICE_TIMEOUT,
        "Input": one.inputs["input"],
    }


def _mapping(one: Resource, *_: Any) -> Properties:
    return _capital({key: part for key, part in one.inputs.items() if key != "tags"}) | _tags(
        one.inputs
    )


def _alias(one: Resource, *_: Any) -> Properties:
    return {
        "Name": one.inputs["name"],
        "FunctionName": one.inputs["functionName"],
        "FunctionVersion": one.inputs["functionVersion"],
    }


def _url(one: Resource, *_: Any) -> Properties:
    properties = {
        "TargetFunctionArn": one.inputs["functionName"],
        "AuthType": one.inputs["authorizationType"],
    } | _picked(one.inputs, qualifier="Qualifier")
    if one.inputs.get("cors"):
        properties["Cors"] = _capital(one.inputs["cors"])
    return properties


def _permission(one: Resource, made: Template, _: Any) -> Properties:
    function = one.inputs["function"]
    if one.inputs.get("qualifier"):
        aliases = (
            name
            for name, entry in made.resources.items()
            if entry["Type"] == "AWS::Lambda::Alias"
            and entry["Properties"]["FunctionName"] == function
        )
        function = f"@{{{next(aliases)}}}"
    return {"FunctionName": function} | _picked(
        one.inputs,
        principal="Principal",
        action="Action",
        functionUrlAuthType="FunctionUrlAuthType",
        invokedViaFunctionUrl="InvokedViaFunctionUrl",
    )


def _pipe(one: Resource, *_: Any) -> Properties:
    properties = _capital({key: part for key, part in one.inputs.items() if key != "tags"})
    return properties | ({"Tags": one.inputs["tags"]} if one.inputs.get("tags") else {})


def _table(one: Resource, *_: Any) -> Properties:
    inputs, keys = one.inputs, (("hashKey", "HASH"), ("rangeKey", "RANGE"))
    properties: Properties = {
        "BillingMode": inputs["billingMode"],
        "KeySchema": [{"AttributeName": inputs[key], "KeyType": kind} for key, kind in keys],
        "AttributeDefinitions": [
            {"AttributeName": each["name"], "AttributeType": each["type"]}
            for each in inputs["attributes"]
        ],
        "TimeToLiveSpecification": _capital(inputs["ttl"]),
    }
    key = inputs.get("serverSideEncryption")
    if key:
        properties["SSESpecification"] = {
            "SSEEnabled": True,
            "SSEType": "KMS",
            "KMSMasterKeyId": key["kmsKeyArn"],
        }
    return properties | _tags(inputs)


def _alarm(one: Resource, *_: Any) -> Properties:
    inputs = dict(one.inputs)
    dimensions = inputs.pop("dimensions")
    inputs.pop("tags", None)
    properties = _capital({key: part for key, part in inputs.items() if part not in (None, [])})
    if "OkActions" in properties:
        properties["OKActions"] = properties.pop("OkActions")
    properties["Dimensions"] = [{"Name": key, "Value": dimensions[key]} for key in dimensions]
    return properties | _tags(one.inputs)


# A bar is what stands between the keys of a ring.
_GENERATED = {"ExcludePunctuation": True, "ExcludeCharacters": "|"}


def _password(one: Resource, *_: Any) -> Properties:
    return {"GenerateSecretString": {"PasswordLength": one.inputs["length"], **_GENERATED}}


_TYPES: Mapping[str, tuple[str, Maker]] = {
    "Alias": ("AWS::Lambda::Alias", _alias),
    "Bucket": ("AWS::S3::Bucket", _simple()),
    "BucketPolicy": ("AWS::S3::BucketPolicy", _bucket_policy),
    "Dashboard": (
        "AWS::CloudWatch::Dashboard",
        _simple(dashboardName="DashboardName", dashboardBody="DashboardBody"),
    ),
    "EventSourceMapping": ("AWS::Lambda::EventSourceMapping", _mapping),
    "Function": ("AWS::Lambda::Function", _function),
    "FunctionEventInvokeConfig": ("AWS::Lambda::EventInvokeConfig", _invocations),
    "FunctionUrl": ("AWS::Lambda::Url", _url),
    "Invocation": ("Custom::Schedules", _deployed),
    "LogGroup": ("AWS::Logs::LogGroup", _log_group),
    "MetricAlarm": ("AWS::CloudWatch::Alarm", _alarm),
    "Permission": ("AWS::Lambda::Permission", _permission),
    "Pipe": ("AWS::Pipes::Pipe", _pipe),
    "QueryDefinition": (
        "AWS::Logs::QueryDefinition",
        _simple(name="Name", queryString="QueryString", logGroupNames="LogGroupNames"),
    ),
    "Queue": ("AWS::SQS::Queue", _queue),
    "QueuePolicy": ("AWS::SQS::QueuePolicy", _queue_policy),
    "RandomPassword": ("AWS::SecretsManager::Secret", _password),
    "Role": ("AWS::IAM::Role", _role),
    "RolePolicy": ("AWS::IAM::Policy", _role_policy),
    "ScheduleGroup": ("AWS::Scheduler::ScheduleGroup", _simple()),
    "Secret": ("AWS::SecretsManager::Secret", _simple(kmsKeyId="KmsKeyId")),
    "Table": ("AWS::DynamoDB::Table", _table),
}


# What is a part of another resource in a template


def _private(one: Resource, made: Template) -> None:
    blocked = {key: value for key, value in one.inputs.items() if key != "bucket"}
    _of_bucket(one, made)["PublicAccessBlockConfiguration"] = _capital(blocked)


def _encryption(one: Resource, made: Template) -> None:
    rules: list[Properties] = []
    for rule in one.inputs["rules"]:
        default = rule["applyServerSideEncryptionByDefault"]
        by_default = _picked(default, sseAlgorithm="SSEAlgorithm", kmsMasterKeyId="KMSMasterKeyID")
        rules.append(
            {"ServerSideEncryptionByDefault": by_default}
            | _picked(rule, bucketKeyEnabled="BucketKeyEnabled")
        )
    _of_bucket(one, made)["BucketEncryption"] = {"ServerSideEncryptionConfiguration": rules}


def _lifecycle(one: Resource, made: Template) -> None:
    rules: list[Properties] = []
    for rule in one.inputs["rules"]:
        read = {"Id": rule["id"], "Status": rule["status"]}
        if rule["filter"].get("prefix"):
            read["Prefix"] = rule["filter"]["prefix"]
        if rule.get("expiration"):
            read["ExpirationInDays"] = rule["expiration"]["days"]
        if rule.get("abortIncompleteMultipartUpload"):
            after = rule["abortIncompleteMultipartUpload"]["daysAfterInitiation"]
            read["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": after}
        rules.append(read)
    _of_bucket(one, made)["LifecycleConfiguration"] = {"Rules": rules}


def _of_bucket(one: Resource, made: Template) -> Properties:
    bucket = made.resources.get(_whole(one.inputs["bucket"]))
    if bucket is None:
        raise BadOption(
            f"{one.name}: a template cannot change a bucket that exists; give history as "
            '{"bucket": ..., "prefix": ...}, and the bucket stays as it is'
        )
    return bucket["Properties"]


def _recursion(one: Resource, made: Template) -> None:
    function = made.resources[_whole(one.inputs["functionName"])]
    function["Properties"]["RecursiveLoop"] = one.inputs["recursiveLoop"]


def _provisioned(one: Resource, made: Template) -> None:
    if one.inputs["qualifier"] in made.versions.values():
        raise BadOption(
            f"{one.name}: a template keeps the older versions of functions, and with each the processes "
            "that are kept ready for it, which cost: give provisioned_concurrency without versions"
        )
    for entry in made.resources.values():
        properties = entry["Properties"]
        if (
            entry["Type"] == "AWS::Lambda::Alias"
            and properties["FunctionName"] == one.inputs["functionName"]
        ):
            properties["ProvisionedConcurrencyConfig"] = _picked(
                one.inputs, provisionedConcurrentExecutions="ProvisionedConcurrentExecutions"
            )


def _secret_version(one: Resource, made: Template) -> None:
    password = _SECRET.fullmatch(one.inputs["secretString"])
    if password is None:
        raise BadOption(f"{one.name}: a template is no place for a key: let one be made up")
    # One secret: the value is made up where it is kept.
    generated = made.resources.pop(password[1])["Properties"]
    made.resources[_whole(one.inputs["secretId"])]["Properties"] |= generated


_PARTS: Mapping[str, Callable[[Resource, Template], None]] = {
    "BucketLifecycleConfiguration": _lifecycle,
    "BucketPublicAccessBlock": _private,
    "BucketServerSideEncryptionConfiguration": _encryption,
    "FunctionRecursionConfig": _recursion,
    "ProvisionedConcurrencyConfig": _provisioned,
    "SecretVersion": _secret_version,
}


# References


def resolved(value: Any) -> Any:
    """Return a value with its references as CloudFormation writes them."""
    if isinstance(value, Mapping):
        return {key: resolved(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(part) for part in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> Any:
    secret = _SECRET.fullmatch(text)
    if secret:
        return {"Fn::Sub": f"{{{{resolve:secretsmanager:${{{secret[1]}}}}}}}"}
    whole = _REFERENCE.fullmatch(text)
    if whole and whole[1] != SUFFIX:
        name, attribute = whole.groups()
        if attribute:
            return {"Fn::GetAtt": [name, attribute]}
        return {"Ref": _PSEUDO.get(name, name)}
    if not _REFERENCE.search(text):
        return text

    def reference(match: re.Match[str]) -> str:
        name, attribute = match.groups()
        return f"${{{_PSEUDO.get(name, name)}{'.' + attribute if attribute else ''}}}"

    substituted = _REFERENCE.sub(reference, text.replace("${", "${!"))
    if f"${{{SUFFIX}}}" not in substituted:
        return {"Fn::Sub": substituted}
    unique = {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}
    return {"Fn::Sub": [substituted, {SUFFIX: unique}]}
