"""Carry values, calls and exceptions across a boundary: signed, and on request compressed and encrypted."""

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
    """Import a name when it is first used, since few programs need these."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value
