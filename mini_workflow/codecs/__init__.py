"""Carry values, calls and exceptions across a boundary, signed, and if wanted compressed and
encrypted.
"""

from typing import TYPE_CHECKING

from mini_workflow.codecs.signing import Signer
from mini_workflow.codecs.standard import StandardCodec

if TYPE_CHECKING:
    from mini_workflow.codecs.encryption import EncryptionCodec
    from mini_workflow.codecs.payload_codecs import CompressionCodec, PayloadCodec, PayloadContext

__all__ = [
    "CompressionCodec",
    "EncryptionCodec",
    "PayloadCodec",
    "PayloadContext",
    "Signer",
    "StandardCodec",
]

_PLACES = {
    "CompressionCodec": "mini_workflow.codecs.payload_codecs",
    "EncryptionCodec": "mini_workflow.codecs.encryption",
    "PayloadCodec": "mini_workflow.codecs.payload_codecs",
    "PayloadContext": "mini_workflow.codecs.payload_codecs",
}


def __getattr__(name: str) -> object:
    """Import what few programs need when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value
