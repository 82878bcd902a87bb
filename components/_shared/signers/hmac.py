"""`vault-hmac:MOUNT/KEY[?version=N]`: HMAC-SHA256 in the transit engine, for those who may only use symmetric keys.

There is no public key, so evidence signed this way can be verified only where the key is: online, by somebody whose
role may `update` on `MOUNT/verify/KEY`. Who may `update` on `MOUNT/hmac/KEY` can sign. Neither cosign nor an auditor
without access can verify it, and nobody can once the key is deleted or its version retired.
"""

import base64
import binascii
import hashlib
import re
from typing import Any

from securesystemslib.signer import Key, Signature, Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.signers import transit
from kfp_custody.components._shared.signers.remote import wrong_type

# 32 bytes are 43 characters of base64 and one of padding.
_MAC = re.compile(rb"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]{43}=)")
_SYMMETRIC = ("aes", "chacha20", "xchacha20", "hmac")


class HmacSigner(Signer):
    """Signs with a MAC; the signature's bytes are the text `vault:v<version>:<base64>`.

    Attributes:
        uri: The key with the version that signs.
        key_version: That version.
        hint: What evidence names the key by: see `hmac_hint`.
    """

    def __init__(self, key: transit.TransitKey, vault: Any, version: str) -> None:
        """Keep the key, the session and the version."""
        self.uri = key.uri(version)
        self.key_version = version
        self.hint = hmac_hint(key.uri())
        self._key = key
        self._vault = vault

    @property
    def public_key(self) -> Key:
        """Nothing.

        Raises:
            Misconfigured: always; an HMAC key has no public half.
        """
        raise Misconfigured(
            "This signer has no public key, so this cannot be signed with it.",
            evidence=f"{self.uri} is an HMAC key",
            remedy="Use a vault: signer here. HMAC is only for statements that are verified where the key is.",
            code=codes.NO_PUBLIC_KEY,
        )

    def sign(self, payload: bytes) -> Signature:
        """Sign a payload, which is sent to Vault as it is.

        Raises:
            ServiceUnreachable: Vault is stopped, sealed or failing, or its answer is no MAC.
            Misconfigured: not permitted, or the version was retired.
        """
        text = base64.b64encode(payload).decode()
        answer = self._vault.call(
            f"sign with {self.uri}",
            lambda client: client.secrets.transit.generate_hmac(
                self._key.name, text, int(self.key_version), "sha2-256", self._key.mount
            ),
        )
        mac = str(answer.get("hmac")).encode()
        if _version(mac) != self.key_version:
            raise ServiceUnreachable(
                "Vault answered with something that is no MAC of this key.",
                evidence=f"{self.uri}: expected vault:v{self.key_version}:<base64 of 32 bytes>",
                remedy="Check that VAULT_ADDR is the address of Vault or OpenBao.",
                code=codes.WRONG_SIGNATURE,
            )
        return Signature(self.hint, mac.hex(), {"key_version": self.key_version})

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> Signer:
        """Load by URI as securesystemslib does."""
        return load(priv_key_uri)


def load(uri: str) -> HmacSigner:
    """Return the signer of a symmetric transit key.

    Raises:
        ServiceUnreachable: Vault is stopped, sealed or failing.
        Misconfigured: no such key or version, another type, not permitted, not logged in.
    """
    key = transit.parse(uri)
    vault, data = transit.read_key(key)
    _require_symmetric(key, data.get("type"))
    return HmacSigner(key, vault, transit.usable_version(key, data))


def verify_hmac(uri: str, payload: bytes, signature: bytes) -> bool:
    """Tell whether a signature of `HmacSigner` is the key's MAC of a payload.

    Args:
        uri: The key. With `?version=N` only that version is believed, else every version that is not retired.
        payload: What was signed.
        signature: The bytes `vault:v<version>:<base64>`.

    Raises:
        ServiceUnreachable: Vault is stopped, sealed or failing.
        Misconfigured: no such key, another type, not permitted, not logged in.
    """
    key, version = transit.parse(uri), _version(signature)
    vault, data = transit.read_key(key)
    _require_symmetric(key, data.get("type"))
    if version is None or version not in (data.get("keys") or {}) or key.version not in (None, version):
        return False
    answer = vault.call(
        f"verify with {key.uri(version)}",
        lambda client: client.secrets.transit.verify_signed_data(
            key.name,
            base64.b64encode(payload).decode(),
            hmac=signature.decode(),
            hash_algorithm="sha2-256",
            mount_point=key.mount,
        ),
    )
    return answer.get("valid") is True


def hmac_hint(uri: str) -> str:
    """Return what evidence names an HMAC key by: SHA-256 (hex) of its URI without a version."""
    return hashlib.sha256(transit.parse(uri).uri().encode()).hexdigest()


def _version(mac: bytes) -> str | None:
    """Return the version that a MAC says it is of, or None when it is no MAC."""
    match = _MAC.fullmatch(mac)
    if match is None:
        return None
    try:
        base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return None
    return match[1].decode()


def _require_symmetric(key: transit.TransitKey, found: Any) -> None:
    if not str(found).startswith(_SYMMETRIC):
        refusal = wrong_type(key.uri(), f"of type {found}")
        raise Misconfigured(
            "The HMAC key has the wrong type.",
            evidence=refusal.evidence.partition(";")[0] + "; a symmetric key (aes256-gcm96) is needed",
            remedy="Make one: vault write -f transit/keys/NAME type=aes256-gcm96, or use a vault: signer.",
            code=codes.KEY_TYPE,
        )
