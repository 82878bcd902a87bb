"""The fake API server of `kube_api`, asked by the Python client and by kubectl.

What it answers is what Kubernetes documents; no real API server was here to compare it with.
"""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from kubernetes import watch
from kubernetes.client import (
    ApiException,
    AuthorizationV1Api,
    CoreV1Api,
    CustomObjectsApi,
    V1ResourceAttributes,
    V1SelfSubjectAccessReview,
    V1SelfSubjectAccessReviewSpec,
)
from kubernetes.dynamic import DynamicClient

from kube_api import ADMIN_TOKEN, EXPERIMENT, MODEL, FakeApi, Fault, Kind, fake_api
from kube_api.selectors import labels_match

pytestmark = pytest.mark.services
ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "tests" / "schemas"
PLACE = ("mlops.seldon.io", "v1alpha1", "serving", "models")
WIDGET = Kind("example.org", "v1", "widgets", "Widget")
DEPLOYER, READER = "system:serviceaccount:serving:deployer", "system:serviceaccount:serving:reader"
TOKENS = {"deployer-token": DEPLOYER, "reader-token": READER}
Object = dict[str, Any]


def model(name: str = "fraud", labels: Object | None = None, **spec: Any) -> Object:
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {
        "apiVersion": MODEL.api_version,
        "kind": "Model",
        "metadata": metadata,
        "spec": {"storageUri": "s3://models/1"} | spec,
    }


def widget(name: str = "wheel", **spec: Any) -> Object:
    return {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


class Models:
    """Models in the namespace `serving`, through the Python client."""

    def __init__(self, api: FakeApi, token: str = ADMIN_TOKEN, kind: Kind = MODEL) -> None:
        self.client = api.api_client(token, retries=0)
        self.custom, self.place = CustomObjectsApi(self.client), (kind.group, kind.version, "serving", kind.plural)

    def get(self, name: str = "fraud") -> Object:
        return self.custom.get_namespaced_custom_object(*self.place, name)

    def list(self, **selectors: str) -> list[str]:
        found = self.custom.list_namespaced_custom_object(*self.place, **selectors)
        return [item["metadata"]["name"] for item in found["items"]]

    def create(self, body: Object, **options: Any) -> Object:
        return self.custom.create_namespaced_custom_object(*self.place, body, **options)

    def put(self, body: Object, **options: Any) -> Object:
        return self.custom.replace_namespaced_custom_object(*self.place, body["metadata"]["name"], body, **options)

    def put_status(self, body: Object) -> Object:
        return self.custom.replace_namespaced_custom_object_status(*self.place, body["metadata"]["name"], body)

    def delete(self, name: str = "fraud", **options: Any) -> Object:
        return self.custom.delete_namespaced_custom_object(*self.place, name, **options)

    def patch(
        self,
        body: Any,
        name: str = "fraud",
        kind: str = "application/merge-patch+json",
        subresource: str = "",
        **query: str,
    ) -> Object:
        group, version, namespace, plural = self.place
        path = f"/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}{subresource}"
        answer, _, _ = self.client.call_api(
            path,
            "PATCH",
            query_params=list(query.items()),
            header_params={"Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
            response_type="object",
        )
        return answer

    def apply(self, body: Object, manager: str = "custody", subresource: str = "", **query: str) -> Object:
        kind = "application/apply-patch+yaml"
        return self.patch(body, body["metadata"]["name"], kind, subresource, fieldManager=manager, **query)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api(schemas=[SCHEMAS]) as api:
        yield api


@pytest.fixture
def models(api: FakeApi) -> Models:
    return Models(api)


def refused(status: int, call: Callable[[], Any]) -> Object:
    """Return the Status that a call is refused with."""
    with pytest.raises(ApiException) as refusal:
        call()
    assert refusal.value.status == status, refusal.value.body
    found = json.loads(refusal.value.body)
    assert (found["kind"], found["code"], found["status"]) == ("Status", status, "Failure")
    return found


# --- objects and their versions ---------------------------------------------------------------------------------------


def test_the_server_stamps_an_object_and_counts_changes_of_its_spec(models: Models) -> None:
    made = models.create(model())
    metadata = made["metadata"]
    assert metadata["namespace"] == "serving"
    assert metadata["generation"] == 1
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    labelled = models.patch({"metadata": {"labels": {"a": "b"}, "uid": "forged", "generation": 9}})["metadata"]
    assert (labelled["generation"], labelled["uid"]) == (1, metadata["uid"])
    assert int(labelled["resourceVersion"]) > int(metadata["resourceVersion"])
    made["spec"]["replicas"] = 2
    made["metadata"]["resourceVersion"] = labelled["resourceVersion"]
    assert models.put(made)["metadata"]["generation"] == 2
    assert models.get()["spec"] == {"storageUri": "s3://models/1", "replicas": 2}


def test_writing_the_same_again_makes_no_version(models: Models) -> None:
    made = models.create(model())
    assert models.put(made)["metadata"] == models.patch({"spec": made["spec"]})["metadata"] == made["metadata"]


def test_a_stale_version_is_a_conflict(models: Models) -> None:
    old = models.create(model())
    models.patch({"spec": {"replicas": 2}})
    for call in (lambda: models.put(old), lambda: models.patch({"metadata": old["metadata"], "spec": {"replicas": 3}})):
        status = refused(409, call)
        assert status["reason"] == "Conflict"
        assert (
            'cannot be fulfilled on models.mlops.seldon.io "fraud": the object has been modified' in status["message"]
        )
    assert models.get()["spec"]["replicas"] == 2


def test_of_two_writers_with_the_same_version_one_wins(models: Models, api: FakeApi) -> None:
    made, outcomes = models.create(model()), []

    def write(replicas: int) -> None:
        try:
            Models(api).put(made | {"spec": made["spec"] | {"replicas": replicas}})
            outcomes.append(200)
        except ApiException as error:
            outcomes.append(error.status)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [200, 409, 409, 409, 409, 409]


def test_a_custom_resource_is_not_replaced_without_a_version(models: Models) -> None:
    models.create(model())
    assert (
        "metadata.resourceVersion: Invalid value: 0x0: must be" in refused(422, lambda: models.put(model()))["message"]
    )


def test_an_object_is_made_once_and_deleted_once(models: Models) -> None:
    made = models.create(model())
    assert refused(409, lambda: models.create(model()))["reason"] == "AlreadyExists"
    stale = {"preconditions": {"resourceVersion": "999"}}
    assert "Precondition failed" in refused(409, lambda: models.delete(body=stale))["message"]
    answer = models.delete(body={"preconditions": {"uid": made["metadata"]["uid"]}})
    assert (answer["status"], answer["details"]["uid"]) == ("Success", made["metadata"]["uid"])
    for call in (models.get, models.delete, lambda: models.patch({"spec": {}})):
        status = refused(404, call)
        assert (status["reason"], status["message"]) == ("NotFound", 'models.mlops.seldon.io "fraud" not found')


def test_a_finalizer_holds_an_object_until_it_is_taken_away(models: Models) -> None:
    held = model()
    held["metadata"]["finalizers"] = ["example.org/wait"]
    models.create(held)
    models.delete()
    assert models.get()["metadata"]["deletionTimestamp"]
    models.patch({"metadata": {"finalizers": None}})
    assert models.list() == []


def test_what_is_not_served_is_not_found(api: FakeApi) -> None:
    custom = CustomObjectsApi(api.api_client())
    for version, plural in (("v1", "models"), ("v1alpha1", "nothing")):
        place = ("mlops.seldon.io", version, "serving", plural)
        with pytest.raises(ApiException, match="could not find the requested resource"):
            custom.list_namespaced_custom_object(*place)


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "Experiment"}, {"apiVersion": "v1"}, {"metadata": {"name": "x", "namespace": "elsewhere"}}],
)
def test_an_object_must_be_what_its_address_says(models: Models, wrong: Object) -> None:
    assert refused(400, lambda: models.create(model() | wrong))["reason"] == "BadRequest"


