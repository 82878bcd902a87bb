"""The access matrix: a real Envoy in front of a real model server, by HTTP/1.1, HTTP/2 and gRPC."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from mlserver.grpc import dataplane_pb2 as messages

from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components.inference_monitoring.reading import Call, read_line
from kfp_custody.components.seldon_deployment import child, local_server, process
from kfp_custody.components.seldon_deployment.decision import require_admitted
from kfp_custody.components.seldon_deployment.door import proxy
from kfp_custody.components.seldon_deployment.door.envoy import Backend
from kfp_custody.components.seldon_deployment.door.spec import GRPC_INFER
from services.doors import Keys, OpenDoor, open_door
from unit.seldon_deployment.signed_models import decide, sign, trust_text, write_model

pytestmark = pytest.mark.services
MODEL = "fraud-detection"
WEIGHTS = {MODEL: {"only": 100}, "churn": {"only": 100}}
INPUTS = [
    {"name": "amount", "datatype": "FP64", "shape": [1, 1], "data": [12.5]},
    {"name": "channel", "datatype": "BYTES", "shape": [1, 1], "data": ["pos"]},
    {"name": "is_foreign", "datatype": "BOOL", "shape": [1, 1], "data": [True]},
]


def request(padding: int = 0, model: str = MODEL) -> messages.ModelInferRequest:
    tensor, content = messages.ModelInferRequest.InferInputTensor, messages.InferTensorContents
    inputs = [
        tensor(name="amount", datatype="FP64", shape=[1, 1], contents=content(fp64_contents=[12.5])),
        tensor(name="channel", datatype="BYTES", shape=[1, 1], contents=content(bytes_contents=[b"pos"])),
        tensor(name="is_foreign", datatype="BOOL", shape=[1, 1], contents=content(bool_contents=[True])),
    ]
    return messages.ModelInferRequest(model_name=model, id="x" * padding, inputs=inputs)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A real MLServer with two verified models: the one that is asked for, and one that is not the client's."""
    root = tmp_path_factory.mktemp("served")
    generate_key(root / "key.pem")
    signer = load_signer(f"file:{root}/key.pem")
    (root / "trust.yaml").write_text(trust_text(signer))
    (port,) = child.free_ports(1)
    settings = load_settings({"CUSTODY_TRUST": str(root / "trust.yaml"), "CUSTODY_SERVING_DIR": str(root / "serving"),
                              "CUSTODY_SERVING_PORT": str(port)})  # fmt: skip
    try:
        for name in (MODEL, "churn"):
            signed = sign(write_model(root / name / "model", 1), signer)
            decision = decide(root / f"decision-{name}", signed / "model", signer, "run", service=name)
            trust = load_trust(settings.trust_file)
            admitted = require_admitted(signed, decision, trust, run_id="run", name=name)
            local_server.serve(admitted, name, settings, 60)
        server = process.running(settings.serving_dir)
        assert server is not None
        yield Backend("only", server.http_port, server.grpc_port)
    finally:
        local_server.stop(settings.serving_dir)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, keys: Keys, backend: Backend) -> Iterator[OpenDoor]:
    with open_door(tmp_path_factory.mktemp("door") / "a", keys, [backend], WEIGHTS,
                   limits={"requests_per_second": 1000, "burst": 1000, "body_bytes": 65_536}) as opened:  # fmt: skip
        yield opened


@pytest.fixture(scope="module")
def far_door(tmp_path_factory: pytest.TempPathFactory, keys: Keys, backend: Backend) -> Iterator[OpenDoor]:
    """It lets in an address that nobody here has."""
    with open_door(tmp_path_factory.mktemp("door") / "b", keys, [backend], WEIGHTS, addresses=["10.9.0.0/16"]) as one:
        yield one


@dataclass(frozen=True)
class Attempt:
    """Who asks what with which token, and what must become of it: HTTP status (0: no connection), gRPC status."""

    http: int
    grpc: grpc.StatusCode
    who: str | None = "scoring"
    token: dict[str, Any] | None = field(default_factory=dict)
    model: str = MODEL
    bytes: int = 0


UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
ATTEMPTS = {
    "good": Attempt(200, grpc.StatusCode.OK),
    "no certificate": Attempt(0, grpc.StatusCode.UNAVAILABLE, who=None),
    "certificate of another authority": Attempt(0, grpc.StatusCode.UNAVAILABLE, who="own-authority"),
    "certificate of another domain": Attempt(0, grpc.StatusCode.UNAVAILABLE, who="other-domain"),
    "identity of nobody known": Attempt(403, DENIED, who="stranger"),
    "identity of another model's client": Attempt(403, DENIED, who="other-model"),
    "other model": Attempt(403, DENIED, model="churn"),
    "unknown model": Attempt(403, DENIED, model="nothing"),
    "no token": Attempt(401, UNAUTHENTICATED, token=None),
    "expired": Attempt(401, UNAUTHENTICATED, token={"lifetime": -5}),
    "no expiry": Attempt(401, UNAUTHENTICATED, token={"exp": None}),
    "forged": Attempt(401, UNAUTHENTICATED, token={"forged": True}),
    "wrong issuer": Attempt(401, UNAUTHENTICATED, token={"iss": "https://elsewhere.example"}),
    "wrong audience": Attempt(403, DENIED, token={"aud": "another-service"}),
    "somebody else's token": Attempt(403, DENIED, token={"sub": "another"}),
    "oversized body": Attempt(413, grpc.StatusCode.UNKNOWN, bytes=100_000),
}


def attempt_http(door: OpenDoor, attempt: Attempt, http2: bool) -> int:
    headers = {"authorization": f"Bearer {door.keys.token(**attempt.token)}"} if attempt.token is not None else {}
    body = {"id": "x" * attempt.bytes, "inputs": INPUTS}
    with door.client(attempt.who, http2) as client:
        try:
            answer = client.post(f"/v2/models/{attempt.model}/infer", json=body, headers=headers)
        except httpx.TransportError:
            return 0
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert "envoy" not in json.dumps(dict(answer.headers)), "a client need not know what the door is made of"
    return answer.status_code


@pytest.mark.parametrize("name", ATTEMPTS)
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_by_http(door: OpenDoor, name: str, http2: bool) -> None:
    assert attempt_http(door, ATTEMPTS[name], http2) == ATTEMPTS[name].http


@pytest.mark.parametrize("name", ATTEMPTS)
def test_by_grpc(door: OpenDoor, name: str) -> None:
    attempt = ATTEMPTS[name]
    token = door.keys.token(**attempt.token) if attempt.token is not None else None
    found = door.infer_grpc(attempt.who, token, request(attempt.bytes, attempt.model), attempt.model)
    assert found == attempt.grpc


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/v2/repository/models/{MODEL}/unload"),
        ("POST", "/v2/repository/index"),
        ("GET", "/v2"),
        ("GET", "/v2/health/ready"),
        ("GET", "/v2/docs"),
        ("GET", "/metrics"),
        ("GET", "/stats"),
        ("POST", f"/v2/models/{MODEL}/versions/1/infer"),
        ("GET", f"/v2/models/{MODEL}/infer"),
        ("POST", f"/v2/models/{MODEL}"),
        ("POST", f"/v2/models/churn/../{MODEL}/../../repository/index"),
        ("POST", f"/v2/models/{MODEL}/infer/../../churn/infer"),
        ("POST", f"/v2//models/{MODEL}/infer/extra"),
        ("POST", "/invocations"),
    ],
)
def test_a_closed_path(door: OpenDoor, method: str, path: str, http2: bool) -> None:
    with door.client(http2=http2) as client:
        address = httpx.URL(f"https://localhost:{door.port}").copy_with(raw_path=path.encode())
        answer = client.request(method, address, headers={"authorization": f"Bearer {door.keys.token()}"})
    assert answer.status_code == 403


