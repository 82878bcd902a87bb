"""Signing through a real OpenBao: every way to log in, rotation, retirement, and a server that is away."""

import base64
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from openbao import Bao, free_port, running, signing_rules, use
from signer_checks import model_is_accepted_by_us_and_the_stock_tool, read, refused, signs, trusting, write

from forging import edit_payload
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.signers.hmac import hmac_hint, verify_hmac
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components._shared.trust import load_trust

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with running(tmp_path_factory.mktemp("openbao") / "state") as server:
        yield server


@pytest.fixture
def key(bao: Bao) -> str:
    return bao.key(f"pipeline-{secrets.token_hex(4)}")


def private(path: Path, text: str) -> Path:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


# --- signing --------------------------------------------------------------------------------------------------------


def test_evidence_signed_in_the_server_is_accepted(
    bao: Bao, key: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, bao, TOKEN=bao.token(signing_rules(key)))
    signer = load_signer(f"vault:{key}")
    assert (signer.uri, signer.key_version) == (f"vault:{key}?version=1", "1")
    written = write(tmp_path / "evidence", dataset, signer)
    verified = read(written, trusting(tmp_path, vault=signer))
    assert (verified.signer, verified.subject_sha256) == ("vault", list_tree(dataset).sha256)
    assert signer.sign(b"x").unrecognized_fields == {"key_version": "1"}


def test_model_signed_in_the_server_is_accepted_by_the_stock_tool(
    bao: Bao, key: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, bao, TOKEN=bao.token(signing_rules(key)))
    signer = load_signer(f"vault:{key}")
    model_is_accepted_by_us_and_the_stock_tool(dataset, tmp_path, signer)


def test_server_with_tls_is_verified_by_its_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "state", tls=True) as bao:
        key = bao.key("pipeline")
        token = bao.token(signing_rules(key))
        use(monkeypatch, bao, TOKEN=token)
        signer = load_signer(f"vault:{key}")
        assert signs(signer)
        monkeypatch.delenv("VAULT_CACERT")
        with refused(ServiceUnreachable, "CUS-E461", without=[token]):
            load_signer(f"vault:{key}")
        monkeypatch.setenv("VAULT_CACERT", str(tmp_path / "none.pem"))
        with refused(Misconfigured, "CUS-E574", without=[token]):
            load_signer(f"vault:{key}")