def test_a_name_is_needed_or_generated(models: Models) -> None:
    assert "name or generateName is required" in refused(422, lambda: models.create(model(name="")))["message"]
    made = models.create(model(name="") | {"metadata": {"generateName": "fraud-"}})
    assert len(made["metadata"]["name"]) > len("fraud-")


def test_as_soon_as_there_are_namespaces_others_do_not_exist(models: Models, api: FakeApi) -> None:
    models.create(model())
    CoreV1Api(api.api_client()).create_namespace(
        {"metadata": {"name": "production"}, "kind": "Namespace", "apiVersion": "v1"}
    )
    assert refused(404, lambda: models.create(model("other")))["message"] == 'namespaces "serving" not found'


def test_core_kinds_are_served_too(api: FakeApi) -> None:
    core = CoreV1Api(api.api_client())
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}
    core.create_namespaced_config_map("serving", body)
    assert core.read_namespaced_config_map("settings", "serving").data == {"a": "1"}
    core.replace_namespaced_config_map("settings", "serving", body | {"data": {"a": "2"}})
    assert [each.data for each in core.list_config_map_for_all_namespaces().items] == [{"a": "2"}]


# --- selecting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("tier=gold", ["a"]),
        ("tier==gold,team=x", ["a"]),
        ("tier!=gold", ["b", "c"]),
        ("tier in (gold, silver)", ["a", "b"]),
        ("tier in (gold,silver),team", ["a"]),
        ("tier notin (gold)", ["b", "c"]),
        ("team", ["a"]),
        ("!team", ["b", "c"]),
        ("tier in (bronze)", []),
    ],
)
def test_label_selectors(models: Models, selector: str, names: list[str]) -> None:
    for name, labels in {"a": {"tier": "gold", "team": "x"}, "b": {"tier": "silver"}, "c": {}}.items():
        models.create(model(name, labels))
    assert models.list(label_selector=selector) == names


def test_a_field_selector_takes_the_name_alone(models: Models) -> None:
    models.create(model("a"))
    models.create(model("b"))
    assert models.list(field_selector="metadata.name=b") == ["b"]
    assert "not supported" in refused(400, lambda: models.list(field_selector="spec.replicas=1"))["message"]


@pytest.mark.parametrize("selector", ["a in b", "a (b)", "=a", "a=(b)", "in (a"])
def test_a_selector_that_cannot_be_read_is_refused(models: Models, selector: str) -> None:
    models.create(model())
    assert "unable to parse" in refused(400, lambda: models.list(label_selector=selector))["message"]


