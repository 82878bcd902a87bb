"""`vault:MOUNT/KEY[?version=N]`: an ecdsa-p256 key in the transit engine of Vault or OpenBao.

The payload is hashed here and only its digest is sent. The version is fixed when the signer is loaded, so the public
key that evidence names is that of the signature, also when the key is rotated in between. Every version is a key of
its own: the trust file lists its public key, and evidence of an old version verifies offline for as long as it does.
"""

import base64
import binascii
import hashlib
import re

from securesystemslib.signer import Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components._shared.signers import transit
from kfp_custody.components._shared.signers.remote import RemoteSigner, p256, wrong_type

_ANSWER = re.compile(r"vault:v([0-9]+):([A-Za-z0-9+/=]+)")


def load(uri: str) -> Signer:
    """Return the signer of a transit key.

    Raises:
        ServiceUnreachable: Vault is stopped, sealed or failing.
        Misconfigured: no such key or version, another type, not permitted, not logged in.
    """
    key = transit.parse(uri)
    vault, data = transit.read_key(key)
    if data.get("type") != "ecdsa-p256":
        raise wrong_type(key.uri(), f"of type {data.get('type')}")
    version = transit.usable_version(key, data)
    public = p256(str(data["keys"][version].get("public_key")).encode(), key.uri(version))

    def produce(payload: bytes) -> bytes:
        digest = base64.b64encode(hashlib.sha256(payload).digest()).decode()
        answer = vault.call(
            f"sign with {key.uri(version)}",
            lambda client: client.secrets.transit.sign_data(
                name=key.name,
                mount_point=key.mount,
                key_version=int(version),
                hash_input=digest,
                prehashed=True,
                hash_algorithm="sha2-256",
                marshaling_algorithm="asn1",
            ),
        )
        return _signature(str(answer.get("signature")), version, key.uri(version))

    return RemoteSigner(key.uri(version), public, produce, version)


def _signature(answer: str, version: str, uri: str) -> bytes:
    match = _ANSWER.fullmatch(answer)
    try:
        if match is None or match[1] != version:
            raise ValueError("not vault:v<version>:<base64>")
        return base64.b64decode(match[2], validate=True)
    except (ValueError, binascii.Error) as error:
        raise ServiceUnreachable(
            "Vault answered with something that is no signature of this key.",
            evidence=f"{uri}: expected vault:v{version}:<base64>",
            remedy="Check that VAULT_ADDR is the address of Vault or OpenBao.",
            code=codes.WRONG_SIGNATURE,
        ) from error
