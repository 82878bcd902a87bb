"""Rollouts on a real cluster: `make test-cluster CLUSTER_TESTS=tests/cluster/test_rollouts.py KUBECONFIG=...`.

This has not been run on a real cluster, because none can run where the project is developed; that the tests themselves
work is tested against stand-ins (`tests/services/test_cluster_tests.py` and `test_seldon_end_to_end.py`). The first two
change nothing on the cluster. The third rolls a version out, for good.

| variable | meaning |
|---|---|
| KUBECONFIG | of the account that deploys: `manifests/base/serving` binds its Role |
| CUSTODY_NAMESPACE | where it deploys |
| CUSTODY_TEST_MODEL_URI | address of a signed model in the serving system's store; a dry run fetches nothing |
| CUSTODY_SERVING_IMAGE, CUSTODY_KSERVE_MODE | optional: as the stages read them |

The third test needs what the README says about the target, the environment of the stages (CUSTODY_DEPLOY_TARGET,
CUSTODY_TRUST, CUSTODY_SIGNER, CUSTODY_PROMETHEUS), and besides:

| variable | meaning |
|---|---|
| CUSTODY_TEST_MODEL | folder with the same signed model: `model/` and `model.sig`; not the version that is served |
| CUSTODY_TEST_DECISION | folder with the gate's decision about it |
| CUSTODY_TEST_RUN_ID | the run that the decision is of |
| CUSTODY_TEST_SERVICE | the service that the decision is about |
| CUSTODY_TEST_TRAFFIC | command that sends requests to this service until it is ended |
"""

import json
import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components.seldon_deployment import deployment
from kfp_custody.components.seldon_deployment.kubernetes_api import KINDS, MANAGER, Cluster
from kfp_custody.components.seldon_deployment.rollout import stages
from kfp_custody.components.seldon_deployment.rollout.analysis import Limits
from kfp_custody.components.seldon_deployment.rollout.cluster import Setup
from kfp_custody.components.seldon_deployment.rollout.open import open_target
from kfp_custody.components.seldon_deployment.rollout.stages import Inputs, Outputs
from kube_api import fake_api
from services.test_cluster_rollouts import IMAGE, ONE, TARGETS, TWO, Operator

pytestmark = pytest.mark.cluster
ROLE = Path(__file__).resolve().parents[2] / "manifests" / "base" / "serving" / "deployer.yaml"
LIMITS = Limits(samples=50, interval_seconds=1.0)
KIND_OF = {"seldon-v2": ("Model", "Experiment"), "seldon-v1": ("SeldonDeployment",), "kserve": ("InferenceService",)}


