"""Keyed pseudonyms: HMAC-SHA256 under sub-keys of one master key.

An unkeyed hash of a card number can be undone by trying all numbers; a keyed one cannot without the key. Each domain
has its own sub-key, so equal values of different domains cannot be linked, and equal values of one domain can.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.secrets.loading import load_secret_or_file

_CONTEXT = b"kfp-custody/pii-masking/v1"
_TOKEN_BYTES = 16  # 128 bits: no collision to expect below 2**64 distinct values


@dataclass(frozen=True)
class MaskingKey:
    """The master key; it is never printed, and only sub-keys are used."""

    master: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """The name of the key in reports: 16 hex digits that say nothing about the key."""
        return hashlib.sha256(self._subkey("id", "")).hexdigest()[:16]

    def tokens(self, domain: str, values: Iterable[str]) -> list[str]:
        """Return a token of 26 lower-case base32 characters for each value."""
        key = self._subkey("hmac", domain)
        return [
            base64.b32encode(hmac.digest(key, value.encode(), "sha256")[:_TOKEN_BYTES])[:26].decode().lower()
            for value in values
        ]

    def offsets(self, domain: str, values: Iterable[str], max_days: int) -> list[int]:
        """Return an offset in days for each value, within ±max_days and never 0."""
        key = self._subkey("date_shift", domain)
        steps = (
            int.from_bytes(hmac.digest(key, value.encode(), "sha256")[:8], "big") % (2 * max_days) for value in values
        )
        return [step - max_days if step < max_days else step - max_days + 1 for step in steps]

    def _subkey(self, purpose: str, domain: str) -> bytes:
        return hmac.digest(self.master, b"\0".join((_CONTEXT, purpose.encode(), domain.encode())), "sha256")


def read_masking_key(place: str | Path) -> MaskingKey:
    """Read the master key: at least 32 bytes in hex.

    Args:
        place: A secret URI (`vault:secret/masking#key`, see _shared/secrets), or the path of a file.

    Raises:
        Misconfigured: missing, readable by others, not hex, or too short.
        ServiceUnreachable: the server that keeps it did not answer.
        EvidenceInvalid: it came in a response-wrapping token that somebody else may have opened.
    """
    secret = load_secret_or_file(str(place))
    try:
        master = binascii.unhexlify(secret.reveal().strip())
    except ValueError:
        raise _bad_key(secret.name, "it is not hex") from None  # the cause would quote the key
    if len(master) < 32:
        raise _bad_key(secret.name, f"it has {len(master)} bytes")
    return MaskingKey(master)


def _bad_key(where: str, why: str) -> Misconfigured:
    return Misconfigured(
        "The masking key cannot be used.",
        evidence=f"{where}: {why}; at least 32 random bytes in hex are needed",
        remedy="Make one with: (umask 077; openssl rand -hex 32 > key). The same key keeps the same pseudonyms.",
    )
