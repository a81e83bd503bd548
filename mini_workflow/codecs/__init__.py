"""Codecs: how values, calls and exceptions cross a boundary, and how that is signed."""

from mini_workflow.codecs.signing import Signer
from mini_workflow.codecs.standard import StandardCodec

__all__ = ["Signer", "StandardCodec"]
