"""The door as an Envoy configuration: a bootstrap, and clusters and routes in files of their own.

Clusters and routes are read again whenever their file is replaced by renaming, so that weights move without a restart
and without a control plane. The order of the filters is the order of refusals: address, token, identity and model,
rate, size. Envoy's own administration listens on a Unix socket of this user alone: over TCP any local user could stop
it.

Sources: https://www.envoyproxy.io/docs/envoy/v1.38.0/api-v3/api and its pages on the filters named below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.seldon_deployment.child import HOST
from kfp_custody.components.seldon_deployment.door.spec import GRPC_INFER, Client, Door, paths_of
from kfp_custody.components.seldon_deployment.serving.names import MODEL_HEADER

ADMIN = "admin.sock"
"""Envoy's administration, in the folder that it is started in: an address of a socket has at most 107 bytes."""
_HTTP = "envoy.filters.http"
_TYPES = "type.googleapis.com/envoy.extensions"
_JWT = "verified"  # where the token filter leaves what it verified, for the filter of identities
_REMOVED = ("x-seldon-route", "x-forwarded-client-cert", "x-envoy-retry-on", "x-envoy-max-retries")
# Milliseconds. Envoy's own double or more each time, too coarse to tell 1.25 times.
_BUCKETS = [1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56, 80, 110, 150, 200, 280, 400, 500, 750, 1000, 2500, 5000, 10_000]
Config = dict[str, Any]


@dataclass(frozen=True)
class Backend:
    """A model server that serves one version: the cluster's name, its ports on the loopback interface."""

    name: str
    http_port: int
    grpc_port: int


@dataclass(frozen=True)
class Files:
    """What the door reads and writes on this machine: certificates, and the folder of its configuration."""

    ca: Path
    certificate: Path
    key: Path
    directory: Path

    @property
    def clusters(self) -> Path:
        """File of the clusters."""
        return self.directory / "clusters.json"

    @property
    def routes(self) -> Path:
        """File of the routes."""
        return self.directory / "routes.json"


def bootstrap(door: Door, files: Files, port: int, address: str = HOST) -> Config:
    """Return the configuration that Envoy starts with.

    Raises:
        Misconfigured: the token keys are not in a file: this door fetches nothing.
    """
    return {
        "node": {"id": "door", "cluster": "door"},
        "admin": {"address": {"pipe": {"path": ADMIN, "mode": 0o600}}},
        "stats_flush_interval": "1s",
        "stats_config": {"histogram_bucket_settings": [{"match": {"suffix": "upstream_rq_time"}, "buckets": _BUCKETS}]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPES}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": door.limits.connections,
                    },
                }
            ]
        },
        "dynamic_resources": {"cds_config": _watched(files.clusters)},
        "static_resources": {"listeners": [_listener(door, files, port, address)]},
    }


def clusters(backends: Sequence[Backend]) -> Config:
    """Return the discovery response of the clusters: for each backend one for HTTP and one for gRPC."""
    made = []
    for backend in backends:
        made += [
            _cluster(backend.name, backend.http_port, False),
            _cluster(grpc_name(backend.name), backend.grpc_port, True),
        ]
    return {"resources": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", **one} for one in made]}


def routes(door: Door, weights: Mapping[str, Mapping[str, int]]) -> Config:
    """Return the discovery response of the routes.

    Args:
        door: the specification.
        weights: for each model the backends' names with their share of its requests, in percent of 100.
    """
    made = []
    for model, shares in weights.items():
        if not any(shares.values()):
            continue  # nothing of it may be answered yet
        for method, path in paths_of(model):
            made.append(
                {
                    "match": {"path": path, "headers": [_exactly(":method", method)]},
                    "route": _to(door, shares, False),
                    "request_headers_to_add": [
                        {
                            "header": {"key": MODEL_HEADER, "value": model},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                    ],
                }
            )
        made.append(
            {
                "match": {"path": GRPC_INFER, "headers": [_exactly(MODEL_HEADER, model)]},
                "route": _to(door, shares, True),
            }
        )
    host = {"name": "door", "domains": ["*"], "routes": made, "request_headers_to_remove": list(_REMOVED)}
    return {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                "name": "models",
                "virtual_hosts": [host],
                # A weight of a cluster that is not there yet must not take the whole table down.
                "validate_clusters": False,
            }
        ]
    }


def rate(door: Door) -> Config:
    """Return the filter that refuses a flood: 429, of gRPC RESOURCE_EXHAUSTED."""
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    config = {
        "stat_prefix": "door",
        "token_bucket": {
            "max_tokens": door.limits.burst,
            "tokens_per_fill": door.limits.requests_per_second,
            "fill_interval": "1s",
        },
        "filter_enabled": always,
        "filter_enforced": always,
        "rate_limited_as_resource_exhausted": True,
    }
    return _filter("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", config)


def buffer(door: Door) -> Config:
    """Return the filter that refuses a large request: 413."""
    return _filter("buffer", "buffer.v3.Buffer", {"max_request_bytes": door.limits.body_bytes})


def _listener(door: Door, files: Files, port: int, address: str) -> Config:
    return {
        "name": "door",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "per_connection_buffer_limit_bytes": 1_048_576,
        "filter_chains": [
            {
                "transport_socket": _tls(door, files),
                "transport_socket_connect_timeout": "10s",
                "filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": _http(door, files)}
                ],
            }
        ],
    }


