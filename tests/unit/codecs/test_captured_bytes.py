"""Bytes that another Python version made, or that are damaged, are not unpickled."""

import pickle
import sys
import types

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mini_workflow.codecs import closures
from mini_workflow.errors import PayloadNotReadable, PythonVersionMismatch
from tests.unit.codecs import samples
from tests.unit.codecs.crossing import CODEC, is_dilled
from tests.unit.codecs.samples import Order

GLOBAL = ["live"]


def test_a_call_of_another_python_version_is_not_read(monkeypatch):
    payload = CODEC.capture(lambda: 1, (), {})
    monkeypatch.setattr(closures.pickle, "loads", lambda data: pytest.fail("read"))
    here = f"cpython-{sys.version_info.major}.{sys.version_info.minor}"
    assert here.encode() in payload
    other = payload.replace(here.encode(), b"cpython-3.8")
    with pytest.raises(PythonVersionMismatch, match=rf"cpython-3\.8.*{here}"):
        CODEC.restore(other)
    with pytest.raises(PythonVersionMismatch, match="pypy"):
        CODEC.restore(payload.replace(b"cpython", b"pypy"))


def test_a_call_of_a_prerelease_with_other_bytecode_is_not_read():
    payload = CODEC.capture(lambda: 1, (), {})
    with pytest.raises(PythonVersionMismatch, match="00000d0a"):
        CODEC.restore(payload.replace(closures.MAGIC.encode(), b"00000d0a"))


@pytest.mark.parametrize("dilled", [False, True])
def test_every_damaged_bit_is_noticed(dilled):
    class Local:
        pass

    kind, n = Local if dilled else Order, 3
    payload = CODEC.capture(lambda: (kind, n), (), {})
    assert is_dilled(payload) is dilled
    for place in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[place] ^= 1 << bit
            with pytest.raises((PayloadNotReadable, PythonVersionMismatch)):
                CODEC.restore(bytes(damaged))


@given(st.binary(max_size=100))
@example(b"mwe1;")
@example(b"mwe1;{\n")
def test_other_bytes_are_not_readable(noise):
    with pytest.raises(PayloadNotReadable):
        CODEC.restore(noise)


def test_every_truncation_is_noticed():
    payload = CODEC.capture(lambda: GLOBAL, (1,), {})
    for length in range(len(payload)):
        with pytest.raises((PayloadNotReadable, PythonVersionMismatch)):
            CODEC.restore(payload[:length])


def test_what_is_gone_is_named_with_the_remedy(monkeypatch):
    payload = CODEC.capture(samples.double, (1,), {})
    monkeypatch.delattr(samples, "double")
    with pytest.raises(PayloadNotReadable, match=r"double.*alias"):
        CODEC.restore(payload)


def test_a_module_that_is_gone_is_named(monkeypatch):
    module = types.ModuleType("short_lived")
    monkeypatch.setitem(sys.modules, "short_lived", module)
    exec("def make(n): return lambda: n", module.__dict__)
    payload = CODEC.capture(module.make(1), (), {})
    monkeypatch.delitem(sys.modules, "short_lived")
    with pytest.raises(PayloadNotReadable, match="short_lived"):
        CODEC.restore(payload)


def test_a_pickled_call_is_not_mistaken_for_a_captured_one():
    with pytest.raises(PayloadNotReadable, match="not a captured call"):
        CODEC.restore(pickle.dumps((samples.double, (), {})))