def test_a_key_may_begin_as_an_operator_does() -> None:
    assert labels_match("input=1,notinside", {"input": "1", "notinside": ""})


# --- patches ----------------------------------------------------------------------------------------------------------


def test_a_merge_patch_removes_what_is_null(models: Models) -> None:
    models.create(model(labels={"a": "1", "b": "2"}, replicas=1, requirements=["x", "y"]))
    patched = models.patch({"metadata": {"labels": {"a": None}}, "spec": {"replicas": None, "requirements": ["z"]}})
    assert patched["metadata"]["labels"] == {"b": "2"}
    assert patched["spec"] == {"storageUri": "s3://models/1", "requirements": ["z"]}


@pytest.mark.parametrize(
    "kind", ["application/json-patch+json", "application/strategic-merge-patch+json", "application/json"]
)
def test_other_patches_are_not_supported(models: Models, kind: str) -> None:
    models.create(model())
    assert "application/merge-patch+json" in refused(415, lambda: models.patch([], kind=kind))["message"]


def test_a_body_that_is_no_object_is_refused(models: Models) -> None:
    models.create(model())
    assert "unrecognized" in refused(400, lambda: models.patch([1]))["message"]


# --- server-side apply ------------------------------------------------------------------------------------------------


def owners(document: Object) -> dict[tuple[str, str], Object]:
    return {
        (entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in document["metadata"]["managedFields"]
    }


def test_applying_makes_what_is_absent_and_notes_who_owns_which_field(models: Models) -> None:
    made = models.apply(model(labels={"a": "b"}))
    fields = {"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:storageUri": {}}}
    assert owners(made) == {("custody", "Apply"): fields}
    assert models.apply(model(labels={"a": "b"}))["metadata"] == made["metadata"]
    models.apply(model(replicas=2), "scaler")
    assert owners(models.get())["scaler", "Apply"] == {"f:spec": {"f:storageUri": {}, "f:replicas": {}}}
    assert models.apply(model(labels={"a": "b"}))["spec"]["replicas"] == 2


def test_a_field_of_another_manager_is_not_taken_over_without_force(models: Models) -> None:
    models.apply(model(replicas=1))
    mine = {**model(), "spec": {"replicas": 2}}
    status = refused(409, lambda: models.apply(mine, "scaler"))
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "custody": .spec.replicas'
    (cause,) = status["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".spec.replicas")
    assert models.get()["spec"]["replicas"] == 1
    forced = models.apply(mine, "scaler", force="true")
    assert forced["spec"] == {"storageUri": "s3://models/1", "replicas": 2}
    assert owners(forced)["custody", "Apply"] == {"f:spec": {"f:storageUri": {}}}
    status = refused(409, lambda: models.apply(model(replicas=1)))
    assert 'conflict with "scaler"' in status["message"]


def test_a_field_that_an_update_changed_belongs_to_the_updater(models: Models) -> None:
    models.apply(model(replicas=1, memory="1Gi"))
    edited = models.patch({"spec": {"replicas": 5, "memory": "2Gi"}}, fieldManager="by-hand")
    assert owners(edited) == {
        ("custody", "Apply"): {"f:spec": {"f:storageUri": {}}},
        ("by-hand", "Update"): {"f:spec": {"f:memory": {}, "f:replicas": {}}},
    }
    status = refused(409, lambda: models.apply(model(replicas=1, memory="1Gi")))
    assert (
        'Apply failed with 2 conflicts: conflicts with "by-hand" using mlops.seldon.io/v1alpha1 at '
        in status["message"]
    )
    assert status["message"].endswith("- .spec.memory\n- .spec.replicas")


def test_a_field_that_an_applier_leaves_out_is_removed_unless_shared(models: Models) -> None:
    models.apply(model(replicas=1, labels={"a": "b"}, logger={"percent": 5}))
    models.apply(model(replicas=1), "other")
    left = models.apply(model())
    assert left["spec"] == {"storageUri": "s3://models/1", "replicas": 1}, "replicas is also the other's"
    assert "labels" not in left["metadata"]
    assert "replicas" not in models.apply(model(), "other")["spec"]


def test_applying_needs_a_manager_and_a_current_version(models: Models) -> None:
    apply_patch = "application/apply-patch+yaml"
    assert "fieldManager" in refused(400, lambda: models.patch(model(), kind=apply_patch))["message"]
    models.apply(model())
    stale = model()
    stale["metadata"]["resourceVersion"] = "999"
    assert refused(409, lambda: models.apply(stale))["reason"] == "Conflict"


def test_applying_yaml_through_the_dynamic_client(api: FakeApi, tmp_path: Path) -> None:
    dynamic = DynamicClient(api.api_client(), cache_file=str(tmp_path / "cache.json"))
    resource = dynamic.resources.get(api_version=MODEL.api_version, kind="Model")
    resource.server_side_apply(body=model(), namespace="serving", field_manager="custody")
    assert resource.get(name="fraud", namespace="serving").spec.storageUri == "s3://models/1"


# --- status -----------------------------------------------------------------------------------------------------------

READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def test_the_status_is_written_through_its_subresource_alone(models: Models) -> None:
    made = models.create(model() | {"status": READY})
    assert "status" not in made
    assert "status" not in models.patch({"status": READY})
    reported = models.put_status(made | {"status": READY, "spec": {"storageUri": "s3://elsewhere"}})
    assert (reported["status"], reported["spec"]) == (READY, made["spec"])
    assert reported["metadata"]["generation"] == 1
    models.patch({"status": {"replicas": 3}, "spec": {"replicas": 3}}, subresource="/status")
    assert models.get()["status"] == READY | {"replicas": 3}
    assert models.patch({"status": None, "spec": {"replicas": 2}})["status"]["replicas"] == 3
    assert models.get()["spec"]["replicas"] == 2
    assert refused(409, lambda: models.put_status(made | {"status": {}}))["reason"] == "Conflict"


def test_applying_a_status_has_its_own_manager(models: Models) -> None:
    refused(404, lambda: models.apply(model() | {"status": READY}, "operator", "/status"))
    models.apply(model())
    applied = models.apply(model(storageUri="s3://x") | {"status": READY}, "operator", "/status")
    assert (applied["status"], applied["spec"]["storageUri"]) == (READY, "s3://models/1")
    assert [entry.get("subresource") for entry in applied["metadata"]["managedFields"]] == [None, "status"]
    message = refused(409, lambda: models.apply(model() | {"status": {"conditions": []}}, "x", "/status"))["message"]
    assert 'conflict with "operator" with subresource "status": .status.conditions' in message


# --- watching ---------------------------------------------------------------------------------------------------------


def events(models: Models, timeout_seconds: int = 1, **options: Any) -> list[tuple[str, str]]:
    listing = models.custom.list_namespaced_custom_object
    stream = watch.Watch().stream(listing, *models.place, timeout_seconds=timeout_seconds, **options)
    return [(event["type"], event["object"]["metadata"]["name"]) for event in stream]


def test_a_watch_starts_with_what_is_there_or_after_a_version(models: Models) -> None:
    first = models.create(model("a"))
    models.patch({"spec": {"replicas": 1}}, "a")
    models.create(model("b"))
    models.delete("b")
    started = time.monotonic()
    assert events(models) == [("ADDED", "a")]
    assert 0.9 < time.monotonic() - started < 3, "timeoutSeconds"
    since = first["metadata"]["resourceVersion"]
    assert events(models, resource_version=since) == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "b")]
    assert events(models, resource_version=since, field_selector="metadata.name=a") == [("MODIFIED", "a")]


