"""A signer whose private key stays elsewhere: in Vault, a cloud's key service, or a hardware token."""

from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from securesystemslib.signer import Key, Signature, Signer, SSlibKey

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable

SCHEME = "ecdsa-sha2-nistp256"


class RemoteSigner(Signer):
    """Signs through a function, and lets no signature out that its public key does not verify.

    So a service that signs with another version of the key, or that hashes a digest once more, is found here and not
    by whoever verifies the evidence a year later.

    Attributes:
        uri: Names the key exactly, with its version where the service has versions.
        key_version: The version that signs, as the service counts it; None where it has none.
    """

    def __init__(
        self,
        uri: str,
        key: ec.EllipticCurvePublicKey,
        produce: Callable[[bytes], bytes],
        key_version: str | None = None,
    ) -> None:
        """Keep the parts; `produce` turns a payload into a DER signature or raises one of the five kinds."""
        self.uri = uri
        self.key_version = key_version
        self._key = key
        self._produce = produce
        self._public = SSlibKey.from_crypto(key, scheme=SCHEME)

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._public

    def sign(self, payload: bytes) -> Signature:
        """Sign a payload with ECDSA P-256 and SHA-256.

        Raises:
            ServiceUnreachable: the service did not answer, or its signature is wrong.
            Misconfigured: the service refused.
        """
        signature = self._produce(payload)
        try:
            self._key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise ServiceUnreachable(
                "The key service returned a signature that its own public key does not verify.",
                evidence=f"{self.uri}: {len(signature)} bytes of signature",
                remedy="Check that the address is the real service's, and that it signs SHA-256 digests as they are.",
                code=codes.WRONG_SIGNATURE,
            ) from error
        version = {"key_version": self.key_version} if self.key_version else None
        return Signature(self._public.keyid, signature.hex(), version)

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> Signer:
        """Load by URI as securesystemslib does; secrets come from files, and the public key from the service."""
        from kfp_custody.components._shared.signers.loading import load_signer

        return load_signer(priv_key_uri)


def p256(key: bytes, uri: str, kind: str = "") -> ec.EllipticCurvePublicKey:
    """Read a public key (PEM or DER) that a service answered with.

    Raises:
        Misconfigured: it is not on the curve P-256.
    """
    try:
        found = load_pem_public_key(key) if key.startswith(b"-----") else load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, ec.EllipticCurvePublicKey) or not isinstance(found.curve, ec.SECP256R1):
        raise wrong_type(uri, kind or getattr(getattr(found, "curve", None), "name", type(found).__name__))
    return found


def wrong_type(uri: str, found: str) -> Misconfigured:
    """Refuse a key of another type."""
    return Misconfigured(
        "The signing key has the wrong type.",
        evidence=f"{uri} is {found}; only EC P-256 for signing is accepted",
        remedy="Make a P-256 signing key there (vault: ecdsa-p256; awskms: ECC_NIST_P256, SIGN_VERIFY; "
        "gcpkms: EC_SIGN_P256_SHA256; azurekms: EC P-256).",
        code=codes.KEY_TYPE,
    )
