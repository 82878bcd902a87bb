"""Lower-case base32 (RFC 4648) without padding: letters and digits that survive every system a token passes through."""

import base64
from collections.abc import Sequence

import numpy as np

_ALPHABET = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", np.uint8)
_BITS = np.array([16, 8, 4, 2, 1], np.uint8)


def encoded(data: bytes) -> str:
    """Return bytes as text."""
    return base64.b32encode(data).rstrip(b"=").decode().lower()


def decoded(text: str) -> bytes:
    """Return the bytes of a text.

    Raises:
        ValueError: it is no base32.
    """
    return base64.b32decode(text.upper() + "=" * (-len(text) % 8))


def tokens_of(digests: Sequence[bytes]) -> list[str]:
    """Return digests of one length as texts: what `encoded` gives for each, for all of them at once."""
    if not digests:
        return []
    size = len(digests[0])
    bits = np.unpackbits(np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), size), axis=1)
    letters = -(-size * 8 // 5)
    padded = np.zeros((len(digests), letters * 5), np.uint8)
    padded[:, : size * 8] = bits
    places = (padded.reshape(len(digests), letters, 5) * _BITS).sum(axis=2, dtype=np.uint8)
    text = _ALPHABET[places].tobytes().decode()
    return [text[start : start + letters] for start in range(0, len(text), letters)]
