"""The door as objects of the Kubernetes Gateway API: TLS with the clients' certificates, open paths, timeouts.

The API has no tokens, no authorisation, no rate and no body limits of its own: whoever implements it adds these (Istio
understands the AuthorizationPolicies of `istio.py` on a Gateway too). So this alone is no locked door, and says so in
its annotation.

Source: https://gateway-api.sigs.k8s.io/reference/spec/.
"""

from kfp_custody.components.seldon_deployment.door.objects import Object, Place, make
from kfp_custody.components.seldon_deployment.door.spec import GRPC_INFER, Door, paths_of
from kfp_custody.components.seldon_deployment.serving.names import MODEL_HEADER

_API = "gateway.networking.k8s.io/v1"
_LACKS = {"custody.kubeflow.org/lacks": "tokens, authorisation, rate and body limits: add those of your implementation"}


def render(door: Door, place: Place) -> list[Object]:
    """Return Gateway, HTTPRoutes and BackendTLSPolicy."""
    return [
        _gateway(door, place),
        *(_route(door, place, model) for model in door.models),
        _backend_tls(door, place),
    ]


def _gateway(door: Door, place: Place) -> Object:
    ca = {"group": "", "kind": "ConfigMap", "name": "custody-clients-ca"}
    spec = {
        "gatewayClassName": "REPLACE",
        "listeners": [
            {
                "name": "https",
                "hostname": door.server_name,
                "port": 443,
                "protocol": "HTTPS",
                "tls": {"mode": "Terminate", "certificateRefs": [{"name": "custody-door"}]},
                "allowedRoutes": {"namespaces": {"from": "Same"}},
            }
        ],
        "tls": {"frontend": {"default": {"validation": {"caCertificateRefs": [ca]}}}},
    }
    return make(_API, "Gateway", "door", place, annotations=_LACKS, spec=spec)


def _route(door: Door, place: Place, model: str) -> Object:
    chosen = {"name": MODEL_HEADER, "value": f"{model}{place.suffix}"}
    modifier = {"set": [chosen], "remove": ["x-seldon-route"]}
    common = {
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}],
        "backendRefs": [{"name": place.host, "port": place.port}],
        "timeouts": {"request": f"{door.limits.timeout_seconds}s"},
    }
    exact = [{"path": {"type": "Exact", "value": path}, "method": method} for method, path in paths_of(model)]
    grpc = {"path": {"type": "Exact", "value": GRPC_INFER}, "headers": [{"type": "Exact", **chosen}]}
    spec = {
        "parentRefs": [{"name": "door"}],
        "hostnames": [door.server_name],
        "rules": [{"matches": exact, **common}, {"matches": [grpc], **common}],
    }
    return make(_API, "HTTPRoute", model, place, spec=spec)


def _backend_tls(door: Door, place: Place) -> Object:
    host = f"{place.host}.{place.namespace}.svc.cluster.local"
    authorities = [{"group": "", "kind": "ConfigMap", "name": "custody-servers-ca"}]
    spec = {
        "targetRefs": [{"group": "", "kind": "Service", "name": place.host}],
        "validation": {"caCertificateRefs": authorities, "hostname": host},
    }
    return make(_API, "BackendTLSPolicy", "door", place, spec=spec)
