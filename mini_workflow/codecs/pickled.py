"""Write values that JSON cannot express as one opaque part: pickled, or by dill with the code of a class.

A pickled part names classes and holds for any later Python; a dilled part contains bytecode and is
refused under another Python minor version, before it is read.
"""

from __future__ import annotations

import base64
import binascii
import sys
from typing import Any, Final

from mini_workflow.codecs import picklers
from mini_workflow.codecs.forbidden import Refused
from mini_workflow.codecs.signing import ValueSigner
from mini_workflow.errors import PayloadNotReadable, PythonVersionMismatch, SignatureInvalid

PICKLE: Final = "pickle"
DILL: Final = "dill"

PYTHON: Final = f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}"


def encode_opaque(value: object, signer: ValueSigner | None) -> dict[str, Any]:
    """Return a value as a tagged part. Raises Refused, or any error of dill."""
    try:
        data = picklers.dump_data(value)
        tagged: dict[str, Any] = {"$": PICKLE}
    except Refused:
        raise
    except Exception:
        from mini_workflow.codecs import dill_pickler

        data = dill_pickler.dump(value)
        tagged = {"$": DILL, "python": PYTHON}
    if signer is not None:
        data = signer.sign(data, _form(tagged))
        tagged["signed"] = True
    tagged["v"] = base64.b64encode(data).decode("ascii")
    return tagged


def decode_opaque(tagged: dict[str, Any], signer: ValueSigner | None) -> Any:
    """Return the value of `encode_opaque`.

    Raises PythonVersionMismatch, SignatureInvalid or PayloadNotReadable; the first two before
    anything is unpickled.
    """
    kind = tagged["$"]
    try:
        data = base64.b64decode(tagged["v"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise PayloadNotReadable(f"a {kind} part is damaged: {error}") from error
    if signer is not None:
        data = signer.verify(data, _form(tagged))
    elif tagged.get("signed"):
        raise SignatureInvalid(
            "a pickled part of a stored value is signed, and this process has no signing key to "
            "check it with: set the same key as in the process that wrote the value"
        )
    if kind == DILL and tagged.get("python") != PYTHON:
        raise PythonVersionMismatch(
            f"a value that contains bytecode was stored under {tagged.get('python')} and this is "
            f"{PYTHON}: run this execution under the former, or define the value's class at the "
            "top level of a module, which makes it independent of the version"
        )
    try:
        if kind == PICKLE:
            return picklers.load(data)
        from mini_workflow.codecs import dill_pickler

        return dill_pickler.load(data, by_name=True)
    except Exception as error:
        raise PayloadNotReadable(
            f"a {kind} part of a value cannot be read: {type(error).__name__}: {error}. If a class "
            "or a module was renamed or removed, keep an alias under the old name"
        ) from error


def show_opaque(tagged: dict[str, Any]) -> str:
    """Return a description of an opaque part, which is not unpickled."""
    size = len(str(tagged.get("v", ""))) * 3 // 4
    code = " with its code" if tagged["$"] == DILL else ""
    return f"<pickled{code}, {size} bytes>"


def _form(tagged: dict[str, Any]) -> str:
    # The signature covers kind and version, since they decide how the data is read.
    return f"{tagged['$']} {tagged.get('python', '')}"