def test_every_change_has_a_version_of_its_own(models: Models) -> None:
    models.create(model("a"))
    models.create(model("b"))
    models.delete("a")
    since = models.custom.list_namespaced_custom_object(*PLACE)["metadata"]["resourceVersion"]
    assert events(models, resource_version=since) == []
    models.delete("b")
    assert events(models, resource_version=since) == [("DELETED", "b")]


def test_a_watch_tells_of_changes_as_they_happen(models: Models, api: FakeApi, tmp_path: Path) -> None:
    dynamic = DynamicClient(api.api_client(), cache_file=str(tmp_path / "cache.json"))
    resource = dynamic.resources.get(api_version=MODEL.api_version, kind="Model")
    threading.Timer(0.2, models.create, [model()]).start()
    watcher, seen = watch.Watch(), []
    for event in resource.watch(namespace="serving", timeout=10, watcher=watcher):
        seen.append((event["type"], event["object"].metadata.name))
        watcher.stop()
    assert seen == [("ADDED", "fraud")]


def test_who_leaves_the_selection_is_deleted_for_the_watcher(models: Models) -> None:
    since = models.create(model(labels={"a": "1"}))["metadata"]["resourceVersion"]
    models.patch({"metadata": {"labels": {"a": "2"}}})
    models.patch({"metadata": {"labels": {"a": "1"}}})
    assert events(models, resource_version=since, label_selector="a=1") == [("DELETED", "fraud"), ("ADDED", "fraud")]


def test_a_version_that_is_too_old_is_gone(models: Models, api: FakeApi) -> None:
    since = models.create(model())["metadata"]["resourceVersion"]
    models.patch({"spec": {"replicas": 1}})
    api.store.compact()
    with pytest.raises(ApiException) as gone:
        events(models, resource_version=since)
    assert gone.value.status == 410
    assert "too old resource version" in str(gone.value)


def test_a_watch_that_breaks_off_is_an_error_for_the_client(models: Models, api: FakeApi) -> None:
    for name in "abc":
        models.create(model(name))
    api.faults.add(Fault("watch", "models", after_events=2))
    stream = watch.Watch().stream(models.custom.list_namespaced_custom_object, *PLACE, timeout_seconds=5)
    assert [next(stream)["object"]["metadata"]["name"], next(stream)["object"]["metadata"]["name"]] == ["a", "b"]
    with pytest.raises(urllib3.exceptions.ProtocolError):
        next(stream)
    assert events(models) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")], "once"


