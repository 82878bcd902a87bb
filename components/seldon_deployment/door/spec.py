"""The door file: who may call which model, and how much. It belongs to the platform.

```yaml
version: 1
server_name: fraud.bank.example         # the host that clients ask for, and the server's certificate speaks of
trust_domain: bank.example              # SPIFFE: certificates of other domains do not even connect
tokens:                                 # a bearer token (JWT) besides the certificate
  issuer: https://login.bank.example/realms/ml
  audiences: [custody-serving]
  jwks: https://login.bank.example/realms/ml/keys   # or file:/path, read when the door is rendered
  clock_skew_seconds: 30                # optional, 1 to 300 (to Envoy, 0 would mean 60)
clients:                                # everybody else is refused
  - identity: spiffe://bank.example/ns/apps/sa/scoring
    subject: scoring                    # optional: the token's sub must be this one
    models: [fraud-detection]           # names of services
addresses: [10.0.0.0/8]                 # where connections may come from
limits:                                 # all optional
  body_bytes: 1_048_576                 # larger requests: 413
  requests_per_second: 50               # of all clients together, for each proxy: beyond it 429
  burst: 100
  timeout_seconds: 10                   # of an answer: 504
  connections: 1000                     # at once
resources:                              # optional: of the model servers' namespace
  pods: 10
  cpu: 8
  memory: 16Gi
```

What is open: `POST /v2/models/<m>/infer`, `GET /v2/models/<m>` and `/ready`, and the gRPC method `ModelInfer` with the
header `seldon-model: <m>`. Everything else, the repository API above all, is closed.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.documents import DocumentFault, parse_json, parse_yaml, read_document, require_keys
from kfp_custody.components._shared.errors import Misconfigured

GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_SPIFFE = re.compile(r"spiffe://([a-z0-9._-]+)((/[A-Za-z0-9._-]+)+)")
_MODEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?")
_URL = re.compile(r"https://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")
_PLAIN = re.compile(r"[A-Za-z0-9._:/@|-]{1,200}")
_QUANTITY = re.compile(r"[1-9]\d{0,5}(m|Mi|Gi)?")
_LIMITS = {
    "body_bytes": (1_048_576, 1_073_741_824),
    "requests_per_second": (50, 1_000_000),
    "burst": (100, 1_000_000),
    "timeout_seconds": (10, 3600),
    "connections": (1000, 1_000_000),
}


@dataclass(frozen=True)
class Tokens:
    """What a bearer token must say. `jwks` is an https address, `keys` the key set itself when it came from a file."""

    issuer: str
    audiences: tuple[str, ...]
    jwks: str | None
    keys: str | None
    clock_skew_seconds: int


@dataclass(frozen=True)
class Client:
    """Who may call: the SPIFFE identity of its certificate, the token's subject or None for any, and which models."""

    identity: str
    subject: str | None
    models: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """How much: bytes of a request, requests a second and at once, seconds of an answer, connections."""

    body_bytes: int
    requests_per_second: int
    burst: int
    timeout_seconds: int
    connections: int


