"""Secrets in a real OpenBao: versions, wrapping, leases, and everything that goes wrong there."""

import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hvac
import pytest
from openbao import Bao, running, use

from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.secrets.loading import load_secret
from kfp_custody.components.pii_masking.pseudonyms import read_masking_key

pytestmark = pytest.mark.services
URI = "vault:secret/team/masking#key"
VALUE = b"hunter2-the-secret-value"
MAY_READ = {"secret/data/team/masking": ["read"]}


def put(bao: Bao, value: bytes, path: str = "team/masking") -> None:
    bao.client.secrets.kv.v2.create_or_update_secret(path, secret={"key": value.decode(), "other": "x"})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    """One server for all tests that leave it running."""
    with running(tmp_path_factory.mktemp("bao")) as bao:
        yield bao


@pytest.fixture
def bao(shared: Bao, monkeypatch: pytest.MonkeyPatch) -> Bao:
    """The server, with the environment pointing to it and the secret in it."""
    use(monkeypatch, shared, TOKEN=shared.root)
    put(shared, VALUE)
    return shared


@pytest.fixture
def doomed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bao]:
    """A server of the test's own, likewise."""
    with running(tmp_path / "bao") as bao:
        use(monkeypatch, bao, TOKEN=bao.root)
        put(bao, VALUE)
        yield bao


def refusal(secret: Any) -> CustodyError:
    """The refusal of a secret; no form of any traceback of it holds the value or a token."""
    begun = time.monotonic()
    with pytest.raises(CustodyError) as caught:
        secret.reveal()
    assert time.monotonic() - begun < 12
    told = "".join(traceback.format_exception(caught.value))
    assert VALUE.decode() not in told
    assert (os.environ.get("VAULT_TOKEN") or "no token") not in told
    return caught.value


# --- key/value --------------------------------------------------------------------------------------------------------


def test_the_newest_version_is_read_and_nothing_is_logged(bao: Bao, caplog: pytest.LogCaptureFixture) -> None:
    put(bao, b"older")
    put(bao, VALUE)
    with caplog.at_level(logging.DEBUG):
        assert load_secret(URI).reveal() == VALUE
    assert VALUE.decode() not in caplog.text


def test_a_rotation_is_seen_after_the_lifetime_without_a_restart(bao: Bao) -> None:
    secret, patient = load_secret(URI, lifetime=0.3), load_secret(URI, lifetime=60)
    assert secret.reveal() == patient.reveal() == VALUE
    put(bao, b"rotated")
    assert patient.reveal() == VALUE
    time.sleep(0.35)
    assert secret.reveal() == b"rotated"


def test_a_mount_of_several_parts_and_version_1(bao: Bao) -> None:
    root = bao.client
    for path, version in (("team/kv", "2"), ("old", "1")):
        if f"{path}/" not in root.sys.list_mounted_secrets_engines()["data"]:
            root.sys.enable_secrets_engine("kv", path, options={"version": version})
    for _ in range(50):  # an engine with versions is upgraded in the background
        try:
            root.write_data("team/kv/data/a/b", data={"data": {"key": "nested"}})
            break
        except hvac.exceptions.VaultError:
            time.sleep(0.1)
    root.write_data("old/a/b", data={"key": "plain"})
    assert load_secret("vault:team/kv/a/b#key").reveal() == b"nested"
    assert load_secret("vault:old/a/b#key").reveal() == b"plain"


