"""The Vault roles and policies of the manifests in a real OpenBao: training cannot sign as the gate.

The cluster is the one thing that is not real: a small server stands in for its TokenReview API, and believes every
token that this test made. So what a token may do is decided by OpenBao, with the files as they are shipped.
"""

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.settings import load_vault_settings
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components._shared.signers.vault_client import open_vault
from unit.manifests.rendered import MANIFESTS

BAO = Path(sys.executable).with_name("bao")
ACCOUNTS = {"custody-pipeline": "custody-training", "custody-promotion": "custody-promotion"}
STANDALONE, API_SERVER = "custody-standalone", "https://kubernetes.default.svc.cluster.local"
SETTINGS = yaml.safe_load((MANIFESTS / "base/runs/settings.yaml").read_text())["data"]
pytestmark = pytest.mark.services


class Cluster:
    """Issues ServiceAccount tokens, and reviews them as a Kubernetes API would."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802
                length = int(self.headers["Content-Length"])
                answer = json.dumps(cluster.review(json.loads(self.rfile.read(length)))).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def token(self, namespace: str, account: str, audience: str = "vault") -> str:
        now = datetime.now(UTC)
        claims = {
            "iss": "https://kubernetes.default.svc",
            "aud": [audience],
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "iat": now,
            "exp": now + timedelta(minutes=10),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": account}},
        }
        return jwt.encode(claims, self.key, algorithm="ES256")

    def certificate(self) -> str:
        """A CA certificate that OpenBao asks for; over plain HTTP nothing is verified with it."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        now = datetime.now(UTC)
        built = x509.CertificateBuilder(name, name, self.key.public_key(), 1, now, now + timedelta(hours=1))
        return built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def review(self, request: dict[str, dict[str, object]]) -> dict[str, object]:
        head = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        wanted = request["spec"].get("audiences") or ["vault"]
        try:
            claims = jwt.decode(
                str(request["spec"]["token"]), self.key.public_key(), algorithms=["ES256"], audience=wanted
            )
        except jwt.PyJWTError as error:
            return {**head, "status": {"authenticated": False, "error": str(error)}}
        user = {"username": claims["sub"], "uid": claims["kubernetes.io"]["serviceaccount"]["uid"]}
        return {**head, "status": {"authenticated": True, "user": user, "audiences": claims["aud"]}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    thread = threading.Thread(target=cluster.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield cluster
    cluster.server.shutdown()
    cluster.server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def address(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An OpenBao with two transit keys, and the shipped policies and roles."""
    home = tmp_path_factory.mktemp("bao")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address, root = f"http://127.0.0.1:{port}", secrets.token_hex(16)
    environment = {"PATH": os.defpath, "HOME": str(home), "BAO_ADDR": address, "BAO_TOKEN": root}
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [BAO, "server", "-dev", f"-dev-root-token-id={root}", f"-dev-listen-address=127.0.0.1:{port}"]
            + ["-dev-no-store-token"],
            stdout=log,
            stderr=log,
            env={"PATH": os.defpath, "HOME": str(home)},
        )

    def bao(*arguments: str) -> None:
        done = subprocess.run([BAO, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    try:
        await_health(address, (home / "log"))
        bao("secrets", "enable", "transit")
        bao("auth", "enable", "kubernetes")
        reviewer = cluster.token("kube-system", "reviewer")
        settings = [f"kubernetes_host={cluster.url}", f"kubernetes_ca_cert={cluster.certificate()}"]
        settings += ["disable_local_ca_jwt=true", f"token_reviewer_jwt={reviewer}"]
        bao("write", "auth/kubernetes/config", *settings)
        for account in ACCOUNTS:
            bao("write", "-f", f"transit/keys/{account}", "type=ecdsa-p256")
            bao("policy", "write", account, str(MANIFESTS / f"vault/policies/{account}.hcl"))
            bao("write", f"auth/kubernetes/role/{account}", f"@{MANIFESTS / f'vault/roles/{account}.json'}")
        bao("write", f"auth/kubernetes/role/{STANDALONE}", f"@{MANIFESTS / f'vault/roles/{STANDALONE}.json'}")
        yield address
    finally:
        server.terminate()
        server.wait(timeout=10)


def await_health(address: str, log: Path) -> None:
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"{address}/v1/sys/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture
def stage(address: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the environment of a task that runs as a ServiceAccount, as settings.yaml and the PodDefault would."""
    for variable in [name for name in os.environ if name.startswith(("CUSTODY_", "VAULT_", "BAO_"))]:
        monkeypatch.delenv(variable)

    def become(account: str, namespace: str, role: str, audience: str = "vault") -> None:
        token = tmp_path / "vault-token"
        token.write_text(cluster.token(namespace, account, audience))
        token.chmod(0o600)
        monkeypatch.setenv("VAULT_ADDR", address)
        monkeypatch.setenv("CUSTODY_VAULT_AUTH", SETTINGS["CUSTODY_VAULT_AUTH"])
        monkeypatch.setenv("CUSTODY_VAULT_ROLE", role)
        monkeypatch.setenv("CUSTODY_VAULT_JWT_FILE", str(token))

    return become


@pytest.mark.parametrize(
    ("account", "uri"),
    [
        ("custody-pipeline", SETTINGS["CUSTODY_SIGNER"]),
        ("custody-promotion", SETTINGS["CUSTODY_SIGNER_POLICY_GATE"]),
        ("custody-promotion", SETTINGS["CUSTODY_SIGNER_SELDON_DEPLOYMENT"]),
    ],
)
def test_each_identity_signs_with_its_own_key(stage: Callable[..., None], account: str, uri: str) -> None:
    stage(account, ACCOUNTS[account], role=account)
    signer = load_signer(uri)
    signature = bytes.fromhex(signer.sign(b"a statement").signature)
    public_key(signer).verify(signature, b"a statement", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(("account", "other"), [tuple(ACCOUNTS), tuple(reversed(ACCOUNTS))])
def test_no_identity_reaches_the_other_key(stage: Callable[..., None], account: str, other: str) -> None:
    stage(account, ACCOUNTS[account], role=account)
    with pytest.raises(Misconfigured, match="does not permit"):
        load_signer(f"vault:transit/{other}")
    digest = base64.b64encode(bytes(32)).decode()
    with pytest.raises(Misconfigured, match="does not permit"):
        open_vault(load_vault_settings()).call(
            "sign without asking first",
            lambda client: client.secrets.transit.sign_data(other, hash_input=digest, prehashed=True),
        )


@pytest.mark.parametrize(
    ("account", "namespace", "audience"),
    [
        ("custody-pipeline", "custody-training", "vault"),
        ("default-editor", "custody-training", "vault"),
        ("custody-promotion", "custody-training", "vault"),  # the name alone is anybody's: the namespace decides
        ("default-editor", "custody-promotion", "vault"),
        ("custody-promotion", "custody-promotion", "sigstore"),
        ("custody-promotion", "custody-promotion", "https://kubernetes.default.svc"),
    ],
)
def test_nobody_else_can_become_the_gate(
    stage: Callable[..., None], account: str, namespace: str, audience: str
) -> None:
    stage(account, namespace, role="custody-promotion", audience=audience)
    with pytest.raises(Misconfigured, match="did not accept"):
        load_signer(SETTINGS["CUSTODY_SIGNER_POLICY_GATE"])


def test_without_pod_defaults_the_runner_signs_with_the_token_that_it_has(stage: Callable[..., None]) -> None:
    """Kubeflow Pipelines by itself: the ServiceAccount's own token, whose audience is the API server."""
    stage("pipeline-runner", "kubeflow", role=STANDALONE, audience=API_SERVER)
    signer = load_signer("vault:transit/custody-pipeline")
    signature = bytes.fromhex(signer.sign(b"a statement").signature)
    public_key(signer).verify(signature, b"a statement", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(Misconfigured, match="does not permit"):
        load_signer("vault:transit/custody-promotion")


@pytest.mark.parametrize(
    ("account", "namespace", "audience"),
    [
        ("default", "kubeflow", API_SERVER),
        ("ml-pipeline", "kubeflow", API_SERVER),
        ("pipeline-runner", "elsewhere", API_SERVER),
        ("pipeline-runner", "kubeflow", "sigstore"),
    ],
)
def test_nobody_else_can_become_the_runner(
    stage: Callable[..., None], account: str, namespace: str, audience: str
) -> None:
    stage(account, namespace, role=STANDALONE, audience=audience)
    with pytest.raises(Misconfigured, match="did not accept"):
        load_signer("vault:transit/custody-pipeline")
