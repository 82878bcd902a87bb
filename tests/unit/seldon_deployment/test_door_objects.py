"""What a cluster gets from a door file: valid objects that let in whom the local Envoy lets in, and nobody else."""

import copy
import fnmatch
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.seldon_deployment.door import envoy, gateway_api, istio, kong
from kfp_custody.components.seldon_deployment.door.objects import Place, surroundings
from kfp_custody.components.seldon_deployment.door.spec import GRPC_INFER, Door, load_door, parse_door
from kube_schemas import faults, unverified

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "server_name": "fraud.bank.example",
    "trust_domain": "bank.example",
    "tokens": {
        "issuer": "https://login.bank.example/realms/ml",
        "audiences": ["custody-serving"],
        "jwks": "https://login.bank.example/realms/ml/keys",
    },
    "clients": [
        {"identity": "spiffe://bank.example/ns/apps/sa/scoring", "subject": "scoring", "models": ["fraud-detection"]},
        {"identity": "spiffe://bank.example/ns/crm/sa/other", "models": ["churn"]},
    ],
    "addresses": ["10.0.0.0/8"],
}
Objects = list[dict[str, Any]]


def door(**changes: Any) -> Door:
    return parse_door(json.dumps(DOCUMENT | changes).encode())


RENDERED = {
    "surroundings": surroundings(door(), Place()),
    "istio": istio.render(door(), Place()),
    "gateway-api": gateway_api.render(door(), Place()),
    "kong": kong.render(door(), Place()),
}
ALL = [(kind, one) for kind, objects in RENDERED.items() for one in objects]


@pytest.mark.parametrize(("kind", "document"), ALL, ids=[f"{k}-{o['kind']}-{o['metadata']['name']}" for k, o in ALL])
def test_an_object_is_valid_in_every_version_of_kubernetes(kind: str, document: dict[str, Any]) -> None:
    if unverified(document):
        assert document["apiVersion"] == "configuration.konghq.com/v1", "only Kong's have no schema here (README)"
    assert faults(document) == []


@pytest.mark.parametrize("change", [
    {"spec": {"surplus": 1}}, {"spec": {"mtls": {"mode": "SOMETIMES"}}}, {"spec": {"mtls": "STRICT"}},
])  # fmt: skip
def test_the_schemas_can_refuse(change: dict[str, Any]) -> None:
    peers = next(one for one in RENDERED["istio"] if one["kind"] == "PeerAuthentication")
    assert faults(peers) == []
    assert faults(peers | change)
    policy = next(one for one in RENDERED["surroundings"] if one["kind"] == "NetworkPolicy")
    wrong = copy.deepcopy(policy)
    wrong["spec"]["podSelector"] = []
    assert len(faults(wrong)) == 8
    wrong["spec"] = {"podSelector": {}, "ingres": []}
    assert len(faults(wrong)) == 8


# --- Istio's objects answer as the Envoy does -------------------------------------------------------------------------
# The rules of AuthorizationPolicy, as Istio documents them: a DENY that matches refuses; else an ALLOW must match.


def matches(rule: dict[str, Any], request: dict[str, Any]) -> bool:
    def any_of(patterns: list[str], value: str) -> bool:
        return any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)

    def source(one: dict[str, Any]) -> bool:
        address = ipaddress.ip_address(request["address"])
        inside = [address in ipaddress.ip_network(block) for block in one.get("notRemoteIpBlocks", ())]
        return (
            ("principals" not in one or any_of(one["principals"], request["principal"]))
            and ("requestPrincipals" not in one or any_of(one["requestPrincipals"], request["token"]))
            and not any(inside)
        )

    def operation(one: dict[str, Any]) -> bool:
        methods = "methods" not in one or request["method"] in one["methods"]
        return methods and ("paths" not in one or any_of(one["paths"], request["path"]))

    assert set(rule) <= {"from", "to", "when"}
    return (
        (not rule.get("from") or any(source(each["source"]) for each in rule["from"]))
        and (not rule.get("to") or any(operation(each["operation"]) for each in rule["to"]))
        and all(
            request["headers"].get(each["key"].removeprefix("request.headers[").removesuffix("]")) in each["values"]
            for each in rule.get("when", ())
        )
    )


def admitted(objects: Objects, namespace: str, request: dict[str, Any]) -> bool:
    policies = [
        one["spec"]
        for one in objects
        if one["kind"] == "AuthorizationPolicy" and one["metadata"]["namespace"] == namespace
    ]
    rules = [(policy["action"], rule) for policy in policies for rule in policy["rules"]]
    if any(action == "DENY" and matches(rule, request) for action, rule in rules):
        return False
    return any(action == "ALLOW" and matches(rule, request) for action, rule in rules)


