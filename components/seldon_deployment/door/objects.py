"""What every kind of door in a cluster has around it: a closed namespace, with room for so much and no more.

Pods obey PodSecurity `restricted`, which also forbids the init container that Istio's sidecar needs without its CNI
plugin: install that plugin, or run the mesh in ambient mode. The NetworkPolicies need a network that enforces them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kfp_custody.components.seldon_deployment.door.spec import Door

Object = dict[str, Any]
MANAGER = "kfp-custody"


@dataclass(frozen=True)
class Place:
    """Where the door stands in a cluster.

    `workload` are the labels of the pods that answer (with Seldon Core v2 its Envoy), `host` and `port` the Service in
    front of them; `gateway`, `gateway_namespace` and `gateway_account` the ingress gateway's labels, namespace and
    ServiceAccount; `suffix` what the name of a service ends with in the header that chooses the model.
    """

    namespace: str = "custody-serving"
    workload: Mapping[str, str] = field(default_factory=lambda: {"seldon-name": "seldon-envoy"})
    host: str = "seldon-mesh"
    port: int = 80
    target_port: int = 9000
    metrics_port: int = 9003
    gateway: Mapping[str, str] = field(default_factory=lambda: {"istio": "ingressgateway"})
    gateway_namespace: str = "istio-system"
    gateway_account: str = "istio-ingressgateway-service-account"
    monitoring_namespace: str = "monitoring"
    suffix: str = ".experiment"


def surroundings(door: Door, place: Place) -> list[Object]:
    """Return the closed namespace and the ways into it."""
    return [*closed(door, place), *ways(door, place)]


def closed(door: Door, place: Place) -> list[Object]:
    """Return namespace, quota and limits, and the policy that lets nothing through."""
    return [
        make("v1", "Namespace", place.namespace, labels=_NAMESPACE),
        make("v1", "ResourceQuota", "models", place, spec={"hard": _quota(door)}),
        make("v1", "LimitRange", "models", place, spec={"limits": [_LIMITS]}),
        _policy(place, "default-deny", {}, {"policyTypes": ["Ingress", "Egress"]}),
    ]


def ways(door: Door, place: Place) -> list[Object]:
    """Return the policies that let through callers, those who count, and what the models need."""
    callers = sorted({place.gateway_namespace, *(namespace_of(client.identity) for client in door.clients)} - {""})
    pods = {"matchLabels": dict(place.workload)}
    return [
        _policy(
            place,
            "callers",
            pods,
            {
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [_from(name) for name in callers], "ports": [_tcp(place.target_port)]}],
            },
        ),
        _policy(
            place,
            "metrics",
            {},
            {
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "from": [_from(place.monitoring_namespace)],
                        "ports": [_tcp(place.metrics_port), _tcp(8082), _tcp(15020)],
                    }
                ],
            },
        ),
        _policy(
            place,
            "names-mesh-and-each-other",
            {},
            {
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"podSelector": {}}]}],
                "egress": [
                    {"to": [{"podSelector": {}}]},
                    {"to": [_from("kube-system")], "ports": [{"protocol": "UDP", "port": 53}, _tcp(53)]},
                    {"to": [_from("istio-system")], "ports": [_tcp(15012)]},
                ],
            },
        ),
    ]


def make(api: str, kind: str, name: str, place: Place | None = None, *, namespace: str = "", **rest: Any) -> Object:
    """Return an object, marked as ours."""
    labels = {"app.kubernetes.io/managed-by": MANAGER, **rest.pop("labels", {})}
    where = namespace or (place.namespace if place else "")
    metadata = {"name": name, **({"namespace": where} if where else {}), "labels": labels}
    annotations = rest.pop("annotations", None)
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {**metadata, **({"annotations": annotations} if annotations else {})},
        **rest,
    }


def namespace_of(identity: str) -> str:
    """Return the namespace in a SPIFFE identity as Kubernetes meshes write it; empty when it is none of these."""
    found = re.fullmatch(r"spiffe://[^/]+/ns/([a-z0-9-]+)/sa/[a-z0-9.-]+", identity)
    return found.group(1) if found else ""


_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
_NAMESPACE = {**_RESTRICTED, "istio-injection": "enabled"}
_LIMITS = {
    "type": "Container",
    "default": {"cpu": "1", "memory": "2Gi"},
    "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
}


def _quota(door: Door) -> dict[str, str]:
    sizes = door.resources
    return {"pods": sizes["pods"], "limits.cpu": sizes["cpu"], "limits.memory": sizes["memory"]}


def _policy(place: Place, name: str, pods: Mapping[str, Any], spec: Object) -> Object:
    return make("networking.k8s.io/v1", "NetworkPolicy", name, place, spec={"podSelector": dict(pods), **spec})


def _from(namespace: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


def _tcp(port: int) -> Object:
    return {"protocol": "TCP", "port": port}
