"""The target `kserve`: the service's InferenceService, the canary in the way that its deployment mode has.

| mode | the canary is |
|---|---|
| Standard (RawDeployment) | an entry of `spec.canary`, from KServe 0.20 on; `canaryTrafficPercent` does nothing |
| Knative (Serverless) | the predictor itself, with `canaryTrafficPercent`; the rest goes to the revision before |

The mode is written into the object, so that the cluster's default cannot change what a share means. The storage
initializer brings the files; the container is our model server from the ServingRuntime `custody-mlserver`
(manifests/overlays/kserve), which loads the one model that its environment pins, or ends. The first version of a
service answers from the moment that it is ready.
"""

import json
from typing import Any

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.seldon_deployment.kubernetes_api import Cluster, Object, make
from kfp_custody.components.seldon_deployment.rollout.cluster import OneObject, pins
from kfp_custody.components.seldon_deployment.rollout.prometheus import Queries
from kfp_custody.components.seldon_deployment.rollout.state import Rollout, Version

RUNTIME, FORMAT = "custody-mlserver", "custody"
MODES = ("Standard", "Knative")
_BEFORE = "custody.kubeflow.org/stable-predictor"


class KServe(OneObject):
    """See the top of this module."""

    kind = "InferenceService"

    @property
    def url(self) -> str:
        """Where the service answers inside the cluster."""
        return f"http://{self._service}.{self._cluster.namespace}.svc/v2/models/{self._service}"

    def _object(self, now: Rollout, found: Object | None) -> Object | None:
        if not now.versions:
            return None
        there = (found or {}).get("spec") or {}
        annotations = {"serving.kserve.io/deploymentMode": self._require_mode()}
        if self._mode == "Standard":
            spec = self._standard(now, there)
        else:
            spec, before = self._knative(now, there, (found or {}).get("metadata", {}).get("annotations") or {})
            annotations |= {_BEFORE: json.dumps(before, sort_keys=True)} if before else {}
        return make(self.kind, self._service, self._service, self._cluster.namespace, spec, annotations)

    def _standard(self, now: Rollout, there: Object) -> Object:
        known = [there.get("predictor"), *(each["predictor"] for each in there.get("canary") or ())]
        predictors = {_version_of(each): each for each in known if each}
        stable, canary = (
            None if version is None else dict(predictors.get(version.name) or self._predictor(version))
            for version in (now.stable, now.canary)
        )
        if stable is None or canary is None:
            return {"predictor": stable or canary}
        return {"predictor": stable, "canary": [{"trafficPercent": now.weight, "predictor": canary}]}

    def _knative(self, now: Rollout, there: Object, annotations: dict[str, str]) -> tuple[Object, Object | None]:
        """Return the spec, and the stable version's predictor while another one stands in its place."""
        current = {key: value for key, value in (there.get("predictor") or {}).items() if key != "canaryTrafficPercent"}
        before = json.loads(annotations[_BEFORE]) if _BEFORE in annotations else None
        known = {_version_of(each): each for each in (current, before) if each}
        if now.canary is None or now.stable is None:
            (only,) = now.versions
            return {"predictor": known.get(only.name) or self._predictor(only)}, None
        canary = dict(known.get(now.canary.name) or self._predictor(now.canary))
        return {"predictor": {**canary, "canaryTrafficPercent": now.weight}}, known[now.stable.name]

    def _predictor(self, version: Version) -> dict[str, Any]:
        model = {
            "name": "kserve-container",
            "modelFormat": {"name": FORMAT},
            "runtime": RUNTIME,
            "protocolVersion": "v2",
            "storageUri": self._require_uri(),
            "image": self._image,
            "env": [{"name": "CUSTODY_MODEL", "value": self._service}, *pins(version)],
        }
        named = {"name": f"v{version.name}"} if self._mode == "Standard" else {}  # a name starts with a letter
        return {
            **named,
            "labels": {"custody.kubeflow.org/version": version.name},
            "minReplicas": 1,
            "automountServiceAccountToken": False,
            "model": model,
        }

    def _await(self, cluster: Cluster, now: Rollout, deadline: float) -> None:
        cluster.await_ready(self.kind, self._service, deadline)
        if now.stable is not None and now.canary is not None and self._mode == "Standard":
            cluster.await_ready(self.kind, self._service, deadline, condition="CanaryReady")

    def _require_mode(self) -> str:
        if self._mode not in MODES:
            raise Misconfigured(
                "KServe has no canary of ours in this deployment mode.",
                evidence=f"CUSTODY_KSERVE_MODE is {self._mode[:40]!r}",
                remedy=f"Set it to {' or '.join(MODES)}, as the cluster serves.",
            )
        return self._mode

    def _queries(self, version: Version) -> Queries:
        ours = f'version="{version.digest}"'
        workload = f'destination_workload=~"{self._service}.*{version.name}.*",reporter="destination"'
        return Queries(
            requests=f"sum(istio_requests_total{{{workload}}})",
            errors=f'sum(istio_requests_total{{{workload},response_code=~"5.."}})',
            seconds=f"sum by (le) (istio_request_duration_milliseconds_bucket{{{workload}}})",
            scores=f"sum by (le) (custody_inference_score_bucket{{{ours}}})",
            unit=1000.0,
        )


def _version_of(predictor: Object) -> str:
    return str((predictor.get("labels") or {}).get("custody.kubeflow.org/version", ""))
