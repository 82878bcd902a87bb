"""The overlays of the serving systems: valid in each version of Kubernetes, closed, admitting only pinned models."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_custody.components.seldon_deployment import kubernetes_api
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.rollout.cluster import ClusterTarget, Setup
from kfp_custody.components.seldon_deployment.rollout.on_kserve import KServe
from kfp_custody.components.seldon_deployment.rollout.on_seldon_v1 import SeldonV1
from kfp_custody.components.seldon_deployment.rollout.state import Rollout
from kfp_custody.components.seldon_deployment.rollout.target import version_of
from kfp_custody.components.seldon_deployment.seldon_v2 import render_model
from kube_api import MODEL, FakeApi, Kind, fake_api
from kube_schemas import SCHEMAS, SHARED, VERSIONS, faults, is_core, unverified
from unit.manifests.rendered import MANIFESTS, OVERLAYS, Object, of_kind, render
from unit.seldon_deployment.test_seldon_v2 import ADMITTED

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to render the overlays")
SERVING = ("seldon-v2", "seldon-v1", "kserve")
NAMESPACE = "custody-production"
IMAGE = "ghcr.io/kfp-custody/custody-serving@sha256:" + "ab" * 32
SELDON_V1 = Kind("machinelearning.seldon.io", "v1", "seldondeployments", "SeldonDeployment")
KSERVE = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid_in_every_version_of_kubernetes(overlay: str) -> None:
    assert len(VERSIONS) == 8
    for document in render(overlay):
        assert faults(document) == [], f"{document['kind']} {document['metadata']['name']}"
        if unverified(document):
            assert document["kind"] == "PodDefault", "Kubeflow's has no schema here: test_manifests.py knows its fields"


WRONG: list[tuple[str, Callable[[Object], Any]]] = [
    ("NetworkPolicy", lambda each: each["spec"].update(policyTypes="Ingress")),
    ("NetworkPolicy", lambda each: each["spec"].update(egres=[])),
    ("Role", lambda each: each["rules"][0].pop("verbs")),
    ("ResourceQuota", lambda each: each["spec"].update(hard=["pods"])),
    ("ServiceAccount", lambda each: each.update(automountServiceAccountToken="no")),
    ("ValidatingAdmissionPolicy", lambda each: each["spec"].update(validation=[])),
    ("Server", lambda each: each["spec"].pop("serverConfig")),
    ("Server", lambda each: each["spec"].update(capability=["custody"])),
    ("ServingRuntime", lambda each: each["spec"].pop("containers")),
]


@pytest.mark.parametrize(("kind", "spoil"), WRONG)
def test_what_is_wrong_is_found_in_every_version(kind: str, spoil: Callable[[Object], Any]) -> None:
    document = copy.deepcopy(next(each for overlay in SERVING for each in of_kind(overlay, kind)))
    assert faults(document) == []
    spoil(document)
    assert len(faults(document)) >= (7 if is_core(document) else 1), "seven of eight: admission policies came with 1.30"


def pods(overlay: str) -> Iterator[Object]:
    """Every pod specification of an overlay."""
    for document in render(overlay):
        spec = document.get("spec", {})
        if document["kind"] == "Server":
            yield spec["podSpec"]
        if document["kind"] == "ServingRuntime":
            yield spec


def not_restricted(pod: Object) -> list[str]:
    """What PodSecurity `restricted` has against a pod (https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    found += [each["name"] for each in pod.get("volumes", ()) if not set(each) - {"name"} <= allowed]
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        context = container.get("securityContext", {})
        wanted = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        found += [name for name, value in wanted.items() if context.get(name) != value]
        found += ["privileged"] if context.get("privileged") else []
    return found


@pytest.mark.parametrize("overlay", SERVING)
def test_model_servers_are_restricted_and_without_rights(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(overlay):
        assert not_restricted(pod) == []
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in pod["containers"])
        assert all("limits" in container["resources"] for container in pod["containers"])
    assert len(list(pods(overlay))) == (0 if overlay == "seldon-v1" else 1)
    (account,) = [each for each in of_kind(overlay, "ServiceAccount") if each["metadata"]["name"] == "custody-models"]
    assert account["automountServiceAccountToken"] is False
    predictor = SeldonV1("x", None, 1, Setup("s3://custody-models/1", IMAGE, None))._predictor(version_of(ADMITTED))  # type: ignore[arg-type]
    assert not_restricted(predictor["componentSpecs"][0]["spec"]) == []


def test_a_pod_that_is_not_restricted_is_told() -> None:
    good = next(pods("seldon-v2"))
    for spoil in (
        lambda pod: pod["containers"][0]["securityContext"].update(privileged=True),
        lambda pod: pod["containers"][0]["securityContext"].pop("runAsNonRoot"),
        lambda pod: pod["containers"][0].pop("securityContext"),
        lambda pod: pod.update(hostNetwork=True),
        lambda pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    ):
        pod = copy.deepcopy(good)
        spoil(pod)
        assert not_restricted(pod)


@pytest.mark.parametrize("overlay", SERVING)
def test_nothing_gets_in_or_out_but_what_is_named(overlay: str) -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(overlay, "NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert all(rule.get("from") for each in policies.values() for rule in each.get("ingress", ()))
    assert all(rule.get("to") for each in policies.values() for rule in each.get("egress", ()))
    (binding,) = of_kind(overlay, "RoleBinding")
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "custody-promotion", "namespace": "custody-promotion"}
    ]


