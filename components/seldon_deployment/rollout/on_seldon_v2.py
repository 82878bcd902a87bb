"""The target `seldon-v2`: an immutable Model for each version, and one permanent Experiment for each service.

The Experiment has no default, so it has an address of its own (`<service>.experiment`), which never changes. Seldon's
operator never says which generation a status belongs to; a Model is never edited, so its Ready can only mean itself.
Whether a share is in force is seen by the requests that are counted, and by nothing else.

Only fields of the v2.6.0 schema, the last under the Apache licence, are written.
"""

from collections.abc import Mapping
from typing import Any

from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.kubernetes_api import Cluster, Object, make
from kfp_custody.components.seldon_deployment.rollout.cluster import ClusterTarget
from kfp_custody.components.seldon_deployment.rollout.prometheus import Queries
from kfp_custody.components.seldon_deployment.rollout.state import ANNOTATION, Rollout, Version, write_state
from kfp_custody.components.seldon_deployment.seldon_v2 import HINT, render_model, url


class SeldonV2(ClusterTarget):
    """See the top of this module."""

    kind, hint = "Experiment", HINT

    @property
    def url(self) -> str:
        """Where the service answers inside the cluster."""
        return url(self._service, self._cluster.namespace)

    def state(self) -> Rollout:
        """Return the state; of a service that was never promoted it is with its only Model."""
        self._found = self._cluster.get(self.kind, self._service)
        if self._found is not None:
            return self._read(self._found)
        for model in self._cluster.list("Model", self._service):
            if ANNOTATION in (model["metadata"].get("annotations") or {}):
                return self._read(model)
        return Rollout(self._service)

    def _add(self, admitted: Admitted, wanted: Version) -> bool:
        model = render_model(admitted, self._service, self._uri, self._cluster.namespace)
        found = self._cluster.get("Model", model["metadata"]["name"])
        if found is not None and _loaded(found["spec"]) == _loaded(model["spec"]):
            return False  # admitted once more: another decision about the same signed bytes changes nothing here
        return self._cluster.put_immutable(model)

    def _write(self, now: Rollout) -> Rollout:
        """Keep the state at the Experiment, or, while nothing is answered yet, at the one Model that is there."""
        if now.weights or now.canary is None:
            return super()._write(now)
        name = self._name(now.canary)
        model = self._cluster.get("Model", name)
        if model is not None:
            kept = {ANNOTATION: write_state(now)}
            self._cluster.apply(make("Model", name, self._service, self._cluster.namespace, model["spec"], kept))
        return now

    def _object(self, now: Rollout, found: Object | None) -> Object | None:
        shares = {version: now.weights.get(version.name, 0) for version in now.versions}
        candidates = [{"name": self._name(version), "weight": share} for version, share in shares.items() if share]
        spec: dict[str, Any] = {"candidates": candidates}
        return make(self.kind, self._service, self._service, self._cluster.namespace, spec) if candidates else None

    def _await(self, cluster: Cluster, now: Rollout, deadline: float) -> None:
        for version in now.versions:
            cluster.await_ready("Model", self._name(version), deadline, hint=HINT)
        if now.stable is not None:
            cluster.await_ready(self.kind, self._service, deadline, hint=HINT)

    def _remove(self, version: Version) -> None:
        self._cluster.delete("Model", self._name(version))

    def _sweep(self, now: Rollout, before: Version | None) -> None:
        kept = {self._name(version) for version in (now.stable, before) if version is not None}
        for model in self._cluster.list("Model", self._service):
            if model["metadata"]["name"] not in kept:
                self._cluster.delete("Model", model["metadata"]["name"])

    def _name(self, version: Version) -> str:
        return f"{self._service}-{version.digest[:8]}"

    def _queries(self, version: Version) -> Queries:
        internal = f'model_internal=~"{self._name(version)}_[0-9]+"'
        served = f'model=~"{self._name(version)}(_[0-9]+)?"'
        failed = 'code=~"5..|UNKNOWN|INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|UNIMPLEMENTED|DATA_LOSS"'
        # Seldon's agent counts what the model server answered; that nobody answered, its Envoy alone can tell.
        cluster = f'envoy_cluster_name=~"{self._name(version)}_[0-9]+_(http|grpc)"'
        unanswered = f'envoy_cluster_upstream_rq{{{cluster},envoy_response_code=~"50[234]"}}'
        return Queries(
            requests=f"sum(seldon_model_infer_total{{{internal}}} or {unanswered})",
            errors=f"sum(seldon_model_infer_total{{{internal},{failed}}} or {unanswered})",
            seconds=f"sum by (le) (custody_inference_seconds_bucket{{{served}}})",
            scores=f"sum by (le) (custody_inference_score_bucket{{{served}}})",
        )


def _loaded(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a Model says about the bytes that are loaded: all that is ours but the decision."""
    pins = [each for each in spec.get("parameters") or () if each["name"] != "decision_sha256"]
    return {"storageUri": spec.get("storageUri"), "requirements": spec.get("requirements"), "parameters": pins}