GOOD = {
    "principal": "bank.example/ns/apps/sa/scoring",
    "token": "https://login.bank.example/realms/ml/scoring",
    "method": "POST",
    "path": "/v2/models/fraud-detection/infer",
    "headers": {"seldon-model": "fraud-detection.experiment"},
    "address": "10.1.2.3",
}
GATEWAY = "bank.example/ns/istio-system/sa/istio-ingressgateway-service-account"
GRPC = {"path": GRPC_INFER}
# (what differs from a good request, at the gateway, at the model servers)
MATRIX = {
    "good": ({}, True, True),
    "good, by gRPC": (GRPC, True, True),
    "good, at the models through the gateway": ({"principal": GATEWAY}, False, True),
    "no certificate": ({"principal": ""}, False, False),
    "identity of nobody known": ({"principal": "bank.example/ns/apps/sa/stranger"}, False, False),
    "identity of another domain": ({"principal": "thief.example/ns/apps/sa/scoring"}, False, False),
    "identity of another model's client": ({"principal": "bank.example/ns/crm/sa/other"}, False, False),
    "no token, or one that is not valid": ({"token": ""}, False, False),
    "token of another issuer": ({"token": "https://elsewhere.example/scoring"}, False, False),
    "token of another subject": ({"token": "https://login.bank.example/realms/ml/another"}, False, False),
    "other model by its path": ({"path": "/v2/models/churn/infer"}, False, False),
    "other model by the header": ({"headers": {"seldon-model": "churn.experiment"}}, True, False),
    "other model by gRPC": ({**GRPC, "headers": {"seldon-model": "churn"}}, False, False),
    "no header by gRPC": ({**GRPC, "headers": {}}, False, False),
    "other method": ({"method": "DELETE"}, False, False),
    "repository": ({"path": "/v2/repository/models/fraud-detection/unload"}, False, False),
    "repository by gRPC": ({"path": "/inference.GRPCInferenceService/RepositoryModelUnload"}, False, False),
    "metrics": ({"path": "/metrics", "method": "GET"}, False, False),
    "a version of its choice": ({"path": "/v2/models/fraud-detection/versions/1/infer"}, False, False),
    "address": ({"address": "192.0.2.7"}, False, True),
}


@pytest.mark.parametrize("name", MATRIX)
def test_who_is_let_in(name: str) -> None:
    change, at_gateway, at_models = MATRIX[name]
    request = GOOD | change
    assert admitted(RENDERED["istio"], "istio-system", request) is at_gateway
    assert admitted(RENDERED["istio"], "custody-serving", request) is at_models


def test_the_repository_stays_closed_whatever_else_is_allowed() -> None:
    open_to_all = {"kind": "AuthorizationPolicy", "metadata": {"namespace": "custody-serving"},
                   "spec": {"action": "ALLOW", "rules": [{}]}}  # fmt: skip
    request = GOOD | {"path": "/v2/repository/index"}
    assert not admitted([*RENDERED["istio"], open_to_all], "custody-serving", request)


def test_tokens_are_verified_wherever_they_are_asked_for() -> None:
    places = {}
    for one in RENDERED["istio"]:
        if one["kind"] == "RequestAuthentication":
            (rule,) = one["spec"]["jwtRules"]
            assert (rule["issuer"], rule["audiences"]) == (DOCUMENT["tokens"]["issuer"], ["custody-serving"])
            assert rule["forwardOriginalToken"] is True
            places[one["metadata"]["namespace"]] = one["spec"]["selector"]["matchLabels"]
    for one in RENDERED["istio"]:
        if one["kind"] == "AuthorizationPolicy" and one["spec"]["action"] == "ALLOW":
            assert places[one["metadata"]["namespace"]] == one["spec"]["selector"]["matchLabels"]


def test_plain_text_is_refused_and_client_certificates_are_wanted() -> None:
    by_kind = {one["kind"]: one["spec"] for one in RENDERED["istio"]}
    assert by_kind["PeerAuthentication"] == {"mtls": {"mode": "STRICT"}}
    assert by_kind["Gateway"]["servers"][0]["tls"]["mode"] == "MUTUAL"
    assert by_kind["DestinationRule"]["trafficPolicy"]["tls"] == {"mode": "ISTIO_MUTUAL"}


def test_limits_are_those_of_the_local_door() -> None:
    small = door(limits={"body_bytes": 1000, "requests_per_second": 7, "burst": 9, "timeout_seconds": 3})
    objects = {one["kind"]: one["spec"] for one in istio.render(small, Place())}
    patches = [patch["patch"]["value"] for patch in objects["EnvoyFilter"]["configPatches"]]
    assert patches == [envoy.rate(small), envoy.buffer(small)]
    assert patches[0]["typed_config"]["token_bucket"]["max_tokens"] == 9
    assert {rule["timeout"] for rule in objects["VirtualService"]["http"]} == {"3s"}