def test_an_escaped_slash_is_no_way_around(door: OpenDoor) -> None:
    with door.client() as client:
        address = httpx.URL(f"https://localhost:{door.port}").copy_with(raw_path=b"/v2/models/churn%2finfer")
        answer = client.post(address, headers={"authorization": f"Bearer {door.keys.token()}"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "method",
    [
        "/inference.model_repository.ModelRepositoryService/RepositoryModelUnload",
        "/inference.GRPCInferenceService/RepositoryModelUnload",
        "/inference.GRPCInferenceService/ModelMetadata",
        "/inference.GRPCInferenceService/ServerLive",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_a_closed_method(door: OpenDoor, method: str) -> None:
    assert door.infer_grpc("scoring", door.keys.token(), request(), MODEL, method) == DENIED


def test_a_message_cannot_name_another_model_than_its_header(door: OpenDoor) -> None:
    token = door.keys.token()
    assert door.infer_grpc("scoring", token, request(model="churn"), MODEL) == grpc.StatusCode.INVALID_ARGUMENT
    assert door.infer_grpc("scoring", token, request(), None) == DENIED


def test_what_a_client_may_know_of_its_model(door: OpenDoor) -> None:
    with door.client() as client:
        client.headers["authorization"] = f"Bearer {door.keys.token()}"
        assert client.get(f"/v2/models/{MODEL}/ready").status_code == 200
        assert [one["name"] for one in client.get(f"/v2/models/{MODEL}").json()["inputs"]] == [
            one["name"] for one in INPUTS
        ]
        assert client.get("/v2/models/churn").status_code == 403


@pytest.mark.parametrize("way", ["http1", "http2", "grpc"])
def test_an_address_that_is_not_allowed(far_door: OpenDoor, way: str) -> None:
    if way == "grpc":
        assert far_door.infer_grpc("scoring", far_door.keys.token(), request(), MODEL) == DENIED
    else:
        assert attempt_http(far_door, ATTEMPTS["good"], way == "http2") == 403


def test_another_address_of_this_machine_is_not_allowed_either(door: OpenDoor) -> None:
    with door.client(local_address="127.0.0.2") as client:
        headers = {"authorization": f"Bearer {door.keys.token()}", "x-forwarded-for": "127.0.0.1"}
        assert client.post(f"/v2/models/{MODEL}/infer", json={"inputs": INPUTS}, headers=headers).status_code == 403


@pytest.mark.parametrize("way", ["http1", "http2", "grpc"])
def test_a_flood(tmp_path: Path, keys: Keys, backend: Backend, way: str) -> None:
    limits = {"requests_per_second": 1, "burst": 5}
    with open_door(tmp_path / "door", keys, [backend], WEIGHTS, limits=limits) as door:
        token = keys.token()
        began = time.monotonic()
        if way == "grpc":
            found = [door.infer_grpc("scoring", token, request(), MODEL) for _ in range(20)]
            passed, refused = found.count(grpc.StatusCode.OK), found.count(grpc.StatusCode.RESOURCE_EXHAUSTED)
        else:
            with door.client(http2=way == "http2") as client:
                client.headers["authorization"] = f"Bearer {token}"
                paths = [f"/v2/models/{MODEL}/infer"] * 20
                found = [client.post(path, json={"inputs": INPUTS}).status_code for path in paths]
            passed, refused = found.count(200), found.count(429)
        assert passed + refused == 20
        assert 5 <= passed <= 6 + int(time.monotonic() - began)


def test_an_answer_that_takes_too_long(tmp_path: Path, keys: Keys) -> None:
    """A server that accepts and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hung = Backend("hung", port, port)
        with (
            open_door(tmp_path / "d", keys, [hung], {MODEL: {"hung": 100}}, limits={"timeout_seconds": 1}) as door,
            door.client() as client,
        ):
            client.headers["authorization"] = f"Bearer {keys.token()}"
            assert client.post(f"/v2/models/{MODEL}/infer", json={"inputs": INPUTS}).status_code == 504


def test_the_log_tells_who_asked_and_why_it_was_refused_and_no_token(door: OpenDoor) -> None:
    log = door.files.directory / "access.jsonl"
    token = door.keys.token(sub="another")
    with door.client() as client:
        headers = {"authorization": f"Bearer {token}"}
        client.post(f"/v2/models/{MODEL}/infer?secret=1", json={"inputs": INPUTS}, headers=headers)
    deadline = time.monotonic() + 15
    wanted = {
        "identity": "spiffe://bank.example/ns/apps/sa/scoring",
        "status": 403,
        "path": f"/v2/models/{MODEL}/infer",
        "method": "POST",
    }

    def told() -> bool:
        entries = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        refused = [entry for entry in entries if str(entry["why"]).startswith("rbac_access_denied")]
        return any(wanted.items() <= entry.items() for entry in refused)

    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    calls = [read_line(json.loads(line)) for line in lines]  # what monitor_inference makes of it
    assert (wanted["identity"], 403) in {(call.client, call.status) for call in calls if isinstance(call, Call)}
    assert all(isinstance(call, Call) and call.seconds is not None for call in calls)
    assert token not in log.read_text()
    assert "secret" not in log.read_text()


def test_the_administration_is_no_port_and_of_this_user_alone(door: OpenDoor) -> None:
    started = proxy.running(door.files.directory)
    assert started is not None
    inodes = {link.readlink().name for link in Path(f"/proc/{started.pid}/fd").iterdir() if link.is_symlink()}
    listening = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *rest = line.split()
        if state == "0A" and f"socket:[{rest[5]}]" in inodes:
            listening.append(local)
    assert {int(local.split(":")[1], 16) for local in listening} == {door.port}
    assert {local.split(":")[0] for local in listening} == {"0100007F"}
    assert (door.files.directory / "admin.sock").stat().st_mode & 0o077 == 0


def test_grpc_infer_is_the_method_of_the_protocol() -> None:
    assert GRPC_INFER.rsplit("/", 1)[1] in messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
