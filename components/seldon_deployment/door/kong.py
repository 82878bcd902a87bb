"""The door as objects of the Kong Ingress Controller, with what its free edition has.

It has tokens (keys of known consumers), addresses, body and rate limits, and open paths. Certificates of clients and an
issuer's key set need Kong's Enterprise plugins (mtls-auth, openid-connect), so identities are not checked here: put it
in front of a mesh, not in its place. A consumer's public key is a Secret of the type that Kong wants, which External
Secrets brings; none is made here.

Not verified with Kong: its schemas are not among those that the tests have; fields are from its reference.

Source: https://developer.konghq.com/kubernetes-ingress-controller/reference/custom-resources/ and .../plugins/.
"""

from typing import Any

from kfp_custody.components.seldon_deployment.door.objects import Object, Place, make
from kfp_custody.components.seldon_deployment.door.spec import Door, paths_of

_API = "configuration.konghq.com/v1"
_LACKS = {"custody.kubeflow.org/lacks": "client certificates and an issuer's key set: Enterprise plugins, or a mesh"}


def render(door: Door, place: Place) -> list[Object]:
    """Return plugins, consumers and Ingresses."""
    limits = door.limits
    megabytes = max(1, -(-limits.body_bytes // 1_048_576))
    plugins: dict[str, tuple[str, dict[str, Any]]] = {
        "addresses": ("ip-restriction", {"allow": list(door.addresses), "status": 403}),
        "tokens": (
            "jwt",
            {"claims_to_verify": ["exp"], "key_claim_name": "iss", "header_names": ["authorization"]},
        ),
        "size": ("request-size-limiting", {"allowed_payload_size": megabytes, "size_unit": "megabytes"}),
        "rate": ("rate-limiting", {"second": limits.requests_per_second, "policy": "local"}),
    }
    made = [
        make(_API, "KongPlugin", name, place, plugin=plugin, config=config)
        for name, (plugin, config) in plugins.items()
    ]
    for model in door.models:
        clients = [number for number, client in enumerate(door.clients, 1) if model in client.models]
        config = {"allow": [f"client-{number}" for number in clients], "hide_groups_header": True}
        made.append(make(_API, "KongPlugin", f"may-ask-{model}", place, plugin="acl", config=config))
        made.append(_ingress(door, place, model, [*plugins, f"may-ask-{model}"]))
    return [*made, *(_consumer(place, number) for number in range(1, len(door.clients) + 1))]


def _ingress(door: Door, place: Place, model: str, plugins: list[str]) -> Object:
    backend = {"service": {"name": place.host, "port": {"number": place.port}}}
    opened = sorted({path for _, path in paths_of(model)})
    paths = [{"path": path, "pathType": "Exact", "backend": backend} for path in opened]
    annotations = {
        "konghq.com/plugins": ",".join(plugins),
        "konghq.com/protocols": "https",
        "konghq.com/methods": "GET,POST",
        "konghq.com/strip-path": "false",
        **_LACKS,
    }
    spec = {
        "ingressClassName": "kong",
        "tls": [{"hosts": [door.server_name], "secretName": "custody-door"}],
        "rules": [{"host": door.server_name, "http": {"paths": paths}}],
    }
    return make("networking.k8s.io/v1", "Ingress", model, place, annotations=annotations, spec=spec)


def _consumer(place: Place, number: int) -> Object:
    name = f"client-{number}"
    annotations = {"kubernetes.io/ingress.class": "kong"}
    credentials = [f"{name}-jwt", f"{name}-acl"]
    return make(_API, "KongConsumer", name, place, annotations=annotations, username=name, credentials=credentials)