# --- dry run ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_checks_everything_and_keeps_nothing(models: Models, api: FakeApi) -> None:
    assert models.create(model(), dry_run="All")["metadata"]["uid"]
    refused(422, lambda: models.create(model(replicas="two"), dry_run="All"))
    models.apply(model(), dryRun="All")
    assert models.list() == []
    made = models.create(model())
    assert models.patch({"spec": {"replicas": 7}}, dryRun="All")["spec"]["replicas"] == 7
    models.put(made | {"spec": made["spec"] | {"replicas": 7}}, dry_run="All")
    models.delete(dry_run="All")
    assert models.get() == made
    assert api.store.version == int(made["metadata"]["resourceVersion"])


# --- schemas ----------------------------------------------------------------------------------------------------------


def test_an_object_that_breaks_its_schema_is_refused_with_every_cause(models: Models) -> None:
    body = model(replicas="two", memory="much")
    del body["spec"]["storageUri"]
    status = refused(422, lambda: models.create(body))
    assert status["message"].startswith('Model.mlops.seldon.io "fraud" is invalid: [')
    causes = {cause["field"]: (cause["reason"], cause["message"]) for cause in status["details"]["causes"]}
    assert causes["spec.storageUri"] == ("FieldValueRequired", "Required value")
    assert causes["spec.replicas"][0] == "FieldValueTypeInvalid"
    assert "must be of type integer" in causes["spec.replicas"][1]
    assert causes["spec.memory"][0] == "FieldValueInvalid"
    refused(422, lambda: models.create(model("Not_A_Name")))
    models.create(model())
    refused(422, lambda: models.patch({"spec": {"storageUri": None}}))


def test_an_unknown_field_is_dropped_with_a_warning_or_refused(models: Models) -> None:
    for validation, warned in (("Warn", True), ("Ignore", False)):
        answer, _, headers = models.custom.create_namespaced_custom_object_with_http_info(
            *models.place, model(validation.lower(), colour="red"), field_validation=validation
        )
        assert "colour" not in answer["spec"]
        assert headers.get("Warning") == ('299 - "unknown field \\"spec.colour\\""' if warned else None)
    status = refused(400, lambda: models.create(model(colour="red"), field_validation="Strict"))
    assert 'strict decoding error: unknown field "spec.colour"' in status["message"]


def test_an_unknown_field_cannot_be_applied(models: Models) -> None:
    status = refused(500, lambda: models.apply(model(colour="red")))
    assert ".spec.colour: field not declared in schema" in status["message"]
    status = refused(500, lambda: models.apply(model(colour="red", replicas="two")))
    assert ".spec.replicas: expected integer" in status["message"]


def test_kinds_without_a_schema_are_named_and_take_anything(tmp_path: Path) -> None:
    with fake_api(schemas=[tmp_path / "missing", SCHEMAS], kinds=[WIDGET]) as api:
        assert "Widget.example.org/v1" in api.without_schema
        assert not [name for name in api.without_schema if name.startswith(("Model.", "Experiment.", "Pod."))]
        assert Models(api, kind=WIDGET).create(widget(anything=[1, {"x": None}]))["spec"]["anything"]


@pytest.fixture
def widgets(tmp_path: Path) -> Iterator[Models]:
    """A kind whose schema has rules."""
    named = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}},
        "x-kubernetes-validations": [
            {"rule": "!has(self.__namespace__) || self.__namespace__ != self.name", "message": "two of a name"}
        ],
    }
    spec = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "mode": {"enum": ["fast", "safe"]},
            "colour": {"type": "string", "default": "red"},
            "size": {
                "type": "integer",
                "x-kubernetes-validations": [
                    {"rule": "self >= oldSelf", "messageExpression": "'not below ' + string(oldSelf)"},
                    {"rule": "self < 100"},
                ],
            },
            "parts": {"type": "array", "items": named},
            "limits": {"type": "object", "additionalProperties": named},
            "address": {"type": "string", "x-kubernetes-validations": [{"rule": "isURL(self)"}]},
        },
        "x-kubernetes-validations": [
            {"rule": "!has(self.mode) || self.mode != 'safe' || self.size > 1", "message": "safe needs a size"}
        ],
    }
    schema = {
        "type": "object",
        "properties": {"apiVersion": {}, "kind": {}, "metadata": {"type": "object"}, "spec": spec},
    }
    (tmp_path / "example.org_widget_v1.json").write_text(json.dumps(schema))
    with fake_api(schemas=[tmp_path], kinds=[WIDGET]) as api:
        assert not [name for name in api.without_schema if name.startswith("Widget")]
        yield Models(api, kind=WIDGET)


def test_a_rule_of_the_schema_is_evaluated_where_it_stands(widgets: Models) -> None:
    twice = {"name": "x", "namespace": "x"}
    status = refused(422, lambda: widgets.create(widget(mode="safe", size=1, parts=[{}, twice], limits={"a": twice})))
    found = [(cause["field"], cause["message"]) for cause in status["details"]["causes"]]
    assert found == [
        ("spec", 'Invalid value: "object": safe needs a size'),
        ("spec.parts[1]", 'Invalid value: "object": two of a name'),
        ("spec.limits.a", 'Invalid value: "object": two of a name'),
    ]
    assert "failed rule: self < 100" in refused(422, lambda: widgets.create(widget(size=100)))["message"]
    assert 'supported values: "fast", "safe"' in refused(422, lambda: widgets.create(widget(mode="slow")))["message"]
    assert widgets.create(widget(mode="safe", size=2, parts=[{"name": "x", "namespace": "y"}]))


