"""Small facts about keys and digests that several modules need."""

import hashlib
import re

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_SHA256 = re.compile(r"[0-9a-f]{64}")


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as PEM SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_hint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the hint that a bundle names a key by: SHA-256 (hex) of its PEM, as OpenSSF model signing does."""
    return hashlib.sha256(public_pem(key)).hexdigest()


def is_sha256(value: object) -> bool:
    """Tell whether a value is a SHA-256 in 64 lower-case hex digits."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None