def setting(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set; the head of {__name__} says what a cluster test needs", pytrace=False)
    return value


@pytest.fixture
def api() -> client.ApiClient:
    return config.new_client_from_config(setting("KUBECONFIG"))


@pytest.fixture
def targets(api: client.ApiClient) -> list[str]:
    """The targets whose kinds the cluster serves."""
    found = [target for target, kinds in KIND_OF.items() if all(serves(api, kind) for kind in kinds)]
    assert found, f"the cluster has none of {', '.join(KIND_OF)}: their definitions are not installed"
    return found


def serves(api: client.ApiClient, kind: str) -> bool:
    group, version, plural, _ = KINDS[kind]
    try:
        return plural in {each["name"] for each in call(api, "GET", f"/apis/{group}/{version}")["resources"]}
    except client.ApiException as error:
        if error.status == 404:
            return False
        raise


def call(api: client.ApiClient, method: str, path: str, body: Any = None, **query: str) -> Any:
    """Ask the API; objects are sent as they are applied."""
    answer, _, _ = api.call_api(
        path,
        method,
        query_params=list(query.items()),
        header_params={"Content-Type": "application/apply-patch+yaml"} if body else {},
        body=body,
        auth_settings=["BearerToken"],
        response_type="object",
    )
    return answer


def rendered(target: str, name: str, namespace: str, model_uri: str) -> list[dict[str, Any]]:
    """Every different object that a rollout of two versions applies: what the stages send to the stand-in."""
    settings = load_settings()
    setup = Setup(model_uri, settings.serving_image or IMAGE, None, settings.kserve_mode)
    with fake_api() as stand_in:
        Operator(stand_in)
        service = TARGETS[target](name, Cluster(namespace, stand_in.api_client(retries=1)), 60, setup)
        for number, version in enumerate((ONE, TWO), 1):
            service.place(version, f"run-{number}")
            for weight in (50, 100):
                service.shift(weight)
            service.promote()
        sent = [json.loads(each.text) for each in stand_in.requests if each.verb == "patch"]
    for document in sent:
        document["metadata"].pop("resourceVersion", None)  # it is the stand-in's
    return [document for place, document in enumerate(sent) if document not in sent[:place]]


def test_every_object_of_a_rollout_is_accepted(api: client.ApiClient, targets: list[str]) -> None:
    """A server-side dry run: schemas, admission policies, webhooks and quotas say what they think; nothing is kept."""
    namespace, refused = setting("CUSTODY_NAMESPACE"), []
    name, tried = f"custody-test-{uuid.uuid4().hex[:8]}", 0
    for target in targets:
        for document in rendered(target, name, namespace, setting("CUSTODY_TEST_MODEL_URI")):
            tried += 1
            group, version, plural, _ = KINDS[document["kind"]]
            path = f"/apis/{group}/{version}/namespaces/{namespace}/{plural}/{document['metadata']['name']}"
            options = {"fieldManager": MANAGER, "fieldValidation": "Strict", "dryRun": "All"}
            try:
                call(api, "PATCH", path, document, **options)
            except client.ApiException as error:
                refused.append(f"{document['kind']} ({target}): HTTP {error.status}: {error.body}")
                continue
            with pytest.raises(client.ApiException) as absent:
                call(api, "GET", path)
            assert absent.value.status == 404, f"{path} is there after a dry run"
    assert tried
    assert not refused, "\n".join(refused)


def test_the_account_may_do_what_the_role_of_the_manifests_lists(api: client.ApiClient, targets: list[str]) -> None:
    plurals = {KINDS[kind][2] for target in targets for kind in KIND_OF[target]}
    role = next(each for each in yaml.safe_load_all(ROLE.read_text()) if each["kind"] == "Role")
    asked = [
        client.V1ResourceAttributes(namespace=setting("CUSTODY_NAMESPACE"), group=group, resource=plural, verb=verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
        for verb in rule["verbs"]
        if plural in plurals
    ]
    assert asked
    reviews = client.AuthorizationV1Api(api)
    denied = []
    for attributes in asked:
        spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        answer = reviews.create_self_subject_access_review(client.V1SelfSubjectAccessReview(spec=spec))
        if not answer.status.allowed:
            denied.append(f"{attributes.verb} {attributes.resource}.{attributes.group}")
    assert not denied, f"the account may not {', '.join(denied)}"


@contextmanager
def traffic(command: str) -> Iterator[None]:
    """Let a command send requests until the block ends."""
    sending = subprocess.Popen(shlex.split(command))
    try:
        yield
        assert sending.poll() is None, f"CUSTODY_TEST_TRAFFIC ended by itself, with {sending.returncode}"
    finally:
        sending.terminate()
        sending.wait(30)


def test_a_healthy_version_is_promoted(tmp_path: Path) -> None:
    setting("KUBECONFIG")
    model, decision = (Path(setting(f"CUSTODY_TEST_{name}")) for name in ("MODEL", "DECISION"))
    uri, command = setting("CUSTODY_TEST_MODEL_URI"), setting("CUSTODY_TEST_TRAFFIC")
    where: dict[str, Any] = {
        "run_id": setting("CUSTODY_TEST_RUN_ID"),
        "name": setting("CUSTODY_TEST_SERVICE"),
        "target": setting("CUSTODY_DEPLOY_TARGET"),
        "timeout_seconds": 600,
    }
    for name in ("CUSTODY_NAMESPACE", "CUSTODY_TRUST", "CUSTODY_SIGNER", "CUSTODY_PROMETHEUS"):
        setting(name)
    settings = load_settings()
    before = open_target(where["target"], where["name"], settings, 60).state()
    out = deployment.Outputs(*(tmp_path / name for name in ("deployment", "deployment.html", "endpoint.json")))
    placed = deployment.deploy(model, decision, out, settings, model_uri=uri, rollout="canary", **where)
    assert before.stable is None or before.stable.digest != placed.digest, "this very model is served: give another"
    try:
        with traffic(command):
            inputs = Inputs(model, decision, tmp_path / "deployment")
            outputs = Outputs(tmp_path / "analysis", tmp_path / "analysis.html")
            verdict = stages.analyse(inputs, outputs, settings, LIMITS, **where).verdict
        assert verdict == "HEALTHY", f"see {tmp_path}/analysis.html"
        inputs = Inputs(model, decision, tmp_path / "analysis")
        done = stages.finish(inputs, Outputs(tmp_path / "rollout", tmp_path / "rollout.html"), settings, **where)
        assert done.verdict == "PROMOTED"
    finally:
        closed = stages.close(settings, **where)
    assert closed == "NOTHING", "it was finished"
    after = open_target(where["target"], where["name"], settings, 60).state()
    assert (after.stable and after.stable.digest, after.canary) == (placed.digest, None)
