"""Keyed pseudonyms: HMAC-SHA256, AES-SIV and FF1 under sub-keys of one master key.

An unkeyed hash of a card number can be undone by trying all numbers; a keyed one cannot without the key. Each domain
has its own sub-key, so equal values of different domains cannot be linked, and equal values of one domain can.
"""

import binascii
import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.secrets.loading import load_secret_or_file
from kfp_custody.components.pii_masking.base32 import decoded, encoded, tokens_of

_CONTEXT = b"kfp-custody/pii-masking/v1"
_MOST_KNOWN = 300_000  # values of a domain, some 70 MB
_TOKEN_BYTES = 16  # 128 bits: no collision to expect below 2**64 distinct values


class Pseudonyms(ABC):
    """What a masking key can do; only its sub-keys are used."""

    version: str = ""
    """The version of the key, where the place that keeps it has versions."""

    @cached_property
    def key_id(self) -> str:
        """The name of the key in reports: 16 hex digits that say nothing about the key."""
        return hashlib.sha256(self.subkey("id", "")).hexdigest()[:16]

    def subkey(self, purpose: str, domain: str) -> bytes:
        """Return the 32 bytes that only this purpose and domain have."""
        return self._derived(b"\0".join((_CONTEXT, purpose.encode(), domain.encode())))

    @abstractmethod
    def _derived(self, context: bytes) -> bytes:
        """Return HMAC-SHA256 of the context under the master key."""

    def tokens(self, domain: str, values: Iterable[str]) -> list[str]:
        """Return a token of 26 lower-case base32 characters for each value."""
        known = self._known.setdefault(domain, {})
        wanted = list(values)
        found = list(map(known.get, wanted))
        if None in found:
            new = [value for value, token in zip(wanted, found, strict=True) if token is None]
            if len(known) + len(new) > _MOST_KNOWN:
                known.clear()
                new = wanted
            key = self.subkey("hmac", domain)
            digests = [hmac.digest(key, value.encode(), "sha256")[:_TOKEN_BYTES] for value in new]
            known.update(zip(new, tokens_of(digests), strict=True))
            found = list(map(known.get, wanted))
        return found  # type: ignore[return-value]  # no None is left

    @cached_property
    def _known(self) -> dict[str, dict[str, str]]:
        """Tokens by domain and value: the customers of one chunk of rows are those of the next."""
        return {}

    def offsets(self, domain: str, values: Iterable[str], max_days: int) -> list[int]:
        """Return an offset in days for each value, within ±max_days and never 0."""
        key = self.subkey("date_shift", domain)
        steps = (
            int.from_bytes(hmac.digest(key, value.encode(), "sha256")[:8], "big") % (2 * max_days) for value in values
        )
        return [step - max_days if step < max_days else step - max_days + 1 for step in steps]

    def encrypt(self, domain: str, values: Iterable[str]) -> list[str]:
        """Encrypt values so that `decrypt` gives them back: AES-SIV (RFC 5297) with 256-bit keys, in base32.

        Equal values of a domain give equal tokens, so they join; a token that was changed does not decrypt.
        """
        cipher = self._siv(domain)
        # AES-SIV of the library takes no empty input, and an empty text is none: one byte in front.
        return [encoded(cipher.encrypt(b"\0" + value.encode(), [domain.encode()])) for value in values]

    def decrypt(self, domain: str, tokens: Iterable[str]) -> list[str]:
        """Return the values of tokens that `encrypt` made.

        Raises:
            InputRefused: a token is of another key or domain, or was changed.
        """
        cipher = self._siv(domain)
        try:
            return [cipher.decrypt(decoded(token), [domain.encode()])[1:].decode() for token in tokens]
        except (InvalidTag, ValueError):
            raise InputRefused(
                "A token cannot be decrypted.",
                evidence=f"domain {domain!r}, key {self.key_id}: it is of another key or domain, or was changed",
                remedy="Use the key that the masking report names, in its version, and the domain of the policy.",
            ) from None  # the cause would quote the token

    def _siv(self, domain: str) -> AESSIV:
        return AESSIV(self.subkey("encrypt-mac", domain) + self.subkey("encrypt-counter", domain))


@dataclass(frozen=True)
class MaskingKey(Pseudonyms):
    """A master key that this process holds; it is never printed."""

    master: bytes = field(repr=False)

    def _derived(self, context: bytes) -> bytes:
        return hmac.digest(self.master, context, "sha256")


def read_masking_key(place: str | Path) -> Pseudonyms:
    """Return the master key, which has at least 32 bytes.

    Args:
        place: A secret URI (`vault:secret/masking#key`, see _shared/secrets) or the path of a file, with the key in
            hex; or `vault-hmac:MOUNT/KEY[?version=N]`, a key of a transit engine that never leaves it.

    Raises:
        Misconfigured: missing, readable by others, not hex, or too short.
        ServiceUnreachable: the server that keeps it did not answer.
        EvidenceInvalid: it came in a response-wrapping token that somebody else may have opened.
    """
    if str(place).startswith("vault-hmac:"):
        from kfp_custody.components.pii_masking import transit_key  # needs Vault's client library

        return transit_key.load(str(place))
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
