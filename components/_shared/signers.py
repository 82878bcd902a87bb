"""Signers named by URI; all of them are `securesystemslib.signer.Signer`, so statements and models share them.

`file:/path/key.pem` is an EC P-256 private key in PEM (PKCS#8), readable by its owner only. Only P-256 with SHA-256 is
used anywhere: it is what every Sigstore client verifies.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Signer

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.files import write_atomic


def load_signer(uri: str) -> Signer:
    """Return the signer that a URI names.

    Raises:
        Misconfigured: unknown scheme, no such key, a key others may read, or not an EC P-256 key.
    """
    scheme, _, rest = uri.partition(":")
    if scheme != "file" or not rest.startswith("/"):
        # Only what is plainly a scheme is shown: the value may be a key that was pasted by mistake.
        named = scheme if rest and scheme.isalnum() and len(scheme) < 16 else "(none)"
        raise Misconfigured(
            "The signer URI is not understood.",
            evidence=f"scheme {named}; known: file",
            remedy="Use file:/absolute/path/key.pem.",
        )
    return _file_signer(Path(rest))


def public_key(signer: Signer) -> ec.EllipticCurvePublicKey:
    """Return the public half of a signer's key."""
    key = load_pem_public_key(signer.public_key.keyval["public"].encode())
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misconfigured(
            "The signing key has the wrong type.",
            evidence=f"{type(key).__name__}; only EC P-256 is accepted",
            remedy="Make a P-256 key: openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt",
        )
    return key


def generate_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Make a new P-256 private key file with mode 0600; an existing file is never replaced.

    Raises:
        Misconfigured: the file exists.
        OSError: the place cannot be written.
    """
    if path.exists():
        raise Misconfigured("A key file exists already.", evidence=str(path), remedy="Choose another path.")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    write_atomic(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    return key.public_key()


def read_private_file(path: Path, purpose: str) -> bytes:
    """Read a file with a secret, refusing one that its group or others may read.

    Raises:
        Misconfigured: missing, unreadable, no regular file, or readable by others.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            # A Kubernetes secret volume is a read-only mount that only this pod sees; its modes (0644) say nothing.
            mounted = os.fstatvfs(file.fileno()).f_flag & os.ST_RDONLY
            if not stat.S_ISREG(status.st_mode) or (status.st_mode & 0o077 and not mounted):
                raise Misconfigured(
                    f"The {purpose} may be read or written by others, so it is no secret.",
                    evidence=f"{path} has mode {stat.S_IMODE(status.st_mode):04o}",
                    remedy="chmod 600 it, and consider whether it has leaked.",
                )
            return file.read()
    except OSError as error:
        raise Misconfigured(
            f"The {purpose} cannot be read.",
            evidence=f"{path}: {error.strerror}",
            remedy="Mount the secret there, or point the CUSTODY_ variable to it.",
        ) from error


def _file_signer(path: Path) -> Signer:
    pem = read_private_file(path, "signing key")
    try:
        private = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Misconfigured(
            "The signing key cannot be loaded.",
            evidence=f"{path} is no unencrypted PEM private key of a known type",
            remedy="Write it as PKCS#8 PEM without a password.",
        ) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise Misconfigured(
            "The signing key has the wrong type.",
            evidence=f"{path} holds no EC P-256 key",
            remedy="Make one with: openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt",
        )
    return CryptoSigner(private)