def test_defaults_of_the_schema_are_filled_in_and_owned_by_no_applier(widgets: Models) -> None:
    made = widgets.apply(widget(size=1))
    assert made["spec"] == {"size": 1, "colour": "red"}
    assert owners(made) == {("custody", "Apply"): {"f:spec": {"f:size": {}}}}
    assert widgets.apply(widget(size=1)) == made
    assert widgets.apply(widget(colour="blue"), "painter")["spec"]["colour"] == "blue"


def test_a_rule_about_the_old_value_holds_for_updates_alone(widgets: Models) -> None:
    widgets.create(widget(size=5))
    assert "not below 5" in refused(422, lambda: widgets.patch({"spec": {"size": 4}}, "wheel"))["message"]
    widgets.patch({"spec": {"size": 6}}, "wheel")
    widgets.patch({"spec": {"size": None}}, "wheel")
    assert widgets.patch({"spec": {"size": 1}}, "wheel")["spec"]["size"] == 1, "there was no value before"


def test_a_rule_that_cannot_be_decided_lets_nothing_through(widgets: Models) -> None:
    assert "rule evaluation error" in refused(422, lambda: widgets.create(widget(mode="safe")))["message"]
    assert "cannot compile 'isURL(self)' here" in refused(500, lambda: widgets.create(widget(address="x")))["message"]


# --- admission policies -----------------------------------------------------------------------------------------------

POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: pinned}
spec:
  matchConstraints:
    resourceRules:
      - {apiGroups: [mlops.seldon.io], apiVersions: ["*"], operations: [CREATE, UPDATE, DELETE], resources: [models]}
  matchConditions:
    - {name: not-the-admin, expression: "request.userInfo.username != 'somebody-else'"}
  variables:
    - {name: pins, expression: "object.spec.parameters.map(p, p.name)"}
    - {name: free, expression: "object.spec.?server.orValue('') == 'playground'"}
  validations:
    - {expression: "object == null || variables.free || 'listing_sha256' in variables.pins", message: no digest}
    - expression: oldObject == null || object == null || object.spec.storageUri == oldObject.spec.storageUri
      messageExpression: "'the address stays ' + oldObject.spec.storageUri"
    - {expression: "object != null || request.name != 'kept'", message: this one is kept, reason: Forbidden}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: pinned-in-serving}
spec:
  policyName: pinned
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: serving}}}
"""
PINNED = {"parameters": [{"name": "listing_sha256", "value": "12"}]}


def policy_file(folder: Path, text: str = POLICY) -> Path:
    (folder / "policy.yaml").write_text(text)
    return folder / "policy.yaml"


def test_a_policy_denies_with_its_message(tmp_path: Path) -> None:
    with fake_api(policies=[policy_file(tmp_path)]) as api:
        models = Models(api)
        status = refused(422, lambda: models.create(model(parameters=[])))
        named = "ValidatingAdmissionPolicy 'pinned' with binding 'pinned-in-serving' denied request: no digest"
        assert status["message"] == f'models.mlops.seldon.io "fraud" is forbidden: {named}'
        assert "evaluation failed" in refused(422, lambda: models.create(model()))["message"], "an error denies"
        models.create(model(server="playground"))
        models.create(model("kept", **PINNED))
        status = refused(422, lambda: models.patch({"spec": {"storageUri": "s3://other"}}, "kept"))
        assert status["message"].endswith("denied request: the address stays s3://models/1")
        refused(422, lambda: models.apply(model("applied", parameters=[])))
        assert "this one is kept" in refused(403, lambda: models.delete("kept"))["message"]
        models.delete()
        models.place = ("mlops.seldon.io", "v1alpha1", "elsewhere", "models")
        models.create(model(parameters=[]))


def test_a_policy_without_a_denying_binding_is_not_in_force(tmp_path: Path) -> None:
    for text in (POLICY.split("---")[0], POLICY.replace("[Deny]", "[Audit]")):
        with fake_api(policies=[policy_file(tmp_path, text)]) as api:
            Models(api).create(model(parameters=[]))


def test_a_policy_may_ignore_its_own_errors(tmp_path: Path) -> None:
    text = POLICY.replace("\nspec:\n  match", "\nspec:\n  failurePolicy: Ignore\n  match", 1)
    with fake_api(policies=[policy_file(tmp_path, text)]) as api:
        Models(api).create(model())
        refused(422, lambda: Models(api).create(model("other", parameters=[])))


# --- who may what -----------------------------------------------------------------------------------------------------

ROLES = """
kind: Role
metadata: {name: deployer, namespace: serving}
rules:
  - {apiGroups: [mlops.seldon.io], resources: [models], verbs: [get, create, patch, delete]}
  - {apiGroups: [mlops.seldon.io], resources: [models/status], verbs: [update]}
  - {apiGroups: [mlops.seldon.io], resources: [experiments], resourceNames: [fraud], verbs: [get, list, watch, patch]}
---
kind: RoleBinding
metadata: {name: deployer, namespace: serving}
roleRef: {kind: Role, name: deployer}
subjects: [{kind: ServiceAccount, name: deployer, namespace: serving}]
---
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: ["*"], resources: [models], verbs: [get, list, watch]}]
---
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {kind: ClusterRole, name: reader}
subjects: [{kind: Group, name: "system:serviceaccounts:serving"}]
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[FakeApi]:
    (tmp_path / "roles.yaml").write_text(ROLES)
    with fake_api(roles=[tmp_path / "roles.yaml"], tokens=TOKENS) as api:
        yield api


