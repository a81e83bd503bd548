"""What the demo uploads: a text file, read once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LARGEST = 1_000_000


class UploadRefused(Exception):
    """The file cannot be uploaded; the message says why."""


@dataclass(frozen=True, slots=True)
class Upload:
    key: str
    content: bytes

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Raises UploadRefused."""
        try:
            if path.exists() and not path.is_file():
                raise UploadRefused(f"{path} is not a regular file")
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
        except OSError as error:
            raise UploadRefused(f"{path} cannot be read: {error.strerror}") from None
        if len(content) > LARGEST:
            raise UploadRefused(
                f"{path} has more than {LARGEST:,} bytes; the workflow takes the text as an "
                "argument, which is kept in its history"
            )
        try:
            content.decode()
        except UnicodeDecodeError as error:
            raise UploadRefused(
                f"{path} is not UTF-8 text (byte {error.start}: {error.reason}); the workflow "
                "takes its data as a str"
            ) from None
        return cls(os.fsencode(path.name).decode(errors="replace"), content)
