"""Everything that differs between a laptop and a cluster, read from the environment in this one place.

None of it is a pipeline parameter on purpose: whoever starts a run must not choose whom the run trusts or who signs.
On a cluster the platform team mounts these; the demo sets the variables to files it makes outside the repository.

| variable | meaning | default |
|---|---|---|
| CUSTODY_SIGNER, CUSTODY_SIGNER_<ROOM> | signer URI of all rooms, of one room (`CUSTODY_SIGNER_POLICY_GATE`) | none |
| CUSTODY_TRUST | trust file | /etc/custody/trust/trust.yaml |
| CUSTODY_MASKING_KEY | key of the pseudonyms in hex: a path, or a secret URI | /etc/custody/masking/key |
| CUSTODY_DVC_REMOTE | where attested datasets are pushed (a folder or any DVC URL) | none: not pushed |
| CUSTODY_OPA_TOKEN_FILE | file with the bearer token for the policy server that a policy names | none: no token |
| CUSTODY_NAMESPACE | Kubernetes namespace that models are deployed to | default |
| CUSTODY_DEPLOY_TARGET | where `deploy_model` deploys when its target is `platform`: local or seldon-v2 | none |
| CUSTODY_SERVING_DIR | state of the local model server | ~/.local/state/kfp-custody/serving |
| CUSTODY_SERVING_PORT | its HTTP port | 18080 |
| CUSTODY_IMAGE_DIGEST, CUSTODY_SOURCE_REVISION | recorded in provenance when the image sets them | none |
| CUSTODY_SIGNER_PASSWORD_FILE | file with the password of `file:` keys | none: keys are not encrypted |
| CUSTODY_HSM_PIN_FILE | file with the user PIN of the token that `hsm:` signs with | none |
| CUSTODY_OIDC_TOKEN_FILE | file with the identity token that `sigstore:` signs with | what `signers/keyless.py` finds |
| PYKCS11LIB | PKCS#11 module of that token (securesystemslib's name for it) | none |

Vault and OpenBao, for `vault:` and `vault-hmac:` (where both names are given, the first that is set counts):

| variable | meaning | default |
|---|---|---|
| VAULT_ADDR, BAO_ADDR | address, `https://vault.example.org:8200` | none |
| VAULT_NAMESPACE, BAO_NAMESPACE | namespace in the server | none |
| VAULT_CACERT, BAO_CACERT | CA bundle that its certificate must chain to | the system's |
| CUSTODY_VAULT_AUTH | how to log in: token, kubernetes, approle or jwt | token |
| CUSTODY_VAULT_AUTH_MOUNT | path of that auth method in the server | its name |
| CUSTODY_VAULT_ROLE | role to log in as (kubernetes, jwt) | none |
| CUSTODY_VAULT_TOKEN_FILE | token: file with the token, read again when the token ended | none |
| VAULT_TOKEN, BAO_TOKEN | token: the token itself, when no file is named | none |
| CUSTODY_VAULT_JWT_FILE | kubernetes, jwt: file with the projected token | the service account's own token |
| CUSTODY_VAULT_ROLE_ID_FILE | approle: file with the role id | none |
| CUSTODY_VAULT_SECRET_ID_FILE | approle: file with the secret id | none |
| CUSTODY_VAULT_WRAPPED_SECRET_ID_FILE | approle: file with a token that wraps the secret id; single use | none |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured


@dataclass(frozen=True)
class Settings:
    """The environment of a stage; see the table above."""

    trust_file: Path
    masking_key: str
    dvc_remote: str | None
    namespace: str
    serving_dir: Path
    serving_port: int
    image_digest: str | None
    source_revision: str | None
    signers: Mapping[str, str] = field(default_factory=dict)
    opa_token_file: Path | None = None
    deploy_target: str | None = None

    def signer_uri(self, room: str) -> str:
        """Return the signer URI of a room: its own, else the one for all.

        Raises:
            Misconfigured: neither is set.
        """
        own, common = f"CUSTODY_SIGNER_{room.upper()}", "CUSTODY_SIGNER"
        uri = self.signers.get(own) or self.signers.get(common)
        if not uri:
            raise Misconfigured(
                "No signer is configured, so this stage could not sign what it finds.",
                evidence=f"neither {own} nor {common} is set",
                remedy=f"Set {common} to a signer URI such as file:/etc/custody/signing/key.pem.",
                code=codes.NO_SIGNER,
            )
        return uri


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        Misconfigured: the serving port is no port number.
    """
    port = environ.get("CUSTODY_SERVING_PORT") or "18080"
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise Misconfigured(
            "The port of the local model server is no port number.",
            evidence=f"CUSTODY_SERVING_PORT={port!r}",
            remedy="Set it to a number from 1 to 65535, or leave it out for 18080.",
            code=codes.PORT,
        )
    # expanduser and not Path.home(): a container's user may have no home, and most stages need none.
    state = Path(environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")) / "kfp-custody"
    return Settings(
        trust_file=Path(environ.get("CUSTODY_TRUST") or "/etc/custody/trust/trust.yaml"),
        masking_key=environ.get("CUSTODY_MASKING_KEY") or "/etc/custody/masking/key",
        dvc_remote=environ.get("CUSTODY_DVC_REMOTE") or None,
        namespace=environ.get("CUSTODY_NAMESPACE") or "default",
        serving_dir=Path(environ.get("CUSTODY_SERVING_DIR") or state / "serving"),
        serving_port=int(port),
        image_digest=environ.get("CUSTODY_IMAGE_DIGEST") or None,
        source_revision=environ.get("CUSTODY_SOURCE_REVISION") or None,
        signers={
            name: value
            for name, value in environ.items()
            if name.startswith("CUSTODY_SIGNER") and name != "CUSTODY_SIGNER_PASSWORD_FILE" and value
        },
        opa_token_file=_path(environ, "CUSTODY_OPA_TOKEN_FILE"),
        deploy_target=environ.get("CUSTODY_DEPLOY_TARGET") or None,
    )


@dataclass(frozen=True)
class KeySettings:
    """Where the secrets that unlock keys lie; see the first table above."""

    password_file: Path | None
    pin_file: Path | None
    pkcs11_module: Path | None
    oidc_token_file: Path | None


def load_key_settings(environ: Mapping[str, str] = os.environ) -> KeySettings:
    """Read where passwords and PINs of keys lie."""
    return KeySettings(
        password_file=_path(environ, "CUSTODY_SIGNER_PASSWORD_FILE"),
        pin_file=_path(environ, "CUSTODY_HSM_PIN_FILE"),
        pkcs11_module=_path(environ, "PYKCS11LIB"),
        oidc_token_file=_path(environ, "CUSTODY_OIDC_TOKEN_FILE"),
    )


@dataclass(frozen=True)
class VaultSettings:
    """How to reach Vault or OpenBao and log in there; see the second table above."""

    address: str
    auth: str
    mount: str
    role: str | None
    namespace: str | None
    ca_file: Path | None
    token: str | None = field(repr=False)
    token_file: Path | None
    jwt_file: Path
    role_id_file: Path | None
    secret_id_file: Path | None
    wrapped_secret_id_file: Path | None


def load_vault_settings(environ: Mapping[str, str] = os.environ) -> VaultSettings:
    """Read the settings of Vault or OpenBao.

    Raises:
        Misconfigured: no address, no address of a server, an unknown auth method, or no role where one is needed.
    """

    def first(*names: str) -> str | None:
        return next((environ[name] for name in names if environ.get(name)), None)

    auth = environ.get("CUSTODY_VAULT_AUTH") or "token"
    if auth not in ("token", "kubernetes", "approle", "jwt"):
        raise Misconfigured(
            "The way to log in to Vault is not known.",
            evidence="CUSTODY_VAULT_AUTH is none of token, kubernetes, approle, jwt",
            remedy="Set CUSTODY_VAULT_AUTH to one of them, or leave it out for token.",
            code=codes.VAULT_SETTINGS,
        )
    role = environ.get("CUSTODY_VAULT_ROLE") or None
    if auth in ("kubernetes", "jwt") and not role:
        raise Misconfigured(
            "No role to log in to Vault as is configured.",
            evidence=f"CUSTODY_VAULT_AUTH={auth}, and CUSTODY_VAULT_ROLE is not set",
            remedy="Set CUSTODY_VAULT_ROLE to the role that this stage's service account is bound to.",
            code=codes.VAULT_SETTINGS,
        )
    return VaultSettings(
        address=_server(first("VAULT_ADDR", "BAO_ADDR")),
        auth=auth,
        mount=environ.get("CUSTODY_VAULT_AUTH_MOUNT") or auth,
        role=role,
        namespace=first("VAULT_NAMESPACE", "BAO_NAMESPACE"),
        ca_file=_path(environ, "VAULT_CACERT") or _path(environ, "BAO_CACERT"),
        token=first("VAULT_TOKEN", "BAO_TOKEN"),
        token_file=_path(environ, "CUSTODY_VAULT_TOKEN_FILE"),
        jwt_file=_path(environ, "CUSTODY_VAULT_JWT_FILE")
        or Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        role_id_file=_path(environ, "CUSTODY_VAULT_ROLE_ID_FILE"),
        secret_id_file=_path(environ, "CUSTODY_VAULT_SECRET_ID_FILE"),
        wrapped_secret_id_file=_path(environ, "CUSTODY_VAULT_WRAPPED_SECRET_ID_FILE"),
    )


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]) if environ.get(name) else None


def _server(address: str | None) -> str:
    """Return the address of a server, without anything in it that must not be shown."""
    if not address:
        raise Misconfigured(
            "The address of Vault is not configured.",
            evidence="neither VAULT_ADDR nor BAO_ADDR is set",
            remedy="Set VAULT_ADDR to the server's address, such as https://vault.example.org:8200.",
            code=codes.VAULT_SETTINGS,
        )
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        good = None
    if not good or parts.username or parts.password or parts.query or parts.fragment:
        raise Misconfigured(
            "The address of Vault is no address of a server.",
            evidence="VAULT_ADDR (or BAO_ADDR) is not of the form https://host:port",
            remedy="Set it to the server's address alone, without a user, a password or a query.",
            code=codes.VAULT_SETTINGS,
        )
    return address.rstrip("/")
