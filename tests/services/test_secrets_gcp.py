"""Secrets in Google Secret Manager: the real client against a stand-in on the loopback interface.

The stand-in answers as the service's REST documentation says. What only Google can tell (who may read what, and whether
a credential is genuine) is not tested here.
"""

import base64
import datetime as dt
import http.server
import json
import logging
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.secrets.loading import load_secret

pytestmark = pytest.mark.services
VALUE = b"hunter2-the-secret-value"
HOST = "secretmanager.googleapis.com"
URI = "gcp-secretmanager:projects/shop/secrets/masking"


@dataclass
class Store:
    """The stand-in: versions by name, and how it answers."""

    versions: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    damage: bool = False
    credentials: str = ""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store()

    class Manager(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.split("?")[0].removeprefix("/v1/").removesuffix(":access")
            status = store.status if name in store.versions or store.status != 200 else 404
            value = store.versions.get(name, b"")
            payload = {
                "data": base64.b64encode(value + b"?" * store.damage).decode(),
                "dataCrc32c": str(google_crc32c.value(value)),
            }
            body = {"name": name, "payload": payload} if status == 200 else {"error": {"code": status, "message": "no"}}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "certificate.pem").write_bytes(private + certificate(key).public_bytes(Encoding.PEM))
    account = {
        "type": "service_account",
        "client_email": "stage@shop.iam",
        "private_key": private.decode(),
        "private_key_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    store.credentials = private.decode().splitlines()[3]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Manager)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        """Stand in for the name server: the service's host is here, and no other is to be asked."""
        if host not in (HOST, "127.0.0.1", "localhost"):
            raise socket.gaierror(f"{host} is not to be asked")
        return real("127.0.0.1", server.server_port if host == HOST else port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    monkeypatch.setenv("NO_PROXY", "*")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield store
    server.shutdown()
    server.server_close()


def certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def refusal(store: Store, uri: str = URI) -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        load_secret(uri).reveal()
    told = "".join(traceback.format_exception(caught.value))
    assert VALUE.decode() not in told
    assert store.credentials not in told
    return caught.value


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What Google's clients log at DEBUG; they keep it from the root logger, so it is taken at its source."""
    client = logging.getLogger("google")
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "google"):
        client.addHandler(caplog.handler)
        yield caplog
        client.removeHandler(caplog.handler)


def test_newest_version_named_version_and_field(store: Store, logged: pytest.LogCaptureFixture) -> None:
    place = "projects/shop/secrets/masking/versions"
    store.versions = {f"{place}/latest": VALUE, f"{place}/2": b"two", f"{place}/3": b'{"key": "three"}'}
    assert load_secret(URI).reveal() == VALUE
    assert load_secret(f"{URI}/versions/2").reveal() == b"two"
    assert load_secret(f"{URI}/versions/3#key").reveal() == b"three"
    records = logged.text + "".join(repr(record.__dict__) for record in logged.records)
    assert VALUE.decode() not in records
    assert base64.b64encode(VALUE).decode() not in records


def test_a_rotation_is_seen_after_the_lifetime(store: Store) -> None:
    latest = "projects/shop/secrets/masking/versions/latest"
    store.versions = {latest: b"one"}
    secret = load_secret(URI, lifetime=0.0)
    assert secret.reveal() == b"one"
    store.versions = {latest: b"two"}
    assert secret.reveal() == b"two"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Misconfigured),
        (401, Misconfigured),
        (403, Misconfigured),
        (404, Misconfigured),
        (429, ServiceUnreachable),
        (500, ServiceUnreachable),
        (503, ServiceUnreachable),
    ],
)
def test_an_error_of_the_service(store: Store, status: int, kind: type[CustodyError]) -> None:
    store.versions, store.status = {"projects/shop/secrets/masking/versions/latest": VALUE}, status
    assert type(refusal(store)) is kind


def test_a_value_that_was_damaged_on_its_way_is_refused(store: Store) -> None:
    store.versions, store.damage = {"projects/shop/secrets/masking/versions/latest": VALUE}, True
    assert type(refusal(store)) is ServiceUnreachable


def test_a_server_with_another_certificate_is_not_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.versions = {"projects/shop/secrets/masking/versions/latest": VALUE}
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert type(refusal(store)) is ServiceUnreachable


def test_a_server_that_is_not_there(store: Store) -> None:
    assert type(refusal(store, "gcp-secretmanager:projects/p/locations/europe-west3/secrets/s")) is ServiceUnreachable
