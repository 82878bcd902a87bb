"""The manifests are well-formed, hold no secret, and agree with each other, with the settings and with the pipelines.

No cluster has run them: fields are checked against the Kubernetes API types of the Python client, PodDefaults against
what Kubeflow's webhook does with them.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes import client

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.images import VERSION
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.keyless import AUDIENCE
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components.data_versioning.sources import load_sources
from kfp_custody.components.seldon_deployment.kubernetes_api import KINDS as KINDS_OF_MODELS
from kube_schemas import faults, unverified
from unit.manifests.rendered import MANIFESTS, OVERLAYS, ROOT, Object, objects_in_files, of_kind, one, render

DECIDES = {"enforce-policy", "deploy-model", "analyse-canary", "finish-rollout"}
kustomize = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to render the overlays")

# Which pipelines run in which namespace of an overlay, where Kubeflow's webhook gives their pods identities and tokens.
RUNS = {
    ("single-namespace", "custody"): ("fraud_detection", "drift_watch", "promotion"),
    ("promotion-namespace", "custody-training"): ("fraud_detection", "drift_watch"),
    ("promotion-namespace", "custody-promotion"): ("promotion",),
}
# Where pipelines run without the webhook: test_standalone_kfp.py.
STANDALONE = {"standalone-kfp"}
# Where models are served and no pipeline runs: test_serving_overlays.py.
SERVING = {"seldon-v2", "seldon-v1", "kserve", "multi-user-profile"}
TYPES = {
    "ConfigMap": client.V1ConfigMap,
    "Namespace": client.V1Namespace,
    "NetworkPolicy": client.V1NetworkPolicy,
    "Role": client.V1Role,
    "RoleBinding": client.V1RoleBinding,
    "ServiceAccount": client.V1ServiceAccount,
}
# The fields of a PodDefault (kubeflow.org/v1alpha1) that the manifests may use.
POD_DEFAULT = {
    "desc": "str",
    "selector": "V1LabelSelector",
    "serviceAccountName": "str",
    "env": "list[V1EnvVar]",
    "volumes": "list[V1Volume]",
    "volumeMounts": "list[V1VolumeMount]",
}

# The fields of KFP's own objects (pipelines.kubeflow.org/v2beta1): name -> whether it must be there.
KFP_OBJECTS = {
    "Pipeline": {"displayName": False, "description": False},
    "PipelineVersion": {
        **dict.fromkeys(("displayName", "description", "codeSourceURL", "pipelineSpecURI"), False),
        **{"pipelineName": True, "pipelineSpec": True, "platformSpec": False},
    },
}
ARGO_CD = ROOT / "tests" / "schemas" / "argoproj.io_application_v1alpha1.json"


# --- every object by itself -------------------------------------------------------------------------------------------


def require_fields(type_name: str, value: Any, where: str) -> None:
    """Hold a value against a type of the Kubernetes API: no unknown field, none missing that is required."""
    if type_name.startswith("list["):
        assert isinstance(value, list), where
        for number, item in enumerate(value):
            require_fields(type_name[5:-1], item, f"{where}[{number}]")
    elif type_name.startswith("dict("):
        assert isinstance(value, dict), where
        for key, item in value.items():
            require_fields(type_name[5:-1].split(", ")[1], item, f"{where}.{key}")
    elif type_name in ("str", "int", "bool"):
        assert type(value).__name__ == type_name, f"{where}: {value!r} is no {type_name}"
    elif type_name not in ("object", "datetime"):
        kind = getattr(client, type_name)
        fields = {name: attribute for attribute, name in kind.attribute_map.items()}
        assert not set(value) - set(fields), f"{where}: unknown {set(value) - set(fields)}"
        kind(**{fields[name]: item for name, item in value.items()})  # raises for a required field that is missing
        for name, item in value.items():
            require_fields(kind.openapi_types[fields[name]], item, f"{where}.{name}")


@pytest.mark.parametrize(
    ("path", "document"),
    objects_in_files(),
    ids=lambda value: value.name if isinstance(value, Path) else f"{value['kind']}-{value['metadata']['name']}",
)
def test_an_object_has_the_fields_of_its_type(path: Path, document: Object) -> None:
    if document["kind"] in KFP_OBJECTS:
        fields = KFP_OBJECTS[document["kind"]]
        assert document["apiVersion"] == "pipelines.kubeflow.org/v2beta1"
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(document["spec"]) <= set(fields)
        assert {name for name, needed in fields.items() if needed} <= set(document["spec"])
        require_fields("V1ObjectMeta", document["metadata"], "metadata")
        return
    if document["kind"] == "Application":
        jsonschema.validate(document, json.loads(ARGO_CD.read_text()))
        return
    if document["kind"] == "AppProject":  # of which there is no schema here: the fields that its documentation names
        known = {"description", "sourceRepos", "destinations", "clusterResourceWhitelist", "namespaceResourceWhitelist"}
        assert set(document["spec"]) <= known
        assert "*" not in json.dumps(document["spec"]), "a project that allows everything is none"
        assert all(set(each) == {"server", "namespace"} for each in document["spec"]["destinations"])
        return
    if document["kind"] not in TYPES and document["kind"] != "PodDefault":
        # SecretStore's schema is kept beside, not here; Kong's we have none of (README).
        known = document["kind"] == "SecretStore" or document["apiVersion"] == "configuration.konghq.com/v1"
        assert not unverified(document) or known
        assert faults(document) == []
        return
    if document["kind"] != "PodDefault":
        require_fields(TYPES[document["kind"]].__name__, document, document["kind"])
        return
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    assert document["apiVersion"] == "kubeflow.org/v1alpha1"
    for name, value in document["spec"].items():
        require_fields(POD_DEFAULT[name], value, f"PodDefault.{name}")


def test_the_check_of_fields_can_fail() -> None:
    for wrong in ({"metadata": {}, "rule": []}, {"rules": [{"resources": ["pods"]}]}, {"rules": [{"verbs": "get"}]}):
        with pytest.raises((AssertionError, ValueError)):
            require_fields("V1Role", wrong, "Role")


def test_every_file_belongs_to_a_kustomization() -> None:
    used = set()
    for path in MANIFESTS.rglob("kustomization.yaml"):
        document = yaml.safe_load(path.read_text())
        generated = [name for each in document.get("configMapGenerator", []) for name in each["files"]]
        patches = [each["path"] for each in document.get("patches", []) if "path" in each]
        for name in [*document["resources"], *document.get("components", []), *generated, *patches]:
            assert (path.parent / name).exists(), f"{path}: {name}"
            used.add((path.parent / name).resolve())
    for path in MANIFESTS.rglob("*.yaml"):
        home = path.parent if path.name == "kustomization.yaml" else path
        # What people apply themselves: an overlay, the pipelines, the example for Argo CD; what the doors are made of.
        whole = ("pipelines", "argocd", "door")
        applied = path.parent.parent.name in ("overlays", "components") or path.parent.name in whole
        assert home.resolve() in used or applied, path


def test_no_secret_no_wildcard_and_no_floating_tag_stands_anywhere() -> None:
    for path in (path for path in MANIFESTS.rglob("*") if path.is_file()):
        text = path.read_text()
        assert not re.search(r"PRIVATE KEY|:latest|hvs\.|kind: Secret\b", text), path
        assert "0.0.0.0/0" not in text, path
    for _, document in objects_in_files():
        for rule in document.get("rules", []):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"secrets", "configmaps"} & set(rule["resources"]) or rule["resourceNames"]
            assert not {"pods", "serviceaccounts", "serviceaccounts/token", "roles"} & set(rule["resources"])


# --- the pipelines ----------------------------------------------------------------------------------------------------


def pipeline_objects(kind: str) -> dict[str, Object]:
    found = [document for _, document in objects_in_files() if document["kind"] == kind]
    return {document["metadata"]["name"]: document for document in found}


def test_a_version_says_what_the_compiled_file_says_and_is_named_after_it() -> None:
    versions, pipelines = pipeline_objects("PipelineVersion"), pipeline_objects("Pipeline")
    compiled = sorted(ROOT.glob("pipelines/*/pipeline.yaml"))
    assert len(versions) == len(pipelines) == len(compiled)
    for path in compiled:
        spec, extra = yaml.safe_load_all(path.read_text())
        name = spec["pipelineInfo"]["name"]
        (version,) = [each for each in versions.values() if each["spec"]["pipelineName"] == name]
        assert name in pipelines
        assert (version["spec"]["pipelineSpec"], version["spec"]["platformSpec"]) == (spec, extra)
        assert re.fullmatch(rf"{name}-{re.escape(VERSION)}-[0-9a-f]{{12}}", version["metadata"]["name"])
        assert len(version["metadata"]["name"]) <= 63


def test_argo_cd_makes_a_pipeline_before_its_versions_and_prunes_no_version() -> None:
    for version in pipeline_objects("PipelineVersion").values():
        annotations = version["metadata"]["annotations"]
        assert annotations == {
            "argocd.argoproj.io/sync-wave": "1",
            "argocd.argoproj.io/sync-options": "Prune=false",
        }
    assert all("annotations" not in pipeline["metadata"] for pipeline in pipeline_objects("Pipeline").values())
    application = pipeline_objects("Application")["custody-pipelines"]
    assert application["spec"]["syncPolicy"]["automated"]["prune"] is False
    assert application["spec"]["source"]["targetRevision"] == f"v{VERSION}"
    assert (ROOT / application["spec"]["source"]["path"] / "kustomization.yaml").is_file()


def test_argo_cd_takes_every_kind_of_model_that_is_committed_and_nothing_else() -> None:
    project, application = pipeline_objects("AppProject")["custody-models"], pipeline_objects("Application")
    allowed = {(each["group"], each["kind"]) for each in project["spec"]["namespaceResourceWhitelist"]}
    assert allowed == {(group, kind) for kind, (group, *_) in KINDS_OF_MODELS.items()}
    for each in application.values():
        home = pipeline_objects("AppProject")[each["spec"]["project"]]["spec"]
        assert each["spec"]["source"]["repoURL"] in home["sourceRepos"]
        assert each["spec"]["destination"] in home["destinations"]


def test_the_schema_for_argo_cd_can_refuse() -> None:
    application = pipeline_objects("Application")["custody-pipelines"]
    wrong = application | {"spec": application["spec"] | {"source": {"path": "x"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json.loads(ARGO_CD.read_text()))


@kustomize
def test_the_kustomization_of_the_pipelines_renders_them() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / "pipelines")], capture_output=True, text=True, check=True
    )
    rendered = {document["metadata"]["name"] for document in yaml.safe_load_all(done.stdout)}
    assert rendered == {*pipeline_objects("Pipeline"), *pipeline_objects("PipelineVersion")}


# --- the sources file -------------------------------------------------------------------------------------------------


def test_the_sources_file_as_shipped_lets_nothing_be_fetched_and_its_examples_are_well_formed(tmp_path: Path) -> None:
    path = MANIFESTS / "base/runs/sources.yaml"
    assert load_sources(path).entries == ()
    examples = [line.removeprefix("# ") for line in path.read_text().split("sources: []\n")[1].splitlines()]
    (tmp_path / "sources.yaml").write_text("version: 1\nsources:\n" + "\n".join(examples))
    assert [entry.engine for entry in load_sources(tmp_path / "sources.yaml").entries] == ["dvc", "s3"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_sources_file_lies_beside_the_trust_file_of_every_run(overlay: str) -> None:
    for trust in of_kind(overlay, "ConfigMap"):
        if trust["metadata"]["name"] == "custody-trust" and trust["metadata"]["namespace"].endswith("training"):
            assert set(trust["data"]) == {"trust.yaml", "sources.yaml", "retraining.yaml"}


# --- the trust files --------------------------------------------------------------------------------------------------

TRUST_FILES = sorted(MANIFESTS.rglob("trust.yaml"))


@pytest.mark.parametrize("path", TRUST_FILES, ids=lambda path: path.parent.name)
def test_a_trust_file_as_shipped_trusts_nobody(path: Path) -> None:
    with pytest.raises(Misconfigured):
        load_trust(path)


def filled_in(path: Path, folder: Path) -> dict[str, frozenset[str]]:
    """Who may sign what, once the REPLACE lines are real."""
    document = yaml.safe_load(path.read_text())
    for signer in document["signers"]:
        assert signer["key"].startswith("REPLACE")
        signer["key"] = public_pem(generate_key(folder / f"{signer['name']}.pem")).decode()
    for policy in document["policies"]:
        assert policy["sha256"].startswith("REPLACE")
        policy["sha256"] = "ab" * 32
    (folder / "trust.yaml").write_text(yaml.safe_dump(document))
    return {signer.name: signer.may_sign for signer in load_trust(folder / "trust.yaml").signers.values()}


def test_training_may_not_speak_for_the_gate_nor_the_gate_for_training(tmp_path: Path) -> None:
    assert filled_in(MANIFESTS / "base/runs/trust.yaml", tmp_path) == {
        "training": frozenset(set(KINDS) - DECIDES),
        "promotion": frozenset(DECIDES),
    }


@pytest.mark.parametrize(
    ("path", "signer"), [("promotion-namespace/training", "training"), ("standalone-kfp/runs", "runs")]
)
def test_where_one_key_signs_for_all_nobody_else_is_trusted(tmp_path: Path, path: str, signer: str) -> None:
    assert filled_in(MANIFESTS / "overlays" / path / "trust.yaml", tmp_path) == {signer: frozenset(KINDS)}


# --- what a pod of a task gets ----------------------------------------------------------------------------------------


def tasks_of(pipeline: str) -> dict[str, Object]:
    """The Kubernetes part of every task of ours in a compiled pipeline."""
    _, platform = yaml.safe_load_all((ROOT / "pipelines" / pipeline / "pipeline.yaml").read_text())
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]  # type: ignore[no-any-return]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    assert {each["operator"] for each in selector.get("matchExpressions", [])} <= {"In"}
    return wanted and all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))


PLACES = [(*place, pipeline) for place, pipelines in RUNS.items() for pipeline in pipelines]


def pods(overlay: str, namespace: str, pipeline: str) -> Iterator[tuple[str, Object, Object]]:
    """Every task with the one PodDefault that its pod gets."""
    for task, spec in tasks_of(pipeline).items():
        labels = spec["podMetadata"]["labels"]
        found = [
            each for each in of_kind(overlay, "PodDefault", namespace) if matches(each["spec"]["selector"], labels)
        ]
        names = [each["metadata"]["name"] for each in found]
        assert ("access-ml-pipeline" in names) == (task == "exec-start-retraining"), "who may start runs"
        (own,) = [each["spec"] for each in found if each["metadata"]["name"] != "access-ml-pipeline"]
        yield task, spec, own


@pytest.mark.parametrize("pipeline", ["fraud_detection", "promotion"])
def test_gate_and_deployer_and_nobody_else_ask_for_the_signers_identity(pipeline: str) -> None:
    asked = {task for task, spec in tasks_of(pipeline).items() if spec["podMetadata"]["labels"] == SIGNER}
    canary = {f"exec-{name}" for name in CANARY} if pipeline == "promotion" else set()
    assert asked == {"exec-enforce-policy", "exec-deploy-model", "exec-refuse"} | canary
    rest = [spec["podMetadata"]["labels"] for task, spec in tasks_of(pipeline).items() if task not in asked]
    assert all(labels == {"custody/identity": "pipeline"} for labels in rest)


SIGNER = {"custody/identity": "signer"}
WATCH = ("custody-run", "custody-watch", "custody-watch-runs")
CANARY = {"deploy-model-2", "analyse-canary", "finish-rollout", "refuse-rollout", "close-rollout"}


@kustomize
def test_every_overlay_is_looked_at() -> None:
    assert {overlay for overlay, _ in RUNS} | STANDALONE | SERVING == set(OVERLAYS)
    for overlay in OVERLAYS:
        marked = {
            each["metadata"]["name"]
            for each in of_kind(overlay, "Namespace")
            if each["metadata"]["labels"].get("app.kubernetes.io/part-of") == "kubeflow-profile"
        }
        assert marked == {namespace for name, namespace in RUNS if name == overlay}


@kustomize
@pytest.mark.parametrize(("overlay", "namespace", "pipeline"), PLACES)
def test_a_pod_default_goes_together_with_what_the_pipeline_mounts(overlay: str, namespace: str, pipeline: str) -> None:
    """Kubeflow's webhook refuses a pod when the two disagree about a variable, a volume or a path."""
    for task, spec, default in pods(overlay, namespace, pipeline):
        declared = {each["envVar"] for source in spec["configMapAsEnv"] for each in source["keyToEnv"]}
        assert not declared & {each["name"] for each in default["env"]}, task
        mounts = spec["configMapAsVolume"] + spec["secretAsVolume"]
        names = {each.get("configMapName") or each["secretName"] for each in mounts}
        assert not names & {each["name"] for each in default["volumes"]}
        paths = [Path(each["mountPath"]) for each in mounts]
        for mount in default["volumeMounts"]:
            own = Path(mount["mountPath"])
            assert not [path for path in paths if path.is_relative_to(own) or own.is_relative_to(path)]


