"""Keys of the transit engine, as a URI names them: `MOUNT/KEY[?version=N]`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.settings import load_vault_settings
from kfp_custody.components._shared.signers.vault_client import Vault, open_vault

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_URI = re.compile(rf"(vault|vault-hmac):((?:{_PART}/)*{_PART})/({_PART})(?:\?version=([1-9][0-9]{{0,8}}))?")


@dataclass(frozen=True)
class TransitKey:
    """A key of a transit engine."""

    scheme: str
    mount: str
    name: str
    version: str | None

    @property
    def path(self) -> str:
        """`MOUNT/KEY`."""
        return f"{self.mount}/{self.name}"

    def uri(self, version: str | None = None) -> str:
        """The URI, of a version or of the key as such."""
        return f"{self.scheme}:{self.path}" + (f"?version={version}" if version else "")


def parse(uri: str) -> TransitKey:
    """Read a URI.

    Raises:
        Misconfigured: it is not of the form.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        scheme = uri.partition(":")[0]
        raise Misconfigured(
            "The signer URI names no key in Vault.",
            evidence=f"{scheme}: is not followed by MOUNT/KEY or MOUNT/KEY?version=N",
            remedy=f"Use {scheme}:transit/key-name.",
            code=codes.SIGNER_URI,
        )
    return TransitKey(*match.groups())


def read_key(key: TransitKey) -> tuple[Vault, Mapping[str, Any]]:
    """Return the session and what the server says about the key.

    Raises:
        ServiceUnreachable: it does not answer.
        Misconfigured: not permitted, or no such key.
    """
    vault = open_vault(load_vault_settings())
    data = vault.call(
        f"read key {key.path}", lambda client: client.secrets.transit.read_key(key.name, mount_point=key.mount)
    )
    return vault, data


def usable_version(key: TransitKey, data: Mapping[str, Any]) -> str:
    """Return the version to sign with: the one that is named, else the latest.

    Raises:
        Misconfigured: it is retired (below min_decryption_version) or does not exist.
    """
    versions, latest = data.get("keys") or {}, str(data.get("latest_version"))
    version = key.version or latest
    if version not in versions:
        oldest = data.get("min_decryption_version")
        retired = isinstance(oldest, int) and int(version) < oldest
        raise Misconfigured(
            "The version of the key was retired." if retired else "The key has no such version.",
            evidence=f"{key.uri(version)}; usable: {oldest} to {latest} (min_decryption_version to latest_version)",
            remedy="Leave ?version= out to sign with the latest version, and add its public key to the trust file.",
            code=codes.KEY_VERSION,
        )
    return version