def forbidden(call: Callable[[], Any]) -> str:
    status = refused(403, call)
    assert status["reason"] == "Forbidden"
    return str(status["message"])


def test_roles_are_evaluated_for_the_tokens_account(guarded: FakeApi) -> None:
    deployer, reader = Models(guarded, "deployer-token"), Models(guarded, "reader-token")
    made = deployer.create(model())
    assert forbidden(lambda: reader.patch({"spec": {"replicas": 1}})) == (
        f'models.mlops.seldon.io "fraud" is forbidden: User "{READER}" cannot patch resource "models" '
        'in API group "mlops.seldon.io" in the namespace "serving"'
    )
    assert reader.list() == ["fraud"]
    assert events(reader) == [("ADDED", "fraud")]
    deployer.put_status(made | {"status": READY})
    assert 'cannot update resource "models/status"' in forbidden(lambda: reader.put_status(made))
    assert 'cannot update resource "models" ' in forbidden(lambda: deployer.put(made))
    assert "cannot delete" in forbidden(reader.delete)
    deployer.delete()
    Models(guarded).create(model())  # the administrator


def test_a_role_ends_at_its_namespace_and_a_cluster_role_does_not(guarded: FakeApi) -> None:
    deployer = Models(guarded, "deployer-token")
    deployer.place = ("mlops.seldon.io", "v1alpha1", "elsewhere", "models")
    assert 'in the namespace "elsewhere"' in forbidden(lambda: deployer.create(model()))
    assert deployer.list() == []
    custom = CustomObjectsApi(guarded.api_client("reader-token"))
    assert custom.list_cluster_custom_object("mlops.seldon.io", "v1alpha1", "models")["items"] == []
    message = forbidden(lambda: custom.list_cluster_custom_object("mlops.seldon.io", "v1alpha1", "experiments"))
    assert message.startswith("experiments.mlops.seldon.io is forbidden:")
    assert message.endswith("at the cluster scope")


def test_a_role_may_name_its_objects(guarded: FakeApi) -> None:
    body = {"apiVersion": EXPERIMENT.api_version, "kind": "Experiment", "metadata": {"name": "fraud"}, "spec": {}}
    Models(guarded, kind=EXPERIMENT).create(body)
    deployer = Models(guarded, "deployer-token", EXPERIMENT)
    assert deployer.get()["metadata"]["name"] == "fraud"
    assert 'experiments.mlops.seldon.io "other"' in forbidden(lambda: deployer.get("other"))
    assert deployer.list(field_selector="metadata.name=fraud") == ["fraud"]
    forbidden(deployer.list)


def test_applying_what_is_absent_needs_patch_and_create(guarded: FakeApi) -> None:
    body = {"apiVersion": EXPERIMENT.api_version, "kind": "Experiment", "metadata": {"name": "fraud"}, "spec": {}}
    deployer = Models(guarded, "deployer-token", EXPERIMENT)
    assert "cannot create resource" in forbidden(lambda: deployer.apply(body))
    Models(guarded, kind=EXPERIMENT).create(body)
    deployer.apply(body)
    Models(guarded, "deployer-token").apply(model())


@pytest.mark.parametrize(
    ("verb", "resource", "namespace", "allowed"),
    [
        ("create", "models", "serving", True),
        ("update", "models", "serving", False),
        ("update", "models/status", "serving", True),
        ("create", "models", "elsewhere", False),
        ("list", "models", "", True),
        ("list", "experiments", "serving", False),
        ("get", "secrets", "serving", False),
    ],
)
def test_a_review_of_ones_own_access_says_what_the_roles_say(
    guarded: FakeApi, verb: str, resource: str, namespace: str, allowed: bool
) -> None:
    plural, _, subresource = resource.partition("/")
    group = "" if resource == "secrets" else MODEL.group
    asked = V1ResourceAttributes(group=group, resource=plural, subresource=subresource, verb=verb, namespace=namespace)
    review = V1SelfSubjectAccessReview(spec=V1SelfSubjectAccessReviewSpec(resource_attributes=asked))
    api = AuthorizationV1Api(guarded.api_client("deployer-token"))
    assert api.create_self_subject_access_review(review).status.allowed is allowed
    assert AuthorizationV1Api(guarded.api_client()).create_self_subject_access_review(review).status.allowed
    forged = AuthorizationV1Api(guarded.api_client("forged"))
    refused(401, lambda: forged.create_self_subject_access_review(review))


def test_an_unknown_token_is_nobody(guarded: FakeApi) -> None:
    assert refused(401, Models(guarded, "forged").list)["reason"] == "Unauthorized"
    assert urllib3.request("GET", f"{guarded.url}/version", retries=False).status == 401


def test_no_role_at_all_allows_nothing_and_one_without_a_namespace_is_a_mistake() -> None:
    with fake_api(roles=[], tokens=TOKENS) as api:
        forbidden(Models(api, "reader-token").list)
    with pytest.raises(ValueError, match="has no namespace"), fake_api(roles=[ROOT / "manifests/base/runs/role.yaml"]):
        pass