def test_a_request_reaches_the_model_that_its_path_names_and_cannot_choose_a_version() -> None:
    (service,) = [one for one in RENDERED["istio"] if one["kind"] == "VirtualService"]
    for rule in service["spec"]["http"]:
        assert rule["headers"]["request"]["remove"] == ["x-seldon-route"]
        model = rule["name"].removesuffix("-grpc")
        for match in rule["match"]:
            assert set(match["uri"]) == {"exact"}
            named = match.get("headers", {}).get("seldon-model", {}).get("exact", match["uri"]["exact"])
            assert model in named
        if not rule["name"].endswith("-grpc"):
            assert rule["headers"]["request"]["set"] == {"seldon-model": f"{model}.experiment"}


def test_the_namespace_is_closed() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"] for one in RENDERED["surroundings"] if one["kind"] == "NetworkPolicy"
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (callers,) = policies["callers"]["ingress"]
    names = [each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for each in callers["from"]]
    assert names == ["apps", "crm", "istio-system"]
    (namespace,) = [one for one in RENDERED["surroundings"] if one["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_kong_says_what_it_lacks_and_opens_exact_paths_alone() -> None:
    for one in RENDERED["kong"]:
        if one["kind"] == "Ingress":
            assert "client certificates" in one["metadata"]["annotations"]["custody.kubeflow.org/lacks"]
            paths = [path for rule in one["spec"]["rules"] for path in rule["http"]["paths"]]
            assert {path["pathType"] for path in paths} == {"Exact"}
            plugins = one["metadata"]["annotations"]["konghq.com/plugins"].split(",")
            made = {each["metadata"]["name"] for each in RENDERED["kong"] if each["kind"] == "KongPlugin"}
            assert set(plugins) <= made
    assert not any(one["kind"] == "Secret" for _, one in ALL)


# --- the file ---------------------------------------------------------------------------------------------------------

WRONG: list[dict[str, Any]] = [
    {"version": 2},
    {"surplus": 1},
    {"clients": []},
    {"clients": [{"identity": "spiffe://thief.example/ns/a/sa/b", "models": ["m"]}]},
    {"clients": [{"identity": "spiffe://bank.example/ns/a/sa/*", "models": ["m"]}]},
    {"clients": [{"identity": "spiffe://bank.example/ns/a/sa/b", "models": []}]},
    {"clients": [{"identity": "spiffe://bank.example/ns/a/sa/b", "models": ["*"]}]},
    {"clients": [DOCUMENT["clients"][0]] * 2},
    {"addresses": ["0.0.0.0/0"]},
    {"addresses": ["::/0"]},
    {"addresses": ["10.0.0.1/8"]},
    {"addresses": []},
    {"tokens": DOCUMENT["tokens"] | {"audiences": []}},
    {"tokens": DOCUMENT["tokens"] | {"issuer": "http://login.bank.example"}},
    {"tokens": DOCUMENT["tokens"] | {"jwks": "http://login.bank.example/keys"}},
    {"tokens": DOCUMENT["tokens"] | {"jwks": "https://user:secret@login.bank.example/keys"}},
    {"tokens": DOCUMENT["tokens"] | {"clock_skew_seconds": 0}},
    {"limits": {"body_bytes": 0}},
    {"limits": {"requests_per_second": True}},
    {"limits": {"retries": 3}},
    {"resources": {"cpu": "0"}},
    {"server_name": "fraud.bank.example/*"},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_a_file_that_would_leave_something_open_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "door.yaml").write_text(json.dumps(DOCUMENT | change))
    with pytest.raises(Misconfigured, match="cannot be used"):
        load_door(tmp_path / "door.yaml")


@pytest.mark.parametrize("keys", [
    {"keys": []}, {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, {"keys": [{"kty": "EC", "d": "cHJpdmF0ZQ"}]}, [],
])  # fmt: skip
def test_a_key_set_with_a_secret_in_it_is_refused(tmp_path: Path, keys: Any) -> None:
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    tokens = DOCUMENT["tokens"] | {"jwks": f"file:{tmp_path}/keys.json"}
    (tmp_path / "door.yaml").write_text(json.dumps(DOCUMENT | {"tokens": tokens}))
    with pytest.raises(Misconfigured, match="key set"):
        load_door(tmp_path / "door.yaml")


def test_the_local_door_fetches_nothing(tmp_path: Path) -> None:
    files = envoy.Files(*(tmp_path / name for name in ("ca", "certificate", "key", "door")))
    with pytest.raises(Misconfigured, match="fetches no token keys"):
        envoy.bootstrap(door(), files, 18443)
