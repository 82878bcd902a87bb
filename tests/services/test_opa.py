"""Asking a policy server: only a plain yes is one.

No Open Policy Agent can run here: a small HTTP server on the loopback interface stands in for it, which answers as the
data API is documented to and in every other way that it should not.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from genuine_chain import RUN, TRAINED, Site
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.evidence import DECISION
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components.policy_gate import policy as policy_module
from kfp_custody.components.policy_gate.checks import Check
from kfp_custody.components.policy_gate.opa import ask
from kfp_custody.components.policy_gate.policy import Opa, load_policy

TOKEN = "s3cr3t-t0ken-of-the-gate"
BASELINE = Path(policy_module.__file__).parent / "policies" / "baseline.yaml"
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Records what it is asked and answers as the test says."""

    server: "Server"

    def do_POST(self) -> None:  # noqa: N802  (the name that http.server calls)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(body)))
        self.server.answer(self)

    do_GET = do_POST  # noqa: N815  (a redirect that was followed would come as GET)

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


class Server(ThreadingHTTPServer):
    """A server on a free port of the loopback interface."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.answer: Answer = lambda request: request.reply(b'{"result": true}')

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "opa-token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def asked(server: Server, body: object = None, token: Path | None = None, **reply: Any) -> Check:
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        server.answer = lambda request: request.reply(data, **reply)
    return ask(Opa(server.url, "custody/allow"), {"drift": {"result": "PASSED"}}, token, timeout=2.0)


def test_a_yes_allows(server: Server) -> None:
    check = asked(server)
    assert (check.id, check.verdict, check.code) == ("opa:custody/allow", "PASSED", "")
    ((path, headers, body),) = server.asked
    assert path == "/v1/data/custody/allow"
    assert body == {"input": {"drift": {"result": "PASSED"}}}
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


def test_a_yes_with_reasons_allows_and_keeps_them(server: Server) -> None:
    check = asked(server, {"result": {"allow": True, "reasons": ["all\ngood"]}, "decision_id": "4711"})
    assert check.verdict == "PASSED"
    assert check.detail.endswith("allows it; all good")


def test_a_prefix_of_the_address_is_kept(server: Server) -> None:
    ask(Opa(f"{server.url}/opa/", "allow"), {}, None)
    assert server.asked[0][0] == "/opa/v1/data/allow"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"result": False}, "does not allow it"),
        (
            {"result": {"allow": False, "reasons": ["no reviewer", "too new"]}},
            "does not allow it; no reviewer; too new",
        ),
        ({"result": {"allow": False, "reasons": []}}, "does not allow it"),
    ],
)
def test_a_no_denies(server: Server, body: object, said: str) -> None:
    check = asked(server, body)
    assert (check.verdict, check.code) == ("FAILED", codes.OPA_DENIED)
    assert check.detail.endswith(said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "has no result"),
        ({"Result": True}, "has no result"),
        ([], "has no result"),
        (b"true", "has no result"),
        ({"result": None}, "no object"),
        ({"result": 1}, "no object"),
        ({"result": "true"}, "no object"),
        ({"result": [True]}, "no object"),
        ({"result": {}}, "lacks allow, reasons"),
        ({"result": {"allow": True}}, "lacks reasons"),
        ({"result": {"allow": 1, "reasons": []}}, "allow is no boolean"),
        ({"result": {"allow": "true", "reasons": []}}, "allow is no boolean"),
        ({"result": {"allow": True, "reasons": "none"}}, "reasons is no list"),
        ({"result": {"allow": True, "reasons": [1]}}, "reasons is no list"),
        ({"result": {"allow": True, "reasons": [], "deny": ["x"]}}, "unknown 'deny'"),
        (b'{"result": false, "result": true}', "stands in it twice"),
        (b'{"result": {"allow": false, "allow": true, "reasons": []}}', "stands in it twice"),
        (b'{"result": true', "no JSON"),
        (b'{"result": NaN}', "NaN"),
        (b"", "it is empty"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"result": true, "x": "' + b"x" * (1 << 20) + b'"}', "too large"),
    ],
)
def test_anything_else_denies(server: Server, body: object, said: str) -> None:
    check = asked(server, body)
    assert (check.verdict, check.code) == ("FAILED", codes.OPA_UNANSWERED)
    assert said in check.detail


@pytest.mark.parametrize("status", [201, 204, 302, 307, 308, 400, 401, 403, 404, 429, 500, 503])
def test_another_status_denies(server: Server, status: int) -> None:
    other = {"Location": f"{server.url}/v1/data/elsewhere"} if 300 <= status < 400 else {}
    check = asked(server, {"result": True}, status=status, **other)
    assert (check.verdict, check.code) == ("FAILED", codes.OPA_UNANSWERED)
    assert f"status {status}" in check.detail
    assert ("not followed" in check.detail) is bool(other)
    assert len(server.asked) == 1


def dripping(request: Handler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    for _ in range(100):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.1)


def silent(request: Handler) -> None:
    time.sleep(1.5)


def broken_off(request: Handler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "100")
    request.end_headers()
    request.wfile.write(b'{"result": true}')


def no_http(request: Handler) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH\r\n")


def gone(request: Handler) -> None:
    request.connection.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (dripping, "did not answer within 0.5 seconds"),
        (silent, "did not answer within 0.5 seconds"),
        (broken_off, "broke off"),
        (no_http, "did not answer in HTTP"),
        (gone, "did not answer"),
    ],
)
def test_a_server_that_misbehaves_denies_in_time(server: Server, answer: Answer, said: str) -> None:
    server.answer = answer
    started = time.monotonic()
    check = ask(Opa(server.url, "custody/allow"), {}, None, timeout=0.5)
    assert time.monotonic() - started < 1.2
    assert (check.verdict, check.code) == ("FAILED", codes.OPA_UNANSWERED)
    assert said in check.detail


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://nowhere.invalid:8181"])
def test_nobody_there_denies(url: str) -> None:
    check = ask(Opa(url, "custody/allow"), {}, None, timeout=5.0)
    assert (check.verdict, check.code) == ("FAILED", codes.OPA_UNANSWERED)


def test_the_token_is_sent_and_never_shown(server: Server, token: Path) -> None:
    reasons = [f"you sent Bearer {TOKEN}", TOKEN]
    check = asked(server, {"result": {"allow": True, "reasons": reasons}}, token)
    assert check.verdict == "PASSED"
    assert server.asked[0][1]["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in repr(check)
    assert "***" in check.detail


@pytest.mark.parametrize("content", ["", "two\nlines", "bad\rheader", "schlüssel"])
def test_a_token_that_cannot_be_sent_denies_unasked(server: Server, token: Path, content: str) -> None:
    token.write_text(content)
    check = asked(server, None, token)
    assert (check.verdict, check.code) == ("FAILED", codes.OPA_UNANSWERED)
    assert server.asked == []
    assert not content or content not in check.detail


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_a_token_that_others_may_read_denies_unasked(server: Server, token: Path, mode: int) -> None:
    token.chmod(mode)
    check = asked(server, None, token)
    assert check.verdict == "FAILED"
    assert server.asked == []


def test_a_token_that_is_not_there_denies_unasked(server: Server, tmp_path: Path) -> None:
    assert asked(server, None, tmp_path / "nothing").verdict == "FAILED"
    assert server.asked == []


def test_long_reasons_are_cut(server: Server) -> None:
    check = asked(server, {"result": {"allow": False, "reasons": ["x" * 10_000] * 1_000}})
    assert check.verdict == "FAILED"
    assert len(check.detail) < 10_000


def test_no_proxy_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert asked(server).verdict == "PASSED"


class Authority:
    """A certificate authority that lives for one test."""

    def __init__(self, root: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the test")])
        self.root = root
        self.file = root / "ca.pem"
        certificate = self._certificate(self.name, self.key, [x509.BasicConstraints(ca=True, path_length=0)])
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, address: str) -> ssl.SSLContext:
        """Return the server side of TLS, with a certificate for an address."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        server = self._certificate(name, key, [x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])])
        path = self.root / "server.pem"
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, pkcs8, plain)
        path.write_bytes(pem + server.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _certificate(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: list[x509.ExtensionType]
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
            .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())


@pytest.mark.parametrize(
    ("address", "trusted", "said"),
    [
        ("127.0.0.1", True, "allows it"),
        ("127.0.0.1", False, "its certificate was not accepted"),
        ("127.0.0.2", True, "its certificate was not accepted"),
    ],
)
def test_its_certificate_must_be_of_the_authority_and_for_the_address(
    server: Server, tmp_path: Path, token: Path, address: str, trusted: bool, said: str
) -> None:
    authority = Authority(tmp_path)
    server.socket = authority.context(address).wrap_socket(server.socket, server_side=True)
    opa = Opa(f"https://127.0.0.1:{server.server_port}", "allow", authority.file if trusted else None)
    check = ask(opa, {}, token, timeout=5.0)
    assert said in check.detail
    assert (check.verdict == "PASSED") is (said == "allows it")
    assert bool(server.asked) is (check.verdict == "PASSED")


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_an_authority_that_cannot_be_read_denies(server: Server, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    check = ask(Opa("https://127.0.0.1:1", "allow", tmp_path / "ca.pem"), {}, None)
    assert (check.verdict, check.code) == ("FAILED", codes.OPA_UNANSWERED)
    assert "ca.pem cannot be read" in check.detail


@pytest.fixture
def site(tmp_path: Path, server: Server, token: Path) -> Site:
    """A platform whose pinned policy also asks the server."""
    site = Site(tmp_path / "site")
    document = yaml.safe_load(BASELINE.read_text()) | {"opa": {"url": server.url, "path": "custody/allow"}}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(document))
    site.pin({"baseline": load_policy(str(tmp_path / "policy.yaml")).sha256})
    site.environment["CUSTODY_OPA_TOKEN_FILE"] = str(token)
    return site


def test_the_gate_asks_with_the_facts_that_rules_see(site: Site, server: Server, tmp_path: Path) -> None:
    done, _, html = site.gate(site.chain(), policy=str(tmp_path / "policy.yaml"))
    assert done.verdict == "PASSED"
    assert done.checks[-1].id == "opa:custody/allow"
    ((_, headers, body),) = server.asked
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert body["input"]["training"]["metrics"] == TRAINED
    assert body["input"]["gate"] == {"deciders": ["pipeline"], "model_name": "fraud-detection", "signer": "pipeline"}
    assert "custody/allow" in html
    assert TOKEN not in html


@pytest.mark.parametrize("body", [b'{"result": false}', b"{}", b"oops"])
def test_a_server_that_does_not_allow_refuses_the_release(
    site: Site, server: Server, tmp_path: Path, body: bytes
) -> None:
    server.answer = lambda request: request.reply(body)
    done, evidence, _ = site.gate(site.chain(), policy=str(tmp_path / "policy.yaml"))
    assert [check.id for check in done.failed] == ["opa:custody/allow"]
    assert read_evidence(evidence, DECISION, site.trust, run_id=RUN).result == "FAILED"


def test_a_yes_does_not_make_up_for_a_rule_that_fails(site: Site, tmp_path: Path) -> None:
    chain = site.chain(training=TRAINED | {"roc_auc": 0.6})
    done, _, _ = site.gate(chain, policy=str(tmp_path / "policy.yaml"))
    assert [check.id for check in done.failed] == ["rule:roc-auc-floor"]


def test_a_policy_that_is_not_pinned_gets_neither_facts_nor_token(site: Site, server: Server, tmp_path: Path) -> None:
    """Whoever starts a run may name any policy file: the gate's token must not go where that one says."""
    path = tmp_path / "policy.yaml"
    path.write_text(path.read_text() + "\n")
    done, _, _ = site.gate(site.chain(), policy=str(path))
    assert [check.id for check in done.failed] == ["policy:pinned", "opa:custody/allow"]
    assert "not asked" in done.failed[1].detail
    assert server.asked == []


def test_the_token_file_comes_from_the_environment(token: Path) -> None:
    assert load_settings({"CUSTODY_OPA_TOKEN_FILE": str(token)}).opa_token_file == token
    assert load_settings({"CUSTODY_OPA_TOKEN_FILE": ""}).opa_token_file is None
    assert load_settings({}).opa_token_file is None
