"""Keep the signing key, and grant access to it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_random as random

from mini_workflow import settings
from pulumi_component.options import IN_ENVIRONMENT, IN_PARAMETER, IN_SECRET, EngineOptions

LENGTH = 64
"""Characters of a key that is made up."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The variables by which a function finds the key, and where it is kept if not in them."""

    variables: Mapping[str, pulumi.Input[str]]
    kept_at: pulumi.Output[str] | None


def signing_key(name: str, options: EngineOptions, opts: pulumi.ResourceOptions) -> SigningKey:
    """Return the key of an engine, made up and stored as the options say."""
    store = options.signing_key_store
    if store not in (IN_ENVIRONMENT, IN_PARAMETER, IN_SECRET):
        return _kept(pulumi.Output.from_input(store))
    if options.signing_key is not None:
        key = pulumi.Output.secret(options.signing_key)
    else:
        made = random.RandomPassword(f"{name}-signing-key", length=LENGTH, special=False, opts=opts)
        key = made.result
    if store == IN_ENVIRONMENT:
        return SigningKey({settings.SIGNING_KEY: key}, None)
    if store == IN_PARAMETER:
        parameter = aws.ssm.Parameter(
            f"{name}-signing-key-parameter",
            type="SecureString",
            value=key,
            key_id=options.kms_key,
            tags=options.tags,
            opts=opts,
        )
        return _kept(parameter.arn)
    secret = aws.secretsmanager.Secret(
        f"{name}-signing-key-secret", kms_key_id=options.kms_key, tags=options.tags, opts=opts
    )
    version = aws.secretsmanager.SecretVersion(
        f"{name}-signing-key-version", secret_id=secret.id, secret_string=key, opts=opts
    )
    # That of the version is the same, and there once it has a value.
    return _kept(version.secret_arn)


def _kept(arn: pulumi.Output[str]) -> SigningKey:
    return SigningKey({settings.SIGNING_KEY_ARN: arn}, arn)
