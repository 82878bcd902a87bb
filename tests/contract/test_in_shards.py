"""Masking in shards as KFP calls it, and the pipeline that fans out over them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, dsl
from kfp.dsl.types.type_utils import InconsistentTypeException
from kfp.pipeline_spec import pipeline_spec_pb2

from genuine_chain import RUN, Site
from genuine_shards import Sharding
from kfp_custody.components import attest_dataset, attest_shard, mask_shard, merge_shards
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.artifacts import MaskedDataset, MaskedShard, ShardAttestation, TestResult
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import MASKING
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.pipelines.fraud_detection.pipeline import PLANNED, fraud_detection, fraud_detection_in_shards


def compiled(pipeline: Any, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the pipeline and its Kubernetes part; ParseDict refuses what the published schema does not know."""
    target = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(target))
    spec, platform = yaml.safe_load_all(target.read_text())
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_the_components_mask_attest_and_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharding = Sharding(Site(tmp_path))
    for name, value in (sharding.site.environment | {"CUSTODY_MASKING_KEY": sharding.settings.masking_key}).items():
        monkeypatch.setenv(name, value)

    def artifact(kind: Any, *place: str) -> Any:
        return kind(name=place[-1], uri=str(tmp_path.joinpath("out", *place)))

    data = dsl.Dataset(name="data", uri=str(sharding.raw))
    parts: list[tuple[Any, Any, Any]] = []
    for number in (1, 0):
        place = f"iteration-{number}"
        masked, evidence = artifact(MaskedShard, place, "masked"), artifact(TestResult, place, "evidence")
        given = {"run_id": RUN, "shard": number, "shards": 2, "policy": str(sharding.policy)}
        mask_shard.python_func(data, masked, evidence, **given)
        attestation = artifact(ShardAttestation, place, "attestation")
        attest_shard.python_func(masked, evidence, attestation, run_id=RUN)
        parts.append((masked, evidence, attestation))
    whole, evidence = artifact(MaskedDataset, "masked"), artifact(TestResult, "evidence")
    report, metrics = artifact(dsl.HTML, "report"), artifact(dsl.Metrics, "metrics")
    lists = [[part[place] for part in parts] for place in range(3)]
    merge_shards.python_func(*lists, whole, evidence, report, metrics, run_id=RUN, shards=2)
    verified = read_evidence(Path(evidence.path), MASKING, sharding.site.trust, run_id=RUN)
    require_subject(verified, Path(whole.path), "masked")
    assert whole.metadata["sha256"] == list_tree(Path(whole.path)).sha256
    assert whole.metadata["rows"] == metrics.metadata["rows"] == 30.0
    assert "PASSED" in Path(report.path).read_text()


def test_the_pipeline_fans_out_and_gathers(tmp_path: Path) -> None:
    plain, _ = compiled(fraud_detection, tmp_path)
    spec, on_cluster = compiled(fraud_detection_in_shards(8), tmp_path)
    assert spec["root"]["inputDefinitions"] == plain["root"]["inputDefinitions"]
    outer = spec["root"]["dag"]["tasks"]
    given = outer["mask-in-shards"]["inputs"]["parameters"]
    assert given["numbers"]["runtimeValue"]["constant"] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert given["shards"]["runtimeValue"]["constant"] == 8
    tasks = spec["components"]["comp-mask-in-shards"]["dag"]["tasks"]
    (loop,) = (task for task in tasks.values() if "parameterIterator" in task)
    inner = spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inner) == {"mask-shard", "attest-shard"}
    assert set(tasks["merge-shards"]["inputs"]["artifacts"]) == {"masked_shards", "maskings", "attestations"}
    assert not [
        name for name, task in (outer | tasks | inner).items() if task.get("cachingOptions", {}).get("enableCache")
    ]
    dataset = outer["train-model"]["inputs"]["artifacts"]["dataset"]["taskOutputArtifact"]
    assert dataset == {"outputArtifactKey": "masked", "producerTask": "mask-in-shards"}
    assert on_cluster["exec-mask-shard"] == on_cluster["exec-mask-pii"]
    assert {"exec-attest-shard", "exec-merge-shards"} < set(on_cluster)


def test_a_plan_says_the_number_in_the_run(tmp_path: Path) -> None:
    spec, on_cluster = compiled(fraud_detection_in_shards(PLANNED), tmp_path)
    given = spec["root"]["dag"]["tasks"]["mask-in-shards"]["inputs"]["parameters"]
    planned = {name: given[name]["taskOutputParameter"]["producerTask"] for name in ("numbers", "shards")}
    assert planned == {"numbers": "plan-shards", "shards": "plan-shards"}
    assert "exec-plan-shards" in on_cluster


def test_one_shard_is_the_plain_pipeline(tmp_path: Path) -> None:
    assert compiled(fraud_detection_in_shards(1), tmp_path) == compiled(fraud_detection, tmp_path)


@pytest.mark.parametrize("count", [-1, 33])
def test_a_number_of_shards_that_cannot_be(count: int) -> None:
    with pytest.raises(Misconfigured) as caught:
        fraud_detection_in_shards(count)
    assert caught.value.code == codes.SHARD_NUMBER


def test_a_shard_in_the_place_of_the_dataset_does_not_compile() -> None:
    def shard_as_dataset(uri: str) -> None:
        raw = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, reimport=False)
        part = mask_shard(data=raw.output, run_id=RUN, shard=0, shards=2)
        attest_dataset(dataset=part.outputs["masked"], masking=part.outputs["evidence"], run_id=RUN)

    with pytest.raises(InconsistentTypeException, match=r"system\.MaskedShard@.*incompatible.*system\.MaskedDataset@"):
        dsl.pipeline(name="shard-as-dataset")(shard_as_dataset)
