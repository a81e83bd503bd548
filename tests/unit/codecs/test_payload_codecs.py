"""Payload codecs: what they encode comes back, and nobody reads it on the way."""

from __future__ import annotations

import itertools
import json
import pickle
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs import CompressionCodec, EncryptionCodec, PayloadContext, StandardCodec
from mini_workflow.codecs.chained import ChainedCodec
from mini_workflow.codecs.payload_codecs import ENCODED_CALL
from mini_workflow.codecs.standard import with_codecs
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.errors import (
    ClosureNotSerializable,
    CodecMismatch,
    PayloadNotReadable,
    UsageError,
    ValueNotSerializable,
)

OLD, NEW = b"o" * 32, b"n" * 32
ANY = PayloadContext("o-1", "value")
MARK = "plain-text-to-be-hidden"


class Backwards:
    """A codec of a user's own, which is not private."""

    name = "backwards"
    key_id = ""
    is_private = False

    def encode(self, data: bytes, context: PayloadContext) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, context: PayloadContext) -> bytes:
        return data[::-1]

    def digests(self, data: bytes, context: PayloadContext) -> list[str]:
        raise AssertionError("nothing is private")


def ring(**keys: bytes) -> EncryptionCodec:
    return EncryptionCodec(keys)


def codec_of(*chain: Any, execution_id: str = "o-1") -> ChainedCodec:
    made = with_codecs(StandardCodec(), chain)
    assert isinstance(made, ChainedCodec)
    return made.for_execution(execution_id)


CHAINS = [
    chain
    for length in (1, 2, 3)
    for chain in itertools.permutations(
        (CompressionCodec(minimum=0), Backwards(), ring(k=NEW)), length
    )
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def stored(payload: Payload) -> Payload:
    """The payload as it comes back from a store."""
    return Payload(text=payload.text)


@given(value=VALUES, chain=st.sampled_from(CHAINS))
def test_a_value_comes_back_through_any_chain(value: Any, chain: Any) -> None:
    codec = codec_of(*chain)
    for one in (codec.encode(value, "value"), stored(codec.encode(value, "value"))):
        assert codec.decode(one) == value
        assert codec.decode_ordered(one) == value
    arguments = stored(codec.encode_arguments((value,), {"by_name": value}))
    assert codec.decode(arguments) == [[value], {"by_name": value}]


@given(value=VALUES, chain=st.sampled_from(CHAINS))
def test_a_failure_comes_back_through_any_chain(value: Any, chain: Any) -> None:
    codec = codec_of(*chain)
    try:
        try:
            raise KeyError(value)
        except KeyError as inner:
            raise ValueError(value) from inner
    except ValueError as error:
        failure = codec.encode_failure(error)
        plain = StandardCodec().encode_failure(error)
    failure = Failure.from_plain(json.loads(json.dumps(failure.to_plain())))
    assert (failure.type, failure.lineage) == (plain.type, plain.lineage)
    assert codec.plain_failure(failure) == plain
    again = codec.decode_failure(failure)
    assert type(again) is ValueError
    assert again.args == (value,)
    assert type(again.__cause__) is KeyError


@given(values=st.lists(VALUES), chain=st.sampled_from(CHAINS))
def test_a_call_comes_back_through_any_chain(values: list[Any], chain: Any) -> None:
    codec = codec_of(*chain)
    function, args, kwargs = codec.restore(codec.capture(lambda *given: (given, values), (1,), {}))
    assert function(*args, **kwargs) == ((1,), values)


@given(text=st.text(max_size=50), chain=st.sampled_from([c for c in CHAINS if c[-1].is_private]))
def test_nothing_private_is_readable(text: str, chain: Any) -> None:
    codec = codec_of(*chain)
    secret = f"{MARK}{text}"
    try:
        raise ValueError(secret) from KeyError(secret)
    except ValueError as error:
        failure = codec.encode_failure(error)
    written = [
        codec.encode({secret: [secret]}, "value").text.encode(),
        codec.encode_arguments((secret,), {"name": secret}).text.encode(),
        json.dumps(failure.to_plain()).encode(),
        codec.capture(lambda: secret, (secret,), {}),
    ]
    assert [one for one in written if MARK.encode() in one] == []


def test_each_payload_has_a_nonce_of_its_own() -> None:
    codec = codec_of(ring(k=NEW))
    assert len({codec.encode("same", "value").text for _ in range(100)}) == 100


def test_a_new_key_writes_and_the_old_ones_read() -> None:
    before, during, after = ring(old=OLD), ring(new=NEW, old=OLD), ring(new=NEW)
    payload = stored(codec_of(before).encode("value", "value"))
    assert codec_of(during).decode(payload) == "value"
    assert codec_of(during).encode("value", "value").tree["by"] == ["aes-gcm:new"]
    with pytest.raises(
        PayloadNotReadable, match=r"key 'old'.*not in the key ring.*'new'.*add that key"
    ):
        codec_of(after).decode(payload)


def test_a_ring_is_asked_for_again_when_a_key_is_missing() -> None:
    rings = [{"old": OLD}, {"new": NEW, "old": OLD}]
    codec = codec_of(EncryptionCodec(lambda: rings.pop(0) if len(rings) > 1 else rings[0]))
    assert codec.encode(1, "value").tree["by"] == ["aes-gcm:old"]
    assert codec.decode(codec_of(ring(new=NEW)).encode(2, "value")) == 2
    assert codec.encode(3, "value").tree["by"] == ["aes-gcm:new"]


def test_a_wrong_key_a_change_and_another_place_are_refused() -> None:
    codec = codec_of(ring(k=NEW))
    payload = codec.encode("value", "value")
    with pytest.raises(
        PayloadNotReadable, match=r"'o-1' cannot be decrypted with key 'k'.*same keys"
    ):
        codec_of(ring(k=OLD)).decode(payload)
    with pytest.raises(PayloadNotReadable, match="belongs to another execution"):
        codec_of(ring(k=NEW), execution_id="o-2").decode(payload)
    with pytest.raises(PayloadNotReadable, match="cannot be decrypted"):
        codec.decode(Payload(tree={**payload.tree, "kind": "failure"}))


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 60))
def test_damage_is_found(place: int, byte: int, cut: int) -> None:
    codec, context = ring(k=NEW), PayloadContext("o-1", "value")
    data = codec.encode(b"some data", context)
    changed = bytearray(data)
    changed[place % len(data)] = byte
    for damaged in (bytes(changed), data[: min(cut, len(data) - 1)]):
        if damaged != data:
            with pytest.raises(PayloadNotReadable):
                codec.decode(damaged, context)