# --- admission --------------------------------------------------------------------------------------------------------


def objects(kind: str) -> Object:
    """The object that our own stage would write, with a stable version and a canary."""
    first, second = ADMITTED, other()
    if kind == "seldon-v2":
        return render_model(first, "fraud", "s3://custody-models/fraud/1", NAMESPACE)
    made: dict[str, type[ClusterTarget]] = {"seldon-v1": SeldonV1, "kserve": KServe}

    class Nowhere:
        namespace = NAMESPACE

    target = made[kind]("fraud", Nowhere(), 1, Setup("s3://custody-models/fraud/1", IMAGE, None))  # type: ignore[arg-type]
    wanted = target._object(Rollout("fraud", version_of(first), version_of(second), 10, "run"), None)
    assert wanted is not None
    return wanted


def other() -> Admitted:
    from dataclasses import replace

    return replace(ADMITTED, signature_sha256="9a" * 32)


@pytest.fixture(scope="module")
def admission() -> Iterator[FakeApi]:
    policies = [MANIFESTS / "components" / "admission" / "models.yaml"]
    with fake_api(schemas=[SCHEMAS, SHARED], policies=policies) as api:
        for name, labels in ((NAMESPACE, {"custody/models": "guarded"}), ("elsewhere", {})):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            api.api_client().call_api("/api/v1/namespaces", "POST", body=body, auth_settings=["BearerToken"])
        yield api


def create(api: FakeApi, document: Object, namespace: str = NAMESPACE) -> str:
    """Create an object; return why it was refused, or nothing. It is removed again."""
    from kubernetes.client import ApiException

    kind = next(each for each in (MODEL, SELDON_V1, KSERVE) if each.kind == document["kind"])
    document = copy.deepcopy(document)
    document["metadata"]["namespace"] = namespace
    path = f"/apis/{kind.group}/{kind.version}/namespaces/{namespace}/{kind.plural}"
    client = api.api_client()
    try:
        client.call_api(path, "POST", body=document, auth_settings=["BearerToken"])
    except ApiException as error:
        return f"{error.status}: {json.loads(error.body)['message']}"
    client.call_api(f"{path}/{document['metadata']['name']}", "DELETE", auth_settings=["BearerToken"])
    return ""


