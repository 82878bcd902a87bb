"""A stand-in for the API of Kubeflow Pipelines, because no KFP server can run here.

It is no KFP server. It was written from the models of kfp_server_api (every request body is checked against them) and
from what the API server's sources of 2.17 say about limits, filters, names and errors. It keeps pipelines, versions,
experiments, runs and recurring runs in memory; it starts nothing. A test says how runs end (`finish`), when a schedule
fires (`fire`), who may do what (`tokens`, `session`), and what goes wrong (`Fault`).
"""

import json
import re
import socket
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_schema
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

Object = dict[str, Any]
LOGIN = b"<!doctype html><html><title>Log in to your account</title><form action=/dex/auth></form></html>"
LIMITS = {"pipeline": 128, "version": 127, "experiment": 128, "display": 255, "parameters": 10_000}


class Answer(Exception):
    """An error as the API gives it: an HTTP status, and JSON with a gRPC code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Fault:
    """What goes wrong with the next requests that match.

    `how`: a status (JSON), "login" (a page with status 200), "redirect", "page" (a page with 404), "sign-in" (a page
    with 403), "text" (plain text with 403), "drop" (no answer),
    "lost" (done, and then no answer), "slow" (no answer until `release` is set).
    """

    method: str
    path: str
    how: int | str
    times: int = 1
    message: str = "an injected fault"


@dataclass
class State:
    """Everything the server knows, by id."""

    pipelines: dict[str, Object] = field(default_factory=dict)
    versions: dict[str, Object] = field(default_factory=dict)
    experiments: dict[str, Object] = field(default_factory=dict)
    runs: dict[str, Object] = field(default_factory=dict)
    recurring: dict[str, Object] = field(default_factory=dict)


class KfpApi(ThreadingHTTPServer):
    """The server; start it with `serving`."""

    daemon_threads = True

    def __init__(self, *, multi_user: bool = False, base: str = "/pipeline", page_size: int = 100) -> None:
        """Listen on a free port of the loopback interface.

        Args:
            multi_user: Whether objects belong to namespaces.
            base: Where the API is; every other path is the dashboard's.
            page_size: The most that a listing returns at once.
        """
        super().__init__(("127.0.0.1", 0), Handler)
        self.multi_user, self.base, self.page_size = multi_user, base, page_size
        self.state, self.lock = State(), threading.RLock()
        self.tokens: dict[str, set[str]] = {}  # token -> namespaces; empty lets everybody in
        self.session = ""  # a Cookie header that is let in as well
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.now: Callable[[], float] = time.time
        self.release = threading.Event()
        self.progress: list[str] = []  # the states that a run goes through, one at each look
        self.error = ""
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}{self.base}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet about clients that went away, and about nothing else."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    # --- what a test does ---------------------------------------------------------------------------------------------

    def finish(self, run_id: str, state: str) -> None:
        with self.lock:
            self.state.runs[run_id]["state"] = state

    def fire(self, recurring_id: str, scheduled: datetime) -> str:
        """Start the run of a schedule at a time, as the controller does, and return its id."""
        with self.lock:
            schedule = self.state.recurring[recurring_id]
            assert schedule["status"] == "ENABLED", "a disabled schedule does not fire"
            macros = {"ScheduledTime": scheduled, "CurrentTime": datetime.fromtimestamp(self.now(), UTC)}

            def replace(value: Any) -> Any:
                for name, moment in macros.items() if isinstance(value, str) else ():
                    value = value.replace(f"[[{name}]]", moment.strftime("%Y%m%d%H%M%S"))
                    value = value.replace(f"[[{name}.2006-01-02]]", moment.strftime("%Y-%m-%d"))
                return value

            parameters = schedule["runtime_config"].get("parameters", {})
            return self._add_run(
                {
                    "display_name": f"{schedule['display_name']}-{scheduled:%Y%m%d%H%M%S}",
                    "experiment_id": schedule["experiment_id"],
                    "pipeline_version_reference": schedule["pipeline_version_reference"],
                    "runtime_config": {"parameters": {name: replace(value) for name, value in parameters.items()}},
                    "service_account": schedule["service_account"],
                    "recurring_run_id": recurring_id,
                }
            )["run_id"]

    def sent(self, method: str, path: str) -> list[Object]:
        """Return the JSON bodies of the requests to a path."""
        return [json.loads(body) for verb, where, _, body in self.asked if verb == method and where.endswith(path)]

    # --- the API ------------------------------------------------------------------------------------------------------

    def route(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, namespaces: set[str] | None
    ) -> Object:
        """Answer one request to the API."""
        for verb, pattern, call, kind in _ROUTES:
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                with self.lock:
                    answer = call(self, Request([unquote(part) for part in match.groups()], query, body, namespaces))
                    kfp_schema.check(answer, kind, "answer")
                    return answer
        raise Answer(404, "Not Found")

    def healthz(self, request: "Request") -> Object:
        return {"multi_user": self.multi_user}

    def create_pipeline(self, request: "Request") -> Object:
        body = request.json("V2beta1Pipeline")
        name = body.get("name") or body.get("display_name") or ""
        return self._add_pipeline(request, name, body.get("description", ""), body.get("namespace", ""))

    def upload_pipeline(self, request: "Request") -> Object:
        """What the user interface does: a pipeline, and a first version of the same name."""
        name, spec = request.query.get("name", ""), request.spec()
        description = request.query.get("description", "")
        pipeline = self._add_pipeline(request, name, description, request.query.get("namespace", ""))
        self._add_version(pipeline["pipeline_id"], name, description, spec)
        return pipeline

    def list_pipelines(self, request: "Request") -> Object:
        namespace = request.namespace(self, request.query.get("namespace", ""), shared=True)
        found = [entry for entry in self.state.pipelines.values() if entry.get("namespace", "") == namespace]
        return self._page(request, "pipelines", found)

    def get_pipeline(self, request: "Request") -> Object:
        return self._get("pipelines", request.parts[0])

    def upload_version(self, request: "Request") -> Object:
        pipeline = self._get("pipelines", request.query.get("pipelineid", ""))
        request.namespace(self, pipeline.get("namespace", ""), shared=True)
        name = request.query.get("name", "")
        return self._add_version(pipeline["pipeline_id"], name, request.query.get("description", ""), request.spec())

    def list_versions(self, request: "Request") -> Object:
        self._get("pipelines", request.parts[0])
        found = [entry for entry in self.state.versions.values() if entry["pipeline_id"] == request.parts[0]]
        return self._page(request, "pipeline_versions", found)

    def get_version(self, request: "Request") -> Object:
        return self._get("versions", request.parts[1])

    def create_experiment(self, request: "Request") -> Object:
        body = request.json("V2beta1Experiment")
        namespace, name = request.namespace(self, body.get("namespace", "")), body.get("display_name", "")
        _require_name("experiment", name)
        if any(e["display_name"] == name and e["namespace"] == namespace for e in self.state.experiments.values()):
            raise Answer(409, f"Already exist error: experiment {name}")
        return self._add("experiments", "experiment_id", {"display_name": name, "namespace": namespace})

    def list_experiments(self, request: "Request") -> Object:
        namespace = request.namespace(self, request.query.get("namespace", ""))
        found = [entry for entry in self.state.experiments.values() if entry["namespace"] == namespace]
        return self._page(request, "experiments", found)

    def create_run(self, request: "Request") -> Object:
        body = request.json("V2beta1Run")
        self._check_start(request, body)
        return self._add_run(body)

    def list_runs(self, request: "Request") -> Object:
        experiment = self._get("experiments", request.query.get("experiment_id", ""))
        request.namespace(self, experiment["namespace"])
        found = [r for r in self.state.runs.values() if r["experiment_id"] == experiment["experiment_id"]]
        return self._page(request, "runs", found)

    def get_run(self, request: "Request") -> Object:
        run = self._get("runs", request.parts[0])
        if self.progress:
            run["state"] = self.progress.pop(0)
            if run["state"] == "FAILED" and self.error:
                run["error"] = {"code": 13, "message": self.error}
        return run

    def terminate_run(self, request: "Request") -> Object:
        self._get("runs", request.parts[0])["state"] = "CANCELED"
        return {}

    def create_recurring(self, request: "Request") -> Object:
        body = request.json("V2beta1RecurringRun")
        self._check_start(request, body)
        cron = body.get("trigger", {}).get("cron_schedule", {}).get("cron", "")
        if len(cron.split()) not in (5, 6):  # robfig/cron reads five as well, seconds first
            raise Answer(400, f"Schedule cron is not a supported format: {cron}")
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise Answer(400, "The max concurrency of the recurring run is out of range. Support 1-10.")
        entry = {
            **body,
            "namespace": self._get("experiments", body["experiment_id"])["namespace"],
            "service_account": body.get("service_account", "pipeline-runner"),
            "max_concurrency": str(body["max_concurrency"]),
            "status": {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}[body["mode"]],
        }
        return self._add("recurring", "recurring_run_id", entry)

    def list_recurring(self, request: "Request") -> Object:
        namespace = request.namespace(self, request.query.get("namespace", ""))
        found = [entry for entry in self.state.recurring.values() if entry["namespace"] == namespace]
        return self._page(request, "recurringRuns", found)

    def enable_recurring(self, request: "Request") -> Object:
        self._get("recurring", request.parts[0])["status"] = "ENABLED"
        return {}

    def disable_recurring(self, request: "Request") -> Object:
        self._get("recurring", request.parts[0])["status"] = "DISABLED"
        return {}

    # --- what they share ----------------------------------------------------------------------------------------------

    def _add(self, table: str, key: str, entry: Object) -> Object:
        identity = str(uuid.uuid4())
        # Whole seconds, as the database has them.
        made = datetime.fromtimestamp(int(self.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        getattr(self.state, table)[identity] = {**entry, key: identity, "created_at": made}
        return getattr(self.state, table)[identity]  # type: ignore[no-any-return]

    def _add_pipeline(self, request: "Request", name: str, description: str, namespace: str) -> Object:
        namespace = request.namespace(self, namespace, shared=True)
        _require_name("pipeline", name)
        if any(e["name"] == name and e["namespace"] == namespace for e in self.state.pipelines.values()):
            raise Answer(409, f"Already exist error: pipeline {name}")
        entry = {"name": name, "display_name": name, "description": description, "namespace": namespace}
        return self._add("pipelines", "pipeline_id", entry)

    def _add_version(self, pipeline_id: str, name: str, description: str, spec: Object) -> Object:
        _require_name("version", name)
        if any(e["name"] == name and e["pipeline_id"] == pipeline_id for e in self.state.versions.values()):
            raise Answer(409, "Failed to create a pipeline version")
        entry = {"name": name, "display_name": name, "description": description, "pipeline_id": pipeline_id}
        return self._add("versions", "pipeline_version_id", {**entry, "pipeline_spec": spec})

    def _add_run(self, body: Object) -> Object:
        return self._add("runs", "run_id", {**body, "state": "PENDING"})

    def _get(self, table: str, identity: str) -> Object:
        if identity not in getattr(self.state, table):
            raise Answer(404, f"ResourceNotFoundError: {table} {identity} not found")
        return getattr(self.state, table)[identity]  # type: ignore[no-any-return]

    def _check_start(self, request: "Request", body: Object) -> None:
        """What runs and recurring runs have in common: a name, an experiment, one source, small known parameters."""
        _require_name("display", body.get("display_name", ""))
        request.namespace(self, self._get("experiments", body.get("experiment_id", ""))["namespace"])
        if ("pipeline_spec" in body) == ("pipeline_version_reference" in body):
            raise Answer(400, "Exactly one of pipeline_spec and pipeline_version_reference must be given")
        parameters = body.get("runtime_config", {}).get("parameters", {})
        if len(json.dumps(parameters).encode()) > LIMITS["parameters"]:
            raise Answer(400, f"The input parameter length exceed maximum size of {LIMITS['parameters']}")
        if "pipeline_spec" in body:
            spec = body["pipeline_spec"]
        else:
            reference = body["pipeline_version_reference"]
            spec = self._get("versions", reference["pipeline_version_id"])["pipeline_spec"]
            assert self.state.versions[reference["pipeline_version_id"]]["pipeline_id"] == reference["pipeline_id"]
        known = spec.get("pipeline_spec", spec)["root"].get("inputDefinitions", {}).get("parameters", {})
        missing = [n for n, d in known.items() if "defaultValue" not in d and not d.get("isOptional")]
        if unknown := set(parameters) - set(known):
            raise Answer(400, f"Unknown parameters: {unknown}")
        if lacking := set(missing) - set(parameters):
            raise Answer(400, f"Missing parameters: {lacking}")

    def _page(self, request: "Request", name: str, entries: list[Object]) -> Object:
        """Return one page of a listing, filtered."""
        if text := request.query.get("filter"):
            for predicate in json.loads(text)["predicates"]:
                wanted = predicate.get("string_value", predicate.get("stringValue"))
                assert predicate["operation"] in (1, "EQUALS")
                assert isinstance(wanted, str)
                entries = [entry for entry in entries if entry[predicate["key"]] == wanted]
        start = int(request.query.get("page_token") or 0)
        end = start + min(int(request.query.get("page_size", 10)), self.page_size)
        page: Object = {name: entries[start:end]} if entries else {}
        return {**page, "next_page_token": str(end)} if end < len(entries) else page


@dataclass
class Request:
    """One request: the parts of its path, its query, its body, and the namespaces that its sender may use."""

    parts: list[str]
    query: Mapping[str, str]
    body: bytes
    namespaces: set[str] | None

    def json(self, kind: str) -> Object:
        try:
            found = json.loads(self.body)
            kfp_schema.check(found, kind)
        except (ValueError, kfp_schema.Unfit) as error:
            raise Answer(400, f"invalid request body: {error}") from error
        return found  # type: ignore[no-any-return]

    def spec(self) -> Object:
        """Return the pipeline of an upload as the server keeps it: its meaning, without what has its default."""
        mime = f"Content-Type: {self.query['content_type']}\r\n\r\n".encode() + self.body
        (part,) = message_from_bytes(mime).get_payload()
        assert part.get_param("name", header="content-disposition") == "uploadfile"
        try:
            documents = list(yaml.load_all(part.get_payload(decode=True), yaml.CSafeLoader))
            spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
            platform = json_format.ParseDict((documents + [{}])[1], pipeline_spec_pb2.PlatformSpec())
        except (yaml.YAMLError, json_format.ParseError, IndexError) as error:
            raise Answer(400, "Failed to read a pipeline spec file") from error
        found = json_format.MessageToDict(spec)
        if len(documents) == 1:
            return found
        return {"pipeline_spec": found, "platform_spec": json_format.MessageToDict(platform)}

    def namespace(self, server: KfpApi, namespace: str, *, shared: bool = False) -> str:
        """Return a namespace that the sender may use."""
        if not server.multi_user and namespace:
            raise Answer(400, "In single-user mode, requests cannot filter by namespace")
        if server.multi_user and not namespace and not shared:
            raise Answer(400, "A namespace cannot be empty in multi-user mode")
        if namespace and self.namespaces is not None and namespace not in self.namespaces:
            raise Answer(403, f"User is not authorized to act in namespace {namespace}")
        return namespace


def _require_name(what: str, name: str) -> None:
    if not name or len(name.encode()) > LIMITS[what]:
        raise Answer(400, f"{what} name length must be 1 to {LIMITS[what]}")


# method, path, what answers, and the model that the answer must fit: else the stand-in is wrong
_ROUTES: list[tuple[str, str, Callable[[KfpApi, Request], Object], str]] = [
    ("GET", "/healthz", KfpApi.healthz, "V2beta1GetHealthzResponse"),
    ("POST", "/pipelines", KfpApi.create_pipeline, "V2beta1Pipeline"),
    ("GET", "/pipelines", KfpApi.list_pipelines, "V2beta1ListPipelinesResponse"),
    ("POST", "/pipelines/upload", KfpApi.upload_pipeline, "V2beta1Pipeline"),
    ("POST", "/pipelines/upload_version", KfpApi.upload_version, "V2beta1PipelineVersion"),
    ("GET", "/pipelines/([^/]+)", KfpApi.get_pipeline, "V2beta1Pipeline"),
    ("GET", "/pipelines/([^/]+)/versions", KfpApi.list_versions, "V2beta1ListPipelineVersionsResponse"),
    ("GET", "/pipelines/([^/]+)/versions/([^/]+)", KfpApi.get_version, "V2beta1PipelineVersion"),
    ("POST", "/experiments", KfpApi.create_experiment, "V2beta1Experiment"),
    ("GET", "/experiments", KfpApi.list_experiments, "V2beta1ListExperimentsResponse"),
    ("POST", "/runs", KfpApi.create_run, "V2beta1Run"),
    ("GET", "/runs", KfpApi.list_runs, "V2beta1ListRunsResponse"),
    ("GET", "/runs/([^/:]+)", KfpApi.get_run, "V2beta1Run"),
    ("POST", "/runs/([^/:]+):terminate", KfpApi.terminate_run, "object"),
    ("POST", "/recurringruns", KfpApi.create_recurring, "V2beta1RecurringRun"),
    ("GET", "/recurringruns", KfpApi.list_recurring, "V2beta1ListRecurringRunsResponse"),
    ("POST", "/recurringruns/([^/:]+):enable", KfpApi.enable_recurring, "object"),
    ("POST", "/recurringruns/([^/:]+):disable", KfpApi.disable_recurring, "object"),
]


class Handler(BaseHTTPRequestHandler):
    """HTTP around the API: who asks, what goes wrong, and the dashboard's pages everywhere else."""

    server: KfpApi

    def do_GET(self) -> None:  # noqa: N802  (the name that http.server calls)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        parts = urlsplit(self.path)
        self.server.asked.append((self.command, parts.path, dict(self.headers), body))
        prefix = f"{self.server.base}/apis/v2beta1"
        path = parts.path.removeprefix(prefix)
        self.server.before(self.command, path)
        fault = self._fault(path)
        if fault and fault.how != "lost":
            return self._go_wrong(fault)
        if not parts.path.startswith(prefix):
            return self._reply(404, LOGIN, "text/html")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        query["content_type"] = self.headers["Content-Type"] or ""
        try:
            namespaces = self._who()
            status, answer = 200, self.server.route(self.command, path, query, body, namespaces)
        except Answer as error:
            status, answer = error.status, {"error": error.message, "code": 2, "message": error.message, "details": []}
        if fault:
            return self._drop()
        return self._reply(status, json.dumps(answer).encode())

    do_POST = do_GET  # noqa: N815
    do_DELETE = do_GET  # noqa: N815

    def _who(self) -> set[str] | None:
        if not self.server.tokens and not self.server.session:
            return None
        if self.server.session and self.headers["Cookie"] == self.server.session:
            return None
        kind, _, token = (self.headers["Authorization"] or "").partition(" ")
        if kind != "Bearer" or token not in self.server.tokens:
            # It repeats what it was sent: a client must not show that.
            raise Answer(401, f"Request header error: {kind} {token} is not accepted")
        return self.server.tokens[token]

    def _fault(self, path: str) -> Fault | None:
        with self.server.lock:
            for fault in self.server.faults:
                if fault.times and fault.method == self.command and re.fullmatch(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def _go_wrong(self, fault: Fault) -> None:
        if isinstance(fault.how, int):
            answer = {"error": fault.message, "code": 2, "message": fault.message, "details": []}
            self._reply(fault.how, json.dumps(answer).encode())
        elif fault.how == "login":
            self._reply(200, LOGIN, "text/html")
        elif fault.how == "page":
            self._reply(404, LOGIN, "text/html")
        elif fault.how == "sign-in":
            self._reply(403, LOGIN, "text/html")
        elif fault.how == "text":
            self._reply(403, b"RBAC: access denied", "text/plain")
        elif fault.how == "redirect":
            self.send_response(302)
            self.send_header("Location", "/dex/auth")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault.how == "slow":
            self.server.release.wait(30)
            self._drop()
        else:
            self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@contextmanager
def serving(api: KfpApi, tls: ssl.SSLContext | None = None) -> Iterator[KfpApi]:
    """Serve until the block ends."""
    if tls:
        api.socket = tls.wrap_socket(api.socket, server_side=True)
        api.scheme = "https"
    thread = threading.Thread(target=api.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.release.set()
        api.shutdown()
        api.server_close()
        thread.join()
