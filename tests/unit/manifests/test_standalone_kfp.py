"""The overlay for Kubeflow Pipelines by itself: nothing in it needs Kubeflow's profiles, webhook or tokens.

That its Role is enough for the stages, and no more than that, is in tests/services/test_standalone_rights.py.
"""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from kfp_custody.components._shared.settings import load_settings
from unit.manifests.rendered import MANIFESTS, ROOT, of_kind, one, render

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to render the overlays")
OVERLAY, RUNS, MODELS = "standalone-kfp", "kubeflow", "custody-production"
PIPELINES = sorted(path.parent.name for path in ROOT.glob("pipelines/*/pipeline.yaml"))
README = (MANIFESTS / "README.md").read_text()


def tasks(pipeline: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The Kubernetes part of every task of a compiled pipeline."""
    _, platform = yaml.safe_load_all((ROOT / "pipelines" / pipeline / "pipeline.yaml").read_text())
    yield from platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items()


def ours() -> set[tuple[str, str]]:
    """What the overlay puts into the namespace of the runs."""
    found = [each for each in render(OVERLAY) if each["metadata"].get("namespace") == RUNS]
    return {(each["kind"], each["metadata"]["name"]) for each in found}


def test_of_the_namespace_of_kfp_nothing_is_taken_but_our_own_names() -> None:
    """Neither the Namespace nor the ServiceAccount, which KFP's installation owns: `kubectl delete -k` spares both."""
    assert ours() == {
        ("ConfigMap", "custody-settings"),
        ("ConfigMap", "custody-trust"),
        ("Role", "custody-run"),
        ("RoleBinding", "custody-run"),
        ("Role", "custody-watch"),
        ("RoleBinding", "custody-watch"),
    }
    assert [each["metadata"]["name"] for each in of_kind(OVERLAY, "Namespace")] == [MODELS]
    assert not of_kind(OVERLAY, "PodDefault")


def test_the_one_account_of_runs_is_bound_to_three_roles_and_nobody_else_to_any() -> None:
    bound = {
        (each["metadata"]["namespace"], each["roleRef"]["name"]): each["subjects"]
        for each in of_kind(OVERLAY, "RoleBinding")
    }
    runner = [{"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": RUNS}]
    at_home = {(RUNS, role): runner for role in ("custody-run", "custody-watch")}
    assert bound == {**at_home, (MODELS, "custody-deployer"): runner}
    assert not of_kind(OVERLAY, "ClusterRoleBinding")


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_stage_finds_its_signer_without_a_token(pipeline: str) -> None:
    settings = one(OVERLAY, "ConfigMap", "custody-settings", RUNS)["data"]
    for task, spec in tasks(pipeline):
        (source,) = spec["configMapAsEnv"]
        names = [(each["configMapKey"], each["envVar"]) for each in source["keyToEnv"]]
        environment = {variable: settings[key] for key, variable in names if key in settings}
        assert not [name for name in environment if "VAULT" in name or "OIDC" in name], task
        (room,) = [room for _, variable in names if (room := room_of(variable))]
        uri = load_settings(environment).signer_uri(room)
        mounts = {each["secretName"]: each["mountPath"] for each in spec["secretAsVolume"]}
        assert uri == f"file:{mounts['custody-signing']}/key.pem", task
        assert environment["CUSTODY_NAMESPACE"] == MODELS
        assert environment["CUSTODY_DEPLOY_TARGET"] == "seldon-v2"


def room_of(variable: str) -> str:
    """The room whose own signer a variable names."""
    return variable.removeprefix("CUSTODY_SIGNER_").lower() if variable.startswith("CUSTODY_SIGNER_") else ""


def test_no_setting_is_left_that_no_task_reads() -> None:
    read = {
        each["configMapKey"]
        for pipeline in PIPELINES
        for _, spec in tasks(pipeline)
        for each in spec["configMapAsEnv"][0]["keyToEnv"]
    }
    assert set(one(OVERLAY, "ConfigMap", "custody-settings", RUNS)["data"]) <= read


def asked_for() -> set[tuple[str, str]]:
    """Every ConfigMap and Secret that a pod of a run mounts or reads: by its task, or by KFP's launcher in it."""
    found = set()
    for pipeline in PIPELINES:
        for _, spec in tasks(pipeline):
            known = {"configMapAsEnv", "configMapAsVolume", "secretAsVolume"}
            assert not [key for key in spec if re.match("configMap|secret", key) and key not in known]
            found |= {
                ("ConfigMap", each["configMapName"]) for each in spec["configMapAsEnv"] + spec["configMapAsVolume"]
            }
            found |= {("Secret", each["secretName"]) for each in spec["secretAsVolume"]}
    for rule in one(OVERLAY, "Role", "custody-run", RUNS)["rules"]:
        kind = {"configmaps": "ConfigMap", "secrets": "Secret"}.get(rule["resources"][0])
        found |= {(kind, name) for name in rule.get("resourceNames", ()) if kind}
    return found


def said_to_be_yours() -> set[tuple[str, str]]:
    """The objects that the README says the user or KFP brings to this overlay."""
    section = README.split("### What you bring", 1)[1].split("\n#", 1)[0]
    return set(re.findall(r"^\| (ConfigMap|Secret) `([a-z-]+)`", section, re.MULTILINE))


def test_whatever_a_run_mounts_is_here_or_is_said_to_be_yours() -> None:
    wanted = asked_for()
    assert {("Secret", "custody-signing"), ("ConfigMap", "custody-trust"), ("Secret", "custody-masking")} <= wanted
    assert wanted - ours() == said_to_be_yours(), "what is missing in the README, or nobody asks for"


def test_the_readme_says_what_it_is_worth() -> None:
    (row,) = [line for line in README.splitlines() if line.startswith("| `overlays/standalone-kfp`") and "**L" in line]
    assert row.rstrip(" |").endswith("**L1**")
