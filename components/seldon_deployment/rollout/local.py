"""The target `local`: a model server for each version on this machine, behind a real Envoy.

The folder of a service, `services/<name>/` in the serving directory:

    rollout.json         the state
    lock                 one change at a time
    versions/<version>/  a serving directory (see local_server.py) with a server that serves this version alone
    door/                Envoy: configuration, log, access log
    identity/            certificates, token keys and door file, when the platform gives none

The platform gives its own with CUSTODY_DOOR (a door file) and CUSTODY_DOOR_TLS (a folder with ca.pem, server.pem and
server.key).
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.seldon_deployment import child, local_server, process
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.door import identity, proxy
from kfp_custody.components.seldon_deployment.door.envoy import Backend, Files, grpc_name
from kfp_custody.components.seldon_deployment.door.spec import Door, load_door
from kfp_custody.components.seldon_deployment.rollout.analysis import Counters
from kfp_custody.components.seldon_deployment.rollout.exposition import GRPC_FAULTS, samples, scores_of, scrape
from kfp_custody.components.seldon_deployment.rollout.state import Rollout, Version, read_state, write_state
from kfp_custody.components.seldon_deployment.rollout.target import Placed, version_of
from kfp_custody.components.seldon_deployment.v2_client import model_url

_COUNTED = "/stats/prometheus?filter=" + quote(r"\.(upstream_rq_([1-5]xx|time|active)|grpc\.[0-9]+)$")


class LocalTarget:
    """A service on this machine; see `target.Target`."""

    def __init__(self, service: str, settings: Settings, timeout_seconds: float) -> None:
        """Take the service of this name.

        Args:
            service: its name.
            settings: serving directory, trust file, door file and port.
            timeout_seconds: for each change.
        """
        self._service, self._settings, self._timeout = service, settings, timeout_seconds
        self._home = settings.serving_dir / "services" / service
        self._state = self._home / "rollout.json"

    @property
    def url(self) -> str:
        """Where the service answers: behind the door, so https."""
        return model_url(f"https://{self._door().server_name}:{self._settings.door_port}", self._service)

    def state(self) -> Rollout:
        """Return the state; an empty one when the service is not there."""
        if not self._state.exists():
            return Rollout(self._service)
        return read_state(self._state.read_text(), str(self._state))

    def place(self, admitted: Admitted, run_id: str) -> Placed:
        """Bring a version beside the stable one, ready, without traffic."""
        with self._changing():
            wanted, now = version_of(admitted), self.state()
            if now.canary is not None and (now.canary.name, now.run_id) != (wanted.name, run_id):
                now = self._end_canary(now)
            self._sweep(now)
            try:
                # Also of a version that is there: it answers again, whatever became of its server.
                served = local_server.serve(admitted, self._service, self._of(self._folder(wanted)), self._timeout)
            except BaseException:
                if wanted.name not in {version.name for version in now.versions}:
                    self._remove(self._folder(wanted))
                raise
            if now.stable is None or now.stable.name != wanted.name:
                weight = now.weight if now.canary else 0
                now = self._write(replace(now, canary=wanted, weight=weight, run_id=run_id))
            self._enforce(now)
            return Placed(f"{self._service}-{wanted.name}", served.response)

    def shift(self, weight: int) -> Rollout:
        """Give the canary a share, in percent, and return when it is in force."""
        with self._changing():
            now = self.state()
            return self._enforce(self._write(replace(now, weight=weight)) if now.canary else now)

    def promote(self) -> Rollout:
        """Make the canary the stable version, and remove the old one when it has answered what it was asked."""
        with self._changing():
            now = self.state()
            if now.canary is None:
                return self._enforce(now)
            now = self._enforce(self._write(replace(now, weight=100)))
            old, new = now.stable, self._write(replace(now, stable=now.canary, canary=None, weight=0))
            if old is not None:
                self._drain(old)
            self._enforce(new)
            if old is not None:
                self._remove(self._folder(old))
            return new

    def roll_back(self) -> Rollout:
        """Send everything to the stable version, and remove the canary when it has answered what it was asked."""
        with self._changing():
            now = self.state()
            return self._enforce(self._end_canary(now)) if now.canary else now

    def counters(self) -> Mapping[str, Counters]:
        """Return what was counted so far, by the versions' names."""
        text = proxy.ask(self._files(), _COUNTED)
        found = {}
        for version in self.state().versions:
            seconds, requests, errors = _of_cluster(text, self._cluster(version))
            grpc_seconds, grpc_requests, grpc_errors = _of_cluster(text, grpc_name(self._cluster(version)))
            bounds = {*seconds, *grpc_seconds}
            found[version.name] = Counters(
                requests + grpc_requests,
                errors + grpc_errors,
                {bound: seconds.get(bound, 0.0) + grpc_seconds.get(bound, 0.0) for bound in bounds},
                self._scores(version),
            )
        return found

    def stop(self) -> None:
        """End the door and the servers of this service; the next change starts them again with what they served."""
        with self._changing():
            files = self._files()
            door = proxy.running(files.directory)
            if door is not None:
                proxy.end(files.directory, door)
            for folder in (self._home / "versions").glob("*"):
                local_server.stop(folder)

    def _end_canary(self, now: Rollout) -> Rollout:
        """Take the canary out: first its traffic, then what it was asked already, then itself."""
        if now.canary is None:
            return now
        canary, now = now.canary, self._write(replace(now, weight=0))
        opened = proxy.running(self._files().directory) is not None
        if opened:
            self._enforce(now, only_running=True)
            self._drain(canary)
        done = self._write(replace(now, canary=None, weight=0, run_id=""))
        if opened:
            self._enforce(done)
        self._remove(self._folder(canary))
        return done

    def _enforce(self, now: Rollout, *, only_running: bool = False) -> Rollout:
        """Make servers and door do what the state says; a server that was ended is started again.

        Args:
            now: the state.
            only_running: leave servers that do not run as they are: going back must not wait for a broken canary.
        """
        backends, deadline = [], time.monotonic() + self._timeout
        for version in now.versions:
            server = process.running(self._folder(version))
            if server is None and not (only_running and version == now.canary):
                server = local_server.resume(self._of(self._folder(version)), self._timeout)
            if server is not None:
                backends.append(Backend(self._cluster(version), server.http_port, server.grpc_port))
        weights = {self._service: {f"{self._service}-{name}": share for name, share in now.weights.items()}}
        proxy.ensure(self._door(), self._files(), self._settings.door_port, backends, weights, deadline)
        return now

    def _drain(self, version: Version) -> None:
        """Wait until a version has no request left, at most as long as a request may take."""
        deadline = time.monotonic() + self._door().limits.timeout_seconds + 1
        clusters = {self._cluster(version), grpc_name(self._cluster(version))}
        while any(
            sample.value
            for sample in samples(proxy.ask(self._files(), _COUNTED))
            if sample.name == "envoy_cluster_upstream_rq_active" and sample.labels.get("envoy_cluster_name") in clusters
        ):
            if child.pause(deadline) < 0:
                return

    def _sweep(self, now: Rollout) -> None:
        """Remove what an earlier change left that was cut off after it wrote the state."""
        known = {version.name for version in now.versions}
        for folder in (self._home / "versions").glob("*"):
            if folder.name not in known:
                self._remove(folder)

    def _remove(self, folder: Path) -> None:
        local_server.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def _scores(self, version: Version) -> dict[float, float]:
        server = process.running(self._folder(version))
        if server is None:
            return {}  # it ended: the door counts what that does to requests
        try:
            text = scrape(f"http://{child.HOST}:{server.metrics_port}/metrics", timeout=2.0)
        except ServiceUnreachable:
            return {}  # without scores nothing passes; and it may hang, which the door's counts must be able to tell
        return scores_of(text, self._service).get(version.digest, {})

    def _of(self, folder: Path) -> Settings:
        """Return the settings of one version's server; a port of its own, kept while it runs."""
        server = process.running(folder) if folder.exists() else None
        port = server.http_port if server else child.free_ports(1)[0]
        return replace(self._settings, serving_dir=folder, serving_port=port)

    def _door(self) -> Door:
        if self._settings.door_file is not None:
            door = load_door(self._settings.door_file)
            if self._service not in door.models:
                raise Misconfigured(
                    "The door file lets nobody call this service.",
                    evidence=f"{self._settings.door_file}: {self._service!r} is in no client's models",
                    remedy="Add it to a client in the door file.",
                )
            return door
        return load_door(identity.ensure(self._home / "identity", [self._service]) / "door.yaml")

    def _files(self) -> Files:
        tls = self._settings.door_tls or self._home / "identity"
        return Files(tls / "ca.pem", tls / "server.pem", tls / "server.key", self._home / "door")

    def _folder(self, version: Version) -> Path:
        return self._home / "versions" / version.name

    def _cluster(self, version: Version) -> str:
        return f"{self._service}-{version.name}"

    def _write(self, now: Rollout) -> Rollout:
        write_atomic(self._state, write_state(now).encode(), mode=0o600)
        return now

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with local_server.locked(self._home, time.monotonic() + self._timeout):
            yield


def _of_cluster(text: str, cluster: str) -> tuple[dict[float, float], float, float]:
    """Return a cluster's seconds, requests and errors; of gRPC by its statuses, which HTTP does not show."""
    seconds: dict[float, float] = {}
    requests = errors = 0.0
    grpc = cluster.endswith("-grpc")
    for sample in samples(text):
        if sample.labels.get("envoy_cluster_name") != cluster:
            continue
        if sample.name == "envoy_cluster_upstream_rq_time_bucket":
            seconds[float(sample.labels["le"]) / 1000] = sample.value
        elif sample.name.startswith("envoy_cluster_upstream_rq_xx") and not grpc:
            requests += sample.value
            errors += sample.value if sample.labels["envoy_response_code_class"] == "5" else 0
        elif grpc and sample.name.startswith("envoy_cluster_grpc_"):
            status = sample.name.removeprefix("envoy_cluster_grpc_").removesuffix("_total")
            requests += sample.value if status.isdigit() else 0
            errors += sample.value if status in GRPC_FAULTS else 0
    return seconds, requests, errors
