"""What the locked door costs: a real MLServer asked through it, beside the same server asked directly.

The door is a real Envoy that asks for a client's certificate, verifies the token's signature, decides about identity,
model, path and address, counts against the rate, and holds the body back until it is whole. Both ways are asked in
turns, in the same run, by four clients that keep their connections; each figure is the median of the turns. CPU of the
door is what the kernel counted for its process. The clients take their share of the same processors, both ways alike.
"""

import http.client
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from _table import Result, publish

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.model_signature import sign_model_tree
from kfp_custody.components._shared.scoring import read_signature
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components.seldon_deployment import child, local_server, process
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.door import identity, proxy
from kfp_custody.components.seldon_deployment.door.envoy import Backend, Files
from kfp_custody.components.seldon_deployment.door.spec import load_door
from kfp_custody.components.seldon_deployment.smoke import smoke_request

CLIENTS, REQUESTS, TURNS = 4, 500, 5
NAME = "fraud-detection"
FEATURES = [{"name": f"x{number}", "type": "number"} for number in range(8)]
SIGNATURE = {
    "schema_version": 1,
    "format": "xgboost-ubj",
    "file": "model.ubj",
    "features": FEATURES,
    "label": "y",
    "threshold": 0.5,
    "trusted_types": [],
}


def main() -> int:
    """Serve a small model, and ask it both ways in turns."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        server, request = _serve(root)
        keys, proxied, port = _open(root, server)
        context, token = identity.client_context(keys), identity.token(keys, 3600)
        through = lambda: _ask(  # noqa: E731
            lambda: http.client.HTTPSConnection("localhost", port, context=context), request, f"Bearer {token}"
        )
        bare = lambda: _ask(lambda: http.client.HTTPConnection("127.0.0.1", server.http_port), request)  # noqa: E731
        try:
            bare(), through()
            turns, cpu = [], []
            for _ in range(TURNS):
                direct, before = bare(), _cpu(proxied.pid)
                turns.append((direct, through()))
                cpu.append((_cpu(proxied.pid) - before) / (CLIENTS * REQUESTS) * 1000)
        finally:
            proxy.end(root / "door", proxied)
            local_server.stop(root / "serving")
    results = [
        Result("CPU of the door a request", median(cpu), None, "CPU ms", goal=1.0, most=True),
        _compare("requests a second", turns, "1/s", lambda seconds, whole: len(seconds) / whole),
        _compare("p50 of an answer", turns, "ms", lambda seconds, _: median(seconds) * 1000),
        _compare("p99 of an answer", turns, "ms", lambda seconds, _: quantiles(seconds, n=100)[98] * 1000),
    ]
    return 0 if publish("door", results) else 1


Turn = tuple[list[float], float]


def _compare(
    name: str, turns: list[tuple[Turn, Turn]], unit: str, figure: Callable[[list[float], float], float]
) -> Result:
    bare, through = (median(figure(*turn[way]) for turn in turns) for way in (0, 1))
    return Result(name, through, bare, unit, peer_name="the same MLServer without a door")


def _serve(root: Path) -> tuple[process.Server, bytes]:
    """Train a small model on noise, sign it, serve it as deploy_model does; return the server and a request."""
    import numpy as np
    import xgboost

    model, chance = root / "signed" / "model", np.random.default_rng(0)
    model.mkdir(parents=True)
    matrix = chance.random((2000, len(FEATURES)))
    data = xgboost.DMatrix(matrix, label=(matrix[:, 0] > matrix[:, 1]).astype(int))
    xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, num_boost_round=50).save_model(
        model / "model.ubj"
    )
    (model / "signature.json").write_text(json.dumps(SIGNATURE))
    generate_key(root / "key.pem")
    signer = load_signer(f"file:{root}/key.pem")
    sign_model_tree(model, root / "signed" / "model.sig", signer)
    pem = public_pem(public_key(signer)).decode().replace("\n", "\n      ").rstrip()
    (root / "trust.yaml").write_text(
        f"version: 1\nsigners:\n  - name: pipeline\n    key: |\n      {pem}\n    may_sign: [sign-model]\n"
    )
    (port,) = child.free_ports(1)
    settings = load_settings(
        {
            "CUSTODY_TRUST": str(root / "trust.yaml"),
            "CUSTODY_SERVING_DIR": str(root / "serving"),
            "CUSTODY_SERVING_PORT": str(port),
        }
    )
    signature = sha256_file(root / "signed" / "model.sig")
    no_decision = "0" * 64  # the gate is not what is measured here
    admitted = Admitted(
        root / "signed", list_tree(model), no_decision, signature, no_decision, "", "", datetime.now(UTC)
    )
    local_server.serve(admitted, NAME, settings, 120)
    server = process.running(settings.serving_dir)
    assert server is not None
    return server, json.dumps(smoke_request(read_signature(model))).encode()


def _open(root: Path, server: process.Server) -> tuple[Path, proxy.Proxy, int]:
    keys = identity.ensure(root / "identity", [NAME])
    door = load_door(keys / "door.yaml")
    door = replace(door, limits=replace(door.limits, requests_per_second=1_000_000, burst=1_000_000))
    files = Files(keys / "ca.pem", keys / "server.pem", keys / "server.key", root / "door")
    (port,) = child.free_ports(1)
    backend = Backend("only", server.http_port, server.grpc_port)
    return keys, proxy.ensure(door, files, port, [backend], {NAME: {"only": 100}}, time.monotonic() + 20), port


def _ask(connect: Callable[[], http.client.HTTPConnection], request: bytes, token: str = "") -> Turn:
    """Ask from every client, and return the seconds of each answer and of the whole."""
    seconds: list[float] = []

    def client() -> None:
        connection, own = connect(), list[float]()
        headers = {"content-type": "application/json", **({"authorization": token} if token else {})}
        for _ in range(REQUESTS):
            began = time.perf_counter()
            connection.request("POST", f"/v2/models/{NAME}/infer", request, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            own.append(time.perf_counter() - began)
        connection.close()
        seconds.extend(own)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seconds) == CLIENTS * REQUESTS
    return seconds, time.perf_counter() - began


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    raise SystemExit(main())
