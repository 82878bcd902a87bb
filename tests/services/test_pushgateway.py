"""Metrics in a real Pushgateway: whose groups are replaced, who may push, and what happens when nobody takes them."""

import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components.metrics_publishing.exposition import Check
from kfp_custody.components.metrics_publishing.pushing import push
from kfp_custody.components.seldon_deployment.door.identity import Authority
from services.monitors import pushgateway

pytestmark = pytest.mark.services
ENDED = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "not-a-real-password"
HASHED = "$2b$04$0m/3hmsh5beWJWhcUfITGOo4gtB5WobCB2OPpx//f1e68tF8G6Syy"  # of it, by bcrypt


def check(kind: str, result: str = "PASSED", **numbers: float) -> Check:
    return Check(kind, result, ENDED, {}, numbers)


def shown(port: int) -> set[str]:
    """The samples of ours that the Pushgateway shows."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return {line for line in answer.read().decode().splitlines() if line.startswith("custody_")}


def of(port: int, **more: Path) -> Settings:
    return replace(load_settings({"CUSTODY_PUSHGATEWAY": f"http://127.0.0.1:{port}"}), **more)


def test_a_push_replaces_what_its_own_check_said_and_nothing_else(tmp_path: Path) -> None:
    with pushgateway(tmp_path) as port:
        first = check("check-drift", "FAILED", prediction_psi=0.4)
        push("fraud", [first, check("enforce-policy", "PASSED")], of(port))
        push("churn", [check("check-drift", "PASSED")], of(port))
        before = shown(port)
        push("fraud", [check("check-drift", "PASSED", max_psi=0.1)], of(port))
        after = shown(port)
    label = 'instance="",job="kfp-custody",kind="check-drift",model="fraud"'
    assert f'custody_check_result{{{label},result="FAILED"}} 1' in before
    assert f'custody_check_result{{{label},result="FAILED"}} 0' in after
    assert f"custody_drift_prediction_psi{{{label}}} 0.4" in before
    assert not [line for line in after if "prediction_psi" in line], (
        "a number that was not taken is not kept from before"
    )
    others = {line for line in before if 'kind="check-drift",model="fraud"' not in line}
    assert len(others) == 8
    assert others <= after


def test_a_login_and_a_certificate_of_ones_own_authority(tmp_path: Path) -> None:
    authority = Authority("bank.example")
    certificate, key = authority.issue([x509.DNSName("localhost")], server=True)
    for name, data in (("ca.pem", authority.pem), ("server.pem", certificate), ("server.key", key)):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "web.yml").write_text(
        f"tls_server_config: {{cert_file: {tmp_path}/server.pem, key_file: {tmp_path}/server.key}}\n"
        f"basic_auth_users: {{custody: '{HASHED}'}}\n"
    )
    for name, text in (("good", f"custody:{SECRET}\n"), ("bad", "custody:other\n"), ("none", SECRET)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    with pushgateway(tmp_path, f"--web.config.file={tmp_path}/web.yml") as port:
        base = replace(
            load_settings({"CUSTODY_PUSHGATEWAY": f"https://localhost:{port}"}), pushgateway_ca_file=tmp_path / "ca.pem"
        )
        push("fraud", [check("check-drift")], replace(base, pushgateway_login_file=tmp_path / "good"))
        for login in (tmp_path / "bad", None):
            with pytest.raises(Misconfigured, match="not accept the credentials") as caught:
                push("fraud", [check("check-drift")], replace(base, pushgateway_login_file=login))
            assert caught.value.code == codes.PUSHGATEWAY_SETTINGS
        with pytest.raises(Misconfigured, match="cannot be used") as caught:
            push("fraud", [check("check-drift")], replace(base, pushgateway_login_file=tmp_path / "none"))
        assert SECRET not in str(caught.value)
        with pytest.raises(ServiceUnreachable, match="did not take") as unreachable:
            push("fraud", [check("check-drift")], replace(base, pushgateway_ca_file=None))
        assert "certificate" in unreachable.value.evidence.lower()


class _Asked(BaseHTTPRequestHandler):
    """Remembers what was sent, and answers as the server says."""

    asked: list[tuple[str, str | None]]
    answer: tuple[int, str | None]

    def do_PUT(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.path, self.headers["Authorization"]))
        status, location = self.answer
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(status: int, location: str | None = None) -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    asked: list[tuple[str, str | None]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Asked", (_Asked,), {"asked": asked, "answer": (status, location)}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "token").chmod(0o600)
    return tmp_path / "token"


def test_a_token_is_sent_in_a_header_and_follows_no_redirection(token: Path) -> None:
    with listening(200) as (port, asked), listening(307, f"http://127.0.0.1:{port}/") as (first, firstly):
        push("fraud", [check("check-drift")], of(port, pushgateway_token_file=token))
        with pytest.raises(ServiceUnreachable, match="did not take") as caught:
            push("fraud", [check("check-drift")], of(first, pushgateway_token_file=token))
    path = "/metrics/job/kfp-custody/kind/check-drift/model/fraud"
    assert asked == firstly == [(path, f"Bearer {SECRET}")]
    assert caught.value.code == codes.PUSHGATEWAY
    assert SECRET not in str(caught.value)


def test_errors_proxies_and_nobody_there(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(500) as (port, _):
        with pytest.raises(ServiceUnreachable) as caught:
            push("fraud", [check("check-drift")], of(port))
        assert "status 500" in caught.value.evidence
        with listening(200) as (proxy, proxied):
            monkeypatch.setitem(os.environ, "http_proxy", f"http://127.0.0.1:{proxy}")
            with pytest.raises(ServiceUnreachable):
                push("fraud", [check("check-drift")], of(port))
        assert proxied == []
    with pytest.raises(ServiceUnreachable) as caught:
        push("fraud", [check("check-drift")], of(port, pushgateway_token_file=token))
    assert caught.value.code == codes.PUSHGATEWAY


@pytest.mark.parametrize("wrong", ["two", "plain", "ca", "exposed"])
def test_credentials_that_cannot_be_used(tmp_path: Path, token: Path, wrong: str) -> None:
    settings = of(9, pushgateway_token_file=token)
    if wrong == "two":
        settings = replace(settings, pushgateway_login_file=token)
    elif wrong == "plain":
        settings = replace(settings, pushgateway="http://push.example.org")
    elif wrong == "ca":
        settings = replace(settings, pushgateway_ca_file=token)
    else:
        token.chmod(0o644)
    with pytest.raises(Misconfigured) as caught:
        push("fraud", [check("check-drift")], settings)
    assert caught.value.code == (codes.SECRET_EXPOSED if wrong == "exposed" else codes.PUSHGATEWAY_SETTINGS)
    assert SECRET not in str(caught.value)