def _tls(door: Door, files: Files) -> Config:
    """Certificates of the trust domain alone; anybody else's handshake fails."""
    ours = {"prefix": f"spiffe://{door.trust_domain}/"}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(files.certificate)},
                        "private_key": {"filename": str(files.key)},
                    }
                ],
                "validation_context": {
                    "trusted_ca": {"filename": str(files.ca)},
                    "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": ours}],
                },
            },
        },
    }


def _http(door: Door, files: Files) -> Config:
    return {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "door",
        "server_name": "door",
        "use_remote_address": True,
        "skip_xff_append": True,
        # One reading of a path, the same for the filters and for the model server behind them.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {
            "idle_timeout": "60s",
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": 60,
        },
        "request_headers_timeout": "10s",
        "request_timeout": f"{door.limits.timeout_seconds}s",
        "stream_idle_timeout": f"{door.limits.timeout_seconds}s",
        "http2_protocol_options": {"max_concurrent_streams": 100},
        "access_log": [_access_log(files.directory / "access.jsonl")],
        "rds": {"route_config_name": "models", "config_source": _watched(files.routes)},
        "http_filters": [
            _filter("addresses", "rbac.v3.RBAC", _addresses(door)),
            _filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", _tokens(door)),
            _filter("clients", "rbac.v3.RBAC", _clients(door)),
            rate(door),
            buffer(door),
            _filter("grpc_stats", "grpc_stats.v3.FilterConfig", {"stats_for_all_methods": False}),
            _filter("router", "router.v3.Router", {"suppress_envoy_headers": True}),
        ],
    }


def _addresses(door: Door) -> Config:
    allowed = [{"direct_remote_ip": _range(network)} for network in door.addresses]
    policy = {"permissions": [{"any": True}], "principals": [{"or_ids": {"ids": allowed}}]}
    return {"rules": {"action": "ALLOW", "policies": {"addresses": policy}}}


def _tokens(door: Door) -> Config:
    tokens = door.tokens
    if tokens.keys is None:
        raise Misconfigured(
            "The local door fetches no token keys.",
            evidence="tokens.jwks is an https address",
            remedy="Save the key set and name it as file:/path; in a cluster the mesh fetches it itself.",
        )
    provider = {
        "issuer": tokens.issuer,
        "audiences": list(tokens.audiences),
        "local_jwks": {"inline_string": tokens.keys},
        "clock_skew_seconds": tokens.clock_skew_seconds,
        "require_expiration": True,
        "forward": False,  # the model server has no use for it
        "payload_in_metadata": _JWT,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
    }
    return {
        "providers": {"issuer": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
    }


def _clients(door: Door) -> Config:
    """Everything that is not allowed to somebody here is refused to everybody."""
    policies = {f"client-{n}": _client(client) for n, client in enumerate(door.clients, 1)}
    return {"rules": {"action": "ALLOW", "policies": policies}}


def _client(client: Client) -> Config:
    ids: list[Config] = [{"authenticated": {"principal_name": {"exact": client.identity}}}]
    if client.subject is not None:
        value = {"string_match": {"exact": client.subject}}
        path = [{"key": _JWT}, {"key": "sub"}]
        ids.append({"metadata": {"filter": f"{_HTTP}.jwt_authn", "path": path, "value": value}})
    return {
        "permissions": [rule for model in client.models for rule in _permissions(model)],
        "principals": [{"and_ids": {"ids": ids}}],
    }


def _permissions(model: str) -> list[Config]:
    def all_of(path: str, header: Config) -> Config:
        return {"and_rules": {"rules": [{"url_path": {"path": {"exact": path}}}, {"header": header}]}}

    rest = [all_of(path, _exactly(":method", method)) for method, path in paths_of(model)]
    return [*rest, all_of(GRPC_INFER, _exactly(MODEL_HEADER, model))]


def _to(door: Door, shares: Mapping[str, int], grpc: bool) -> Config:
    named = [{"name": grpc_name(name) if grpc else name, "weight": weight} for name, weight in shares.items()]
    return {"weighted_clusters": {"clusters": named}, "timeout": f"{door.limits.timeout_seconds}s"}


def _cluster(name: str, port: int, http2: bool) -> Config:
    options: Config = {"explicit_http_config": {"http2_protocol_options" if http2 else "http_protocol_options": {}}}
    endpoint = {"endpoint": {"address": {"socket_address": {"address": HOST, "port_value": port}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
                **options,
            }
        },
    }


def _access_log(path: Path) -> Config:
    fields = {
        "time": "%START_TIME%",
        "identity": "%DOWNSTREAM_PEER_URI_SAN%",
        "address": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS_NUMBER%",
        "why": "%RESPONSE_CODE_DETAILS%",
        "backend": "%UPSTREAM_CLUSTER%",
        "milliseconds": "%DURATION%",
        "bytes": "%BYTES_RECEIVED%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": fields},
        },
    }


def _filter(name: str, type_name: str, config: Config) -> Config:
    return {"name": f"{_HTTP}.{name}", "typed_config": {"@type": f"{_TYPES}.filters.http.{type_name}", **config}}


def _range(network: str) -> Config:
    prefix, length = network.split("/")
    return {"address_prefix": prefix, "prefix_len": int(length)}


def _exactly(name: str, value: str) -> Config:
    return {"name": name, "string_match": {"exact": value}}


def _watched(path: Path) -> Config:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": str(path), "watched_directory": {"path": str(path.parent)}},
    }


def grpc_name(name: str) -> str:
    """Return the name of a backend's cluster for gRPC."""
    return f"{name}-grpc"
