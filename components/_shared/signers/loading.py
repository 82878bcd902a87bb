"""Finding the signer that a URI names; the table is in the package's docstring."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

_PACKAGE: Final = "kfp_custody.components._shared.signers"
# scheme -> (module with `load(uri)`, the extra that brings its libraries)
_SCHEMES: Final = {
    "file": ("file", ""),
    "vault": ("vault", "vault"),
    "vault-hmac": ("hmac", "vault"),
    "awskms": ("cloud", "aws"),
    "gcpkms": ("cloud", "gcp"),
    "azurekms": ("cloud", "azure"),
    "hsm": ("hsm", "hsm"),
    "sigstore": ("keyless", "artifact-signing"),
}
_log = logging.getLogger(__name__)


def load_signer(uri: str) -> "Signer":
    """Return the signer that a URI names.

    Raises:
        Misconfigured: unknown scheme, no such key, a key others may read, not an EC P-256 key, no permission.
        ServiceUnreachable: the service that keeps the key did not answer.
    """
    scheme, _, rest = uri.partition(":")
    if scheme not in _SCHEMES or not (rest or scheme in ("hsm", "sigstore")) or ":" not in uri:
        # Only what is plainly a scheme is shown: the value may be a key that was pasted by mistake.
        plain = rest and len(scheme) < 16 and scheme.replace("-", "").isalnum()
        raise Misconfigured(
            "The signer URI is not understood.",
            evidence=f"scheme {scheme if plain else '(none)'}; known: {', '.join(_SCHEMES)}",
            remedy="Use file:/absolute/path/key.pem, vault:transit/key or another of the known schemes.",
            code=codes.SIGNER_URI,
        )
    module, extra = _SCHEMES[scheme]
    try:
        signer: Signer = import_module(f"{_PACKAGE}.{module}").load(uri)
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"A library that {scheme}: signers need is not installed.",
            evidence=str(error),
            remedy=f"Install it with the extra: pip install 'kfp-custody[{extra or 'local'}]'.",
            code=codes.NO_LIBRARY,
        ) from error
    _log.info("signing with %s", getattr(signer, "uri", uri))
    return signer


def public_key(signer: "Signer") -> ec.EllipticCurvePublicKey:
    """Return the public half of a signer's key.

    Raises:
        Misconfigured: it is not EC P-256, or the signer has none (HMAC).
    """
    key = load_pem_public_key(signer.public_key.keyval["public"].encode())
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misconfigured(
            "The signing key has the wrong type.",
            evidence=f"{type(key).__name__}; only EC P-256 is accepted",
            remedy="Make a P-256 key: openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt",
            code=codes.KEY_TYPE,
        )
    return key