@pytest.mark.parametrize("kind", SERVING)
def test_what_our_stages_write_is_admitted(admission: FakeApi, kind: str) -> None:
    assert create(admission, objects(kind)) == ""


def text_of(change: Callable[[str], str]) -> Callable[[Object], Object]:
    return lambda document: json.loads(change(json.dumps(document)))


FORBIDDEN: list[tuple[str, Callable[[Object], Object], str]] = [
    ("seldon-v2", text_of(lambda text: text.replace("signature_sha256", "signature")), "does not pin"),
    ("seldon-v2", text_of(lambda text: text.replace("56" * 32, "56" * 31)), "does not pin"),
    (
        "seldon-v2",
        text_of(lambda text: text.replace("s3://custody-models/", "s3://custody-models-too/")),
        "not in the store",
    ),
    ("seldon-v2", text_of(lambda text: text.replace('["custody"]', '["sklearn"]')), "capability custody"),
    ("seldon-v1", text_of(lambda text: text.replace("CUSTODY_SIGNATURE_SHA256", "ANYTHING", 1)), "does not pin"),
    ("seldon-v1", text_of(lambda text: text.replace("s3://custody-models/", "s3://elsewhere/", 1)), "not in the store"),
    ("seldon-v1", text_of(lambda text: text.replace("@sha256:" + "ab" * 32, ":latest", 1)), "by digest"),
    ("seldon-v1", text_of(lambda text: text.replace("ghcr.io/kfp-custody/", "ghcr.io/evil/", 1)), "by digest"),
    ("kserve", text_of(lambda text: text.replace("CUSTODY_LISTING_SHA256", "ANYTHING", 1)), "does not pin"),
    ("kserve", text_of(lambda text: text.replace("9a" * 32, "no digest")), "does not pin"),
    ("kserve", text_of(lambda text: text.replace("s3://custody-models/", "https://elsewhere/", 1)), "not in the store"),
    ("kserve", text_of(lambda text: text.replace("@sha256:" + "ab" * 32, ":0.1.0", 1)), "by digest"),
]


@pytest.mark.parametrize(("kind", "spoil", "reason"), FORBIDDEN)
def test_what_pins_nothing_is_not_admitted_whoever_writes_it(
    admission: FakeApi, kind: str, spoil: Callable[[Object], Object], reason: str
) -> None:
    document = spoil(objects(kind))
    assert document != objects(kind)
    refusal = create(admission, document)
    assert refusal.startswith("422: ")
    assert reason in refusal
    assert create(admission, document, "elsewhere") == "", "only guarded namespaces are guarded"


def test_the_store_is_the_same_everywhere_and_the_stages_know_the_runtime() -> None:
    text = (MANIFESTS / "components/admission/models.yaml").read_text()
    assert text.count("s3://custody-models/") == 3
    (runtime,) = of_kind("kserve", "ServingRuntime")
    from kfp_custody.components.seldon_deployment.rollout import on_kserve

    assert runtime["metadata"]["name"] == on_kserve.RUNTIME
    assert on_kserve.FORMAT in {each["name"] for each in runtime["spec"]["supportedModelFormats"]}
    (server,) = of_kind("seldon-v2", "Server")
    assert server["spec"]["capabilities"] == ["custody"]
    assert yaml.safe_load((Path(MANIFESTS) / "base/model-servers/trust.yaml").read_text())["signers"][0][
        "may_sign"
    ] == ["sign-model"]
    assert kubernetes_api.KINDS


def test_a_namespace_is_the_same_whichever_overlay_brings_it() -> None:
    """Whichever is applied last wins: one that says less would take the label away by which models are guarded."""
    found: dict[str, Object] = {}
    for overlay in OVERLAYS:
        for namespace in of_kind(overlay, "Namespace"):
            assert found.setdefault(namespace["metadata"]["name"], namespace) == namespace, overlay
    assert found[NAMESPACE]["metadata"]["labels"]["custody/models"] == "guarded"
