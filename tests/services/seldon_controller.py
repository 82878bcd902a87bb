"""A stand-in for Seldon Core v2 behind the fake Kubernetes API: real model servers and a real Envoy do what it says.

| Seldon Core v2 | here |
|---|---|
| scheduler and operator | a thread that follows Models and Experiments one after the other, and writes their status |
| a Server's pod: MLServer | for each Model a real MLServer of ours, with the repository that verifies |
| its agent | `Agent`: renames the model in the path, and counts what MLServer answered, as Seldon's does |
| seldon-mesh, an Envoy | a real Envoy: this machine's door, with certificates and tokens; files move its weights |
| PodMonitors | one address that tells what all of them count |

What it makes of an object was read in Seldon's sources: names, settings, conditions, and what is counted. A request
that MLServer does not answer at all is in no count of the agent, only in Envoy's. Whether a real Seldon does the same
was not tried. Not there: several replicas, gRPC, pipelines, mirrors, secrets, loading again on demand.
"""

import http.client
import json
import re
import secrets
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Metric, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components.seldon_deployment import child, process
from kfp_custody.components.seldon_deployment.door import proxy
from kfp_custody.components.seldon_deployment.door.envoy import Backend
from kfp_custody.components.seldon_deployment.rollout.exposition import scrape
from kfp_custody.components.seldon_deployment.serving.names import SETTINGS
from kfp_custody.components.seldon_deployment.v2_client import Reply, call
from kube_api import EXPERIMENT, MODEL, Change, FakeApi
from services.doors import OpenDoor

# Envoy is not ready before it has a cluster; nothing is ever sent to this one.
NOBODY = Backend("nobody", 9, 9)
_LABELS = ("server", "server_replica", "model", "model_internal", "method_type", "code")
_QUIET = 0.3  # seconds without a request after which a model that has no share gets none any more


class Agent(ThreadingHTTPServer):
    """What stands before a model server: it knows the model by another name than the caller, and counts the answers."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, model: str, server_port: int, counts: Counter) -> None:
        super().__init__((child.HOST, 0), _Forwarding)
        self.internal, self.model_server = f"{model}_1", server_port
        self._counts, self._names = counts, ("custody", "0", model, self.internal, "rest")
        self._lock, self._open, self._last = threading.Lock(), 0, time.monotonic()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """A request is under way."""
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open, self._last = self._open - 1, time.monotonic()

    def count(self, status: int) -> None:
        """Count what the model server answered."""
        self._counts.labels(*self._names, str(status)).inc()

    def drain(self, deadline: float) -> None:
        """Return when nothing is asked any more, or at a deadline."""
        while self._open or time.monotonic() - self._last < _QUIET:
            if child.pause(deadline) < 0:
                return

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show what went wrong here; a caller that went away is none of it."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Forwarding(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece
    disable_nagle_algorithm = True
    server: Agent

    def do(self) -> None:
        with self.server.asked():
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = re.sub(r"^(/v2/models/)[\w.-]+", rf"\g<1>{self.server.internal}", self.path)
            link = http.client.HTTPConnection(child.HOST, self.server.model_server, timeout=60)
            with closing(link):
                try:
                    link.request(self.command, path, body, dict(self.headers))
                    answer = link.getresponse()
                    status, kind, text = answer.status, answer.headers["Content-Type"], answer.read()
                except (OSError, http.client.HTTPException):
                    self._answer(502, "text/plain", b"")
                    return
            self.server.count(status)
            self._answer(status, kind, text)

    do_GET = do_POST = do  # noqa: N815

    def _answer(self, status: int, kind: str, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Loaded:
    """A Model that is loaded: its server's folder, the server, and the agent before it."""

    folder: Path
    server: process.Server
    agent: Agent

    @property
    def backend(self) -> Backend:
        """The cluster of this model, called as Seldon calls it."""
        return Backend(f"{self.agent.internal}_http", self.agent.server_port, self.server.grpc_port)


