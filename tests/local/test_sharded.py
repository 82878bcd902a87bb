"""The reference pipeline in shards, every task in a process of its own: the same dataset, and all of it verifies."""

import json
import shutil
from pathlib import Path

import pytest
from local_runs import LocalRun, Platform, run_pipeline
from typer.testing import CliRunner, Result

from kfp_custody.components._cli.main import app
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.evidence import ATTESTATION, MASKING, SHARD_ATTESTATION, SHARD_MASKING
from kfp_custody.components._shared.shards import require_whole
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject

ATTESTED = "attest-shard/attestation/attest-shard.sigstore.json"


@pytest.fixture(scope="package", params=[2, 8])
def count(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="package")
def sharded(platform: Platform, count: int) -> LocalRun:
    # Under a name of its own, so that the model of the other runs serves on.
    return run_pipeline(platform, f"in-{count}-shards", shards=count, deploy_name=f"in-{count}-shards")


def run_folder(run: LocalRun) -> Path:
    return run.tasks["enforce-policy"].parent


def ask(platform: Platform, command: str, folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, [command, str(folder), "--trust", str(platform.root / "trust.yaml"), *options])


def test_a_run_in_shards_is_admitted_and_served(sharded: LocalRun, count: int) -> None:
    assert sharded.succeeded
    assert (sharded.tasks["deploy-model"] / "endpoint").is_file()
    loops = [folder for name, folder in sharded.tasks.items() if name.startswith("for-loop-")]
    assert len(loops) == count
    for loop in loops:
        assert {task.name for task in loop.iterdir()} == {"mask-shard", "attest-shard"}


def test_the_dataset_is_the_one_of_the_run_without_shards(
    platform: Platform, admitted: LocalRun, sharded: LocalRun
) -> None:
    whole, merged = admitted.tasks["mask-pii"], sharded.tasks["merge-shards"]
    assert list_tree(merged / "masked").sha256 == list_tree(whole / "masked").sha256
    for name in ("evidence/report.json", "report"):
        assert (merged / name).read_bytes() == (whole / name).read_bytes()
    trust = load_trust(platform.root / "trust.yaml")
    attested = [
        read_evidence(run.tasks["attest-dataset"] / "attestation", ATTESTATION, trust, run_id=run.id)
        for run in (admitted, sharded)
    ]
    assert attested[0].subject_sha256 == attested[1].subject_sha256


def test_every_shard_left_evidence_of_its_own(platform: Platform, sharded: LocalRun, count: int) -> None:
    trust, maskings, attestations = load_trust(platform.root / "trust.yaml"), [], []
    for name, loop in sharded.tasks.items():
        if name.startswith("for-loop-"):
            masking = read_evidence(loop / "mask-shard/evidence", SHARD_MASKING, trust, run_id=sharded.id)
            require_subject(masking, loop / "mask-shard/masked", name)
            maskings.append(masking)
            place = loop / "attest-shard/attestation"
            attestations.append(read_evidence(place, SHARD_ATTESTATION, trust, run_id=sharded.id))
    whole = require_whole(maskings, attestations, count)
    merged = read_evidence(sharded.tasks["merge-shards"] / "evidence", MASKING, trust, run_id=sharded.id)
    assert merged.metrics["rows"] == whole[0].shard.rows == 24_000
    assert merged.dependency("mask-shard-0") == whole[0].masking.bundle_sha256


def test_the_auditor_accepts_it_and_sees_every_shard(platform: Platform, sharded: LocalRun, count: int) -> None:
    done = ask(platform, "verify", run_folder(sharded), "--policy", "baseline", "--require-bytes", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["notes"] == []
    names = {piece["name"] for piece in answer["evidence"]}
    assert {f"masking.{kind}-{n}" for kind in ("mask-shard", "attest-shard") for n in range(count)} < names
    checks = {check["id"] for check in answer["checks"]}
    assert {"link:masking.rows->shards", "bytes:mask-shard-1=masking"} < checks
    drawn = ask(platform, "show", run_folder(sharded))
    assert drawn.exit_code == 0, drawn.output
    assert drawn.stdout.count(f" of {count}: rows ") == count
    assert "<- shards" in drawn.stdout


@pytest.mark.parametrize(
    ("change", "codes", "check"),
    [
        ("taken away", {"CUS-E211"}, "evidence:masking.attest-shard-0"),
        ("signed by nobody", {"CUS-E211", "CUS-E281"}, "evidence:masking.attest-shard-0"),
        ("another byte", {"CUS-E215"}, "bytes:mask-shard-0=masking"),
    ],
)
def test_the_auditor_refuses_a_changed_shard(
    platform: Platform, sharded: LocalRun, tmp_path: Path, change: str, codes: set[str], check: str
) -> None:
    copy = shutil.copytree(run_folder(sharded), tmp_path / "run")
    shard = next(copy.glob("for-loop-*-iteration-0"))
    if change == "taken away":
        shutil.rmtree(shard / "attest-shard")
    else:
        path = shard / ("mask-shard/masked/data.parquet" if change == "another byte" else ATTESTED)
        path.write_bytes(path.read_bytes() + b" ")
    done = ask(platform, "verify", copy, "--json")
    assert done.exit_code == 1
    refused = {entry["id"]: entry["code"] for entry in json.loads(done.stdout)["checks"] if entry["code"]}
    assert check in refused
    assert codes <= set(refused.values()) <= codes | {"CUS-E311"}


def test_a_shard_that_no_masking_names_is_refused(
    platform: Platform, sharded: LocalRun, admitted: LocalRun, tmp_path: Path
) -> None:
    copy = shutil.copytree(run_folder(admitted), tmp_path / "run")
    shutil.copytree(next(run_folder(sharded).glob("for-loop-*-iteration-0")), copy / "for-loop")
    done = ask(platform, "verify", copy)
    assert done.exit_code == 1
    assert "CUS-E281" in done.stderr
    assert "for-loop/mask-shard/evidence/mask-shard.sigstore.json" in done.stdout