# --- what goes wrong on purpose ---------------------------------------------------------------------------------------


def test_the_next_requests_are_answered_as_told(models: Models, api: FakeApi) -> None:
    api.faults.add(Fault("create", "models", times=2, status=500))
    api.faults.add(Fault("get", status=429, retry_after=7))
    for _ in range(2):
        assert refused(500, lambda: models.create(model()))["message"] == "told to fail"
    assert models.list() == []
    models.create(model())
    with pytest.raises(ApiException) as refusal:
        models.get()
    assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (429, "7")
    assert models.get()


def test_a_connection_breaks_before_or_after_the_request_took_effect(models: Models, api: FakeApi) -> None:
    for when, there in (("before", []), ("after", ["fraud"])):
        api.faults.add(Fault("create", "models", drop=when))
        with pytest.raises(urllib3.exceptions.HTTPError):
            models.create(model())
        assert models.list() == there


def test_an_answer_may_be_late(models: Models, api: FakeApi) -> None:
    api.faults.add(Fault("list", "models", delay=0.3))
    with pytest.raises(urllib3.exceptions.HTTPError):
        models.custom.list_namespaced_custom_object(*PLACE, _request_timeout=(1, 0.1))
    assert models.list() == []


# --- what a test sees and does ----------------------------------------------------------------------------------------


def test_requests_are_recorded(guarded: FakeApi) -> None:
    deployer = Models(guarded, "deployer-token")
    made = deployer.apply(model())
    deployer.put_status(made | {"status": READY})
    forbidden(lambda: deployer.put(made))
    seen = [(each.method, each.verb, each.group, each.plural, each.name, each.subresource) for each in guarded.requests]
    assert seen == [
        ("PATCH", "patch", "mlops.seldon.io", "models", "fraud", ""),
        ("PUT", "update", "mlops.seldon.io", "models", "fraud", "status"),
        ("PUT", "update", "mlops.seldon.io", "models", "fraud", ""),
    ]
    assert {each.user for each in guarded.requests} == {DEPLOYER}
    assert guarded.requests[0].body["spec"] == model()["spec"]
    assert guarded.requests[0].query == {"fieldManager": "custody"}


# --- kubectl ----------------------------------------------------------------------------------------------------------


def test_kubectl_applies_gets_waits_and_deletes(tmp_path: Path) -> None:
    assert shutil.which("kubectl"), "kubectl is part of the tools of CI"
    (tmp_path / "roles.yaml").write_text(ROLES)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(model()))
    with fake_api([SCHEMAS], [tmp_path / "roles.yaml"], tokens=TOKENS, tls=tmp_path) as api:

        def kubectl(*arguments: str, token: str = "deployer-token", code: int = 0) -> str:
            config = api.kubeconfig(tmp_path / "kubeconfig", token, "serving")
            command = ["kubectl", f"--kubeconfig={config}", f"--cache-dir={tmp_path}/cache", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == code, done.stderr
            return done.stdout + done.stderr

        apply = ("apply", "--server-side", "--validate=false", "-f", str(tmp_path / "model.yaml"))
        assert "cannot patch resource" in kubectl(*apply, token="reader-token", code=1)
        assert "(Unauthorized)" in kubectl(*apply, token="forged", code=1) or "credentials" in kubectl(
            "get", "models", token="forged", code=1
        )
        assert "serverside-applied" in kubectl(*apply)
        assert "fraud" in kubectl("get", "models.mlops.seldon.io", token="reader-token")
        assert json.loads(kubectl("get", "model", "fraud", "-o", "json"))["spec"] == model()["spec"]
        Models(api).patch({"spec": {"storageUri": "s3://by-hand"}}, fieldManager="by-hand")
        assert 'conflict with "by-hand"' in kubectl(*apply, code=1)
        assert "serverside-applied" in kubectl(*apply, "--force-conflicts")
        timer = threading.Timer(0.5, api.store.set_status, [MODEL, "serving", "fraud", READY])
        timer.start()
        assert "met" in kubectl("wait", "model/fraud", "--for=condition=Ready", "--timeout=20s", token="reader-token")
        assert "deleted" in kubectl("delete", "model", "fraud")
        assert "NotFound" in kubectl("get", "model", "fraud", code=1)
    assert {each.user for each in api.requests if each.verb == "patch"} >= {DEPLOYER, READER}


def test_the_python_client_trusts_the_certificate_that_is_given_to_it(tmp_path: Path) -> None:
    with fake_api(tls=tmp_path) as api:
        Models(api).create(model())
        with pytest.raises(urllib3.exceptions.HTTPError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib3.request("GET", f"{api.url}/version", retries=False)


def test_nothing_answers_after_the_end_and_watches_are_over() -> None:
    ended: list[str] = []
    with fake_api() as api:
        client = Models(api)
        client.create(model())
        watching = threading.Thread(target=lambda: ended.extend(name for _, name in events(client, timeout_seconds=60)))
        watching.start()
        while not [each for each in api.requests if each.verb == "watch"]:
            time.sleep(0.01)
    watching.join(timeout=5)
    assert ended == ["fraud"]
    with pytest.raises(urllib3.exceptions.HTTPError):
        client.list()
