"""What JSON cannot say is checked before it is unpickled."""

import json
import subprocess
import sys

import pytest

from mini_workflow.codecs import Signer, StandardCodec
from mini_workflow.core.payload import Payload
from mini_workflow.errors import PythonVersionMismatch, SignatureInvalid
from tests.unit.codecs.crossing import CODEC
from tests.unit.codecs.samples import (
    Color,
    Text,
)


def dilled():
    class Local:
        x = 1

    return Local()


def test_a_dilled_part_of_another_python_version_is_not_read(monkeypatch):
    payload = CODEC.encode({"a": dilled()}, "result")
    assert '"$":"dill"' in payload.text
    tree = json.loads(payload.text)
    tree["a"]["python"] = "cpython-3.8"
    monkeypatch.setattr("mini_workflow.codecs.dill_pickler.load", lambda data: pytest.fail("read"))
    with pytest.raises(PythonVersionMismatch, match=r"cpython-3\.8.*cpython-3\.1\d"):
        CODEC.decode(Payload(tree=tree))


@pytest.mark.parametrize("make", [dilled, lambda: Text("x")])
def test_a_part_that_another_key_signed_is_not_read(make, monkeypatch):
    ours, theirs = StandardCodec(Signer(b"k" * 32)), StandardCodec(Signer(b"t" * 32))
    good = ours.encode([make()], "result")
    assert type(ours.decode(good)[0]).__name__ == type(make()).__name__
    bad = [theirs.encode([make()], "result"), CODEC.encode([make()], "result")]
    monkeypatch.setattr("mini_workflow.codecs.dill_pickler.load", lambda data: pytest.fail("read"))
    monkeypatch.setattr("mini_workflow.codecs.picklers.load", lambda data: pytest.fail("read"))
    for payload in bad:
        with pytest.raises(SignatureInvalid):
            ours.decode(payload)
    with pytest.raises(SignatureInvalid, match="signing key"):
        CODEC.decode(good)


def test_a_signed_part_cannot_be_relabelled(monkeypatch):
    codec = StandardCodec(Signer(b"k" * 32))
    tree = json.loads(codec.encode(dilled(), "result").text)
    for change in ({"$": "pickle"}, {"python": "cpython-3.8"}):
        with pytest.raises(SignatureInvalid):
            codec.decode(Payload(tree=tree | change))


def test_values_without_pickled_parts_need_no_signature():
    assert StandardCodec(Signer(b"k" * 32)).decode(CODEC.encode((1, Color.RED), "x")) == (
        1,
        Color.RED,
    )


def test_a_pickled_part_runs_nothing_of_an_unsigned_payload(tmp_path):
    import base64
    import pickle

    target = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(target), "w"))

    tree = {"$": "pickle", "v": base64.b64encode(pickle.dumps(Evil())).decode()}
    with pytest.raises(SignatureInvalid):
        StandardCodec(Signer(b"k" * 32)).decode(Payload(tree=tree))
    assert not target.exists()


# Weight


def test_importing_the_codecs_is_light():
    code = (
        "import sys, mini_workflow.codecs\n"
        "heavy = {'dill', 'pydantic', 'boto3', 'botocore', 'decimal', 'uuid', 'zoneinfo', 'pathlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = ran.stdout.strip()
    assert "dill" not in loaded
    assert "pydantic" not in loaded
    assert "boto" not in loaded
