"""The door as objects of Istio, with the same answers as the local Envoy.

| local Envoy | here |
|---|---|
| certificates of the trust domain | Gateway MUTUAL for who comes from outside, PeerAuthentication STRICT inside |
| bearer token | RequestAuthentication, and AuthorizationPolicy that wants its principal |
| identity, subject, model, path, method | an AuthorizationPolicy ALLOW for each client; without a match nobody passes |
| repository API closed | by the same, and by a DENY that no other ALLOW can open |
| addresses | AuthorizationPolicy DENY at the gateway of whatever is not in them |
| body and rate limits | EnvoyFilter (buffer, local_ratelimit) at the model servers |
| timeout, connections | VirtualService, DestinationRule |

A RequestAuthentication lets requests without a token pass, so it never stands alone. A token's principal is not handed
on from one proxy to the next: the gateway forwards the token, and both verify it. Behind the gateway a client's
certificate is not seen any more, so the gateway has the policy of identities, and the model servers accept the
gateway's identity with the client's token.

Not verified with Istio itself: the objects are held against its schemas, and the Envoy that they describe is tested as
the local door.

Sources: https://istio.io/latest/docs/reference/config/security/ and .../networking/.
"""

from collections.abc import Mapping
from typing import Any

from kfp_custody.components.seldon_deployment.door.envoy import buffer, rate
from kfp_custody.components.seldon_deployment.door.objects import Object, Place, make
from kfp_custody.components.seldon_deployment.door.spec import GRPC_INFER, Client, Door, paths_of
from kfp_custody.components.seldon_deployment.serving.names import MODEL_HEADER

_SECURITY, _NETWORK = "security.istio.io/v1", "networking.istio.io/v1"
CLOSED = (
    "/v2/repository/*",
    "/inference.GRPCInferenceService/Repository*",
    "/inference.model_repository.ModelRepositoryService/*",
)


def render(door: Door, place: Place) -> list[Object]:
    """Return the objects of a door."""
    at_gateway = {"namespace": place.gateway_namespace, "labels": dict(place.gateway)}
    at_models = {"namespace": place.namespace, "labels": dict(place.workload)}
    gateway = f"{door.trust_domain}/ns/{place.gateway_namespace}/sa/{place.gateway_account}"
    made = [
        make(_SECURITY, "PeerAuthentication", "default", place, spec={"mtls": {"mode": "STRICT"}}),
        _request_authentication(door, at_gateway),
        _request_authentication(door, at_models),
        _deny("closed-paths", at_models, {"to": [{"operation": {"paths": list(CLOSED)}}]}),
        _deny("addresses", at_gateway, {"from": [{"source": {"notRemoteIpBlocks": list(door.addresses)}}]}),
    ]
    for number, client in enumerate(door.clients, 1):
        identity = client.identity.removeprefix("spiffe://")
        made.append(_allow(f"client-{number}", at_gateway, door, client, [identity], place))
        made.append(_allow(f"client-{number}", at_models, door, client, [identity, gateway], place))
    return [
        *made,
        _limits(door, place),
        _gateway(door, place),
        _virtual_service(door, place),
        _destination(door, place),
    ]


def _request_authentication(door: Door, at: Mapping[str, Any]) -> Object:
    tokens = door.tokens
    rule = {
        "issuer": tokens.issuer,
        "audiences": list(tokens.audiences),
        "forwardOriginalToken": True,
        **({"jwksUri": tokens.jwks} if tokens.jwks else {"jwks": tokens.keys}),
    }
    spec = {"selector": {"matchLabels": at["labels"]}, "jwtRules": [rule]}
    return make(_SECURITY, "RequestAuthentication", "tokens", namespace=at["namespace"], spec=spec)


