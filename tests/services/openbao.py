"""A real OpenBao server in development mode on the loopback interface, for tests; nothing of it outlives them."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests

BINARY = Path(sys.executable).with_name("bao")
# What a developer's own shell may have set, and what signers and secrets read.
VARIABLES = (
    *(f"{maker}_{name}" for maker in ("VAULT", "BAO") for name in ("ADDR", "TOKEN", "NAMESPACE", "CACERT")),
    *(f"CUSTODY_VAULT_{name}" for name in ("AUTH", "AUTH_MOUNT", "ROLE", "TOKEN_FILE", "JWT_FILE", "ROLE_ID_FILE")),
    *(f"CUSTODY_VAULT_{name}" for name in ("SECRET_ID_FILE", "WRAPPED_SECRET_ID_FILE")),
)


@dataclass
class Bao:
    """A running server, its root token and its process."""

    address: str
    root: str
    process: subprocess.Popen[bytes]
    state: Path
    ca_file: Path | None = None
    secrets: list[str] = field(default_factory=list)

    @property
    def client(self) -> Any:
        """A client that may do everything; it sets things up for tests."""
        return hvac.Client(self.address, token=self.root, verify=str(self.ca_file) if self.ca_file else True)

    def stop(self) -> None:
        """End the process, by its id."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def key(self, name: str, kind: str = "ecdsa-p256", mount: str = "transit") -> str:
        """Make a transit key, and the engine when it is not there; return `MOUNT/KEY`."""
        if f"{mount}/" not in self.client.sys.list_mounted_secrets_engines()["data"]:
            self.client.sys.enable_secrets_engine("transit", path=mount)
        self.client.secrets.transit.create_key(name, key_type=kind, mount_point=mount)
        return f"{mount}/{name}"

    def token(self, rules: Mapping[str, list[str]] | None = None, **options: Any) -> str:
        """Make a token that may do what the rules say (path -> capabilities), and nothing else."""
        made = self.client.auth.token.create(policies=[self.policy(rules or {})], **options)["auth"]["client_token"]
        self.secrets.append(made)
        return str(made)

    def policy(self, rules: Mapping[str, list[str]]) -> str:
        """Make a policy of rules (path -> capabilities), and return its name."""
        name = f"test-{secrets.token_hex(4)}"
        self.client.sys.create_or_update_acl_policy(
            name, {"path": {path: {"capabilities": capabilities} for path, capabilities in rules.items()}}
        )
        return name


def signing_rules(key: str) -> dict[str, list[str]]:
    """Return what a role needs to sign with a transit key `MOUNT/KEY`, and no more."""
    mount, name = key.rsplit("/", 1)
    return {f"{mount}/keys/{name}": ["read"], f"{mount}/sign/{name}": ["update"]}


def use(monkeypatch: pytest.MonkeyPatch, server: Bao | str, **settings: object) -> None:
    """Point this process to a server, with settings (names without `CUSTODY_VAULT_`, or `TOKEN`) and nothing else."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAULT_ADDR", server if isinstance(server, str) else server.address)
    if isinstance(server, Bao) and server.ca_file:
        monkeypatch.setenv("VAULT_CACERT", str(server.ca_file))
    for name, value in settings.items():
        monkeypatch.setenv("VAULT_TOKEN" if name == "TOKEN" else f"CUSTODY_VAULT_{name}", str(value))


@contextmanager
def running(state: Path, *, tls: bool = False) -> Iterator[Bao]:
    """Start a server with its state (and HOME) in a directory, wait until it is ready, and end it afterwards."""
    certificates = state / "certificates"
    certificates.mkdir(parents=True)
    for _ in range(3):  # somebody else may take the port between the look and the start
        bao = _start(state, ["-dev-tls", f"-dev-tls-cert-dir={certificates}"] if tls else [])
        try:
            if _ready(bao):
                if tls:
                    bao.ca_file = next(certificates.glob("*ca.pem"))
                yield bao
                return
        finally:
            bao.stop()
    pytest.fail(f"the server does not start: {(state / 'log').read_text()}")


def _start(state: Path, options: list[str]) -> Bao:
    port, root = free_port(), f"root-{secrets.token_hex(8)}"
    command = [str(BINARY), "server", "-dev", f"-dev-root-token-id={root}", "-dev-no-store-token"]
    command += [f"-dev-listen-address=127.0.0.1:{port}", *options]
    environment = {"HOME": str(state), "PATH": os.environ["PATH"]}
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=state, env=environment, stdout=log, stderr=log)
    return Bao(f"{'https' if options else 'http'}://127.0.0.1:{port}", root, process, state, secrets=[root])


def _ready(bao: Bao) -> bool:
    """Wait until the server answers to its own root token; False when it ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and bao.process.poll() is None:
        ca = next(map(str, (bao.state / "certificates").glob("*ca.pem")), True)
        try:
            headers = {"X-Vault-Token": bao.root}
            if requests.get(f"{bao.address}/v1/sys/mounts", headers=headers, timeout=5, verify=ca).ok:
                return True
        except (requests.RequestException, OSError):
            pass
        time.sleep(0.1)
    return False


def free_port() -> int:
    """Return a port that is free, with the one above it, which the server takes too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return int(port)