@kustomize
@pytest.mark.parametrize(("overlay", "namespace", "pipeline"), PLACES)
def test_tokens_lie_where_the_signers_look_for_them(overlay: str, namespace: str, pipeline: str) -> None:
    for _, _, default in pods(overlay, namespace, pipeline):
        (mount,) = default["volumeMounts"]
        (volume,) = default["volumes"]
        assert mount["name"] == volume["name"]
        assert mount["readOnly"] is True  # signers read a secret of mode 0644 from a read-only mount alone
        tokens = [source["serviceAccountToken"] for source in volume["projected"]["sources"]]
        audiences = {f"{mount['mountPath']}/{token['path']}": token["audience"] for token in tokens}
        environment = {each["name"]: each["value"] for each in default["env"]}
        documented = (ROOT / "components/_shared/settings.py").read_text()
        assert [name for name in environment if name not in documented] == []
        assert audiences[environment.pop("CUSTODY_OIDC_TOKEN_FILE")] == AUDIENCE
        assert audiences[environment.pop("CUSTODY_VAULT_JWT_FILE")] == "vault"
        assert environment == {}


@kustomize
@pytest.mark.parametrize(("overlay", "namespace", "pipeline"), PLACES)
def test_a_task_finds_its_settings_in_the_config_map(overlay: str, namespace: str, pipeline: str) -> None:
    settings = one(overlay, "ConfigMap", "custody-settings", namespace)["data"]
    known = (ROOT / "components/_shared/settings.py").read_text() + "MLFLOW_TRACKING_URI CUSTODY_SIGNER_"
    trust = one(overlay, "ConfigMap", "custody-trust", namespace)["data"]
    for task, spec, _ in pods(overlay, namespace, pipeline):
        (source,) = spec["configMapAsEnv"]
        assert source["configMapName"] == "custody-settings"
        assert [each["configMapName"] for each in spec["configMapAsVolume"]] == ["custody-trust"]
        names = {each["configMapKey"]: each["envVar"] for each in source["keyToEnv"]}
        assert [name for name in names.values() if re.sub(r"(?<=SIGNER_)\w+", "", name) not in known] == []
        assert {"CUSTODY_SIGNER", "CUSTODY_NAMESPACE", "VAULT_ADDR", "CUSTODY_VAULT_AUTH"} <= set(settings), task
        if task != "exec-refuse":
            role = next(key for key, variable in names.items() if variable == "CUSTODY_VAULT_ROLE")
            assert settings[role]
    assert list(trust) == [
        "retraining.yaml",
        "sources.yaml",
        "trust.yaml",
    ]  # /etc/custody/trust/trust.yaml, the default of CUSTODY_TRUST
    everywhere = {
        each["configMapKey"]
        for name in ("fraud_detection", "drift_watch", "promotion")
        for spec in tasks_of(name).values()
        for each in spec["configMapAsEnv"][0]["keyToEnv"]
    }
    assert set(settings) <= everywhere, "a setting that no task reads"
    assert settings["CUSTODY_NAMESPACE"] in {each["metadata"]["name"] for each in of_kind(overlay, "Namespace")}


