"""What the compiled pipelines ask Kubernetes for: all of it, for every task, in the words of KFP's own schemas."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from kfp_custody.components import CATALOG
from kfp_custody.pipelines import platform

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = sorted(path.parent.name for path in ROOT.glob("pipelines/*/pipeline.yaml"))
UNITS = {"": 1, "m": 0.001, "Mi": 1024**2, "Gi": 1024**3}


def documents(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    spec, extra = yaml.safe_load_all((ROOT / "pipelines" / name / "pipeline.yaml").read_text())
    return spec, extra["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def tasks() -> list[Any]:
    """Every executor of every pipeline that runs a container: its function, the container, what Kubernetes is asked."""
    found = []
    for name in PIPELINES:
        spec, asked = documents(name)
        for label, executor in spec["deploymentSpec"]["executors"].items():
            if "container" in executor:
                arguments = executor["container"]["args"]
                function = arguments[arguments.index("--function_to_execute") + 1]
                found.append(pytest.param(function, executor["container"], asked[label], id=f"{name}-{label}"))
    return found


def amount(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]


@pytest.mark.parametrize("name", PIPELINES)
def test_what_is_asked_of_kubernetes_is_what_its_schema_knows(name: str) -> None:
    """ParseDict refuses a field that the published schema does not know."""
    spec, asked = documents(name)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    containers = {label for label, each in spec["deploymentSpec"]["executors"].items() if "container" in each}
    assert set(asked) == containers
    for config in asked.values():
        json_format.ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


@pytest.mark.parametrize(("function", "container", "asked"), tasks())
def test_a_task_runs_as_nobody_with_a_label_and_an_end(
    function: str, container: dict[str, Any], asked: dict[str, Any]
) -> None:
    assert asked["securityContext"] == {"runAsNonRoot": True}  # and no number: a platform may choose
    assert asked["imagePullPolicy"] == "IfNotPresent"
    identity = "signer" if CATALOG[function] in ("policy_gate", "seldon_deployment") else "pipeline"
    starts = {"access-ml-pipeline": "true"} if function == "start_retraining" else {}
    assert asked["podMetadata"]["labels"] == {"custody/identity": identity, **starts}
    assert 600 <= int(asked["activeDeadlineSeconds"]) <= 6 * 3600


@pytest.mark.parametrize(("function", "container", "asked"), tasks())
def test_a_task_may_write_to_tmp_and_no_further(
    function: str, container: dict[str, Any], asked: dict[str, Any]
) -> None:
    (scratch,) = asked["emptyDirMounts"]
    assert scratch["mountPath"] == "/tmp"
    assert 0 < amount(scratch["sizeLimit"]) <= amount("4Gi")
    assert "medium" not in scratch, "memory would be taken from the task's own"


@pytest.mark.parametrize(("function", "container", "asked"), tasks())
def test_every_mount_is_optional(function: str, container: dict[str, Any], asked: dict[str, Any]) -> None:
    """A cluster that signs through Vault has no key secret; the stage refuses what it misses, and says so."""
    mounts = [*asked["secretAsVolume"], *asked["configMapAsVolume"], *asked["configMapAsEnv"]]
    assert [mount for mount in mounts if not mount["optional"]] == []
    assert "secretAsEnv" not in asked


@pytest.mark.parametrize(("function", "container", "asked"), tasks())
def test_requests_fit_a_small_cluster_and_stay_below_their_limits(
    function: str, container: dict[str, Any], asked: dict[str, Any]
) -> None:
    resources = container["resources"]
    for kind, most in (("Cpu", "1"), ("Memory", "2Gi")):
        request, limit = (amount(resources[f"resource{kind}{which}"]) for which in ("Request", "Limit"))
        assert 0 < request <= amount(most)
        assert request <= limit


@pytest.mark.parametrize("name", PIPELINES)
def test_only_what_may_be_repeated_is_repeated(name: str) -> None:
    spec, _ = documents(name)
    graphs = [spec["root"]["dag"], *(each["dag"] for each in spec["components"].values() if "dag" in each)]
    for graph in graphs:
        for task in graph["tasks"].values():
            function = re.sub(r"-\d+$", "", task["componentRef"]["name"].removeprefix("comp-")).replace("-", "_")
            policy = task.get("retryPolicy")
            if function in platform.RETRIES:
                assert policy["maxRetryCount"] == platform.RETRIES[function] <= 2
                assert 0 < int(policy["backoffDuration"].rstrip("s")) <= int(policy["backoffMaxDuration"].rstrip("s"))
            else:
                assert policy is None, function


def test_what_changes_the_world_or_must_fail_is_never_repeated() -> None:
    assert set(platform.RETRIES) == set(CATALOG) - {"deploy_model", "refuse", "refuse_rollout"}


def test_a_local_copy_repeats_nothing_and_leaves_the_pipeline_as_it_was() -> None:
    from kfp_custody.pipelines.fraud_detection.pipeline import fraud_detection

    def repeated(pipeline: Any) -> set[str]:
        tasks = pipeline.pipeline_spec.root.dag.tasks
        return {name for name, task in tasks.items() if task.HasField("retry_policy")}

    before = repeated(fraud_detection)
    assert "mask-pii" in before
    assert repeated(platform.without_retries(fraud_detection)) == set()
    assert repeated(fraud_detection) == before


def test_every_room_has_its_line_in_the_table() -> None:
    assert set(platform.NEEDS) == set(CATALOG.values())
