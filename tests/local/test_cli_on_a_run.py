"""An auditor with the folder of a real run, and nothing else but the trust file."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from local_runs import LocalRun, Platform

from kfp_custody.components._shared.model_signature import MODEL_FOLDER


def folder(run: LocalRun) -> Path:
    return run.tasks["enforce-policy"].parent


def audit(platform: Platform, path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "kfp_custody.components._cli.main", "verify", str(path), "--json"),
            *("--trust", str(platform.root / "trust.yaml"), *options),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def refused_checks(answer: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["code"] for check in answer["checks"] if check["verdict"] != "PASSED"}


def test_an_admitted_run_holds_with_all_its_bytes(platform: Platform, admitted: LocalRun) -> None:
    options = ("--run", admitted.id, "--policy", "baseline", "--require-bytes")
    status, answer = audit(platform, folder(admitted), *options)
    assert (status, refused_checks(answer)) == (0, {})
    assert {piece["name"] for piece in answer["evidence"]} >= {"training", "model", "decision", "deployment"}
    assert {piece["signer"] for piece in answer["evidence"]} == {"pipeline", "gate"}


def test_evidence_collected_without_artifacts_holds_too(platform: Platform, admitted: LocalRun, tmp_path: Path) -> None:
    for bundle in [*folder(admitted).rglob("*.sigstore.json"), *folder(admitted).rglob("model.sig")]:
        target = tmp_path / bundle.parent.parent.name
        shutil.copytree(bundle.parent, target, ignore=shutil.ignore_patterns(MODEL_FOLDER))
    status, answer = audit(platform, tmp_path)
    assert (status, refused_checks(answer)) == (0, {})
    assert len(answer["notes"]) == 3


def test_a_changed_model_is_refused(platform: Platform, admitted: LocalRun, tmp_path: Path) -> None:
    copy = shutil.copytree(folder(admitted), tmp_path / "run")
    weights = next((copy / "sign-model" / "signed" / MODEL_FOLDER).glob("*.ubj"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    status, answer = audit(platform, copy)
    assert status == 1
    assert refused_checks(answer)["evidence:model"] == "CUS-E215"


def test_a_run_that_the_gate_refused_is_refused_with_its_reason(platform: Platform, refused: LocalRun) -> None:
    status, answer = audit(platform, folder(refused))
    assert status == 1
    assert refused_checks(answer) == {"decision:verdict": "CUS-E301", "decision:policy": "CUS-E312"}
