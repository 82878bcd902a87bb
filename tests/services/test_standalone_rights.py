"""Kubeflow Pipelines by itself: as `kubeflow/pipeline-runner` the stages may what the overlay says, and nothing else.

The whole of a service's life runs against the tests' API server, which evaluates the overlay's Roles as kustomize
renders them. KFP's own Role for that ServiceAccount is not among them: what the stages need does not lean on it.
"""

import copy
import shutil
from typing import Any

import pytest

from kfp_custody.components._shared.errors import CustodyError, Misconfigured
from kfp_custody.components.seldon_deployment import kubernetes_api
from kfp_custody.components.seldon_deployment.kubernetes_api import Cluster
from kube_api import fake_api
from kube_schemas import SCHEMAS, SHARED
from services import test_cluster_rollouts as rollouts
from unit.manifests.rendered import of_kind

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to render the overlays"),
]
OVERLAY, MODELS = "standalone-kfp", "custody-production"
RUNNER = "system:serviceaccount:kubeflow:pipeline-runner"
OTHERS = [
    "system:serviceaccount:kubeflow:default",
    "system:serviceaccount:custody-production:custody-models",
    "system:serviceaccount:custody-production:pipeline-runner",
    "system:serviceaccount:custody-promotion:custody-promotion",
]


def roles(without: str = "") -> list[dict[str, Any]]:
    """Roles and bindings of the overlay; all of them, or without one `resource:verb`."""
    found = copy.deepcopy([*of_kind(OVERLAY, "Role"), *of_kind(OVERLAY, "RoleBinding")])
    resource, _, gone = without.partition(":")
    for rule in (rule for each in found for rule in each.get("rules", ())):
        if resource in rule["resources"]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != gone]
    return found


VERBS = [
    f"{resource}:{verb}"
    for each in of_kind(OVERLAY, "Role", MODELS)
    for rule in each["rules"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
]


@pytest.fixture(autouse=True)
def in_the_namespace_of_the_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "NAMESPACE", MODELS)
    monkeypatch.setattr(kubernetes_api, "POLL_SECONDS", 0.02)


def everything(kind: str, granted: list[dict[str, Any]], user: str = RUNNER) -> set[str]:
    """Let the stages make every call they know; return what they asked for, as `resource:verb`."""
    with fake_api(schemas=[SCHEMAS, SHARED], roles=granted, tokens={rollouts.TOKEN: user}) as api:
        rollouts.Operator(api)
        rollouts.everything(api, kind)
        asked = [each for each in api.requests if each.user == user]
    assert {each.namespace for each in asked} == {MODELS}
    return {f"{each.plural}:{each.verb}" for each in asked}


def test_the_runner_may_every_call_of_the_stages_and_has_no_verb_too_many() -> None:
    asked = set().union(*(everything(kind, roles()) for kind in rollouts.TARGETS))
    # A server-side apply is a patch that needs `create` as well where the object is not there yet.
    assert asked == {each for each in VERBS if not each.endswith(":create")}


@pytest.mark.parametrize("dropped", VERBS)
def test_without_one_of_its_verbs_the_stages_refuse_and_name_it(dropped: str) -> None:
    resource, verb = dropped.split(":")
    with pytest.raises(CustodyError) as refusal:
        everything(rollouts.KIND_OF[resource], roles(without=dropped))
    text = str(refusal.value)
    assert "HTTP 403" in text
    assert verb in text.split("HTTP 403")[1].split("namespace")[0]
    assert f'resources: ["{resource}"]' in text


@pytest.mark.parametrize("user", OTHERS)
@pytest.mark.parametrize("kind", rollouts.TARGETS)
def test_nobody_else_is_let_in_by_it(kind: str, user: str) -> None:
    with pytest.raises(Misconfigured, match="does not allow"):
        everything(kind, roles(), user)


@pytest.mark.parametrize("namespace", ["kubeflow", "default", "custody-staging"])
def test_nor_the_runner_into_another_namespace(namespace: str) -> None:
    with fake_api(schemas=[SCHEMAS, SHARED], roles=roles(), tokens={rollouts.TOKEN: RUNNER}) as api:
        cluster = Cluster(namespace, api.api_client(rollouts.TOKEN, retries=1))
        for kind in kubernetes_api.KINDS:
            with pytest.raises(Misconfigured, match="does not allow"):
                cluster.get(kind, "fraud-detection")