@pytest.mark.parametrize(
    "data", [b"", b"not zlib", CompressionCodec().encode(b"a" * 999, PayloadContext("", ""))[:-1]]
)
def test_damage_of_what_is_compressed_is_found(data: bytes) -> None:
    with pytest.raises(PayloadNotReadable, match="compressed payload is damaged"):
        CompressionCodec().decode(data, PayloadContext("o-1", "value"))


@pytest.mark.parametrize(
    "noise", [b"", b"\n", b"[", b"[\n", b"{}\n", b"[]\n", b'["zlib"]', b"\xff\n"]
)
def test_a_damaged_call_is_found_with_the_codec_and_without(noise: bytes) -> None:
    call = ENCODED_CALL + noise
    with pytest.raises(PayloadNotReadable):
        codec_of(CompressionCodec()).restore(call)
    with pytest.raises((PayloadNotReadable, CodecMismatch)):
        StandardCodec().restore(call)


def test_what_is_small_or_random_is_not_compressed() -> None:
    codec = codec_of(CompressionCodec())
    assert codec.encode("small", "value").text == '"small"'
    assert codec.encode("large" * 999, "value").tree["by"] == ["zlib"]


def test_what_was_written_without_a_codec_is_read() -> None:
    plain = StandardCodec().for_execution("o-1")
    codec = codec_of(CompressionCodec(), ring(k=NEW))
    assert codec.decode(plain.encode([1, {2}], "value")) == [1, {2}]
    assert codec.restore(plain.capture(lambda: 3, (), {}))[0]() == 3
    assert type(codec.decode_failure(plain.encode_failure(KeyError("x")))) is KeyError


def test_without_the_codec_it_says_what_is_missing() -> None:
    codec, plain = codec_of(CompressionCodec(minimum=0), ring(k=NEW)), StandardCodec()
    payload = codec.encode("value" * 99, "value")
    failure = codec.encode_failure(ValueError(MARK))
    call = codec.capture(lambda: 1, (), {})
    missing = r"zlib, aes-gcm \(key k\), and this process has no such codec"
    with pytest.raises(PayloadNotReadable, match=missing):
        plain.decode(payload)
    with pytest.raises(PayloadNotReadable, match="aes-gcm"):
        plain.decode_failure(failure)
    with pytest.raises(PayloadNotReadable, match="aes-gcm"):
        plain.restore(call)
    with pytest.raises(PayloadNotReadable, match="this one has zlib"):
        codec_of(CompressionCodec()).decode(payload)


