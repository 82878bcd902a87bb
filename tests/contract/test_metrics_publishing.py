"""publish_metrics as KFP calls it: of genuine evidence of this run alone."""

from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local
from kfp.dsl import Output
from securesystemslib.signer import Signer

from kfp_custody.components import publish_metrics
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.artifacts import Decision, TestResult
from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import test_result as statement_of
from kfp_custody.components._shared.evidence import verification_summary, write_evidence
from kfp_custody.components._shared.kinds import DECISION, DRIFT, MONITORING, PROFILE_DRIFT, ROLLOUT, Kind
from kfp_custody.components._shared.settings import Settings

NUMBERS = {"prediction_psi": 0.31, "share_drifted": 0.5}


def leave(root: Path, kind: Kind, signer: Signer, run_id: str, result: str = "FAILED", **numbers: float) -> Path:
    """Leave evidence of a check as a stage does."""
    subject = root / "subject"
    subject.mkdir(exist_ok=True)
    (subject / "rows").write_text("1")
    statement = statement_of(
        kind,
        list_tree(subject),
        result=result,
        run_id=run_id,
        configuration=[],
        passed=["rows"],
        metrics=numbers or NUMBERS,
        coverage={"checked": 3, "skipped": 0, "errors": 0},
    )
    write_evidence(root / kind.name, statement, signer, list_tree(subject))
    return root / kind.name


def decide(root: Path, signer: Signer, run_id: str, service: str) -> Path:
    """Leave the decision of a gate."""
    (root / "model").mkdir()
    (root / "model" / "weights").write_text("1")
    listing = list_tree(root / "model")
    statement = verification_summary(
        listing,
        passed=False,
        run_id=run_id,
        resource_uri=f"models:/{service}",
        policy_uri="baseline",
        policy_sha256="ab" * 32,
        inputs={},
        levels=[],
    )
    write_evidence(root / DECISION.name, statement, signer, listing)
    return root / DECISION.name


def published(root: Path, run_id: str, model_name: str = "fraud-detection", **given: Path) -> tuple[str, str, Any]:
    text = dsl.Artifact(name="text", uri=str(root / "text"))
    artifacts = {name: (Decision if name == "decision" else TestResult)(uri=str(path)) for name, path in given.items()}
    digest = publish_metrics.python_func(text, run_id, model_name=model_name, **artifacts)
    return digest, Path(text.path).read_text(), text.metadata


def test_the_evidence_of_a_run_becomes_text(tmp_path: Path, signer: Signer, settings: Settings, run_id: str) -> None:
    digest, text, metadata = published(
        tmp_path,
        run_id,
        drift=leave(tmp_path, PROFILE_DRIFT, signer, run_id),
        monitoring=leave(tmp_path, MONITORING, signer, run_id, "PASSED", latency_p99=0.25, clients_probing=2.0),
        decision=decide(tmp_path, signer, run_id, "fraud-detection"),
        rollout=leave(tmp_path, ROLLOUT, signer, run_id, "PASSED"),
    )
    assert digest == sha256_file(tmp_path / "text")
    assert metadata == {
        "sha256": digest,
        "kinds": "check-profile-drift, monitor-inference, enforce-policy, finish-rollout",
        "pushed": "no",
    }
    for line in (
        'custody_check_result{kind="check-profile-drift",model="fraud-detection",result="FAILED"} 1.0',
        'custody_check_result{kind="enforce-policy",model="fraud-detection",result="FAILED"} 1.0',
        'custody_check_result{kind="finish-rollout",model="fraud-detection",result="PASSED"} 1.0',
        'custody_drift_prediction_psi{kind="check-profile-drift",model="fraud-detection"} 0.31',
        'custody_monitor_latency_seconds{kind="monitor-inference",model="fraud-detection",percentile="99"} 0.25',
        'custody_monitor_clients{finding="probing",kind="monitor-inference",model="fraud-detection"} 2.0',
    ):
        assert line in text.splitlines()
    assert "prediction_psi" not in [line.partition("{")[0] for line in text.splitlines()], "rollouts have no numbers"


def test_it_runs_under_kfp_local_with_any_of_its_inputs(
    tmp_path: Path, signer: Signer, settings: Settings, run_id: str
) -> None:
    @dsl.component(base_image="python:3.11")
    def check(left: str, evidence: Output[TestResult]) -> None:
        """Give out evidence that was left before."""
        import shutil

        shutil.copytree(left, evidence.path)

    @dsl.pipeline(name="watch")
    def watch(left: str, run: str) -> str:
        drift = check(left=left).outputs["evidence"]
        return publish_metrics(drift=drift, run_id=run).outputs["Output"]  # type: ignore[no-any-return]

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kfp"), raise_on_error=True)
    done = watch(left=str(leave(tmp_path, DRIFT, signer, run_id)), run=run_id)
    (text,) = (tmp_path / "kfp").rglob("text")
    assert sha256_file(text) == done.output
    assert 'custody_check_result{kind="check-drift",model="fraud-detection",result="FAILED"} 1.0' in text.read_text()


def test_evidence_of_another_run_kind_or_signer_is_not_published(
    tmp_path: Path, signer: Signer, settings: Settings, run_id: str, make_signer: Any
) -> None:
    other = leave(tmp_path, DRIFT, signer, "another-run")
    with pytest.raises(EvidenceInvalid) as caught:
        published(tmp_path, run_id, drift=other)
    assert caught.value.code == codes.OTHER_RUN
    with pytest.raises(EvidenceInvalid) as caught:
        published(tmp_path, run_id, monitoring=other)
    assert caught.value.code == codes.NO_EVIDENCE
    (tmp_path / "forged").mkdir()
    forged = leave(tmp_path / "forged", DRIFT, make_signer("thief"), run_id, "PASSED")
    with pytest.raises(EvidenceInvalid) as caught:
        published(tmp_path, run_id, drift=forged)
    assert caught.value.code == codes.SIGNER_UNKNOWN
    assert not (tmp_path / "text").exists()


def test_a_decision_about_another_model_is_not_published_under_this_name(
    tmp_path: Path, signer: Signer, settings: Settings, run_id: str
) -> None:
    with pytest.raises(EvidenceInvalid) as caught:
        published(tmp_path, run_id, decision=decide(tmp_path, signer, run_id, "churn"))
    assert caught.value.code == codes.LINK


def test_nothing_to_publish_and_no_name(tmp_path: Path, settings: Settings, run_id: str) -> None:
    with pytest.raises(InputRefused) as refused:
        published(tmp_path, run_id)
    assert refused.value.code == codes.INPUT_MISSING
    with pytest.raises(Misconfigured) as wrong:
        published(tmp_path, run_id, model_name='fraud"} 1')
    assert wrong.value.code == codes.MODEL_NAME


def test_an_address_with_a_password_in_it_is_refused_and_not_shown(
    tmp_path: Path, signer: Signer, settings: Settings, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTODY_PUSHGATEWAY", "https://user:hunter2@push.example.org")
    with pytest.raises(Misconfigured) as caught:
        published(tmp_path, run_id, drift=leave(tmp_path, DRIFT, signer, run_id))
    assert caught.value.code == codes.PUSHGATEWAY_SETTINGS
    assert "hunter2" not in str(caught.value)
