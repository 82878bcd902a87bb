"""Real doors for tests: an Envoy with certificates, tokens and clients of all kinds, before a real model server."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc import dataplane_pb2_grpc as services

from kfp_custody.components.seldon_deployment import child
from kfp_custody.components.seldon_deployment.door import proxy
from kfp_custody.components.seldon_deployment.door.envoy import Backend, Files
from kfp_custody.components.seldon_deployment.door.identity import Authority, public_jwk
from kfp_custody.components.seldon_deployment.door.spec import GRPC_INFER, Door, load_door

ISSUER, AUDIENCE = "https://login.bank.example/realms/ml", "custody-serving"
IDENTITIES = {
    "scoring": "spiffe://bank.example/ns/apps/sa/scoring",
    "stranger": "spiffe://bank.example/ns/apps/sa/stranger",
    "other-model": "spiffe://bank.example/ns/apps/sa/other",
    "other-domain": "spiffe://thief.example/ns/apps/sa/scoring",
}


class Keys:
    """One trust domain: its authority, certificates of clients, and the issuer's key for tokens."""

    def __init__(self, root: Path) -> None:
        self.root = root
        authority, thief = Authority("bank.example"), Authority("bank.example")
        self.ca = self._write("ca.pem", authority.pem)
        names: list[x509.GeneralName] = [x509.DNSName("localhost")]
        certificate, key = authority.issue(names, server=True)
        self.server = self._write("server.pem", certificate), self._write("server.key", key)
        for name, identity in IDENTITIES.items():
            self._client(name, authority, identity)
        self._client("own-authority", thief, IDENTITIES["scoring"])
        self.issuer, self.forger = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.jwks = self._write("jwks.json", json.dumps({"keys": [public_jwk(self.issuer, "1")]}).encode())

    def _client(self, name: str, authority: Authority, identity: str) -> None:
        certificate, key = authority.issue([x509.UniformResourceIdentifier(identity)])
        self._write(f"{name}.pem", certificate)
        self._write(f"{name}.key", key)

    def _write(self, name: str, data: bytes) -> Path:
        (self.root / name).write_bytes(data)
        return self.root / name

    def token(self, **changes: Any) -> str:
        """A good token, or one with other claims; `forged` signs with a key of somebody else."""
        key = self.forger if changes.pop("forged", False) else self.issuer
        lifetime = changes.pop("lifetime", 300)
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "scoring", "exp": int(time.time()) + lifetime} | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return jwt.encode(claims, pem.decode(), algorithm="ES256", headers={"kid": "1"})


@dataclass
class OpenDoor:
    """A door that runs, and how to call through it."""

    keys: Keys
    door: Door
    files: Files
    port: int
    backends: list[Backend]

    def client(self, who: str | None = "scoring", http2: bool = False, **options: Any) -> httpx.Client:
        """An HTTP client with somebody's certificate, or with none."""
        import ssl

        context = ssl.create_default_context(cafile=str(self.keys.ca))
        if who:
            context.load_cert_chain(self.keys.root / f"{who}.pem", self.keys.root / f"{who}.key")
        context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
        base = f"https://localhost:{self.port}"
        transport = httpx.HTTPTransport(verify=context, http1=not http2, http2=http2, **options)
        return httpx.Client(base_url=base, transport=transport, timeout=20, trust_env=False)

    def infer_grpc(self, who: str | None, token: str | None, request: messages.ModelInferRequest, model: str | None,
                   method: str = GRPC_INFER) -> grpc.StatusCode:  # fmt: skip
        """The status of one call of ModelInfer (or of another method)."""
        certificate = (self.keys.root / f"{who}.pem").read_bytes() if who else None
        key = (self.keys.root / f"{who}.key").read_bytes() if who else None
        credentials = grpc.ssl_channel_credentials(self.keys.ca.read_bytes(), key, certificate)
        headers = [("authorization", f"Bearer {token}")] if token else []
        headers += [("seldon-model", model)] if model else []
        with grpc.secure_channel(f"localhost:{self.port}", credentials) as channel:
            stub = services.GRPCInferenceServiceStub(channel)
            call = stub.ModelInfer if method == GRPC_INFER else channel.unary_unary(
                method, request_serializer=lambda message: message.SerializeToString(), response_deserializer=bytes
            )  # fmt: skip
            try:
                call(request, metadata=headers, timeout=20)
            except grpc.RpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    def shares(self, weights: dict[str, dict[str, int]]) -> None:
        """Move the weights."""
        proxy.set_weights(self.door, self.files, self.backends, weights, time.monotonic() + 10)


@contextmanager
def open_door(root: Path, keys: Keys, backends: list[Backend], weights: dict[str, dict[str, int]], **changes: Any
              ) -> Iterator[OpenDoor]:  # fmt: skip
    """Run a door whose file has these changes."""
    root.mkdir(parents=True)
    document = {
        "version": 1,
        "server_name": "localhost",
        "trust_domain": "bank.example",
        "tokens": {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": f"file:{keys.jwks}", "clock_skew_seconds": 1},
        "clients": [
            {"identity": IDENTITIES["scoring"], "subject": "scoring", "models": ["fraud-detection"]},
            {"identity": IDENTITIES["other-model"], "models": ["churn"]},
        ],
        "addresses": ["127.0.0.1/32"],
        **changes,
    }
    (root / "door.yaml").write_text(json.dumps(document))
    door, files = load_door(root / "door.yaml"), Files(keys.ca, *keys.server, root / "envoy")
    (port,) = child.free_ports(1)
    started = proxy.ensure(door, files, port, backends, weights, time.monotonic() + 20)
    try:
        yield OpenDoor(keys, door, files, port, backends)
    finally:
        proxy.end(files.directory, started)
