"""Everything that differs between a laptop and a cluster, read from the environment in this one place.

None of it is a pipeline parameter on purpose: whoever starts a run must not choose whom the run trusts or who signs.
On a cluster the platform team mounts these; the demo sets the variables to files it makes outside the repository.

| variable | meaning | default |
|---|---|---|
| CUSTODY_SIGNER, CUSTODY_SIGNER_<ROOM> | signer URI of all rooms, of one room (`CUSTODY_SIGNER_POLICY_GATE`) | none |
| CUSTODY_TRUST | trust file | /etc/custody/trust/trust.yaml |
| CUSTODY_SOURCES | what fetch_dataset may fetch, and from where | sources.yaml beside the trust file |
| CUSTODY_MASKING_KEY | of the pseudonyms: path, secret URI, `vault-hmac:MOUNT/KEY` | /etc/custody/masking/key |
| CUSTODY_DVC_REMOTE | where attested datasets are pushed (a folder or any DVC URL) | none: not pushed |
| CUSTODY_DLP_PARENT | where Google DLP examines texts: projects/P/locations/L | none |
| CUSTODY_OPA_TOKEN_FILE | file with the bearer token for the policy server that a policy names | none: no token |
| CUSTODY_NAMESPACE | Kubernetes namespace that models are deployed to | default |
| CUSTODY_DEPLOY_TARGET | where `deploy_model` deploys when its target is `platform` | none |
| CUSTODY_GITOPS_REPOSITORY | repository that the targets `git-...` commit to: https, or a bare one here | none |
| CUSTODY_GITOPS_BRANCH | its branch, which must exist | main |
| CUSTODY_GITOPS_PATH | folder in it; each service has one of its own below | models |
| CUSTODY_GITOPS_TOKEN_FILE | file with the token that may push there | none: no token |
| CUSTODY_GITOPS_USER | user name that the token is sent with | x-access-token |
| CUSTODY_SERVING_DIR | state of the local model server | ~/.local/state/kfp-custody/serving |
| CUSTODY_REQUEST_LOG | file that the model server logs requests to, without their inputs | none: no such log |
| CUSTODY_SERVING_PORT | its HTTP port | 18080 |
| CUSTODY_PROMETHEUS | Prometheus that counts what the versions of a model answer in a cluster | none |
| CUSTODY_PROMETHEUS_TOKEN_FILE | file with a bearer token for it | none: no token |
| CUSTODY_PUSHGATEWAY | Pushgateway that `publish_metrics` pushes to | none: not pushed |
| CUSTODY_PUSHGATEWAY_TOKEN_FILE | file with a bearer token for it | none |
| CUSTODY_PUSHGATEWAY_LOGIN_FILE | file with a login for it, `user:password` | none |
| CUSTODY_PUSHGATEWAY_CA_FILE | CA bundle that its certificate must chain to | the system's |
| CUSTODY_SERVING_IMAGE | image of the model server in a cluster, by digest | this version's, by tag |
| CUSTODY_KSERVE_MODE | deployment mode of KServe: Standard or Knative | Standard |
| CUSTODY_DOOR | door file of canaries on this machine: who may call what | made there: this user's own client |
| CUSTODY_DOOR_TLS | folder with the door's ca.pem, server.pem and server.key | made there |
| CUSTODY_DOOR_PORT | the door's HTTPS port | 18443 |
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

What starts retrainings (`start_retraining`, `kfp-custody webhook`):

| variable | meaning | default |
|---|---|---|
| CUSTODY_RETRAINING | the retraining file: what may be started | retraining.yaml beside the trust file |
| CUSTODY_WATCH_STATE | where claims are kept: `kubernetes[:NAMESPACE]` or an absolute folder | in a pod `kubernetes` |
| CUSTODY_RETRAIN | what starts them: `kfp`, or `local` for a command on this machine | kfp |
| CUSTODY_RETRAIN_COMMAND | local: the command; it is given the file of the order and a folder | none |

A Kubeflow Pipelines server, for the same and for `kfp-custody upload`, `submit` and `schedule` (where both names are
given, the first that is set counts; all but the last two are options on the command line as well):

| variable | meaning | default |
|---|---|---|
| KFP_HOST, KF_PIPELINES_ENDPOINT | its address | in a pod the cluster's service, else by the kubeconfig |
| KFP_NAMESPACE | the profile's namespace, where several users share a server | the pod's own |
| CUSTODY_KFP_TOKEN_FILE, KF_PIPELINES_SA_TOKEN_PATH | file with a bearer token | what Kubeflow mounts |
| CUSTODY_KFP_COOKIES_FILE | file with a session's cookies, `name=value; ...` | none |
| SSL_CERT_FILE | CA bundle that its certificate must chain to | certifi's |
| KF_PIPELINES_UI_ENDPOINT | address that links to runs start with | that of the server |
| CUSTODY_KFP_INTERVAL | seconds between two looks at a run, and before the second look of `submit --key` | 5 |
"""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured


@dataclass(frozen=True)
class Gitops:
    """The repository that deployments are committed to, as it was given: who uses it checks it (rollout/gitops.py).

    The address is not shown: as long as nobody has looked at it, it may hold a password.
    """

    repository: str | None = field(default=None, repr=False)
    branch: str = "main"
    path: str = "models"
    token_file: Path | None = None
    user: str = "x-access-token"


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
    sources: Path | None = None
    door_file: Path | None = None
    door_tls: Path | None = None
    door_port: int = 18443
    prometheus: str | None = None
    prometheus_token_file: Path | None = None
    pushgateway: str | None = None
    pushgateway_token_file: Path | None = None
    pushgateway_login_file: Path | None = None
    pushgateway_ca_file: Path | None = None
    serving_image: str | None = None
    kserve_mode: str = "Standard"
    gitops: Gitops = Gitops()

    @property
    def sources_file(self) -> Path:
        """What may be fetched, and from where: the file that is named, else the one beside the trust file."""
        return self.sources or self.trust_file.with_name("sources.yaml")

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
        Misconfigured: a port is no port number.
    """
    # expanduser and not Path.home(): a container's user may have no home, and most stages need none.
    state = Path(environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")) / "kfp-custody"
    return Settings(
        trust_file=Path(environ.get("CUSTODY_TRUST") or "/etc/custody/trust/trust.yaml"),
        masking_key=environ.get("CUSTODY_MASKING_KEY") or "/etc/custody/masking/key",
        dvc_remote=environ.get("CUSTODY_DVC_REMOTE") or None,
        namespace=environ.get("CUSTODY_NAMESPACE") or "default",
        serving_dir=Path(environ.get("CUSTODY_SERVING_DIR") or state / "serving"),
        serving_port=_port(environ, "CUSTODY_SERVING_PORT", "18080"),
        image_digest=environ.get("CUSTODY_IMAGE_DIGEST") or None,
        source_revision=environ.get("CUSTODY_SOURCE_REVISION") or None,
        signers={
            name: value
            for name, value in environ.items()
            if name.startswith("CUSTODY_SIGNER") and name != "CUSTODY_SIGNER_PASSWORD_FILE" and value
        },
        opa_token_file=_path(environ, "CUSTODY_OPA_TOKEN_FILE"),
        deploy_target=environ.get("CUSTODY_DEPLOY_TARGET") or None,
        sources=_path(environ, "CUSTODY_SOURCES"),
        door_file=_path(environ, "CUSTODY_DOOR"),
        door_tls=_path(environ, "CUSTODY_DOOR_TLS"),
        door_port=_port(environ, "CUSTODY_DOOR_PORT", "18443"),
        prometheus=_address(environ, "CUSTODY_PROMETHEUS", "Prometheus", codes.SETTINGS),
        prometheus_token_file=_path(environ, "CUSTODY_PROMETHEUS_TOKEN_FILE"),
        pushgateway=_address(environ, "CUSTODY_PUSHGATEWAY", "the Pushgateway", codes.PUSHGATEWAY_SETTINGS),
        pushgateway_token_file=_path(environ, "CUSTODY_PUSHGATEWAY_TOKEN_FILE"),
        pushgateway_login_file=_path(environ, "CUSTODY_PUSHGATEWAY_LOGIN_FILE"),
        pushgateway_ca_file=_path(environ, "CUSTODY_PUSHGATEWAY_CA_FILE"),
        serving_image=environ.get("CUSTODY_SERVING_IMAGE") or None,
        kserve_mode=environ.get("CUSTODY_KSERVE_MODE") or "Standard",
        gitops=_gitops(environ),
    )


def _gitops(environ: Mapping[str, str]) -> Gitops:
    given = {
        name: environ[f"CUSTODY_GITOPS_{name.upper()}"]
        for name in ("repository", "branch", "path", "user")
        if environ.get(f"CUSTODY_GITOPS_{name.upper()}")
    }
    return Gitops(**given, token_file=_path(environ, "CUSTODY_GITOPS_TOKEN_FILE"))


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


@dataclass(frozen=True)
class KfpSettings:
    """How to reach a Kubeflow Pipelines server; see the third table above. `host` is None when the kubeconfig says."""

    host: str | None
    namespace: str | None
    token_file: Path | None
    cookies_file: Path | None
    ca_file: Path | None
    ui_host: str | None
    interval: float


@dataclass(frozen=True)
class WatchSettings:
    """What starts retrainings, and where claims of them are kept; see the table above.

    `namespace` is that of the Leases, None when `folder` keeps the claims; `command` is that of the local starter, None
    when Kubeflow Pipelines starts the runs.
    """

    orders_file: Path
    folder: Path | None
    namespace: str | None
    command: tuple[str, ...] | None


def load_watch_settings(trust_file: Path, environ: Mapping[str, str] = os.environ) -> WatchSettings:
    """Read what starts retrainings.

    Raises:
        Misconfigured: it is not said where claims are kept, or how runs are started.
    """
    state = environ.get("CUSTODY_WATCH_STATE") or ("kubernetes" if environ.get("KUBERNETES_SERVICE_HOST") else "")
    where, _, namespace = state.partition(":")
    if where == "kubernetes" and not namespace:
        namespace = environ.get("KFP_NAMESPACE") or _own_namespace() or ""
    if not (where == "kubernetes" and namespace) and not state.startswith("/"):
        raise Misconfigured(
            "It is not said where claims of retrainings are kept, so none could be started once.",
            evidence=f"CUSTODY_WATCH_STATE is {repr(state[:80]) if state else 'not set'}",
            remedy="Set it to kubernetes:NAMESPACE, or to the absolute path of a folder that all tasks share.",
            code=codes.WATCH_SETTINGS,
        )
    how, command = environ.get("CUSTODY_RETRAIN") or "kfp", environ.get("CUSTODY_RETRAIN_COMMAND") or ""
    if how not in ("kfp", "local") or (how == "local" and not command):
        raise Misconfigured(
            "It is not said how a retraining is started.",
            evidence=f"CUSTODY_RETRAIN is {how[:80]!r}{'' if command else ' and CUSTODY_RETRAIN_COMMAND is not set'}",
            remedy="Set CUSTODY_RETRAIN to kfp, or to local and CUSTODY_RETRAIN_COMMAND to a command.",
            code=codes.WATCH_SETTINGS,
        )
    orders = _path(environ, "CUSTODY_RETRAINING") or trust_file.with_name("retraining.yaml")
    folder = None if where == "kubernetes" else Path(state)
    return WatchSettings(
        orders, folder, namespace if folder is None else None, tuple(shlex.split(command)) if how == "local" else None
    )


def _own_namespace() -> str | None:
    return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.is_file() else None


# Where Kubeflow and Kubernetes mount into every pod what a client needs.
_PROJECTED_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def load_kfp_settings(options: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> KfpSettings:
    """Read how to reach a Kubeflow Pipelines server; `options` (by the variables' names) win over the environment.

    Raises:
        Misconfigured: an address that is none of a server, or an interval that is no positive number.
    """
    given = {**environ, **options}
    host = given.get("KFP_HOST") or given.get("KF_PIPELINES_ENDPOINT")
    interval = given.get("CUSTODY_KFP_INTERVAL") or "5"
    if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", interval) or not float(interval):
        raise Misconfigured(
            "The interval between two looks at a run is no number of seconds.",
            evidence=f"CUSTODY_KFP_INTERVAL={interval!r}",
            remedy="Set it to a positive number, or leave it out for 5.",
            code=codes.KFP_HOST,
        )
    if not host and given.get("KUBERNETES_SERVICE_HOST"):  # Kubernetes sets it in every pod
        host = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    ui = given.get("KF_PIPELINES_UI_ENDPOINT")
    return KfpSettings(
        host=_kfp_address(host, "KFP_HOST (or --host)") if host else None,
        namespace=given.get("KFP_NAMESPACE") or _own_namespace(),
        token_file=_path(given, "CUSTODY_KFP_TOKEN_FILE")
        or _path(given, "KF_PIPELINES_SA_TOKEN_PATH")
        or (_PROJECTED_TOKEN if _PROJECTED_TOKEN.is_file() else None),
        cookies_file=_path(given, "CUSTODY_KFP_COOKIES_FILE"),
        ca_file=_path(given, "SSL_CERT_FILE"),
        ui_host=_kfp_address(ui, "KF_PIPELINES_UI_ENDPOINT") if ui else None,
        interval=float(interval),
    )


def _kfp_address(address: str, name: str) -> str:
    """Return the address of a server without the last slash."""
    if not _is_address(address):
        raise Misconfigured(
            "The address of Kubeflow Pipelines is no address of a server.",
            evidence=f"{name} is not of the form https://host/path",
            remedy="Give the address up to the part before #, such as https://kubeflow.example.org/pipeline or "
            "http://localhost:8888, with http:// or https://, and without a user, a password or a query.",
            code=codes.KFP_HOST,
        )
    return address.rstrip("/")


def _address(environ: Mapping[str, str], name: str, server: str, code: str) -> str | None:
    address = environ.get(name)
    if address and not _is_address(address):
        raise Misconfigured(
            f"The address of {server} is no address of a server.",
            evidence=f"{name} is not of the form https://host:port/path",
            remedy="Set it to the server's address alone, without a user, a password or a query.",
            code=code,
        )
    return address or None


def _port(environ: Mapping[str, str], name: str, default: str) -> int:
    port = environ.get(name) or default
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise Misconfigured(
            "The port of the local model server is no port number.",
            evidence=f"{name}={port!r}",
            remedy=f"Set it to a number from 1 to 65535, or leave it out for {default}.",
            code=codes.PORT,
        )
    return int(port)


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
    if not _is_address(address):
        raise Misconfigured(
            "The address of Vault is no address of a server.",
            evidence="VAULT_ADDR (or BAO_ADDR) is not of the form https://host:port",
            remedy="Set it to the server's address alone, without a user, a password or a query.",
            code=codes.VAULT_SETTINGS,
        )
    return address.rstrip("/")


def _is_address(address: str) -> bool:
    """Tell whether an address names a server, and nothing that must not be shown."""
    try:
        parts = urlsplit(address)
        named = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        return False
    return bool(named) and not any((parts.username, parts.password, parts.query, parts.fragment))
