"""Tables of DynamoDB, made from what a program asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def create_table(client: Any, name: str, inputs: Mapping[str, Any]) -> str:
    """Make it; its ARN."""
    keys = ((inputs["hashKey"], "HASH"), (inputs["rangeKey"], "RANGE"))
    key = inputs.get("serverSideEncryption")
    made = client.create_table(
        TableName=name,
        BillingMode=inputs["billingMode"],
        KeySchema=[{"AttributeName": each, "KeyType": kind} for each, kind in keys],
        AttributeDefinitions=[
            {"AttributeName": each["name"], "AttributeType": each["type"]}
            for each in inputs["attributes"]
        ],
        Tags=[{"Key": tag, "Value": text} for tag, text in (inputs.get("tags") or {}).items()],
        **(
            {"SSESpecification": {"Enabled": True, "KMSMasterKeyId": key["kmsKeyArn"]}}
            if key
            else {}
        ),
    )
    expiry = {"AttributeName": inputs["ttl"]["attributeName"], "Enabled": inputs["ttl"]["enabled"]}
    client.update_time_to_live(TableName=name, TimeToLiveSpecification=expiry)
    arn: str = made["TableDescription"]["TableArn"]
    return arn
