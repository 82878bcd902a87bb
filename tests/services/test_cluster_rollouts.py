"""Rollouts in a cluster: our stages against an API server with schemas, versions, conflicts and our own Roles.

The API server is the tests' own (`kube_api`), and what the operators would do to a status is done by a few lines here:
no real cluster, Seldon or KServe has run. `make test-cluster` takes any kubeconfig.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_custody.components._shared.digests import Entry, Listing
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components.seldon_deployment import kubernetes_api
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.kubernetes_api import Cluster
from kfp_custody.components.seldon_deployment.rollout.cluster import ClusterTarget, Setup
from kfp_custody.components.seldon_deployment.rollout.on_kserve import KServe
from kfp_custody.components.seldon_deployment.rollout.on_seldon_v1 import SeldonV1
from kfp_custody.components.seldon_deployment.rollout.on_seldon_v2 import SeldonV2
from kfp_custody.components.seldon_deployment.rollout.target import version_of
from kube_api import EXPERIMENT, MODEL, Change, FakeApi, Fault, Kind, fake_api
from kube_schemas import SCHEMAS, SHARED, faults, unverified
from unit.seldon_deployment.test_seldon_v2 import ADMITTED

pytestmark = pytest.mark.services
NAME, NAMESPACE, TOKEN = "fraud-detection", "serving", "deployer-token"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:custody-deployer"
IMAGE = "ghcr.io/kfp-custody/custody-serving@sha256:" + "ab" * 32
SELDON_V1 = Kind("machinelearning.seldon.io", "v1", "seldondeployments", "SeldonDeployment")
KSERVE = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
OURS = (MODEL, EXPERIMENT, SELDON_V1, KSERVE)
ROLES = Path(__file__).resolve().parents[2] / "manifests" / "base" / "serving"
TARGETS: dict[str, type[ClusterTarget]] = {"seldon-v2": SeldonV2, "seldon-v1": SeldonV1, "kserve": KServe}
READY = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "CanaryReady", "status": "True"}]}


def version(number: int) -> Admitted:
    return replace(ADMITTED, listing=Listing((Entry("model.ubj", f"{number:02d}" * 32),)))


class Operator:
    """What Seldon's and KServe's operators do to a status: everything becomes ready, unless it is told otherwise."""

    def __init__(self, api: FakeApi) -> None:
        self.api, self.broken = api, set[str]()
        api.on_change(self)

    def __call__(self, change: Change) -> None:
        if change.type == "DELETED":
            return
        document = change.object
        kind = next((each for each in OURS if each.kind == document["kind"]), None)
        name = document["metadata"]["name"]
        if kind is None or any(each in json.dumps(document["spec"]) or each in name for each in self.broken):
            return
        status: dict[str, Any] = dict(READY)
        if kind == KSERVE:
            status["observedGeneration"] = document["metadata"]["generation"]
        if kind == SELDON_V1:
            names = [each["name"] for each in document["spec"]["predictors"]]
            running = {f"{name}-{each}-0-model": {"replicas": 1, "availableReplicas": 1} for each in names}
            status = {"state": "Available", "deploymentStatus": running}
        if document.get("status") != status:
            self.api.store.set_status(kind, document["metadata"]["namespace"], name, status)


def roles(without: str = "") -> list[dict[str, Any]]:
    """The Roles of the manifests, bound to the deployer; all of them, or without one `resource:verb`."""
    found = []
    for path in sorted(ROLES.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] in ("Role", "RoleBinding"):
                document["metadata"]["namespace"] = NAMESPACE
                for rule in document.get("rules", ()):
                    resource, _, gone = without.partition(":")
                    if resource in rule["resources"]:
                        rule["verbs"] = [verb for verb in rule["verbs"] if verb != gone]
                for subject in document.get("subjects", ()):
                    subject.update(name="custody-deployer", namespace=NAMESPACE)
                found.append(document)
    return found


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr(kubernetes_api, "POLL_SECONDS", 0.02)
    with fake_api(schemas=[SCHEMAS, SHARED], roles=roles(), tokens={TOKEN: ACCOUNT}) as served:
        served.operator = Operator(served)  # type: ignore[attr-defined]
        yield served


def open_target(api: FakeApi, kind: str, mode: str = "Standard", timeout: float = 10.0) -> ClusterTarget:
    setup = Setup(f"s3://custody-models/{NAME}/1", IMAGE, None, mode)
    return TARGETS[kind](NAME, Cluster(NAMESPACE, api.api_client(TOKEN, retries=1)), timeout, setup)


def objects(api: FakeApi, kind: Kind) -> dict[str, dict[str, Any]]:
    admin = api.api_client()
    path = f"/apis/{kind.group}/{kind.version}/namespaces/{NAMESPACE}/{kind.plural}"
    answer = admin.call_api(path, "GET", response_type="object", auth_settings=["BearerToken"])[0]
    return {each["metadata"]["name"]: each for each in answer["items"]}


def shares(api: FakeApi, kind: str) -> dict[str, int]:
    """Where the traffic goes, as the object says it, by version."""
    match kind:
        case "seldon-v2":
            found = objects(api, EXPERIMENT).get(NAME)
            candidates = found["spec"]["candidates"] if found else []
            return {each["name"].rsplit("-", 1)[1]: each["weight"] for each in candidates}
        case "seldon-v1":
            found = objects(api, SELDON_V1).get(NAME)
            predictors = found["spec"]["predictors"] if found else []
            return {each["name"][:8]: each["traffic"] for each in predictors if each["traffic"]}
    found = objects(api, KSERVE).get(NAME)
    if not found:
        return {}
    spec, label = found["spec"], "custody.kubeflow.org/version"
    canaries = {each["predictor"]["labels"][label][:8]: each["trafficPercent"] for each in spec.get("canary", ())}
    name = spec["predictor"]["labels"][label][:8]
    percent = spec["predictor"].get("canaryTrafficPercent")
    if percent is not None:
        before = json.loads(found["metadata"]["annotations"]["custody.kubeflow.org/stable-predictor"])
        canaries, name = {name: percent}, before["labels"][label][:8]
    return {key: share for key, share in {name: 100 - sum(canaries.values()), **canaries}.items() if share}


KINDS = [("seldon-v2", "Standard"), ("seldon-v1", "Standard"), ("kserve", "Standard"), ("kserve", "Knative")]
ONE, TWO, THREE = (version(number) for number in (1, 2, 3))


def promoted(api: FakeApi, kind: str, mode: str, admitted: Admitted, run: str) -> ClusterTarget:
    target = open_target(api, kind, mode)
    target.place(admitted, run)
    target.shift(100)
    target.promote()
    return target


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_a_rollout_from_the_first_version_to_the_third(api: FakeApi, kind: str, mode: str) -> None:
    promoted(api, kind, mode, ONE, "run-1")
    assert shares(api, kind) == {ONE.version: 100}
    target = open_target(api, kind, mode)
    target.place(TWO, "run-2")
    assert shares(api, kind) == {ONE.version: 100}, "no traffic before it is shifted"
    for weight in (10, 25, 50):
        assert open_target(api, kind, mode).shift(weight).weight == weight
        assert shares(api, kind) == {ONE.version: 100 - weight, TWO.version: weight}
    target.shift(100)
    assert shares(api, kind) == {TWO.version: 100}
    state = open_target(api, kind, mode).promote()
    assert (state.stable, state.canary) == (version_of(TWO), None)
    assert shares(api, kind) == {TWO.version: 100}
    promoted(api, kind, mode, THREE, "run-3")
    assert shares(api, kind) == {THREE.version: 100}
    if kind == "seldon-v2":
        assert set(objects(api, MODEL)) == {f"{NAME}-{each.version}" for each in (TWO, THREE)}, "and the one before"


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_an_earlier_version_that_was_admitted_once_more_is_served_again(api: FakeApi, kind: str, mode: str) -> None:
    promoted(api, kind, mode, ONE, "run-1")
    promoted(api, kind, mode, TWO, "run-2")
    again = replace(ONE, decision_sha256="77" * 32)
    promoted(api, kind, mode, again, "run-3")
    assert shares(api, kind) == {ONE.version: 100}
    target = open_target(api, kind, mode)
    assert target.state().stable == version_of(again)
    target.place(TWO, "run-4")
    target.roll_back()
    assert shares(api, kind) == {ONE.version: 100}


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_a_rollback_leaves_what_was_there(api: FakeApi, kind: str, mode: str) -> None:
    promoted(api, kind, mode, ONE, "run-1")
    before = {each.kind: objects(api, each) for each in OURS}
    target = open_target(api, kind, mode)
    target.place(TWO, "run-2")
    target.shift(50)
    open_target(api, kind, mode).roll_back()
    assert open_target(api, kind, mode).roll_back().canary is None, "twice changes nothing"
    for each in OURS:
        after = objects(api, each)
        assert {name: found["spec"] for name, found in after.items()} == {
            name: found["spec"] for name, found in before[each.kind].items()
        }


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_a_first_version_that_is_rolled_back_leaves_nothing(api: FakeApi, kind: str, mode: str) -> None:
    target = open_target(api, kind, mode)
    target.place(ONE, "run-1")
    open_target(api, kind, mode).roll_back()
    assert [objects(api, each) for each in OURS] == [{}, {}, {}, {}]


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_a_version_that_is_never_ready_is_taken_back(api: FakeApi, kind: str, mode: str) -> None:
    promoted(api, kind, mode, ONE, "run-1")
    api.operator.broken = {TWO.version, TWO.digest}  # type: ignore[attr-defined]
    with pytest.raises(ServiceUnreachable, match="not Ready in time"):
        open_target(api, kind, mode, timeout=0.3).place(TWO, "run-2")
    assert shares(api, kind) == {ONE.version: 100}
    state = open_target(api, kind, mode).state()
    assert (state.stable, state.canary) == (version_of(ONE), None)


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_the_next_run_takes_the_place_of_a_dead_one_and_a_repeated_one_changes_nothing(
    api: FakeApi, kind: str, mode: str
) -> None:
    promoted(api, kind, mode, ONE, "run-1")
    target = open_target(api, kind, mode)
    target.place(TWO, "run-2")
    target.shift(25)
    target.place(TWO, "run-2")
    assert target.state().weight == 25, "the same run goes on where it was"
    open_target(api, kind, mode).place(THREE, "run-3")
    assert shares(api, kind) == {ONE.version: 100}
    state = target.state()
    assert state.canary == version_of(THREE)
    target.roll_back()
    target.place(ONE, "run-4")
    assert target.state().canary is None


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_every_object_is_valid_and_pins_the_bytes(api: FakeApi, kind: str, mode: str) -> None:
    promoted(api, kind, mode, ONE, "run-1")
    open_target(api, kind, mode).place(TWO, "run-2")
    found = [one for each in OURS for one in objects(api, each).values()]
    assert found
    for document in found:
        assert faults(document) == [], document["kind"]
        if unverified(document):
            assert document["kind"] in ("SeldonDeployment", "InferenceService"), (
                "their schemas are kept beside, not here"
            )
    text = json.dumps([(document["spec"], document["metadata"].get("annotations")) for document in found])
    for admitted in (ONE, TWO):
        assert admitted.digest in text
        assert admitted.signature_sha256 in text
    assert ":latest" not in text
    if kind != "seldon-v2":
        assert IMAGE in text, "our model server, by digest"


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_two_runs_cannot_both_move_the_traffic(api: FakeApi, kind: str, mode: str) -> None:
    promoted(api, kind, mode, ONE, "run-1")
    target = open_target(api, kind, mode)
    target.place(TWO, "run-2")
    other = open_target(api, kind, mode)
    stale = other.state()
    target.shift(25)
    with pytest.raises(Misconfigured, match="changed the object meanwhile"):
        other._write(replace(stale, weight=50))
    assert shares(api, kind) == {ONE.version: 75, TWO.version: 25}


def test_an_object_that_no_rollout_made_is_left_alone(api: FakeApi) -> None:
    spec = {"candidates": [{"name": "somebody-elses", "weight": 100}]}
    document = {
        "apiVersion": "mlops.seldon.io/v1alpha1",
        "kind": "Experiment",
        "metadata": {"name": NAME},
        "spec": spec,
    }
    path = f"/apis/mlops.seldon.io/v1alpha1/namespaces/{NAMESPACE}/experiments"
    api.api_client().call_api(path, "POST", body=document, auth_settings=["BearerToken"])
    with pytest.raises(Misconfigured, match="no rollout of ours made"):
        open_target(api, "seldon-v2").place(ONE, "run-1")
    assert objects(api, EXPERIMENT)[NAME]["spec"] == spec


@pytest.mark.parametrize("mode", ["RawDeployment", "ModelMesh", "standard", ""])
def test_a_mode_of_kserve_in_which_a_share_means_nothing_is_refused(api: FakeApi, mode: str) -> None:
    with pytest.raises(Misconfigured, match="no canary of ours in this deployment mode"):
        open_target(api, "kserve", mode).place(ONE, "run-1")
    assert objects(api, KSERVE) == {}


@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(status=429), Fault(drop="before")], ids=["500", "429", "drop"]
)
@pytest.mark.parametrize("kind", TARGETS)
def test_an_api_that_fails_changes_nothing_and_says_so(api: FakeApi, kind: str, fault: Fault) -> None:
    promoted(api, kind, "Standard", ONE, "run-1")
    target = open_target(api, kind)
    target.place(TWO, "run-2")
    target.shift(10)
    api.faults.add(replace(fault, verb="patch", times=10))
    with pytest.raises(ServiceUnreachable):
        target.shift(50)
    api.faults._waiting.clear()
    assert shares(api, kind) == {ONE.version: 90, TWO.version: 10}
    assert open_target(api, kind).shift(50).weight == 50, "repeated, it holds"


# --- rights -----------------------------------------------------------------------------------------------------------

VERBS = [
    f"{resource}:{verb}"
    for document in roles()
    for rule in document.get("rules", ())
    for resource in rule["resources"]
    for verb in rule["verbs"]
]
KIND_OF = {"models": "seldon-v2", "experiments": "seldon-v2", "seldondeployments": "seldon-v1",
           "inferenceservices": "kserve"}  # fmt: skip


def everything(api: FakeApi, kind: str) -> None:
    """Every call that the stages make: the first version, back, again, another, a third."""
    target = open_target(api, kind)
    target.place(ONE, "run-1")
    target.shift(100)
    open_target(api, kind).roll_back()
    for number, admitted in enumerate((ONE, TWO, THREE), 2):
        promoted(api, kind, "Standard", admitted, f"run-{number}")
    target.place(ONE, "run-9")
    target.roll_back()


@pytest.mark.parametrize("kind", TARGETS)
def test_the_roles_are_enough(api: FakeApi, kind: str) -> None:
    everything(api, kind)


@pytest.mark.parametrize("dropped", VERBS)
def test_a_verb_that_is_dropped_is_named(monkeypatch: pytest.MonkeyPatch, dropped: str) -> None:
    monkeypatch.setattr(kubernetes_api, "POLL_SECONDS", 0.02)
    resource, verb = dropped.split(":")
    with fake_api(schemas=[SCHEMAS, SHARED], roles=roles(without=dropped), tokens={TOKEN: ACCOUNT}) as api:
        Operator(api)
        with pytest.raises(CustodyError) as refusal:
            everything(api, KIND_OF[resource])
    text = str(refusal.value)
    assert "HTTP 403" in text
    assert f"{resource}." in text
    assert verb in text.split("HTTP 403")[1].split("namespace")[0]
    assert f'resources: ["{resource}"]' in text


def test_nobody_without_a_role_may_anything() -> None:
    with fake_api(schemas=[SCHEMAS, SHARED], roles=[], tokens={TOKEN: ACCOUNT}) as api:
        for kind in TARGETS:
            with pytest.raises(Misconfigured, match="does not allow"):
                open_target(api, kind).place(ONE, "run-1")


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, Misconfigured, "does not know who"),
        (404, Misconfigured, "not installed"),
        (409, Misconfigured, "by force"),
        (422, Misconfigured, "refused the object"),
        (429, ServiceUnreachable, "failed"),
        (500, ServiceUnreachable, "failed"),
    ],
)
def test_every_answer_has_its_kind(api: FakeApi, status: int, kind: type[CustodyError], words: str) -> None:
    api.faults.add(Fault(verb="patch", plural="models", status=status, times=10))
    with pytest.raises(kind, match=words):
        open_target(api, "seldon-v2").place(ONE, "run-1")
    assert objects(api, EXPERIMENT) == {}


def test_a_failed_clean_up_is_said(api: FakeApi) -> None:
    api.operator.broken = {ONE.version}  # type: ignore[attr-defined]
    api.faults.add(Fault(verb="delete", plural="models", status=403, times=10))
    with pytest.raises(ServiceUnreachable, match="not Ready") as refusal:
        open_target(api, "seldon-v2", timeout=0.2).place(ONE, "run-1")
    assert "could not be taken back" in str(refusal.value)


def test_a_version_is_never_edited(api: FakeApi) -> None:
    target = promoted(api, "seldon-v2", "Standard", ONE, "run-1")
    target.place(TWO, "run-2")
    target.roll_back()
    before = objects(api, MODEL)
    elsewhere = Setup("s3://custody-models/elsewhere", IMAGE, None)
    again = SeldonV2(NAME, Cluster(NAMESPACE, api.api_client(TOKEN, retries=1)), 5, elsewhere)
    api.api_client().call_api(
        f"/apis/{MODEL.group}/{MODEL.version}/namespaces/{NAMESPACE}/models", "POST", auth_settings=["BearerToken"],
        body=next(iter(before.values())) | {"metadata": {"name": f"{NAME}-{TWO.version}"}},
    )  # fmt: skip
    with pytest.raises(Misconfigured, match="other content"):
        again.place(TWO, "run-3")
    assert f"{NAME}-{TWO.version}" in objects(api, MODEL), "what this call did not make, it does not remove"


def test_no_answer_and_no_access_are_told_apart(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(Misconfigured, match="no access"):
        Cluster(NAMESPACE)
    config = api.kubeconfig(tmp_path / "config", TOKEN)
    config.write_text(config.read_text().replace(api.url, "http://127.0.0.1:9"))
    monkeypatch.setenv("KUBECONFIG", str(config))
    with pytest.raises(ServiceUnreachable, match="did not answer"):
        Cluster(NAMESPACE).get("Model", "x")
