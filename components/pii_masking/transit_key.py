"""A masking key in the transit engine of Vault or OpenBao: sub-keys are asked for, the master key never leaves it.

The version is fixed when the key is loaded, so that a rotation in the middle of a run changes no pseudonym. Only names
of purposes and domains are sent, never a value of the data. The role needs `read` on `MOUNT/keys/KEY` and `update` on
`MOUNT/hmac/KEY`.
"""

import base64
import binascii
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.signers import transit
from kfp_custody.components.pii_masking.pseudonyms import Pseudonyms


class TransitMaskingKey(Pseudonyms):
    """A key whose sub-keys are HMACs that Vault computes."""

    def __init__(self, key: transit.TransitKey, vault: Any, version: str) -> None:
        """Keep the key, the session and the version."""
        self.version = version
        self._key, self._vault = key, vault
        self._subkeys: dict[bytes, bytes] = {}

    def _derived(self, context: bytes) -> bytes:
        if context not in self._subkeys:
            self._subkeys[context] = self._asked(context)
        return self._subkeys[context]

    def _asked(self, context: bytes) -> bytes:
        uri = self._key.uri(self.version)
        answer = self._vault.call(
            f"derive a masking key from {uri}",
            lambda client: client.secrets.transit.generate_hmac(
                self._key.name, base64.b64encode(context).decode(), int(self.version), "sha2-256", self._key.mount
            ),
        )
        prefix, _, mac = str(answer.get("hmac")).rpartition(":")
        try:
            derived = base64.b64decode(mac, validate=True)
        except binascii.Error:
            derived = b""
        if prefix != f"vault:v{self.version}" or len(derived) != 32:
            raise ServiceUnreachable(
                "Vault answered with something that is no HMAC of this key.",
                evidence=f"{uri}: expected vault:v{self.version}:<base64 of 32 bytes>",
                remedy="Check that VAULT_ADDR is the address of Vault or OpenBao.",
                code=codes.WRONG_SIGNATURE,
            )
        return derived


def load(uri: str) -> TransitMaskingKey:
    """Return the masking key of a transit engine.

    Args:
        uri: `vault-hmac:MOUNT/KEY[?version=N]`; the latest version where none is named.

    Raises:
        ServiceUnreachable: Vault is stopped, sealed or failing.
        Misconfigured: no such key or version, another type, not permitted, not logged in.
    """
    key = transit.parse(uri)
    vault, data = transit.read_key(key)
    # A key pair has an HMAC key as well, but whoever may sign with it should not be able to make pseudonyms.
    if not str(data.get("type")).startswith(("aes", "chacha20", "xchacha20", "hmac")):
        raise Misconfigured(
            "The masking key has the wrong type.",
            evidence=f"{key.uri()} is of type {data.get('type')}; a symmetric key (aes256-gcm96) is needed",
            remedy="Make one: vault write -f transit/keys/NAME type=aes256-gcm96.",
            code=codes.KEY_TYPE,
        )
    return TransitMaskingKey(key, vault, transit.usable_version(key, data))
