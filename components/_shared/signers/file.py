"""`file:/path/key.pem`: an EC P-256 private key in PEM (PKCS#8), readable by its owner only, encrypted or not."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.settings import KeySettings, load_key_settings
from kfp_custody.components._shared.signers.private_files import read_private_file, read_private_text

PASSWORD_VARIABLE = "CUSTODY_SIGNER_PASSWORD_FILE"  # noqa: S105  (a name, not a password)


def generate_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Make a new P-256 private key file with mode 0600; an existing file is never replaced.

    Raises:
        Misconfigured: the file exists.
        OSError: the place cannot be written.
    """
    if path.exists():
        raise Misconfigured(
            "A key file exists already.",
            evidence=str(path),
            remedy="Choose another path.",
            code=codes.KEY_EXISTS,
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    write_atomic(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    return key.public_key()


def load(uri: str) -> Signer:
    """Return the signer of a key file.

    Raises:
        Misconfigured: no such key, a key others may read, a wrong or missing password, or not an EC P-256 key.
    """
    path = Path(uri.removeprefix("file:"))
    if not path.is_absolute():
        raise Misconfigured(
            "The path of the signing key is not absolute.",
            evidence="file: is not followed by a path that starts with /",
            remedy="Use file:/absolute/path/key.pem.",
            code=codes.SIGNER_URI,
        )
    private = _private_key(path, load_key_settings())
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise Misconfigured(
            "The signing key has the wrong type.",
            evidence=f"{path} holds no EC P-256 key",
            remedy="Make one with: openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt",
            code=codes.KEY_TYPE,
        )
    return CryptoSigner(private)


def _private_key(path: Path, settings: KeySettings) -> object:
    pem = read_private_file(path, "signing key")
    encrypted = b"ENCRYPTED" in pem
    # A password that protects nothing is a mistake of whoever believes that the key is encrypted.
    if encrypted != (settings.password_file is not None):
        raise Misconfigured(
            "The signing key is encrypted, and no password is configured."
            if encrypted
            else "A password for the signing key is configured, and the key is not encrypted.",
            evidence=f"{path}; {PASSWORD_VARIABLE} is {'not ' if encrypted else ''}set",
            remedy=f"Set {PASSWORD_VARIABLE} to the file with the password of an encrypted key, and only then.",
            code=codes.KEY_PASSWORD,
        )
    password = None
    if encrypted:
        password = read_private_text(settings.password_file, "password of the signing key", PASSWORD_VARIABLE)
    try:
        return load_pem_private_key(pem, password.encode() if password is not None else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Misconfigured(
            "The signing key cannot be loaded.",
            evidence=f"{path} is no PEM private key of a known type"
            + (f", or the password in {settings.password_file} is not its own" if encrypted else ""),
            remedy="Write it as PKCS#8 PEM" + (", and check the password." if encrypted else "."),
            code=codes.KEY_UNREADABLE,
        ) from error