@dataclass(frozen=True)
class Door:
    """The file, read."""

    server_name: str
    trust_domain: str
    tokens: Tokens
    clients: tuple[Client, ...]
    addresses: tuple[str, ...]
    limits: Limits
    resources: dict[str, str]

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that somebody may call, sorted."""
        return tuple(sorted({model for client in self.clients for model in client.models}))


def paths_of(model: str) -> tuple[tuple[str, str], ...]:
    """Return the open (method, path) pairs of a model."""
    base = f"/v2/models/{model}"
    return (("POST", f"{base}/infer"), ("GET", base), ("GET", f"{base}/ready"))


def load_door(path: Path) -> Door:
    """Read a door file strictly.

    Raises:
        Misconfigured: it is missing or malformed, or would leave something open.
    """
    try:
        return parse_door(read_document(path))
    except (DocumentFault, OSError) as error:
        reason = str(error) if isinstance(error, DocumentFault) else type(error).__name__
        raise Misconfigured(
            "The door file cannot be used.",
            evidence=f"{path}: {reason}",
            remedy="Correct it; components/seldon_deployment/door/spec.py explains every field.",
        ) from error


def parse_door(data: bytes) -> Door:
    """Read the text of a door file.

    Raises:
        DocumentFault: with the reason.
        OSError: the key set that it names cannot be read.
    """
    required = ("version", "server_name", "trust_domain", "tokens", "clients", "addresses")
    document = require_keys(parse_yaml(data), "the file", required, ("limits", "resources"))
    if type(document["version"]) is not int or document["version"] != 1:
        raise DocumentFault("its version is not 1")
    domain = _text(document["trust_domain"], "trust_domain", _HOST)
    clients = tuple(_client(one, f"client {n}", domain) for n, one in enumerate(_list(document, "clients"), 1))
    if len({(client.identity, client.subject) for client in clients}) < len(clients):
        raise DocumentFault("a client stands in it twice")
    return Door(
        server_name=_text(document["server_name"], "server_name", _HOST),
        trust_domain=domain,
        tokens=_tokens(document["tokens"]),
        clients=clients,
        addresses=tuple(_network(one) for one in _list(document, "addresses")),
        limits=_limits(document.get("limits", {})),
        resources=_resources(document.get("resources", {})),
    )


def _tokens(value: Any) -> Tokens:
    tokens = require_keys(value, "tokens", ("issuer", "audiences", "jwks"), ("clock_skew_seconds",))
    issuer = _text(tokens["issuer"], "tokens.issuer", _URL)
    audiences = tuple(_text(one, "an audience", _PLAIN) for one in _list(tokens, "audiences"))
    where, keys = tokens["jwks"], None
    if isinstance(where, str) and where.startswith("file:"):
        keys = _key_set(read_document(Path(where.removeprefix("file:"))))
        where = None
    elif not isinstance(where, str) or not _URL.fullmatch(where):
        raise DocumentFault("tokens.jwks is neither an https address nor file:/path")
    skew = _number(tokens.get("clock_skew_seconds", 30), "tokens.clock_skew_seconds", 1, 300)
    return Tokens(issuer, audiences, where, keys, skew)


def _key_set(data: bytes) -> str:
    """Return a JWKS without anything but public keys of an algorithm that needs no shared secret."""
    keys = require_keys(parse_json(data), "the key set", ("keys",))["keys"]
    if not isinstance(keys, list) or not keys:
        raise DocumentFault("the key set has no keys")
    for key in keys:
        if not isinstance(key, dict) or key.get("kty") not in ("EC", "RSA", "OKP") or "d" in key:
            raise DocumentFault("the key set holds something else than public EC, RSA or OKP keys")
    return data.decode()


def _client(value: Any, where: str, domain: str) -> Client:
    client = require_keys(value, where, ("identity", "models"), ("subject",))
    identity = _text(client["identity"], f"{where}: identity", _SPIFFE)
    if not identity.startswith(f"spiffe://{domain}/"):
        raise DocumentFault(f"{where}: its identity is not of the trust domain")
    subject = client.get("subject")
    models = tuple(_text(one, f"{where}: a model", _MODEL) for one in _list(client, "models"))
    return Client(identity, None if subject is None else _text(subject, f"{where}: subject", _PLAIN), models)


def _limits(value: Any) -> Limits:
    given = require_keys(value, "limits", (), tuple(_LIMITS))
    return Limits(**{name: _number(given.get(name, of[0]), f"limits.{name}", 1, of[1]) for name, of in _LIMITS.items()})


def _resources(value: Any) -> dict[str, str]:
    defaults = {"pods": 10, "cpu": 8, "memory": "16Gi"}
    given = {**defaults, **require_keys(value, "resources", (), tuple(defaults))}
    return {name: _text(str(amount), f"resources.{name}", _QUANTITY) for name, amount in given.items()}


def _network(value: Any) -> str:
    try:
        network = ipaddress.ip_network(_text(value, "an address", re.compile(r"[0-9a-f.:/]+")))
    except ValueError as error:
        raise DocumentFault(f"an address is no network such as 10.0.0.0/8 ({error})") from error
    if network.prefixlen == 0:
        raise DocumentFault("an address allows the whole world")
    return str(network)


def _list(document: Any, name: str) -> Sequence[Any]:
    value = document[name]
    if not isinstance(value, list) or not value:
        raise DocumentFault(f"{name} is no list with entries")
    return value


def _text(value: Any, where: str, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise DocumentFault(f"{where} is not of the form that it must have")
    return value


def _number(value: Any, where: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise DocumentFault(f"{where} is no whole number from {least} to {most}")
    return value
