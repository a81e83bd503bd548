"""Choose the runtime and the network of a function, beside its code, its memory and its time."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from mini_workflow import settings
from pulumi_component import args, inputs, units
from pulumi_component.errors import BadOption

LEAST_STORAGE, MOST_STORAGE = 512, 10_240
"""MB of /tmp. Source: AWS Lambda Developer Guide, "Lambda quotas"."""
MOST_LAYERS = 5
"""Source: the same."""
MOST_PROVISIONED = 1_000_000
"""Lambda has no limit but the account's, which its owner can have raised."""
OLDEST_SNAPSHOTS = (3, 12)
"""Python from which Lambda takes snapshots. Source: AWS Lambda Developer Guide, "Lambda SnapStart"."""
ALIAS = settings.LIVE
"""The alias by which the newest version of a function is called, where it is published."""

_VPC = frozenset(args.Vpc.__annotations__)
_FILE_SYSTEM = frozenset(args.FileSystem.__annotations__)
_PACKAGED = ("include", "requirements", "layers", "runtime")

_ARN = r"arn:[\w-]+:"
_ACCESS_POINT = re.compile(rf"{_ARN}elasticfilesystem:[^:]+:\d+:access-point/[\w-]+")
_LAYER = re.compile(rf"{_ARN}lambda:[^:]+:\d+:layer:[\w-]+:\d+")
_ROLE = re.compile(rf"{_ARN}iam::\d+:role/\S+")
_POLICY = re.compile(rf"{_ARN}iam::(\d+|aws):policy/\S+")
_IMAGE = re.compile(
    r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[^\s:@]+(:[\w.-]+|@sha256:[0-9a-f]{64})"
)
_KEY = re.compile(rf"{_ARN}kms:[^:]+:\d+:key/[\w-]+")
_MINOR = re.compile(r"3\.\d+")
_MOUNT = re.compile(r"/mnt/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Compute:
    """The options that were given. Storage in MB; what may be an output is kept as it is."""

    vpc: Any
    layers: inputs.List
    storage: int | None
    file_system: Any
    image: Any
    role: Any
    permissions_boundary: Any
    kms_key: Any
    tracing: bool
    snap_start: bool
    provisioned: int | None
    versions: bool
    canary: bool
    accept_python: Any

    @property
    def published(self) -> bool:
        """Whether versions are published, and called by the alias."""
        return self.versions or self.snap_start or self.provisioned is not None

    @classmethod
    def from_args(cls, given: Mapping[str, Any], python: str) -> "Compute":
        """Return the checked options. Raises BadOption, which names the option."""
        snap_start = units.flag("snap_start", given.get("snap_start"))
        provisioned = given.get("provisioned_concurrency")
        storage = given.get("storage")
        found = cls(
            vpc=_vpc(given.get("vpc")),
            layers=inputs.checked(given.get("layers") or (), _check_layers),
            storage=None
            if storage is None
            else units.megabytes("storage", storage, LEAST_STORAGE, MOST_STORAGE),
            file_system=_file_system(given.get("file_system")),
            image=_text(given, "image", _IMAGE, "the URI of an image in ECR, with a tag or digest"),
            role=_text(given, "role", _ROLE, "the ARN of a role"),
            permissions_boundary=boundary(given),
            kms_key=kms_key(given),
            tracing=units.flag("tracing", given.get("tracing")),
            snap_start=snap_start,
            provisioned=None
            if provisioned is None
            else units.whole("provisioned_concurrency", provisioned, 1, MOST_PROVISIONED),
            versions=units.flag("versions", given.get("versions")),
            canary=units.flag("canary", given.get("canary")),
            accept_python=_text(
                given, "accept_python", _MINOR, 'a minor version of Python, such as "3.14"'
            ),
        )
        found._check_together(given, python)
        return found

    def _check_together(self, given: Mapping[str, Any], python: str) -> None:
        if self.file_system is not None and self.vpc is None:
            raise BadOption(
                "file_system: a function reaches a file system through its network: give vpc, with "
                "subnets that have a mount target"
            )
        if self.role is not None and self.permissions_boundary is not None:
            raise BadOption(
                "permissions_boundary: it is for a role that is made; that of the option role has "
                "what it has"
            )
        _refuse_if(
            self.canary and not self.versions,
            "canary: it is about versions of the function: give versions=True too",
        )
        _refuse_if(
            self.canary and self.provisioned is not None,
            "provisioned_concurrency: processes that are kept ready are of the newest version, which the "
            "option canary has wait: give one of them",
        )
        reserved = given.get("concurrency")
        if self.provisioned is not None and isinstance(reserved, int) and reserved >= 0:
            _refuse_if(
                self.provisioned > reserved,
                f"provisioned_concurrency: {self.provisioned} calls kept ready are more than the "
                f"{reserved} that the option concurrency lets run",
            )
        if self.image is not None:
            for name in _PACKAGED:
                _refuse_if(
                    bool(given.get(name)),
                    f"{name}: the option image brings all of the code with it; put it into the image",
                )
        if self.snap_start:
            conflicts = {
                "image": self.image is not None,
                "file_system": self.file_system is not None,
                "provisioned_concurrency": self.provisioned is not None,
                "storage": (self.storage or LEAST_STORAGE) > LEAST_STORAGE,
            }
            for name, given_too in conflicts.items():
                _refuse_if(
                    given_too, f"snap_start: Lambda takes no snapshots of functions with {name}"
                )
            _refuse_if(
                tuple(map(int, python.split("."))) < OLDEST_SNAPSHOTS,
                f"snap_start: Lambda takes snapshots from Python 3.12 on, and this is {python}",
            )

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the resource of the function that come from these options."""
        given: dict[str, Any] = {}
        if self.vpc is not None:
            given["vpc_config"] = inputs.mapped(
                self.vpc,
                lambda vpc: {
                    "subnet_ids": vpc["subnets"],
                    "security_group_ids": vpc["security_groups"],
                },
            )
        if isinstance(self.layers, pulumi.Output) or self.layers:
            given["layers"] = self.layers
        if self.storage is not None:
            given["ephemeral_storage"] = {"size": self.storage}
        if self.file_system is not None:
            given["file_system_config"] = inputs.mapped(
                self.file_system,
                lambda system: {"arn": system["access_point"], "local_mount_path": system["path"]},
            )
        if self.kms_key is not None:
            given["kms_key_arn"] = self.kms_key
        if self.tracing:
            given["tracing_config"] = {"mode": "Active"}
        if self.snap_start:
            given["snap_start"] = {"apply_on": "PublishedVersions"}
        if self.published:
            given["publish"] = True
        return given


def boundary(given: Mapping[str, Any]) -> Any:
    """Return the option permissions_boundary. Raises BadOption."""
    return _text(given, "permissions_boundary", _POLICY, "the ARN of a policy")


def kms_key(given: Mapping[str, Any]) -> Any:
    """Return the option kms_key. Raises BadOption."""
    return _text(given, "kms_key", _KEY, "the ARN of a key of KMS (an alias has no permissions)")


def _vpc(value: Any) -> Any:
    def read(known: Any) -> Any:
        vpc = _mapping("vpc", known, _VPC, '{"subnets": [...], "security_groups": [...]}')
        for part, prefix in (("subnets", "subnet-"), ("security_groups", "sg-")):
            listed = vpc.get(part)
            if not isinstance(listed, pulumi.Output) and (
                isinstance(listed, str) or not isinstance(listed, Sequence) or not listed
            ):
                raise BadOption(f"vpc: {part} is a list, and not an empty one: {listed!r}")
            vpc[part] = inputs.checked(listed, _each(f"vpc: {part}", prefix))
        return vpc

    return None if value is None else inputs.mapped(value, read)


def _each(option: str, prefix: str) -> Callable[[Any], None]:
    def check(listed: Any) -> None:
        for one in listed:
            if not isinstance(one, str) or not one.startswith(prefix):
                raise BadOption(f"{option}: {one!r} is not an ID such as {prefix}0a1b2c3d")

    return check


def _file_system(value: Any) -> Any:
    def read(known: Any) -> Any:
        system = _mapping("file_system", known, _FILE_SYSTEM, '{"access_point": ARN, "path": ...}')
        system["access_point"] = _checked(
            "file_system: access_point",
            system.get("access_point"),
            _ACCESS_POINT,
            "the ARN of an access point of EFS",
        )
        system["path"] = _checked(
            "file_system: path", system.get("path"), _MOUNT, 'a path such as "/mnt/models"'
        )
        return system

    return None if value is None else inputs.mapped(value, read)


def _mapping(option: str, value: Any, known: frozenset[str], wanted: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadOption(f"{option}: {value!r} is not {wanted}")
    read = {units.snake_case(key): part for key, part in value.items()}
    units.known(option, read, known)
    return read


def _check_layers(layers: Any) -> None:
    if isinstance(layers, str) or len(layers) > MOST_LAYERS:
        raise BadOption(
            f"layers: a function has a list of {MOST_LAYERS} layers at most: {layers!r}"
        )
    for layer in layers:
        if not isinstance(layer, str) or not _LAYER.fullmatch(layer):
            raise BadOption(
                f"layers: {layer!r} is not the ARN of a version of a layer, "
                "arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION"
            )


def _text(given: Mapping[str, Any], option: str, pattern: re.Pattern[str], wanted: str) -> Any:
    value = given.get(option)
    return None if value is None else _checked(option, value, pattern, wanted)


def _checked(option: str, value: Any, pattern: re.Pattern[str], wanted: str) -> Any:
    def check(known: Any) -> None:
        if not isinstance(known, str) or not pattern.fullmatch(known):
            raise BadOption(f"{option}: {known!r} is not {wanted}")

    return inputs.checked(value, check)


def _refuse_if(bad: bool, message: str) -> None:
    if bad:
        raise BadOption(message)