# --- who may what -----------------------------------------------------------------------------------------------------


def service_accounts(overlay: str, namespace: str, pipeline: str) -> dict[str, set[str]]:
    """ServiceAccount -> tasks that run as it; the run's own is that of its namespace's kind."""
    own = "custody-promotion" if pipeline == "promotion" else "custody-pipeline"
    result: dict[str, set[str]] = {}
    for task, _, default in pods(overlay, namespace, pipeline):
        result.setdefault(default.get("serviceAccountName", own), set()).add(task.removeprefix("exec-"))
    return result


@kustomize
def test_where_an_identity_is_used() -> None:
    decide = {"enforce-policy", "deploy-model", "refuse"}
    single = service_accounts("single-namespace", "custody", "fraud_detection")
    assert single["custody-promotion"] == decide
    assert "train-model" in single["custody-pipeline"]
    training = service_accounts("promotion-namespace", "custody-training", "fraud_detection")
    assert set(training) == {"custody-pipeline"}
    promotion = service_accounts("promotion-namespace", "custody-promotion", "promotion")
    assert promotion == {"custody-promotion": decide | CANARY}


# What others have made when an overlay is applied: KFP its runner, promotion-namespace the promotion's ServiceAccount.
BROUGHT = {
    "standalone-kfp": {("ServiceAccount", "kubeflow", "pipeline-runner")},
    **dict.fromkeys(SERVING, {("ServiceAccount", "custody-promotion", "custody-promotion")}),
}


@kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_binding_names_a_role_and_an_account_that_exist(overlay: str) -> None:
    objects = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in render(overlay)}
    objects |= BROUGHT.get(overlay, set())
    for binding in of_kind(overlay, "RoleBinding"):
        assert ("Role", binding["metadata"]["namespace"], binding["roleRef"]["name"]) in objects
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["namespace"], subject["name"]) in objects


@kustomize
def test_only_promotion_may_deploy_to_production_and_training_stays_at_home() -> None:
    bound = {
        (binding["metadata"]["namespace"], binding["roleRef"]["name"], subject["namespace"], subject["name"])
        for binding in of_kind("promotion-namespace", "RoleBinding")
        for subject in binding["subjects"]
    }
    assert bound == {
        ("custody-training", "custody-run", "custody-training", "custody-pipeline"),
        *(("custody-training", role, "custody-training", "custody-watch") for role in WATCH),
        ("custody-staging", "custody-deployer", "custody-training", "custody-pipeline"),
        ("custody-promotion", "custody-run", "custody-promotion", "custody-promotion"),
        ("custody-production", "custody-deployer", "custody-promotion", "custody-promotion"),
    }
    settings = one("promotion-namespace", "ConfigMap", "custody-settings", "custody-promotion")["data"]
    assert not [value for value in settings.values() if "custody-pipeline" in value]
    training = one("promotion-namespace", "ConfigMap", "custody-settings", "custody-training")["data"]
    assert not [value for value in training.values() if "custody-promotion" in value or "production" in value]


