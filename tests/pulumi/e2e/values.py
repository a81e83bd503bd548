"""Values of Pulumi's protocol, as plain data and back."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format, struct_pb2

SIGNATURE = "4dabf18193072939515e22adb298388d"
"""The key of objects that are something special, which its value tells."""
SECRET = "1b47061264138c4ac30d75fd1eb44270"
ARCHIVE = "0def7320c3a5731c473e5ecbe6d01bc7"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What stands for a value that is not known before something is made."""


def plain(value: Any) -> Any:
    """Whole numbers as int: a Struct has nothing but doubles."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def given(message: struct_pb2.Struct) -> dict[str, Any]:
    """A message's values."""
    return plain(json_format.MessageToDict(message))


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    """A message with these values."""
    return json_format.ParseDict(values, struct_pb2.Struct())


def secret(value: Any) -> dict[str, Any]:
    """A value that has to be encrypted wherever it is written."""
    return {SIGNATURE: SECRET, "value": value}


def has_unknown(value: Any) -> bool:
    """Whether a part of it is not known yet."""
    if isinstance(value, dict):
        return any(has_unknown(part) for part in value.values())
    if isinstance(value, list):
        return any(has_unknown(part) for part in value)
    return value == UNKNOWN