def test_engine_mounted_deeper_and_openbao_s_own_variables(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    key = bao.key("pipeline", mount="platform/transit")
    use(monkeypatch, bao)
    monkeypatch.delenv("VAULT_ADDR")
    monkeypatch.setenv("BAO_ADDR", bao.address + "/")
    monkeypatch.setenv("BAO_TOKEN", bao.token(signing_rules(key)))
    signer = load_signer("vault:platform/transit/pipeline")
    assert signs(signer)


# --- rotation and retirement ----------------------------------------------------------------------------------------


def test_rotation_keeps_old_evidence_valid_under_the_old_public_key(
    bao: Bao, key: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, bao, TOKEN=bao.token(signing_rules(key)))
    first = load_signer(f"vault:{key}")
    old = write(tmp_path / "old", dataset, first)
    bao.client.secrets.transit.rotate_key(key.rpartition("/")[2])
    second = load_signer(f"vault:{key}")
    assert (first.key_version, second.key_version) == ("1", "2")
    new = write(tmp_path / "new", dataset, second)
    both = trusting(tmp_path, first=first, second=second)
    assert read(old, both).signer == "first"
    assert read(new, both).signer == "second"
    with pytest.raises(EvidenceInvalid):
        read(new, trusting(tmp_path, first=first))
    # A signer that was loaded before the rotation keeps its version, so its public key stays right.
    assert signs(first, b"late")
    pinned = load_signer(f"vault:{key}?version=1")
    assert public_pem(public_key(pinned)) == public_pem(public_key(first))


def test_retired_version_is_refused_to_signers_and_stays_verifiable_offline(
    bao: Bao, key: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bao.token(signing_rules(key))
    use(monkeypatch, bao, TOKEN=token)
    first = load_signer(f"vault:{key}")
    old = write(tmp_path / "old", dataset, first)
    transit, name = bao.client.secrets.transit, key.rpartition("/")[2]
    transit.rotate_key(name)
    transit.update_key_configuration(name, min_decryption_version=2)
    with refused(Misconfigured, "CUS-E572", without=[token]) as caught:
        load_signer(f"vault:{key}?version=1")
    assert "was retired" in str(caught.value)
    assert "usable: 2 to 2" in str(caught.value)
    with refused(Misconfigured, "CUS-E572", without=[token]):
        first.sign(b"after it was retired")
    with refused(Misconfigured, "CUS-E572", without=[token]) as caught:
        load_signer(f"vault:{key}?version=7")
    assert "no such version" in str(caught.value)
    assert load_signer(f"vault:{key}").key_version == "2"
    assert read(old, trusting(tmp_path, first=first)).signer == "first"


# --- keys that are not what they should be --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ecdsa-p384", "ed25519", "rsa-2048", "aes256-gcm96"])
def test_key_of_another_type_is_refused(bao: Bao, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = bao.key(f"wrong-{kind}", kind)
    use(monkeypatch, bao, TOKEN=bao.root)
    with refused(Misconfigured, "CUS-E536", without=[bao.root]) as caught:
        load_signer(f"vault:{key}")
    assert kind in caught.value.evidence


@pytest.mark.parametrize("uri", ["vault:transit/no-such-key", "vault:no-such-engine/key", "vault-hmac:transit/none"])
def test_key_that_is_not_there_is_refused(bao: Bao, key: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, bao, TOKEN=bao.root)
    with refused(Misconfigured, "CUS-E571", without=[bao.root]):
        load_signer(uri)


def test_key_deleted_after_loading_is_refused(bao: Bao, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, bao, TOKEN=bao.root)
    signer, name = load_signer(f"vault:{key}"), key.rpartition("/")[2]
    bao.client.secrets.transit.update_key_configuration(name, deletion_allowed=True)
    bao.client.secrets.transit.delete_key(name)
    with refused(Misconfigured, "CUS-E578", without=[bao.root]) as caught:
        signer.sign(b"payload")
    assert "signing key not found" in str(caught.value)


# --- tokens and permissions -----------------------------------------------------------------------------------------


def test_token_without_permission_is_told_from_one_that_ended(
    bao: Bao, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = bao.token({})
    use(monkeypatch, bao, TOKEN=nothing)
    with refused(Misconfigured, "CUS-E577", without=[nothing]):
        load_signer(f"vault:{key}")
    mount, name = key.split("/")
    reads = bao.token({f"{mount}/keys/{name}": ["read"]})
    use(monkeypatch, bao, TOKEN=reads)
    signer = load_signer(f"vault:{key}")
    with refused(Misconfigured, "CUS-E577", without=[reads]) as caught:
        signer.sign(b"payload")
    assert f"sign with vault:{key}?version=1" in caught.value.evidence
    bao.client.auth.token.revoke(reads)
    with refused(Misconfigured, "CUS-E576", without=[reads]):
        signer.sign(b"payload")
    use(monkeypatch, bao, TOKEN="s.never-was-a-token")
    with refused(Misconfigured, "CUS-E576", without=["never-was-a-token"]):
        load_signer(f"vault:{key}")


def test_token_that_expires_between_two_signatures_is_refused(
    bao: Bao, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bao.token(signing_rules(key), ttl="1s", explicit_max_ttl="1s")
    use(monkeypatch, bao, TOKEN=token)
    signer = load_signer(f"vault:{key}")
    time.sleep(1.5)
    with refused(Misconfigured, "CUS-E576", without=[token]):
        signer.sign(b"payload")


def test_token_file_is_read_again_when_the_token_ended(
    bao: Bao, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bao.token(signing_rules(key)), bao.token(signing_rules(key))
    file = private(tmp_path / "token", first)
    use(monkeypatch, bao, TOKEN_FILE=file)
    signer = load_signer(f"vault:{key}")
    bao.client.auth.token.revoke(first)
    private(file, second)
    assert signs(signer)
    bao.client.auth.token.revoke(second)
    with refused(Misconfigured, "CUS-E576", without=[first, second]):
        signer.sign(b"payload")
    file.chmod(0o644)
    with refused(Misconfigured, "CUS-E533", without=[first, second]):
        signer.sign(b"payload")


def test_no_token_is_taken_from_the_home_directory(
    bao: Bao, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private(tmp_path / ".vault-token", bao.root)
    monkeypatch.setenv("HOME", str(tmp_path))
    use(monkeypatch, bao)
    with refused(Misconfigured, "CUS-E534", without=[bao.root]) as caught:
        load_signer(f"vault:{key}")
    assert "CUSTODY_VAULT_TOKEN_FILE is not set" in caught.value.evidence


# --- AppRole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Role:
    """An AppRole whose secret ids can be used once."""

    bao: Bao
    folder: Path
    id_file: Path

    def secret_id(self, name: str, **options: Any) -> Path:
        made = self.bao.client.auth.approle.generate_secret_id("pipeline", **options)
        text = made["wrap_info"]["token"] if options.get("wrap_ttl") else made["data"]["secret_id"]
        self.bao.secrets.append(text)
        return private(self.folder / name, text)


@pytest.fixture
def role(bao: Bao, key: str, tmp_path: Path) -> Role:
    client = bao.client
    if "approle/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method("approle")
    policy = bao.policy(signing_rules(key))
    client.auth.approle.create_or_update_approle("pipeline", token_policies=[policy], secret_id_num_uses=1)
    text = client.auth.approle.read_role_id("pipeline")["data"]["role_id"]
    bao.secrets.append(text)
    return Role(bao, tmp_path, private(tmp_path / "role-id", text))


def test_approle_signs_many_times_with_a_secret_id_of_one_use(
    bao: Bao, key: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = role.secret_id("secret-id")
    use(monkeypatch, bao, AUTH="approle", ROLE_ID_FILE=role.id_file, SECRET_ID_FILE=file)
    for _ in range(3):  # one session a process: the secret id is sent once
        signer = load_signer(f"vault:{key}")
        assert signs(signer)
    again = private(role.folder / "copy", file.read_text().strip())
    use(monkeypatch, bao, AUTH="approle", ROLE_ID_FILE=role.id_file, SECRET_ID_FILE=again)
    with refused(Misconfigured, "CUS-E575", without=bao.secrets):
        load_signer(f"vault:{key}")


def test_wrapped_secret_id_opens_once(bao: Bao, key: str, role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    file = role.secret_id("wrapped", wrap_ttl="60s")
    settings = {"AUTH": "approle", "ROLE_ID_FILE": role.id_file}
    use(monkeypatch, bao, **settings, WRAPPED_SECRET_ID_FILE=file)
    for _ in range(2):
        signer = load_signer(f"vault:{key}")
        assert signs(signer)
    stolen = private(role.folder / "stolen", file.read_text().strip())
    use(monkeypatch, bao, **settings, WRAPPED_SECRET_ID_FILE=stolen)
    with refused(Misconfigured, "CUS-E579", without=bao.secrets) as caught:
        load_signer(f"vault:{key}")
    assert "Find out who opened it" in caught.value.remedy


def test_wrapping_token_that_was_exchanged_is_refused(
    bao: Bao, key: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opened the real one wraps something of theirs, so that nobody notices."""
    opened = role.secret_id("opened").read_text().strip()
    wrapped = bao.client.sys.wrap({"secret_id": opened}, ttl=60)["wrap_info"]["token"]
    file = private(role.folder / "exchanged", wrapped)
    use(monkeypatch, bao, AUTH="approle", ROLE_ID_FILE=role.id_file, WRAPPED_SECRET_ID_FILE=file)
    with refused(Misconfigured, "CUS-E579", without=[*bao.secrets, wrapped]) as caught:
        load_signer(f"vault:{key}")
    assert "sys/wrapping/wrap" in caught.value.evidence


def test_wrapped_secret_id_whose_time_is_over_is_refused(
    bao: Bao, key: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = role.secret_id("late", wrap_ttl="1s")
    time.sleep(1.5)
    use(monkeypatch, bao, AUTH="approle", ROLE_ID_FILE=role.id_file, WRAPPED_SECRET_ID_FILE=file)
    with refused(Misconfigured, "CUS-E579", without=bao.secrets):
        load_signer(f"vault:{key}")


# --- JWT and Kubernetes ---------------------------------------------------------------------------------------------


class Issuer:
    """Makes service account tokens as a cluster does, and answers TokenReviews: it stands in for the cluster."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.reviews: list[str] = []

    def token(self, account: str = "pipeline", *, audience: str = "vault", seconds: int = 600, key: Any = None) -> str:
        now = datetime.now(UTC)
        claims = {
            "iss": "https://kubernetes.test",
            "sub": f"system:serviceaccount:ml:{account}",
            "aud": [audience],
            "iat": now - timedelta(hours=1),
            "exp": now + timedelta(seconds=seconds),
            "kubernetes.io": {"namespace": "ml", "serviceaccount": {"name": account, "uid": f"uid-of-{account}"}},
        }
        pem = (key or self.key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return str(jwt.encode(claims, pem.decode(), algorithm="ES256"))

    def review(self, request: dict[str, Any]) -> dict[str, Any]:
        spec = request["spec"]
        self.reviews.append(spec["token"])
        try:
            claims = jwt.decode(
                spec["token"],
                public_pem(self.key.public_key()).decode(),
                algorithms=["ES256"],
                audience=spec.get("audiences") or ["vault"],
            )
        except jwt.PyJWTError as error:
            return {**request, "status": {"authenticated": False, "error": str(error)}}
        account = claims["kubernetes.io"]["serviceaccount"]
        user = {"username": claims["sub"], "uid": account["uid"], "groups": ["system:serviceaccounts"]}
        return {**request, "status": {"authenticated": True, "user": user, "audiences": claims["aud"]}}


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Serve HTTP on the loopback interface; return the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer(self)

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def jwt_auth(bao: Bao, key: str, issuer: Issuer) -> Iterator[str]:
    """The JWT method: it knows the cluster's public key, and nobody is asked."""
    mount, client = "jwt-cluster", bao.client
    client.sys.enable_auth_method("jwt", path=mount)
    pem = public_pem(issuer.key.public_key()).decode()
    client.auth.jwt.configure(jwt_validation_pubkeys=[pem], bound_issuer="https://kubernetes.test", path=mount)
    client.auth.jwt.create_role(
        "signer",
        user_claim="sub",
        allowed_redirect_uris=[],
        role_type="jwt",
        bound_audiences=["vault"],
        bound_subject="system:serviceaccount:ml:pipeline",
        token_policies=[bao.policy(signing_rules(key))],
        path=mount,
    )
    yield mount
    client.sys.disable_auth_method(mount)


@pytest.fixture
def kubernetes_auth(bao: Bao, key: str, issuer: Issuer, tmp_path: Path) -> Iterator[str]:
    """The Kubernetes method: it asks a TokenReview endpoint, here the issuer's, about every token."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        body = json.dumps(issuer.review(asked)).encode()
        request.send_response(201)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write(body)

    mount, client = "kubernetes-cluster", bao.client
    with serving(answer) as address:
        client.sys.enable_auth_method("kubernetes", path=mount)
        client.write_data(
            f"auth/{mount}/config",
            data={"kubernetes_host": address, "disable_local_ca_jwt": True, "kubernetes_ca_cert": ca_certificate()},
        )
        client.write_data(
            f"auth/{mount}/role/signer",
            data={
                "bound_service_account_names": ["pipeline"],
                "bound_service_account_namespaces": ["ml"],
                "audience": "vault",
                "token_policies": [bao.policy(signing_rules(key))],
                "token_ttl": "60s",
            },
        )
        yield mount
        client.sys.disable_auth_method(mount)


def ca_certificate() -> str:
    """Any CA certificate: the stand-in speaks HTTP, but the method asks for one."""
    from cryptography import x509

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("method", ["jwt", "kubernetes"])
def test_service_account_s_token_signs_and_is_read_anew(
    bao: Bao, key: str, issuer: Issuer, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    mount = request.getfixturevalue(f"{method}_auth")
    file = private(tmp_path / "jwt", issuer.token())
    use(monkeypatch, bao, AUTH=method, AUTH_MOUNT=mount, ROLE="signer", JWT_FILE=file)
    signer = load_signer(f"vault:{key}")
    assert signs(signer)
    assert len(issuer.reviews) == (1 if method == "kubernetes" else 0)
    # The Vault token ends (here: is revoked), and the kubelet has renewed the projected file meanwhile.
    bao.client.sys.revoke_prefix(f"auth/{mount}/")
    renewed = private(file, issuer.token(seconds=1200)).read_text().strip()
    assert signs(signer, b"later")
    assert issuer.reviews[1:] == ([renewed] if method == "kubernetes" else [])


@pytest.mark.parametrize("method", ["jwt", "kubernetes"])
@pytest.mark.parametrize(
    "case", ["other account", "other audience", "expired", "forged", "other role", "no token", "other mount"]
)
def test_another_identity_may_not_sign(
    bao: Bao,
    key: str,
    issuer: Issuer,
    method: str,
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: Any,
) -> None:
    mount = request.getfixturevalue(f"{method}_auth")
    tokens = {
        "other account": issuer.token("training"),
        "other audience": issuer.token(audience="https://kubernetes.default.svc"),
        "expired": issuer.token(seconds=-300),
        "forged": issuer.token(key=ec.generate_private_key(ec.SECP256R1())),
        "no token": "this is no token",
    }
    token = tokens.get(case, issuer.token())
    use(
        monkeypatch,
        bao,
        AUTH=method,
        AUTH_MOUNT="elsewhere" if case == "other mount" else mount,
        ROLE="admin" if case == "other role" else "signer",
        JWT_FILE=private(tmp_path / "jwt", token),
    )
    with refused(Misconfigured, "CUS-E575", without=[token, token[-40:]]) as caught:
        load_signer(f"vault:{key}")
    assert f"log in by {method}" in caught.value.evidence


# --- a server that is away ------------------------------------------------------------------------------------------


def test_sealed_server_is_refused_and_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "state") as bao:
        key, plain = bao.key("pipeline"), bao.key("plain", "aes256-gcm96")
        use(monkeypatch, bao, TOKEN=bao.root)
        signer, mac = load_signer(f"vault:{key}"), load_signer(f"vault-hmac:{plain}")
        signature = bytes.fromhex(mac.sign(b"payload").signature)
        bao.client.sys.seal()
        for call in (
            lambda: signer.sign(b"payload"),
            lambda: load_signer(f"vault:{key}"),
            lambda: mac.sign(b"payload"),
            lambda: verify_hmac(f"vault-hmac:{plain}", b"payload", signature),
        ):
            with refused(ServiceUnreachable, "CUS-E462", without=[bao.root]) as caught:
                call()
            assert "Unseal it" in caught.value.remedy
        use(monkeypatch, bao, AUTH="kubernetes", ROLE="r", JWT_FILE=private(tmp_path / "jwt", "some.jwt.here"))
        with refused(ServiceUnreachable, "CUS-E462", without=["some.jwt.here"]):
            load_signer(f"vault:{key}")


def test_server_that_stops_is_refused_within_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "state") as bao:
        key = bao.key("pipeline")
        use(monkeypatch, bao, TOKEN=bao.root)
        signer = load_signer(f"vault:{key}")
        os.kill(bao.process.pid, signal.SIGSTOP)  # it hangs: connections open, nothing answers
        try:
            with refused(ServiceUnreachable, "CUS-E461", without=[bao.root]) as caught:
                signer.sign(b"payload")
            assert "tried twice" in caught.value.evidence
            with refused(ServiceUnreachable, "CUS-E461", without=[bao.root]):
                load_signer(f"vault:{key}")
        finally:
            os.kill(bao.process.pid, signal.SIGCONT)
        assert signs(signer)
        bao.stop()
        with refused(ServiceUnreachable, "CUS-E461", without=[bao.root]):
            signer.sign(b"payload")
        with refused(ServiceUnreachable, "CUS-E461", without=[bao.root]):
            load_signer(f"vault:{key}")


def test_one_lost_connection_is_tried_again(bao: Bao, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that drops the first connection of every two, as a load balancer does that was just restarted."""
    relay, port, opened = socket.create_server(("127.0.0.1", 0)), int(bao.address.rpartition(":")[2]), []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                inner, _ = relay.accept()
                opened.append(inner)
                if len(opened) % 2:
                    inner.close()
                    continue
                outer = socket.create_connection(("127.0.0.1", port))
                opened.append(outer)
                opened.append(outer)  # so that the next connection is dropped again
                for ends in ((inner, outer), (outer, inner)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        use(monkeypatch, f"http://127.0.0.1:{relay.getsockname()[1]}", TOKEN=bao.token(signing_rules(key)))
        signer = load_signer(f"vault:{key}")
        assert signs(signer)
        assert len(opened) >= 2
    finally:
        relay.close()
        for end in opened:
            end.close()


@pytest.mark.parametrize("answer", ["a page", "a redirect", "other json", "an error page"])
def test_what_is_not_vault_is_refused_and_a_redirect_gets_no_token(
    answer: str, key: str, bao: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        seen.append(str(request.headers.get("X-Vault-Token")))
        request.send_response(404)
        request.end_headers()

    with serving(elsewhere) as other:

        def reply(request: BaseHTTPRequestHandler) -> None:
            request.send_response({"a redirect": 307, "an error page": 502}.get(answer, 200))
            if answer == "a redirect":
                request.send_header("Location", other + request.path)
            request.send_header("Content-Type", "application/json" if answer == "other json" else "text/html")
            request.end_headers()
            request.wfile.write(b'{"data": [1]}' if answer == "other json" else b"<html>hello</html>")

        with serving(reply) as address:
            use(monkeypatch, address, TOKEN=bao.root)
            code = "CUS-E463" if answer == "an error page" else "CUS-E461"
            with refused(ServiceUnreachable, code, without=[bao.root]):
                load_signer(f"vault:{key}")
    assert seen == []


def test_signature_that_is_not_the_key_s_is_never_let_out(bao: Bao, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers with a signature over something else (an attacker's, or a wrong hash)."""
    real = bao.client
    foreign = ec.generate_private_key(ec.SECP256R1()).sign(b"payload", ec.ECDSA(hashes.SHA256()))

    def reply(request: BaseHTTPRequestHandler) -> None:
        mount, name = key.split("/")
        if "/sign/" in request.path:
            body = {"data": {"signature": f"vault:v1:{base64.b64encode(foreign).decode()}"}}
        else:
            body = real.secrets.transit.read_key(name, mount_point=mount)
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write(json.dumps(body).encode())

    with serving(reply) as address:
        use(monkeypatch, address, TOKEN=bao.root)
        signer = load_signer(f"vault:{key}")
        with refused(ServiceUnreachable, "CUS-E465", without=[bao.root]):
            signer.sign(b"payload")


def test_nothing_listens_there(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, f"http://localhost:{free_port()}", TOKEN="s.secret-token")
    with refused(ServiceUnreachable, "CUS-E461", without=["s.secret-token"]):
        load_signer("vault:transit/key")


# --- HMAC -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mac_key(bao: Bao) -> str:
    return bao.key(f"mac-{secrets.token_hex(4)}", "aes256-gcm96")


def mac_rules(key: str, what: str) -> dict[str, list[str]]:
    mount, name = key.split("/")
    return {f"{mount}/keys/{name}": ["read"], f"{mount}/{what}/{name}": ["update"]}


def test_hmac_is_verified_where_the_key_is(bao: Bao, mac_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, verifies_only = f"vault-hmac:{mac_key}", mac_rules(mac_key, "verify")
    use(monkeypatch, bao, TOKEN=bao.token(mac_rules(mac_key, "hmac")))
    signer = load_signer(uri)
    assert signer.hint == hmac_hint(uri) == hmac_hint(f"{uri}?version=3")
    signature = bytes.fromhex(signer.sign(b"payload").signature)
    use(monkeypatch, bao, TOKEN=bao.token(verifies_only))
    assert verify_hmac(uri, b"payload", signature)
    assert verify_hmac(f"{uri}?version=1", b"payload", signature)
    assert not verify_hmac(f"{uri}?version=2", b"payload", signature)
    assert not verify_hmac(uri, b"Payload", signature)
    assert not verify_hmac(f"vault-hmac:{mac_key}", b"", signature)
    # Who may only verify cannot sign.
    with refused(Misconfigured, "CUS-E577", without=bao.secrets):
        load_signer(uri).sign(b"payload")
    with refused(Misconfigured, "CUS-E581", without=bao.secrets):
        public_key(load_signer(uri))


def test_evidence_with_an_hmac_is_accepted_where_the_key_is(
    bao: Bao, mac_key: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"vault-hmac:{mac_key}"
    use(monkeypatch, bao, TOKEN=bao.token(mac_rules(mac_key, "hmac")))
    written = write(tmp_path / "evidence", dataset, load_signer(uri))
    trust_file = tmp_path / "trust.yaml"
    entry = {"name": "mac", "hmac": uri, "may_sign": ["check-drift"]}
    trust_file.write_text(yaml.safe_dump({"version": 1, "signers": [entry]}))
    trust = load_trust(trust_file)
    use(monkeypatch, bao, TOKEN=bao.token(mac_rules(mac_key, "verify")))
    assert read(written, trust).signer == "mac"
    bundle = next(written.glob("*.sigstore.json"))
    edit_payload(bundle, b"PASSED", b"FAILED")
    with pytest.raises(EvidenceInvalid):
        read(written, trust)
    # Elsewhere nobody can tell, so it is refused.
    use(monkeypatch, f"http://127.0.0.1:{free_port()}", TOKEN="elsewhere")
    with refused(ServiceUnreachable, "CUS-E461"):
        read(written, trust)


def test_hmac_of_a_rotated_and_of_a_retired_version(bao: Bao, mac_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, name = f"vault-hmac:{mac_key}", mac_key.rpartition("/")[2]
    use(monkeypatch, bao, TOKEN=bao.root)
    first = load_signer(uri)
    old = bytes.fromhex(first.sign(b"payload").signature)
    bao.client.secrets.transit.rotate_key(name)
    assert bytes.fromhex(load_signer(uri).sign(b"payload").signature).startswith(b"vault:v2:")
    assert verify_hmac(uri, b"payload", old)
    assert not verify_hmac(uri, b"payload", old.replace(b":v1:", b":v2:"))
    bao.client.secrets.transit.update_key_configuration(name, min_decryption_version=2)
    assert not verify_hmac(uri, b"payload", old)
    with refused(Misconfigured, "CUS-E572", without=[bao.root]):
        load_signer(f"{uri}?version=1")


@pytest.mark.parametrize(
    "forged",
    [
        b"",
        b"vault:v1:",
        b"vault:v1:AAAA",
        b"vault:v1:" + b"A" * 43 + b"=",
        b"vault:v01:" + b"A" * 43 + b"=",
        b"vault:v9:" + b"A" * 43 + b"=",
        b"vault:v999999999:" + b"A" * 43 + b"=",
        b"vault:v1:" + b"A" * 43 + b"=\n",
        b"vault:v1:" + b"A" * 44,
        b"\xff\xfe",
    ],
)
def test_what_is_no_mac_of_the_key_is_not_verified(
    bao: Bao, mac_key: str, forged: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, bao, TOKEN=bao.root)
    assert verify_hmac(f"vault-hmac:{mac_key}", b"payload", forged) is False


def test_hmac_with_a_signing_key_is_refused(bao: Bao, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, bao, TOKEN=bao.root)
    with refused(Misconfigured, "CUS-E536", without=[bao.root]):
        load_signer(f"vault-hmac:{key}")
    with refused(Misconfigured, "CUS-E536", without=[bao.root]):
        verify_hmac(f"vault-hmac:{key}", b"payload", b"vault:v1:" + b"A" * 43 + b"=")
