"""Nothing that was not signed for this attempt is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs import Signer
from mini_workflow.errors import SignatureInvalid, UsageError

SIGNER = Signer(b"0123456789abcdef")
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
    envelope = Signer(b"another key of 23 bytes").sign(b"payload", **WHERE)
    with pytest.raises(SignatureInvalid, match="same signing key"):
        SIGNER.verify(envelope, **WHERE)


def test_an_unsigned_payload_says_so():
    with pytest.raises(
        SignatureInvalid, match=r"task 3, attempt 1, of execution 'order-1'.*not sig"
    ):
        SIGNER.verify(b"payload" * 20, **WHERE)


def test_a_value_is_no_task_and_a_form_is_no_other():
    envelope = SIGNER.sign_value(b"payload", form="pickle")
    assert SIGNER.verify_value(envelope, form="pickle") == b"payload"
    with pytest.raises(SignatureInvalid):
        SIGNER.verify_value(envelope, form="dill")
    with pytest.raises(SignatureInvalid):
        SIGNER.verify(envelope, **WHERE)
    with pytest.raises(SignatureInvalid):
        SIGNER.verify_value(SIGNER.sign(b"payload", **WHERE), form="pickle")


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 15])
def test_a_short_key_is_refused(key):
    with pytest.raises(UsageError, match=r"at least 16.*token_bytes"):
        Signer(key)


def test_the_key_is_not_shown():
    assert "0123456789abcdef" not in repr(SIGNER)