def test_people_see_that_a_value_is_encoded() -> None:
    codec, plain = codec_of(ring(k=NEW)), StandardCodec()
    shown = repr(plain.show(codec.encode(MARK, "value")))
    assert shown.startswith("<encoded by aes-gcm (key k), ")
    assert codec.show(codec.encode(MARK, "value")) == MARK
    failure = codec.encode_failure(ValueError(MARK))
    for one in (plain, codec_of(ring(other=OLD))):
        assert str(one.show_failure(failure)) == "ValueError: (encoded by aes-gcm (key k))"
    assert str(codec.show_failure(failure)) == MARK


def test_equal_arguments_are_known_before_and_after_a_rotation() -> None:
    before, during = codec_of(ring(old=OLD)), codec_of(ring(new=NEW, old=OLD))
    first = stored(before.encode_arguments((1,), {"b": 2}))
    assert during.encode_arguments((1,), {"b": 2}).matches(first.fingerprint())
    assert not during.encode_arguments((2,), {"b": 2}).matches(first.fingerprint())
    elsewhere = codec_of(ring(old=OLD), execution_id="o-2")
    assert not elsewhere.encode_arguments((1,), {"b": 2}).matches(first.fingerprint())
    plain = StandardCodec().encode_arguments((1,), {"b": 2})
    assert during.encode_arguments((1,), {"b": 2}).matches(plain.fingerprint())
    assert plain.fingerprint() not in first.text


def test_fingerprints_of_a_run_are_stable_and_tell_nothing() -> None:
    codec = codec_of(ring(k=NEW))
    first, second = (stored(codec.encode_arguments((1,), {})) for _ in range(2))
    call = (lambda value: value, ("1234",), {})
    made = codec.for_run(first).fingerprint(*call)
    assert made == codec_of(ring(new=OLD, k=NEW)).for_run(first).fingerprint(*call)
    assert made != codec.for_run(second).fingerprint(*call)
    plain = StandardCodec().fingerprint(*call)
    assert made.rpartition(".")[0] == plain.rpartition(".")[0]
    assert made != plain
    before = StandardCodec().encode_arguments((1,), {})
    assert codec.for_run(before).fingerprint(*call) == plain


def test_an_outline_is_of_the_value() -> None:
    codec = codec_of(ring(k=NEW))
    other = codec.for_execution("o-2")
    made = other.encode([1], "value")
    assert codec.outline(made, "o-2") == codec.outline(stored(other.encode([1], "value")), "o-2")
    assert codec.outline(made, "o-2") != codec.outline(stored(other.encode([2], "value")), "o-2")


def test_calls_stay_in_a_process_as_they_are() -> None:
    made = with_codecs(StandardCodec(in_process=True), ring(k=NEW)).for_execution("o-1")
    function, *_ = made.restore(made.capture(lambda: 1, (), {}))
    assert function() == 1


def test_reading_alone_writes_as_before() -> None:
    codec = codec_of(EncryptionCodec({"k": NEW}, reads_only=True))
    assert codec.encode("value", "value").text == '"value"'
    assert codec.encode_arguments((1,), {}).text == "[[1],{}]"
    assert codec.decode(codec_of(ring(k=NEW)).encode("value", "value")) == "value"


def test_what_cannot_be_encoded_is_the_callers_matter() -> None:
    class Broken(Backwards):
        def encode(self, data: bytes, context: PayloadContext) -> bytes:
            raise OSError("no")

    codec = codec_of(Broken())
    with pytest.raises(ValueNotSerializable, match=r"value cannot.*'backwards': OSError: no"):
        codec.encode(1, "value")
    failure = codec.encode_failure(ValueError(MARK))
    assert MARK not in json.dumps(failure.to_plain())
    with pytest.raises(ClosureNotSerializable):
        codec.capture((i for i in ()).__next__, (), {})


def test_a_key_is_in_no_text_and_goes_along_to_workers() -> None:
    codec = ring(k=NEW)
    assert NEW.decode() not in repr(codec) + str(vars(codec).get("_ring"))
    again = pickle.loads(pickle.dumps(codec))
    context = PayloadContext("o-1", "value")
    assert again.decode(codec.encode(b"data", context), context) == b"data"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "needs keys by their names"),
        ([NEW], "needs keys by their names"),
        ({"k": b"short"}, "key 'k' is not 32 bytes"),
        ({"k": "n" * 32}, "key 'k' is not 32 bytes"),
        ({"a key": NEW}, "cannot name a key"),
        ({"": NEW}, "cannot name a key"),
    ],
)
def test_wrong_keys_are_refused(wrong: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        EncryptionCodec(wrong)


@pytest.mark.parametrize("wrong", [[], 1, "aes", EncryptionCodec, [ring(k=NEW), ring(k=OLD)]])
def test_wrong_codecs_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="give"):
        with_codecs(StandardCodec(), wrong)


def test_without_cryptography_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(UsageError, match=r"install mini-workflow\[encryption\]"):
        ring(k=NEW)