def _allow(name: str, at: Mapping[str, Any], door: Door, client: Client, principals: list[str], place: Place) -> Object:
    """Let a client ask its models; the path and the header that chooses the model must both be right."""
    token = f"{door.tokens.issuer}/{client.subject or '*'}"
    source = {"principals": principals, "requestPrincipals": [token]}
    rules = []
    for model in client.models:
        header = {"key": f"request.headers[{MODEL_HEADER}]", "values": [model, f"{model}{place.suffix}"]}
        for method, path in (*paths_of(model), ("POST", GRPC_INFER)):
            operation = {"operation": {"methods": [method], "paths": [path]}}
            # At the gateway the header is not set yet, but for gRPC, whose path names no model.
            known = at["namespace"] == place.namespace or path == GRPC_INFER
            rules.append({"from": [{"source": source}], "to": [operation], **({"when": [header]} if known else {})})
    spec = {"selector": {"matchLabels": at["labels"]}, "action": "ALLOW", "rules": rules}
    return make(_SECURITY, "AuthorizationPolicy", name, namespace=at["namespace"], spec=spec)


def _deny(name: str, at: Mapping[str, Any], rule: Object) -> Object:
    spec = {"selector": {"matchLabels": at["labels"]}, "action": "DENY", "rules": [rule]}
    return make(_SECURITY, "AuthorizationPolicy", name, namespace=at["namespace"], spec=spec)


def _limits(door: Door, place: Place) -> Object:
    router = {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager",
                                         "subFilter": {"name": "envoy.filters.http.router"}}}}  # fmt: skip
    patches = [
        {
            "applyTo": "HTTP_FILTER",
            "match": {"context": "SIDECAR_INBOUND", "listener": router},
            "patch": {"operation": "INSERT_BEFORE", "value": value},
        }
        for value in (rate(door), buffer(door))
    ]
    spec = {"workloadSelector": {"labels": dict(place.workload)}, "configPatches": patches}
    return make("networking.istio.io/v1alpha3", "EnvoyFilter", "limits", place, spec=spec)


def _gateway(door: Door, place: Place) -> Object:
    """End TLS with a client's certificate; the Secret comes from cert-manager, with the clients' CA in ca.crt."""
    server = {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "hosts": [f"{place.namespace}/{door.server_name}"],
        "tls": {"mode": "MUTUAL", "credentialName": "custody-door", "minProtocolVersion": "TLSV1_2"},
    }
    spec = {"selector": dict(place.gateway), "servers": [server]}
    return make(_NETWORK, "Gateway", "door", namespace=place.gateway_namespace, spec=spec)


def _virtual_service(door: Door, place: Place) -> Object:
    route = [{"destination": {"host": f"{place.host}.{place.namespace}.svc.cluster.local",
                              "port": {"number": place.port}}}]  # fmt: skip
    timeout = f"{door.limits.timeout_seconds}s"
    rules = []
    for model in door.models:
        exact = [{"uri": {"exact": path}, "method": {"exact": method}} for method, path in paths_of(model)]
        chosen = {"request": {"set": {MODEL_HEADER: f"{model}{place.suffix}"}, "remove": ["x-seldon-route"]}}
        rules.append({"name": model, "match": exact, "headers": chosen, "route": route, "timeout": timeout})
        header = {MODEL_HEADER: {"exact": f"{model}{place.suffix}"}}
        rules.append(
            {
                "name": f"{model}-grpc",
                "match": [{"uri": {"exact": GRPC_INFER}, "headers": header}],
                "headers": {"request": {"remove": ["x-seldon-route"]}},
                "route": route,
                "timeout": timeout,
            }
        )
    spec = {"hosts": [door.server_name], "gateways": [f"{place.gateway_namespace}/door"], "http": rules}
    return make(_NETWORK, "VirtualService", "door", place, spec=spec)


def _destination(door: Door, place: Place) -> Object:
    policy = {
        "tls": {"mode": "ISTIO_MUTUAL"},
        "connectionPool": {
            "tcp": {"maxConnections": door.limits.connections},
            "http": {"http1MaxPendingRequests": door.limits.burst, "maxRetries": 0},
        },
    }
    spec = {"host": f"{place.host}.{place.namespace}.svc.cluster.local", "trafficPolicy": policy}
    return make(_NETWORK, "DestinationRule", "door", place, spec=spec)