class SeldonController:
    """Follows the Models and Experiments of an API as long as it runs."""

    def __init__(self, api: FakeApi, door: OpenDoor, root: Path, trust: Path) -> None:
        """Begin.

        Args:
            api: where the objects are.
            door: Envoy, whose weights the Experiments move.
            root: folder of the model servers.
            trust: trust file that they verify with.
        """
        self._api, self._door, self._root, self._trust = api, door, root, trust
        self._worker, self._work = ThreadPoolExecutor(1), deque[Future[None]]()
        self._loaded: dict[str, Loaded] = {}
        self._shares: dict[str, dict[str, int]] = {}
        self.replies: dict[str, Reply] = {}  # of the model servers, when they were told to load a Model
        counts = CollectorRegistry()
        self._counts = Counter("seldon_model_infer", "Requests to a model", _LABELS, registry=counts)
        told = CollectorRegistry()
        for each in (counts, self):
            told.register(each)  # type: ignore[arg-type]
        (self.metrics_port,) = child.free_ports(1)
        self._http, self._http_thread = start_http_server(self.metrics_port, child.HOST, told)
        api.on_change(self)

    def __call__(self, change: Change) -> None:
        """Hear of a change; it is followed afterwards, as whoever made it does not wait for Seldon."""
        if change.kind in (MODEL, EXPERIMENT):
            self._work.append(self._worker.submit(self._follow, change))

    def settle(self, seconds: float = 60.0) -> None:
        """Return when all changes so far were followed; raise what went wrong."""
        while self._work:
            self._work.popleft().result(seconds)

    def server(self, model: str) -> process.Server:
        """Return the model server of a Model."""
        return self._loaded[model].server

    def collect(self) -> Iterator[Metric]:
        """Yield what Envoy and the model servers that answer count, for Prometheus."""
        envoy = proxy.ask(self._door.files, "/stats/prometheus?filter=%5C.upstream_rq_%5B0-9%5D%2B$", timeout=0.5)
        for family in text_string_to_metric_families(envoy):
            told = Metric(family.name, "As Envoy counts", "unknown")
            for each in family.samples:  # the parser calls every counter _total, which Envoy does not
                told.add_sample(each.name.removesuffix("_total"), each.labels, each.value)
            yield told
        for loaded in list(self._loaded.values()):
            with suppress(ServiceUnreachable):
                text = scrape(f"http://{child.HOST}:{loaded.server.metrics_port}/metrics", timeout=0.5)
                yield from (each for each in text_string_to_metric_families(text) if each.name.startswith("custody_"))

    def close(self) -> None:
        """End everything that was started here."""
        self._worker.shutdown()
        self._http.shutdown()
        self._http.server_close()
        self._http_thread.join()
        for each in self._loaded.values():
            each.agent.close()
            process.end(each.folder, each.server)

    def _follow(self, change: Change) -> None:
        name, spec = change.object["metadata"]["name"], change.object["spec"]
        if change.kind == MODEL:
            if change.type == "ADDED":
                self._load(change.object["metadata"]["namespace"], name, spec)
            elif change.type == "DELETED" and name in self._loaded:
                self._unload(name)
        elif change.type == "DELETED":
            self._shares.pop(name, None)
            self._route()
        elif change.before is None or change.before["spec"] != spec:
            self._shares[name] = {each["name"]: each["weight"] for each in spec["candidates"]}
            self._route()
            self._tell(change, ("CandidatesReady", "ExperimentReady", "Ready"))

    def _load(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        """Bring the files, rewrite their settings as the agent does, and start a server that loads them."""
        folder, internal = self._root / f"{name}-{secrets.token_hex(4)}", f"{name}_1"
        home = folder / "repository" / internal / "1"
        shutil.copytree(spec["storageUri"].removeprefix("file:"), home)
        extra = {each["name"]: each["value"] for each in spec["parameters"]}
        settings = json.loads((home / SETTINGS).read_text())
        settings |= {"name": internal, "parameters": {"version": "1", "extra": extra}}
        (home / SETTINGS).write_text(json.dumps(settings))
        (port,) = child.free_ports(1)
        server = process.start(folder, folder / "repository", port, self._trust, f"custody-{secrets.token_hex(8)}")
        self._loaded[name] = Loaded(folder, server, Agent(name, port, self._counts))
        _await_answer(server, time.monotonic() + 60)
        reply = call("POST", f"{server.url}/v2/repository/models/{internal}/load", timeout=60)
        self.replies[name] = reply
        ready = reply.status == 200
        why = "ModelAvailable" if ready else "ModelFailed"
        conditions = [_condition(each, ready, why, reply.reason) for each in ("ModelReady", "Ready")]
        if self._api.store.get(MODEL, namespace, name):
            self._api.store.set_status(MODEL, namespace, name, {"conditions": conditions, "replicas": int(ready)})

    def _unload(self, name: str) -> None:
        gone = self._loaded[name]
        gone.agent.drain(time.monotonic() + 15)
        del self._loaded[name]
        self._route()
        gone.agent.close()
        process.end(gone.folder, gone.server)

    def _route(self) -> None:
        self._door.backends[:] = [NOBODY, *(each.backend for each in self._loaded.values())]
        weights = {
            service: {self._loaded[name].backend.name: share for name, share in shares.items()}
            for service, shares in self._shares.items()
        }
        self._door.shares(weights)

    def _tell(self, change: Change, conditions: tuple[str, ...]) -> None:
        """Write the status of what was followed; nothing in it says which generation it is of."""
        metadata = change.object["metadata"]
        status = {"conditions": [_condition(each, True) for each in conditions]}
        if self._api.store.get(change.kind, metadata["namespace"], metadata["name"]):
            self._api.store.set_status(change.kind, metadata["namespace"], metadata["name"], status)


def _condition(kind: str, holds: bool, reason: str = "", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": str(holds), "reason": reason, "message": message}


def _await_answer(server: process.Server, deadline: float) -> None:
    while True:
        with suppress(ServiceUnreachable):
            if call("GET", f"{server.url}/v2", timeout=2.0).document.get("name") == server.token:
                return
        assert child.is_alive(server), "the model server ended while starting"
        assert child.pause(deadline) > 0, "the model server does not answer"