@kustomize
def test_the_promotion_namespace_is_closed_but_for_named_destinations() -> None:
    deny, egress = of_kind("promotion-namespace", "NetworkPolicy", "custody-promotion")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert egress["spec"]["policyTypes"] == ["Egress"]
    for rule in egress["spec"]["egress"]:
        assert rule["to"]
        assert rule["ports"]
        for peer in rule["to"]:
            selected = peer.get("namespaceSelector", {}).get("matchLabels") or peer.get("ipBlock")
            assert selected, "an empty peer lets everything through"


# --- Vault ------------------------------------------------------------------------------------------------------------


@kustomize
@pytest.mark.parametrize("account", ["custody-pipeline", "custody-promotion"])
def test_a_vault_role_is_bound_to_one_account_of_one_namespace(account: str) -> None:
    role = json.loads((MANIFESTS / f"vault/roles/{account}.json").read_text())
    (namespace,) = role["bound_service_account_namespaces"]
    assert role["bound_service_account_names"] == [account]
    assert one("promotion-namespace", "ServiceAccount", account, namespace)
    assert role["audience"] == "vault"
    assert role["token_policies"] == [account]
    assert (MANIFESTS / f"vault/policies/{account}.hcl").is_file()
    settings = one("promotion-namespace", "ConfigMap", "custody-settings", namespace)["data"]
    signers = {value for key, value in settings.items() if key.startswith("CUSTODY_SIGNER")}
    roles = {value for key, value in settings.items() if key.startswith("CUSTODY_VAULT_ROLE_")}
    assert signers == {f"vault:transit/{account}"}
    assert roles == {account}