def test_the_least_policy_is_enough(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", bao.token(MAY_READ))
    assert load_secret(URI).reveal() == VALUE
    assert type(refusal(load_secret("vault:secret/team/else#key"))) is Misconfigured


@pytest.mark.parametrize("uri", ["vault:secret/none#key", "vault:nowhere/a#key", "vault:secret/team/masking#none"])
def test_what_is_not_there(bao: Bao, uri: str) -> None:
    assert type(refusal(load_secret(uri))) is Misconfigured


@pytest.mark.parametrize("way", ["delete", "destroy", "delete all"])
def test_a_deleted_version_is_never_used_again(bao: Bao, way: str) -> None:
    put(bao, VALUE, "gone")
    secret = load_secret("vault:secret/gone#key", lifetime=0.1)
    assert secret.reveal() == VALUE
    versions, kv = bao.client.secrets.kv.v2.read_secret_metadata("gone"), bao.client.secrets.kv.v2
    newest = versions["data"]["current_version"]
    {
        "delete": lambda: kv.delete_latest_version_of_secret("gone"),
        "destroy": lambda: kv.destroy_secret_versions("gone", [newest]),
        "delete all": lambda: kv.delete_metadata_and_all_versions("gone"),
    }[way]()
    time.sleep(0.15)
    refused = refusal(secret)
    assert type(refused) is Misconfigured
    assert "deleted" in str(refused)


@pytest.mark.parametrize("value", [{"key": 5}, {"key": None}, {"key": {"a": "b"}}, {}])
def test_a_field_without_a_text_is_refused(bao: Bao, value: dict[str, Any]) -> None:
    bao.client.secrets.kv.v2.create_or_update_secret("odd", secret=value)
    assert type(refusal(load_secret("vault:secret/odd#key"))) is Misconfigured


# --- logging in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["s.not-a-token-of-this-server", "", "two\nlines-of-it", " s.blank", "schlüssel-€"])
def test_a_token_that_is_none_is_refused_and_not_quoted(bao: Bao, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("VAULT_TOKEN", token)
    with pytest.raises(CustodyError) as caught:
        load_secret(URI).reveal()
    told = "".join(traceback.format_exception(caught.value))
    assert not token or not any(part in told for part in (token, repr(token), token.split("\n")[-1]))


def test_no_permission(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", bao.token({"secret/data/else": ["read"]}))
    assert type(refusal(load_secret(URI))) is Misconfigured


def test_a_login_that_ended_is_made_anew(bao: Bao, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file of the token is written by an agent; the session takes the new one when the old one is revoked."""
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("CUSTODY_VAULT_TOKEN_FILE", str(tmp_path / "token"))
    old = bao.token(MAY_READ)
    (tmp_path / "token").write_text(old)
    (tmp_path / "token").chmod(0o600)
    secret = load_secret(URI, lifetime=0.0)
    assert secret.reveal() == VALUE
    bao.client.auth.token.revoke(old)
    (tmp_path / "token").write_text(bao.token(MAY_READ))
    assert secret.reveal() == VALUE


# --- the server -------------------------------------------------------------------------------------------------------


def test_a_sealed_server_gives_nothing_not_even_what_was_read(doomed: Bao) -> None:
    secret = load_secret(URI, lifetime=0.1)
    assert secret.reveal() == VALUE
    doomed.client.sys.seal()
    time.sleep(0.15)
    assert type(refusal(secret)) is ServiceUnreachable
    assert type(refusal(load_secret(URI))) is ServiceUnreachable


def test_a_stopped_server_is_a_refusal_within_seconds(doomed: Bao) -> None:
    secret = load_secret(URI, lifetime=0.1)
    assert secret.reveal() == VALUE
    doomed.stop()
    time.sleep(0.15)
    assert type(refusal(secret)) is ServiceUnreachable


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b"null", b"{}", b'{"data": []}', b"\xff"])
def test_something_else_that_answers_is_refused(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with serving(Page) as port:
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("VAULT_TOKEN", "s.other")
        assert isinstance(refusal(load_secret(URI)), ServiceUnreachable | Misconfigured)


# --- response wrapping ------------------------------------------------------------------------------------------------

WRAPPED = "vault:secret/team/masking?wrapped=file:{}#key"


def wrap(bao: Bao, place: Path, path: str = "secret/data/team/masking", ttl: str = "60s") -> str:
    place.write_text(bao.client.read(path, wrap_ttl=ttl)["wrap_info"]["token"] + "\n")
    place.chmod(0o600)
    return WRAPPED.format(place)


def test_a_wrapping_token_is_opened_once_and_kept(bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any login: the wrapping token is enough."""
    monkeypatch.setenv("VAULT_TOKEN", "")
    uri = wrap(bao, tmp_path / "token")
    secret = load_secret(uri)
    assert [secret.reveal() for _ in range(3)] == [VALUE] * 3
    assert (tmp_path / "token").read_text().strip() not in repr(secret)
    put(bao, b"rotated")
    wrap(bao, tmp_path / "token")
    assert secret.reveal() == b"rotated"


def test_a_wrapping_token_that_somebody_opened_before_is_an_alarm(bao: Bao, tmp_path: Path) -> None:
    uri = wrap(bao, tmp_path / "token")
    assert load_secret(uri).reveal() == VALUE
    refused = refusal(load_secret(uri))
    assert type(refused) is EvidenceInvalid
    assert (tmp_path / "token").read_text().strip() not in "".join(traceback.format_exception(refused))


def test_a_wrapping_token_of_an_intruders_value_is_refused(bao: Bao, tmp_path: Path) -> None:
    """Anybody with any login can wrap a value of their own; it says that it was not made for this path."""
    token = bao.client.sys.wrap({"key": "intruder", "data": {"key": "intruder"}}, ttl=60)["wrap_info"]["token"]
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    assert type(refusal(load_secret(WRAPPED.format(tmp_path / "token")))) is EvidenceInvalid


def test_a_wrapping_token_of_another_path_is_refused(bao: Bao, tmp_path: Path) -> None:
    put(bao, b"other", "else")
    assert type(refusal(load_secret(wrap(bao, tmp_path / "token", "secret/data/else")))) is EvidenceInvalid


def test_an_expired_wrapping_token_is_refused(bao: Bao, tmp_path: Path) -> None:
    uri = wrap(bao, tmp_path / "token", ttl="1s")
    time.sleep(1.3)
    assert type(refusal(load_secret(uri))) is EvidenceInvalid


# --- credentials with a lease -----------------------------------------------------------------------------------------


class Broker(BaseHTTPRequestHandler):
    """Stands in for a message broker's administration API, in which the real server makes and removes users."""

    users: set[str]

    def do_PUT(self) -> None:
        if self.path.startswith("/api/users/"):
            self.users.add(self.path.rsplit("/", 1)[1])
        self._done(201)

    def do_DELETE(self) -> None:
        self.users.discard(self.path.rsplit("/", 1)[1])
        self._done(204)

    def do_GET(self) -> None:
        self._done(200)

    def _done(self, status: int) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("Content-Length", "2" if status == 200 else "0")
        self.end_headers()
        if status == 200:
            self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None: ...


class serving:  # noqa: N801  (used like a function)
    """An HTTP server on a free port for a block."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> int:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return int(self.server.server_port)

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def broker(bao: Bao) -> Iterator[set[str]]:
    """The users that exist at the broker; `vault:broker/creds/reader` makes one for 3 seconds, at most 6."""
    users: set[str] = set()
    with serving(type("OneBroker", (Broker,), {"users": users})) as port:
        root = bao.client
        root.sys.enable_secrets_engine("rabbitmq", "broker")
        root.write_data(
            "broker/config/connection",
            data={"connection_uri": f"http://127.0.0.1:{port}", "username": "a", "password": "b"},
        )
        root.write_data("broker/config/lease", data={"ttl": 3, "max_ttl": 6})
        root.write_data("broker/roles/reader", data={"vhosts": '{"/": {"read": ".*", "write": "", "configure": ""}}'})
        yield users
        root.sys.disable_secrets_engine("broker")


def test_a_lease_is_renewed_and_new_credentials_are_taken_when_it_cannot_be(bao: Bao, broker: set[str]) -> None:
    secret = load_secret("vault:broker/creds/reader#username")
    first, seen, begun = secret.reveal(), [], time.monotonic()
    while time.monotonic() - begun < 8:
        name = secret.reveal()
        seen.append(name)
        assert name.decode() in broker, "credentials that Vault took back were given"
        time.sleep(0.25)
    held = sum(name == first for name in seen) * 0.25
    assert held > 3.0, "the lease was not renewed"
    assert len(set(seen)) >= 2, "six seconds is all that Vault gives"


def test_credentials_that_were_revoked_are_replaced(bao: Bao, broker: set[str]) -> None:
    secret = load_secret("vault:broker/creds/reader#username", lifetime=0.2)
    first = secret.reveal()
    bao.client.sys.revoke_prefix("broker/creds")
    time.sleep(0.3)
    assert secret.reveal() != first
    assert secret.reveal().decode() in broker


def test_a_lease_ends_with_the_login_that_it_was_given_to(
    bao: Bao, broker: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = bao.token({"broker/creds/reader": ["read"]}, ttl="1s", renewable=False)
    monkeypatch.setenv("VAULT_TOKEN", short)
    secret = load_secret("vault:broker/creds/reader#username")
    assert secret.reveal().decode() in broker
    time.sleep(1.2)
    refused = refusal(secret)
    assert type(refused) is Misconfigured
    assert "token" in str(refused)


# --- in use -----------------------------------------------------------------------------------------------------------


def test_the_masking_key_comes_from_the_server(bao: Bao) -> None:
    put(bao, b"ab" * 32, "pseudonyms")
    assert read_masking_key("vault:secret/pseudonyms#key").master == bytes.fromhex("ab" * 32)
    put(bao, VALUE, "pseudonyms")
    with pytest.raises(Misconfigured) as refused:
        read_masking_key("vault:secret/pseudonyms#key")
    assert VALUE.decode() not in "".join(traceback.format_exception(refused.value))
