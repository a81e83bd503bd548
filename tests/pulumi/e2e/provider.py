"""A provider for Pulumi's engine, with the rules of the real one for the types of `kinds.py`.

What it makes, it makes by boto3 on the account that the environment names; if that names PRETENDS as well,
nothing is made, and what AWS decides is made up.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import traceback
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import grpc
from botocore.exceptions import ClientError
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.pulumi.e2e.kinds import KINDS, Kind, Values, arn, is_gone
from tests.pulumi.e2e.values import ARCHIVE, SIGNATURE, UNKNOWN, given, secret, struct


def alike(kind: Kind, name: str, one: Any, other: Any) -> bool:
    """Whether two values of a property say the same."""
    if isinstance(one, dict) and one.get(SIGNATURE) == ARCHIVE:
        return isinstance(other, dict) and one.get("hash") == other.get("hash")
    if name in kind.json and one and other and UNKNOWN not in (one, other):
        return json.loads(one) == json.loads(other)
    return one == other


def name_in_check(kind: Kind, request: Any, news: Values) -> str:
    """The name of before, or a new one: what replaces a resource is checked without its olds."""
    assert kind.name is not None
    before = given(request.olds).get(kind.name)
    seed = request.randomSeed or os.urandom(32)
    return before or kind.made_up(request.name, hashlib.sha256(seed).hexdigest()[:7], news)


PRETENDS = "PULUMI_TESTS_PRETEND"


def decided(names: Iterable[str], values: Values) -> Values:
    """Outputs as AWS might decide them, other ones each time."""
    made = {name: arn("none", f"{name}/{uuid4().hex}") for name in names}
    if "secretArn" in made:  # that of the secret of which it is a version
        made["secretArn"] = values["secretId"]
    return made


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """What is not here is answered by UNIMPLEMENTED."""

    def __init__(self, package: str) -> None:
        self.package = package
        # Random values are made nowhere else.
        self.pretends = package == "aws" and PRETENDS in os.environ
        # The engine warns of a provider that is older than the program's package.
        self.version = importlib.metadata.version(f"pulumi_{package}")

    # The provider

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=self.version)

    def Attach(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def GetSchema(self, request: Any, context: Any) -> Any:
        """As much as packages need that refer to these types, and programs that read of them."""
        resources = {}
        for token, kind in KINDS.items():
            if kind.package != self.package:
                continue
            named = {*kind.replaces, *kind.outputs, kind.name} - {"*", None}
            resources[token] = {"properties": {name: {"type": "string"} for name in sorted(named)}}
        schema = {"name": self.package, "version": self.version, "resources": resources}
        return provider_pb2.GetSchemaResponse(schema=json.dumps(schema))

    # Resources

    def Check(self, request: Any, context: Any) -> Any:
        kind = KINDS[request.type]
        news = {**kind.defaults, **given(request.news)}
        failures = []
        if kind.name:
            news.setdefault(kind.name, "")
            news[kind.name] = news[kind.name] or name_in_check(kind, request, news)
            if len(news[kind.name]) > kind.longest and news[kind.name] != UNKNOWN:
                reason = f"{news[kind.name]!r} is longer than {kind.longest} characters"
                failures.append(provider_pb2.CheckFailure(property=kind.name, reason=reason))
        return provider_pb2.CheckResponse(inputs=struct(news), failures=failures)

    def Diff(self, request: Any, context: Any) -> Any:
        """News has unknowns in a preview, and when something that it depends on is replaced."""
        kind, olds, news = KINDS[request.type], given(request.old_inputs), given(request.news)
        names = sorted({*olds, *news} - {*request.ignoreChanges})
        changed = [name for name in names if not alike(kind, name, olds.get(name), news.get(name))]
        replaces = [name for name in changed if {name, "*"} & {*kind.replaces}]
        detail = {}
        for name in changed:
            how = "ADD" if name not in olds else "DELETE" if name not in news else "UPDATE"
            how += "_REPLACE" * (name in replaces)
            detail[name] = provider_pb2.PropertyDiff(inputDiff=True, kind=how)
        response = provider_pb2.DiffResponse
        return response(
            changes=response.DIFF_SOME if changed else response.DIFF_NONE,
            diffs=changed,
            replaces=replaces,
            detailedDiff=detail,
            hasDetailedDiff=True,
        )

    def Create(self, request: Any, context: Any) -> Any:
        kind, news = KINDS[request.type], given(request.properties)
        if request.preview:
            preview = {**news, **dict.fromkeys(kind.outputs, UNKNOWN)}
            return provider_pb2.CreateResponse(properties=struct(preview))
        create = (
            (lambda: decided(kind.outputs, news)) if self.pretends else lambda: kind.create(news)
        )
        made = {**news, **self._tried(context, request, create)}
        marked = {name: secret(made[name]) for name in kind.secrets}
        return provider_pb2.CreateResponse(
            id=kind.id_of(made), properties=struct({**made, **marked})
        )

    def Read(self, request: Any, context: Any) -> Any:
        kind, known = KINDS[request.type], given(request.properties)
        inputs = given(request.inputs)

        def read() -> Values | None:
            try:
                return kind.read(request.id, known)
            except ClientError as error:
                if is_gone(error):
                    return None
                raise

        live = self._tried(context, request, read)
        if live is None:
            return provider_pb2.ReadResponse()
        for name in kind.json:  # reformatted is not changed
            if name in live and name in inputs and alike(kind, name, live[name], inputs[name]):
                live[name] = inputs[name]
        of_inputs = {name: live.get(name, inputs.get(name)) for name in inputs}
        if not inputs:  # it is imported
            of_inputs = {name: live[name] for name in live if name not in kind.outputs}
        everything = {**known, **live}
        marked = {name: secret(everything[name]) for name in kind.secrets}
        return provider_pb2.ReadResponse(
            id=request.id, properties=struct({**everything, **marked}), inputs=struct(of_inputs)
        )

    def Update(self, request: Any, context: Any) -> Any:
        kind, olds, news = KINDS[request.type], given(request.olds), given(request.news)
        if request.preview:
            made = dict.fromkeys(kind.decided_anew(olds, news), UNKNOWN)
        elif self.pretends:
            made = decided(kind.decided_anew(olds, news), news)
        else:
            made = self._tried(context, request, lambda: kind.update(olds, {**news})) or {}
        kept = {**{name: olds[name] for name in kind.outputs if name in olds}, **made}
        marked = {name: secret(kept[name]) for name in kind.secrets}
        return provider_pb2.UpdateResponse(properties=struct({**news, **kept, **marked}))

    def Delete(self, request: Any, context: Any) -> Any:
        kind, known = KINDS[request.type], given(request.properties)

        def delete() -> None:
            try:
                if not self.pretends:
                    kind.delete(known)
            except ClientError as error:
                if not is_gone(error):
                    raise

        self._tried(context, request, delete)
        return empty_pb2.Empty()

    def _tried(self, context: Any, request: Any, call: Any) -> Any:
        """What the call answers; what it raises, said to the engine with the resource.

        Of SystemExit too: what escapes a thread of gRPC's is swallowed, and the engine waits for ever.
        """
        try:
            return call()
        except BaseException as error:
            told = "".join(traceback.format_exception(error)[-3:])
            context.abort(grpc.StatusCode.UNKNOWN, f"{request.urn}: {told}")
