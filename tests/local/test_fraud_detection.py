"""The reference pipeline as a data scientist runs it: every task in a process of its own, real servers."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from local_runs import LocalRun, Platform

from kfp_custody.components._shared.kinds import DECISION, DEPLOYMENT, DRIFT, MASKING, PROFILE, TRAINING
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.drift_detection.stage import Outputs, ProfileInputs, run_with_profile

DIRECT_IDENTIFIERS = ("customer_name", "email", "phone", "card_number", "iban", "ip_address", "street_address")


def served(platform: Platform) -> dict[str, object]:
    document = json.loads((platform.root / "serving" / "served.json").read_text())
    return document["models"]["fraud-detection"]  # type: ignore[no-any-return]


def test_a_genuine_chain_is_admitted_and_served(platform: Platform, admitted: LocalRun) -> None:
    assert admitted.succeeded
    assert {"mask-pii", "mask-pii-2", "attest-dataset", "train-model", "sign-model", "profile-dataset"} < set(
        admitted.tasks
    )
    assert "check-drift" in admitted.tasks
    endpoint = json.loads((admitted.tasks["deploy-model"] / "endpoint").read_text())
    with urllib.request.urlopen(f"{endpoint['url']}/ready", timeout=10) as answer:
        assert answer.status == 200


def test_every_stage_left_evidence_that_verifies(platform: Platform, admitted: LocalRun) -> None:
    trust = load_trust(platform.root / "trust.yaml")
    for task, output, kind in (
        ("mask-pii", "evidence", MASKING),
        ("mask-pii-2", "evidence", MASKING),
        ("train-model", "provenance", TRAINING),
        ("profile-dataset", "evidence", PROFILE),
        ("check-drift", "evidence", DRIFT),
        ("enforce-policy", "decision", DECISION),
        ("deploy-model", "evidence", DEPLOYMENT),
    ):
        verified = read_evidence(admitted.tasks[task] / output, kind, trust, run_id=admitted.id)
        assert verified.signer == ("gate" if kind is DECISION else "pipeline")
    masked = read_evidence(admitted.tasks["mask-pii"] / "evidence", MASKING, trust, run_id=admitted.id)
    require_subject(masked, admitted.tasks["mask-pii"] / "masked", "dataset")


def test_no_direct_identifier_survives_in_the_masked_columns(platform: Platform, admitted: LocalRun) -> None:
    raw = pq.read_table(platform.root / "train")
    masked = pq.read_table(admitted.tasks["mask-pii"] / "masked" / "data.parquet")
    identifiers = {value for name in DIRECT_IDENTIFIERS for value in raw[name].unique().to_pylist() if value}
    survivors = {
        name: len(identifiers & set(masked[name].unique().to_pylist()))
        for name, field in zip(masked.column_names, masked.schema, strict=True)
        if str(field.type) in ("string", "large_string")
    }
    assert survivors
    assert not any(survivors.values()), survivors


def test_the_next_month_is_reported_as_shifted_but_usable(admitted: LocalRun) -> None:
    report = json.loads((admitted.tasks["check-drift"] / "evidence" / "report.json").read_text())
    assert report["verdict"] == "WARNED"
    assert any("amount" in reason for reason in report["reasons"])


def test_the_profile_that_the_run_left_stands_for_its_training_month(
    platform: Platform, admitted: LocalRun, tmp_path: Path
) -> None:
    tasks, label = admitted.tasks, "is_fraud"
    given = ProfileInputs(
        current=tasks["mask-pii-2"] / "masked",
        current_masking=tasks["mask-pii-2"] / "evidence",
        profile=tasks["profile-dataset"] / "profile",
        profile_evidence=tasks["profile-dataset"] / "evidence",
        provenance=tasks["train-model"] / "provenance",
        model=tasks["sign-model"] / "signed",
    )
    settings, named = load_settings(platform.environment), {"training_run_id": "", "thresholds": "default"}
    made = Outputs(tmp_path / "evidence", tmp_path / "report")
    run_with_profile(given, made, settings, run_id=admitted.id, label=label, **named)
    ours, theirs = (
        json.loads((folder / "evidence" / "report.json").read_text()) for folder in (tmp_path, tasks["check-drift"])
    )
    verdicts = [{column["name"]: column["verdict"] for column in report["columns"]} for report in (ours, theirs)]
    assert verdicts[0] == verdicts[1]
    assert ours["label"]["delta"] == theirs["label"]["delta"]
    psi = [report["prediction"]["measures"]["psi"]["value"] for report in (ours, theirs)]
    assert abs(psi[0] - psi[1]) < 0.02


def test_a_policy_that_is_not_pinned_is_refused_and_the_old_model_serves_on(
    platform: Platform, admitted: LocalRun, refused: LocalRun
) -> None:
    assert not refused.succeeded
    assert "deploy-model" not in refused.tasks
    trust = load_trust(platform.root / "trust.yaml")
    decision = read_evidence(refused.tasks["enforce-policy"] / "decision", DECISION, trust, run_id=None)
    assert decision.result == "FAILED"
    assert "policy:pinned" in (refused.tasks["enforce-policy"] / "report").read_text()
    endpoint = json.loads((admitted.tasks["deploy-model"] / "endpoint").read_text())
    assert served(platform)["digest"] == endpoint["digest"]


def test_the_refusal_is_the_last_thing_a_user_sees(platform: Platform, refused: LocalRun) -> None:
    """The refuse task, run again as KFP runs it, ends with the three lines and no traceback."""
    code = (
        "from pathlib import Path\n"
        "from kfp_custody.components import CATALOG\n"
        "from kfp_custody.components._shared.errors import boundary\n"
        "from kfp_custody.components._shared.settings import load_settings\n"
        "from kfp_custody.components.policy_gate.refusal import refuse_run\n"
        f"with boundary(): refuse_run(Path({str(refused.tasks['enforce-policy'] / 'decision')!r}),"
        f" {refused.id!r}, load_settings())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=platform.environment | {"_KFP_RUNTIME": "true", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "REFUSED PolicyRefused" in done.stderr
    assert "policy:pinned" in done.stderr
    assert done.stderr.strip().splitlines()[-1].lstrip().startswith("remedy:")


def test_the_dvc_remote_holds_the_attested_dataset(platform: Platform, admitted: LocalRun) -> None:
    pointer = (admitted.tasks["attest-dataset"] / "attestation" / "dataset.dvc").read_text()
    md5 = next(line.split()[-1] for line in pointer.splitlines() if "md5:" in line)
    assert (platform.root / "dvc-remote" / "files" / "md5" / md5[:2] / md5[2:]).is_file()


@pytest.mark.parametrize("task", ["mask-pii", "train-model", "check-drift", "enforce-policy", "deploy-model"])
def test_reports_hold_no_key_and_no_raw_identifier(platform: Platform, admitted: LocalRun, task: str) -> None:
    text = (admitted.tasks[task] / "report").read_text()
    assert (platform.root / "masking.key").read_text() not in text
    emails = pq.read_table(platform.root / "train", columns=["email"])["email"].slice(0, 500).to_pylist()
    assert not [email for email in emails if email in text]


def test_no_personal_value_reaches_any_log_metadata_or_evidence(platform: Platform, admitted: LocalRun) -> None:
    raw = pq.read_table(platform.root / "train", columns=["email", "card_number", "iban"]).slice(0, 300)
    values = {value for name in raw.column_names for value in raw[name].to_pylist()}
    small = [path for path in Path(admitted.tasks["mask-pii"]).parent.rglob("*") if path.suffix in (".json", "")]
    checked = [path for path in small if path.is_file() and path.stat().st_size < 2_000_000]
    assert len(checked) > 10
    leaks = [path.name for path in checked if any(value in path.read_text(errors="replace") for value in values)]
    assert not leaks
