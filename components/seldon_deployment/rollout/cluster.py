"""What rolling out in a cluster has in common: the state in an annotation, the counts from Prometheus.

The objects are in the cluster itself, or in files that somebody else applies (`git_files.py`): what they are is the
same. Only a cluster says when something is ready.

The state is written in the same call that moves the traffic, and with the resourceVersion that it was read at: two
runs at once cannot both believe that they moved it. Each kind of object says how versions and shares look in it.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kfp_custody.components._shared.errors import CustodyError, Misconfigured
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.kubernetes_api import Cluster, Object, Objects
from kfp_custody.components.seldon_deployment.rollout.analysis import Counters
from kfp_custody.components.seldon_deployment.rollout.prometheus import Prometheus, Queries
from kfp_custody.components.seldon_deployment.rollout.state import ANNOTATION, Rollout, Version, read_state, write_state
from kfp_custody.components.seldon_deployment.rollout.target import Placed, version_of
from kfp_custody.components.seldon_deployment.seldon_v2 import require_uri

_ATTEMPTS = 5


@dataclass(frozen=True)
class Setup:
    """What a target in a cluster needs to know.

    `model_uri` is where the signed model that is to be placed lies, `image` that of the model server, `prometheus` who
    counts (None: nothing can be analysed), `kserve_mode` the deployment mode of KServe.
    """

    model_uri: str
    image: str
    prometheus: Prometheus | None
    kserve_mode: str = "Standard"


class ClusterTarget(ABC):
    """A service in a cluster; see `target.Target`."""

    kind: str
    hint = ""

    def __init__(self, service: str, cluster: Objects, timeout_seconds: float, setup: Setup) -> None:
        """Take the service of this name.

        Args:
            service: its name.
            cluster: the objects of the namespace that it is in.
            timeout_seconds: for each change.
            setup: what the platform and the run say besides.
        """
        self._service, self._cluster, self._timeout = service, cluster, timeout_seconds
        self._uri, self._prometheus = setup.model_uri, setup.prometheus
        self._image, self._mode = setup.image, setup.kserve_mode
        self._found: Object | None = None  # the service's object as it was when its state was read

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the service answers inside the cluster."""

    @abstractmethod
    def _object(self, now: Rollout, found: Object | None) -> Object | None:
        """Return the service's one object as the state wants it; None where there is nothing to be served."""

    @abstractmethod
    def _queries(self, version: Version) -> Queries:
        """Return what to ask Prometheus about a version."""

    @abstractmethod
    def _add(self, admitted: Admitted, wanted: Version) -> bool:
        """Bring what a version needs besides the service's object; return whether it was not there before."""

    @abstractmethod
    def _remove(self, version: Version) -> None:
        """Remove it again."""

    @abstractmethod
    def _await(self, cluster: Cluster, now: Rollout, deadline: float) -> None:
        """Wait until everything that the state names is ready."""

    def state(self) -> Rollout:
        """Return the state; an empty one when the service is not there."""
        self._found = self._cluster.get(self.kind, self._service)
        return self._read(self._found)

    def place(self, admitted: Admitted, run_id: str) -> Placed:
        """Bring a version beside the stable one, ready, without traffic."""
        wanted, now = version_of(admitted), self.state()
        if now.canary is not None and (now.canary.name, now.run_id) != (wanted.name, run_id):
            now = self.roll_back()
        if now.stable is not None and now.stable.name == wanted.name:
            return Placed(self._name(wanted), None)
        deadline = time.monotonic() + self._timeout
        placed = now if now.canary else replace(now, canary=wanted, weight=0, run_id=run_id)
        made = self._add(admitted, wanted)
        try:
            self._write(placed)
            if isinstance(self._cluster, Cluster):
                self._await(self._cluster, placed, deadline)
        except CustodyError as error:
            self._undo(placed, error, ours=made or now.canary is not None)
            raise
        return Placed(self._name(wanted), None)

    def settle(self, admitted: Admitted, run_id: str) -> str:
        """Write down a version as the stable one, where nobody has to be waited for; return what it is called.

        The objects are made anew of the state: what was edited by hand does not stay. A version that is the stable one
        already keeps the decision and the run that made it so.
        """
        wanted, now = version_of(admitted), self.state()
        before = now.stable
        if before is not None and before.name == wanted.name:
            wanted, run_id = replace(wanted, decision=before.decision), now.run_id
        self._add(replace(admitted, decision_sha256=wanted.decision), wanted)
        self._found = None
        done = self._write(Rollout(self._service, stable=wanted, run_id=run_id))
        if before is None or before.name != wanted.name:
            self._sweep(done, before)
        return self._name(wanted)

    def shift(self, weight: int) -> Rollout:
        """Give the canary a share, in percent."""
        now = self.state()
        return self._write(replace(now, weight=weight)) if now.canary else now

    def promote(self) -> Rollout:
        """Make the canary the stable version; the old one stays until the next promotion, without traffic."""
        now = self.state()
        if now.canary is None:
            return now
        done = self._write(replace(now, stable=now.canary, canary=None, weight=0))
        self._sweep(done, now.stable)
        return done

    def roll_back(self) -> Rollout:
        """Send everything to the stable version, and remove the canary."""
        now = self.state()
        if now.canary is None:
            return now
        done = self._write(replace(now, canary=None, weight=0, run_id=""))
        self._remove(now.canary)
        return done

    def counters(self) -> Mapping[str, Counters]:
        """Return what Prometheus counted so far, by the versions' names."""
        if self._prometheus is None:
            raise Misconfigured(
                "Nobody counts what the versions answer, so no canary can be analysed.",
                evidence="CUSTODY_PROMETHEUS is not set",
                remedy="Set it to the address of the Prometheus that scrapes the model servers.",
            )
        return {version.name: self._prometheus.counters(self._queries(version)) for version in self.state().versions}

    @abstractmethod
    def _sweep(self, now: Rollout, before: Version | None) -> None:
        """Remove what is older than the version before."""

    def _require_uri(self) -> str:
        require_uri(self._uri)
        return self._uri

    def _name(self, version: Version) -> str:
        """Return what a version is called in the cluster."""
        return f"{self._service}-{version.name}"

    def _read(self, found: Object | None) -> Rollout:
        if found is None:
            return Rollout(self._service)
        text = _written(found)
        if text is None:
            raise Misconfigured(
                "An object of the service's name is there that no rollout of ours made; it is left as it is.",
                evidence=f"{self.kind} {self._service} in {self._cluster.namespace} has no annotation {ANNOTATION}",
                remedy="Deploy under another name, or remove this object when nobody needs it.",
            )
        return read_state(text, f"{self.kind} {self._service}")

    def _write(self, now: Rollout) -> Rollout:
        """Apply the service's object as a state wants it; a rollout that went on meanwhile is not overwritten.

        The operator writes into the same object, its status: that is read again. Another state is not ours any more.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._apply(now)
            except CustodyError as error:
                if getattr(error.__cause__, "status", None) != 409:
                    raise
                before, self._found = self._found, self._cluster.get(self.kind, self._service)
                if _written(before) != _written(self._found):
                    raise
        return self._apply(now)

    def _apply(self, now: Rollout) -> Rollout:
        found = self._found
        wanted = self._object(now, found)
        if wanted is None:
            if found is not None:
                self._cluster.delete(self.kind, self._service)
                self._found = None
            return now
        wanted["metadata"].setdefault("annotations", {})[ANNOTATION] = write_state(now)
        if found is not None:
            wanted["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        self._found = self._cluster.apply(wanted)
        return now

    def _undo(self, placed: Rollout, because: CustodyError, *, ours: bool) -> None:
        """Take back a version that did not become ready; when that fails too, say so in the refusal that led here."""
        try:
            self.state()
            self._write(replace(placed, canary=None, weight=0, run_id=""))
            if placed.canary is not None and ours:
                self._remove(placed.canary)
        except CustodyError as error:
            because.evidence += f"; it could not be taken back: {error.what}"


def _written(found: Object | None) -> str | None:
    return None if found is None else (found["metadata"].get("annotations") or {}).get(ANNOTATION)


class OneObject(ClusterTarget):
    """A service whose versions are all in its one object: nothing is to be made or removed besides."""

    def _add(self, admitted: Admitted, wanted: Version) -> bool:
        self._require_uri()
        return True

    def _remove(self, version: Version) -> None:
        pass

    def _sweep(self, now: Rollout, before: Version | None) -> None:
        pass


def pins(version: Version) -> list[dict[str, Any]]:
    """Return the pins of a version as variables of the model server's container; see serving/pinned.py."""
    return [
        {"name": "CUSTODY_LISTING_SHA256", "value": version.digest},
        {"name": "CUSTODY_SIGNATURE_SHA256", "value": version.signature},
    ]


def server(service: str, image: str, version: Version) -> dict[str, Any]:
    """Return the container of a model server that loads one pinned model, as PodSecurity `restricted` wants it."""
    return {
        "image": image,
        "env": [
            {"name": "CUSTODY_MODEL", "value": service},
            *pins(version),
            {"name": "CUSTODY_TRUST", "value": "/etc/custody/trust/trust.yaml"},
            {"name": "MLSERVER_HTTP_PORT", "value": "9000"},
            {"name": "MLSERVER_GRPC_PORT", "value": "9500"},
        ],
        "volumeMounts": [
            {"name": "custody-trust", "mountPath": "/etc/custody/trust", "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  (an emptyDir)
        ],
        "readinessProbe": {"httpGet": {"path": f"/v2/models/{service}/ready", "port": 9000}, "periodSeconds": 5},
        "resources": {
            "requests": {"cpu": "250m", "memory": "512Mi"},
            "limits": {"cpu": "1", "memory": "2Gi"},
        },
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
