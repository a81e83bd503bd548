"""Nothing that was not signed for this attempt is accepted."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs import Signer
from mini_workflow.codecs.signing import read_keys
from mini_workflow.errors import SignatureInvalid, UsageError

SIGNER = Signer(b"0123456789abcdef" * 2)
WHERE = {"execution_id": "order-1", "seq": 3, "attempt": 1}


def test_a_signed_payload_comes_back():
    assert SIGNER.verify(SIGNER.sign(b"payload", **WHERE), **WHERE) == b"payload"
    assert SIGNER.verify(SIGNER.sign(b"", **WHERE), **WHERE) == b""


def test_every_changed_bit_is_noticed():
    envelope = SIGNER.sign(b"payload", **WHERE)
    for place in range(len(envelope)):
        for bit in range(8):
            changed = bytearray(envelope)
            changed[place] ^= 1 << bit
            with pytest.raises(SignatureInvalid):
                SIGNER.verify(bytes(changed), **WHERE)


def test_every_truncation_and_extension_is_noticed():
    envelope = SIGNER.sign(b"payload", **WHERE)
    for changed in [*(envelope[:length] for length in range(len(envelope))), envelope + b"\0"]:
        with pytest.raises(SignatureInvalid):
            SIGNER.verify(changed, **WHERE)


@pytest.mark.parametrize(
    "other", [{"execution_id": "order-2"}, {"execution_id": ""}, {"seq": 4}, {"attempt": 2}]
)
def test_a_signature_holds_for_one_attempt_only(other):
    with pytest.raises(SignatureInvalid, match="something else"):
        SIGNER.verify(SIGNER.sign(b"payload", **WHERE), **WHERE | other)


FIELDS = st.fixed_dictionaries(
    {
        "execution_id": st.text("ab0123|:;", max_size=4),
        "seq": st.integers(0, 200),
        "attempt": st.integers(0, 200),
    }
)


@given(FIELDS, FIELDS, st.binary(max_size=4), st.binary(max_size=4))
def test_no_two_calls_have_one_signature(where, elsewhere, payload, other):
    one, two = SIGNER.sign(payload, **where), SIGNER.sign(other, **elsewhere)
    assert (one[:36] == two[:36]) == ((where, payload) == (elsewhere, other))


def test_another_key_does_not_verify():
    envelope = Signer(b"another key that is of 34 bytes ...").sign(b"payload", **WHERE)
    with pytest.raises(SignatureInvalid, match="same signing key"):
        SIGNER.verify(envelope, **WHERE)


def test_an_unsigned_payload_says_so():
    with pytest.raises(
        SignatureInvalid, match=r"task 3, attempt 1, of execution 'order-1'.*not sig"
    ):
        SIGNER.verify(b"payload" * 20, **WHERE)


def test_a_value_is_no_task_and_a_form_is_no_other():
    mine = {"execution_id": "order-1"}
    envelope = SIGNER.sign_value(b"payload", **mine, form="pickle")
    assert SIGNER.verify_value(envelope, **mine, form="pickle") == b"payload"
    with pytest.raises(SignatureInvalid):
        SIGNER.verify_value(envelope, **mine, form="dill")
    with pytest.raises(SignatureInvalid, match=r"'order-2' was signed .* for something else"):
        SIGNER.verify_value(envelope, execution_id="order-2", form="pickle")
    with pytest.raises(SignatureInvalid):
        SIGNER.verify(envelope, **WHERE)
    with pytest.raises(SignatureInvalid):
        SIGNER.verify_value(SIGNER.sign(b"payload", **WHERE), **mine, form="pickle")


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 15])
def test_a_short_key_is_refused(key):
    with pytest.raises(UsageError, match=r"at least 32.*token_urlsafe"):
        Signer(key)


def test_the_key_is_not_shown():
    assert "0123456789abcdef" not in repr(SIGNER)


OLD, NEW = b"o" * 32, b"n" * 32


@pytest.mark.parametrize("length", [0, 1, 16, 31])
def test_a_key_that_is_too_short_is_refused(length: int) -> None:
    with pytest.raises(UsageError, match=f"has {length} bytes and needs at least 32"):
        Signer(b"k" * length)
    with pytest.raises(UsageError, match=f"signing key 2 of 2 has {length} bytes"):
        Signer([OLD, b"k" * length])


def test_no_key_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="no signing key"):
        Signer([])


def test_a_key_is_changed_by_adding_deploying_and_removing() -> None:
    """Old alone, then both with the old one in front, then the new one, and at last the new alone."""
    steps = [Signer(OLD), Signer([OLD, NEW]), Signer([NEW, OLD]), Signer(NEW)]
    for one, other in pairwise(steps):
        for writer, reader in ((one, other), (other, one)):
            envelope = writer.sign_value(b"x", execution_id="e", form="f")
            assert reader.verify_value(envelope, execution_id="e", form="f") == b"x"
            task = writer.sign(b"x", execution_id="e", seq=1, attempt=1)
            assert reader.verify(task, execution_id="e", seq=1, attempt=1) == b"x"
            reader.check("text", writer.code("text", "purpose"), "purpose")
    with pytest.raises(SignatureInvalid):
        Signer(NEW).verify_value(
            Signer(OLD).sign_value(b"x", execution_id="e", form="f"), execution_id="e", form="f"
        )
    with pytest.raises(SignatureInvalid):
        Signer(NEW).check("text", Signer(OLD).code("text", "purpose"), "purpose")


def test_a_setting_holds_one_key_or_several() -> None:
    assert read_keys("a" * 40) == (b"a" * 40,)
    assert read_keys(f"{'n' * 32} | {'o' * 32}") == (NEW, OLD)
    assert read_keys("a key of words, with commas in it") == (b"a key of words, with commas in it",)


def test_a_ring_that_has_changed_is_asked_for_again():
    old, new = b"o" * 32, b"n" * 32
    keys, asked = [(old,)], []

    def renew(refused):
        asked.append(refused)
        return keys[0] if refused else None

    signer = Signer(lambda: keys[0], renew)
    theirs = Signer(new).sign(b"payload", **WHERE)
    with pytest.raises(SignatureInvalid):
        signer.verify(theirs, **WHERE)
    keys[0] = (old, new)
    assert asked == [True]
    assert signer.verify(theirs, **WHERE) == b"payload"
    assert signer.verify(theirs, **WHERE) == b"payload"
    assert asked == [True, True]
    # It signs with the first of those that it has then.
    keys[0] = (new,)
    with pytest.raises(SignatureInvalid):
        signer.check("text", "not a code")
    assert signer.sign(b"payload", **WHERE) == theirs


def test_what_is_signed_is_signed_with_the_ring_of_now():
    old, new = b"o" * 32, b"n" * 32
    signer = Signer(old, lambda refused: None if refused else new)
    assert signer.sign(b"payload", **WHERE) == Signer(new).sign(b"payload", **WHERE)
