"""The target `seldon-v1`: a predictor for each version in the service's SeldonDeployment.

The operator's storage initializer brings the files; the container is our model server, which loads the one model that
its environment pins, or ends (`serving/pinned.py`). With several predictors the shares add up to 100, as its webhook
wants; a share of 0 is a weight of 0 in Istio (Ambassador took 100 to 0 for equal shares: use Istio). A single predictor
has all the traffic, so the first version of a service answers from the moment that it is ready.

The state of a SeldonDeployment turns Failed during good changes too: ready is what was seen ready twice in a row, and
only the deadline ends the waiting.
"""

from typing import Any

from kfp_custody.components.seldon_deployment.kubernetes_api import Cluster, Object, make
from kfp_custody.components.seldon_deployment.rollout.cluster import OneObject, server
from kfp_custody.components.seldon_deployment.rollout.prometheus import Queries
from kfp_custody.components.seldon_deployment.rollout.state import Rollout, Version


class SeldonV1(OneObject):
    """See the top of this module."""

    kind = "SeldonDeployment"

    @property
    def url(self) -> str:
        """Where the service answers inside the cluster, through Istio's gateway."""
        namespace = self._cluster.namespace
        gateway = "http://istio-ingressgateway.istio-system.svc"
        return f"{gateway}/seldon/{namespace}/{self._service}/v2/models/{self._service}"

    def _object(self, now: Rollout, found: Object | None) -> Object | None:
        if not now.versions:
            return None
        there = {each["name"]: each for each in ((found or {}).get("spec") or {}).get("predictors") or ()}
        predictors = []
        for version in now.versions:
            predictor = dict(there.get(version.name) or self._predictor(version))
            predictor["traffic"] = now.weights.get(version.name, 100 if len(now.versions) == 1 else 0)
            predictors.append(predictor)
        spec = {"name": self._service, "protocol": "v2", "predictors": predictors}
        return make(self.kind, self._service, self._service, self._cluster.namespace, spec)

    def _predictor(self, version: Version) -> dict[str, Any]:
        graph = {
            "name": "model",
            "type": "MODEL",
            "implementation": "SKLEARN_SERVER",  # one that the operator starts MLServer for; our image takes its place
            "modelUri": self._require_uri(),
        }
        container = {**server(self._service, self._image, version), "name": "model"}
        pod = {
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [
                {"name": "custody-trust", "configMap": {"name": "custody-trust"}},
                {"name": "scratch", "emptyDir": {"sizeLimit": "2Gi"}},
            ],
        }
        return {"name": version.name, "replicas": 1, "graph": graph, "componentSpecs": [{"spec": pod}]}

    def _await(self, cluster: Cluster, now: Rollout, deadline: float) -> None:
        seen = 0
        while True:
            status = (cluster.get(self.kind, self._service) or {}).get("status") or {}
            running = status.get("deploymentStatus") or {}
            missing = [
                version.name
                for version in now.versions
                if not any(
                    f"-{version.name}-" in name and each.get("availableReplicas") for name, each in running.items()
                )
            ]
            seen = seen + 1 if status.get("state") == "Available" and not missing else 0
            if seen == 2:
                return
            last = f"state {status.get('state', 'unknown')}, not available: {', '.join(missing) or 'none'}"
            cluster.wait(self.kind, self._service, last, deadline)

    def _queries(self, version: Version) -> Queries:
        ours = f'deployment_name="{self._service}",predictor_name="{version.name}"'
        requests = "seldon_api_executor_server_requests_seconds"
        return Queries(
            requests=f"sum({requests}_count{{{ours}}})",
            errors=f'sum({requests}_count{{{ours},code=~"5.."}})',
            seconds=f"sum by (le) ({requests}_bucket{{{ours}}})",
            scores=f'sum by (le) (custody_inference_score_bucket{{version="{version.digest}"}})',
        )
