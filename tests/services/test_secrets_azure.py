"""Secrets in Azure Key Vault: the real client and identity against a stand-in on the loopback interface.

The stand-in answers as the service's REST documentation says: a challenge, a token from the task's managed identity,
the secret. What only Azure can tell (who may read what) is not tested here.
"""

import datetime as dt
import http.server
import json
import logging
import os
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.secrets.loading import load_secret

pytestmark = pytest.mark.services
VALUE = "hunter2-the-secret-value"
HOST = "shop.localhost"


@dataclass
class Vault:
    """The stand-in: its secrets, the token that it wants, and what it answers in place of a secret."""

    port: int = 0
    token: str = "marked-identity-token"
    secrets: dict[str, str] = field(default_factory=dict)
    status: int = 200
    resource: str = "https://localhost"


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    vault = Vault()

    class Identity(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            expires = int(time.time()) + 3600
            answer(self, 200, {"access_token": vault.token, "expires_on": str(expires), "token_type": "Bearer"})

        def log_message(self, *_: object) -> None: ...

    class KeyVault(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.split("?")[0].strip("/").split("/")[1]
            if self.headers.get("Authorization") != f"Bearer {vault.token}":
                login = f'Bearer authorization="https://login.localhost/tenant", resource="{vault.resource}"'
                answer(self, 401, {"error": {"code": "Unauthorized"}}, {"WWW-Authenticate": login})
            elif vault.status != 200:
                answer(self, vault.status, {"error": {"code": "Failed", "message": "no"}})
            elif name not in vault.secrets:
                answer(self, 404, {"error": {"code": "SecretNotFound", "message": "no"}})
            else:
                place = f"https://{HOST}:{vault.port}/secrets/{name}/1"
                answer(self, 200, {"value": vault.secrets[name], "id": place, "attributes": {"enabled": True}})

        def log_message(self, *_: object) -> None: ...

    identity = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Identity)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), KeyVault)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    vault.port = server.server_port
    vault.resource = f"https://localhost:{vault.port}"
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{identity.server_port}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    monkeypatch.setattr(socket, "getaddrinfo", resolving(socket.getaddrinfo))
    for each in (identity, server):
        threading.Thread(target=each.serve_forever, daemon=True).start()
    yield vault
    for each in (identity, server):
        each.shutdown()
        each.server_close()


def answer(
    handler: http.server.BaseHTTPRequestHandler, status: int, body: object, headers: dict[str, str] | None = None
) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        **(headers or {}),
    }.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def resolving(real: Callable[..., Any]) -> Callable[..., Any]:
    """Stand in for a name server that knows the vault's host."""
    return lambda host, *rest, **more: real("127.0.0.1" if host == HOST else host, *rest, **more)


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    made = (
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
    path = folder / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


def refusal(vault: Vault, name: str) -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        load_secret(f"azure-keyvault:{HOST}:{vault.port}/{name}").reveal()
    told = "".join(traceback.format_exception(caught.value))
    assert VALUE not in told
    assert vault.token not in told
    return caught.value


def test_a_secret_and_a_field_of_one(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    vault.secrets = {"plain": VALUE, "object": json.dumps({"key": VALUE})}
    with caplog.at_level(logging.DEBUG):
        for place in ("plain", "object#key"):
            assert load_secret(f"azure-keyvault:{HOST}:{vault.port}/{place}").reveal() == VALUE.encode()
    assert VALUE not in caplog.text
    assert vault.token not in caplog.text


def test_a_rotation_is_seen_after_the_lifetime(vault: Vault) -> None:
    vault.secrets = {"plain": "one"}
    secret = load_secret(f"azure-keyvault:{HOST}:{vault.port}/plain", lifetime=0.0)
    assert secret.reveal() == b"one"
    vault.secrets = {"plain": "two"}
    assert secret.reveal() == b"two"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, Misconfigured), (404, Misconfigured), (500, ServiceUnreachable), (503, ServiceUnreachable)],
)
def test_an_error_of_the_service(vault: Vault, status: int, kind: type[CustodyError]) -> None:
    vault.secrets, vault.status = {"plain": VALUE}, status
    assert type(refusal(vault, "plain")) is kind


def test_what_is_not_there(vault: Vault) -> None:
    assert type(refusal(vault, "none")) is Misconfigured


def test_a_server_that_asks_for_the_token_of_another_is_not_given_it(vault: Vault) -> None:
    vault.secrets, vault.resource = {"plain": VALUE}, "https://vault.azure.net"
    assert type(refusal(vault, "plain")) is ServiceUnreachable


def test_a_server_with_another_certificate_is_not_asked(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.secrets = {"plain": VALUE}
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert type(refusal(vault, "plain")) is ServiceUnreachable
