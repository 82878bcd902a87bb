"""What is sent to the Kubernetes API, against a fake one: no real API server and no Seldon operator has run here."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kfp_custody.components._shared.digests import Entry, Listing
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components.seldon_deployment import seldon_v2
from kfp_custody.components.seldon_deployment.decision import Admitted
from unit.seldon_deployment.fake_kubernetes import FakeCluster, fake_cluster

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
ADMITTED = Admitted(
    directory=Path("/nowhere"),
    listing=Listing((Entry("model.ubj", "12" * 32),)),
    decision_sha256="34" * 32,
    signature_sha256="56" * 32,
    policy_sha256="78" * 32,
    decided_by="gate",
    signed_by="signer",
    decided=datetime(2026, 1, 1, tzinfo=UTC),
)
NAME, NAMESPACE, URI = "fraud-detection", "serving", "s3://models/fraud-detection/1"
MODEL = f"{NAME}-{ADMITTED.digest[:8]}"


def schema(kind: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"mlops.seldon.io_{kind.lower()}_v1alpha1.core2.6.0.json").read_text())


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with fake_cluster() as cluster:
        config = {
            "clusters": [{"name": "fake", "cluster": {"server": cluster.url}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "robot"}}],
            "users": [{"name": "robot", "user": {"token": "not-a-secret"}}],
            "current-context": "fake",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr(seldon_v2, "_POLL_SECONDS", 0.02)
        yield cluster


def apply(timeout: float = 5.0, uri: str = URI) -> seldon_v2.Applied:
    return seldon_v2.apply(ADMITTED, NAME, uri, NAMESPACE, timeout)


def test_rendered_objects_follow_the_schemas() -> None:
    model = seldon_v2.render_model(ADMITTED, NAME, URI, NAMESPACE)
    jsonschema.validate(model, schema("Model"))
    jsonschema.validate(seldon_v2.render_experiment(NAME, MODEL, NAMESPACE), schema("Experiment"))
    pins = {entry["name"]: entry["value"] for entry in model["spec"]["parameters"]}
    assert pins["listing_sha256"] == ADMITTED.digest
    assert pins["signature_sha256"] == ADMITTED.signature_sha256


@pytest.mark.parametrize("change", [{"storageURI": URI}, {"parameters": [{"name": "x", "value": 1}]}, {"server": 3}])
def test_the_schema_refuses_what_is_not_in_it(change: dict[str, Any]) -> None:
    model = seldon_v2.render_model(ADMITTED, NAME, URI, NAMESPACE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**model, "spec": {**model["spec"], **change}}, schema("Model"))


@pytest.mark.parametrize(
    "uri", ["", "models/1", "s3://user:secret@bucket/x", "https://x/y?X-Amz-Signature=secret", "s3://a b"]
)
def test_an_address_that_is_missing_or_holds_a_secret_is_refused_without_repeating_it(
    cluster: FakeCluster, uri: str
) -> None:
    with pytest.raises(Misconfigured) as refusal:
        apply(uri=uri)
    assert "secret" not in str(refusal.value)
    assert cluster.requests == []


def test_traffic_is_switched_only_after_the_new_model_is_ready(cluster: FakeCluster) -> None:
    cluster.polls_until_ready = 3
    applied = apply()
    assert (applied.model, applied.experiment) == (MODEL, NAME)
    assert cluster.calls[:2] == [("GET", "models", MODEL), ("PATCH", "models", MODEL)]
    assert cluster.calls[-1] == ("PATCH", "experiments", NAME)
    assert {call for call in cluster.calls[2:-1]} == {("GET", "models", MODEL)}
    for method, plural, _, query, content_type, body in cluster.requests:
        if method == "PATCH":
            assert content_type == "application/apply-patch+yaml"
            assert query == {"fieldManager": ["kfp-custody"]}, "never force"
            jsonschema.validate(body, schema(plural.removesuffix("s")))
    assert cluster.objects["experiments", NAME]["spec"] == {"candidates": [{"name": MODEL, "weight": 100}]}


def test_a_model_that_is_never_ready_leaves_the_experiment_and_is_removed(cluster: FakeCluster) -> None:
    cluster.polls_until_ready, cluster.reason = 10**6, "ScheduleFailed"
    with pytest.raises(ServiceUnreachable, match="not Ready in time") as refusal:
        apply(timeout=0.2)
    assert "ScheduleFailed" in str(refusal.value)
    assert cluster.calls[-1] == ("DELETE", "models", MODEL)
    assert not [call for call in cluster.calls if call[1] == "experiments"]
    assert cluster.objects == {}


def test_a_model_that_was_there_before_is_not_removed(cluster: FakeCluster) -> None:
    apply()
    cluster.polls_until_ready = 10**6
    with pytest.raises(ServiceUnreachable):
        apply(timeout=0.1)
    assert ("models", MODEL) in cluster.objects


def test_deploying_the_same_again_edits_nothing(cluster: FakeCluster) -> None:
    apply()
    cluster.requests.clear()
    apply()
    assert [call for call in cluster.calls if call[0] != "GET"] == [("PATCH", "experiments", NAME)]


def test_a_version_is_never_edited(cluster: FakeCluster) -> None:
    apply()
    cluster.requests.clear()
    with pytest.raises(Misconfigured, match="other content"):
        apply(uri="s3://models/elsewhere")
    assert cluster.calls == [("GET", "models", MODEL)]


def test_a_missing_permission_names_the_rule(cluster: FakeCluster) -> None:
    cluster.fail["PATCH", "experiments"] = 403
    with pytest.raises(Misconfigured, match="does not allow") as refusal:
        apply()
    text = str(refusal.value)
    for part in ("patch, create experiments.mlops.seldon.io", "'serving'", 'resources: ["experiments"]', "verbs:"):
        assert part in text


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
def test_every_answer_has_its_kind(cluster: FakeCluster, status: int, kind: type[Exception], words: str) -> None:
    cluster.fail["PATCH", "models"] = status
    with pytest.raises(kind, match=words):
        apply()
    assert ("experiments", NAME) not in cluster.objects


def test_a_failed_clean_up_is_said(cluster: FakeCluster) -> None:
    cluster.polls_until_ready = 10**6
    cluster.fail["DELETE", "models"] = 403
    with pytest.raises(ServiceUnreachable, match="not Ready") as refusal:
        apply(timeout=0.1)
    assert "could not be deleted" in str(refusal.value)


def test_no_answer_and_no_access_are_told_apart(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = (tmp_path / "kubeconfig").read_text().replace(cluster.url, "http://127.0.0.1:9")
    (tmp_path / "kubeconfig").write_text(config)
    with pytest.raises(ServiceUnreachable, match="did not answer"):
        apply()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(Misconfigured, match="no access"):
        apply()
