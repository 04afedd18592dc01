"""One seed, many independent named streams of randomness."""

from __future__ import annotations

import hashlib
import random
import secrets

MAX_SEED = 2**32 - 1


def draw_seed() -> int:
    """A fresh 32-bit seed, to be printed and recorded when the user gave none."""
    return secrets.randbits(32)


def stream(seed: int, *names: str | int) -> random.Random:
    """The random stream of a seed for a name.

    The same seed and names give the same numbers on every machine and Python version; other names give an independent stream, so
    that a new consumer of randomness never disturbs an old one.
    """
    label = "\x1f".join(str(name) for name in names)
    digest = hashlib.sha256(f"{seed}\x1e{label}".encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))  # noqa: S311  not for secrets
