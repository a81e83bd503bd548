"""The seed and the key that a run takes from the random bits with which it begins."""

from __future__ import annotations

from typing import Final

SEED_BITS: Final = 53
"""Bits of the seed of a run's random numbers, which JSON numbers hold in every language."""

ENTROPY_BITS: Final = SEED_BITS + 128
"""Random bits that a run takes: for its seed, and for the key of the tokens of its promises."""


def seed_and_key(entropy: int) -> tuple[int, str]:
    """Return what a run takes from ENTROPY_BITS random bits. The seed tells nothing of the key."""
    key = entropy >> SEED_BITS
    return entropy & ((1 << SEED_BITS) - 1), f"{key:032x}" if key else ""
