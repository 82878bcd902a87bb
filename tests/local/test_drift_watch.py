"""The loop on this machine: a window that drifted leads to a retraining run, once, whatever fires again."""

import json
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from kfp import local
from local_runs import LocalRun, Platform

from kfp_custody.components._shared.evidence import now, stamp
from kfp_custody.components._shared.kinds import COLLECTION, DECISION, MONITORING, PROFILE_DRIFT, RETRAINING, Kind
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.pipelines.drift_watch.pipeline import drift_watch_at
from kfp_custody.pipelines.fraud_detection.sample_data import write_month
from kfp_custody.pipelines.platform import without_retries

PARTS = {
    "profile": "profile-dataset/profile",
    "profile_evidence": "profile-dataset/evidence",
    "provenance": "train-model/provenance",
    "model": "sign-model/signed",
}


@dataclass(frozen=True)
class Watch:
    """A finished training run, what the loop is given of it, and a platform that retrains on this machine."""

    platform: Platform
    trained: LocalRun
    environment: dict[str, str]

    @property
    def claims(self) -> Path:
        return Path(self.environment["CUSTODY_WATCH_STATE"])

    def run(self, name: str, when: str, month: str, **parameters: object) -> LocalRun:
        """Run the pipeline for a window in subprocesses."""
        home = self.trained.tasks["sign-model"].parent
        given = {f"watch_{part}_uri": str(home / where) for part, where in PARTS.items()}
        given |= {"watch_training_run_id": self.trained.id, "watch_logs_uri": str(self.platform.root / "logs")}
        given |= {"data_current_uri": str(self.platform.root / month), "watch_action": "run"}
        root = self.platform.root / "watches" / name
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in (self.platform.environment | self.environment).items():
                patch.setenv(variable, value)
            patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
            try:
                without_retries(drift_watch_at(when))(**(given | parameters))
                succeeded = True
            except RuntimeError:
                succeeded = False
        run = next(root.iterdir())
        return LocalRun({task.name: task for task in run.iterdir() if task.is_dir()}, succeeded)

    def evidence(self, run: LocalRun, task: str, kind: Kind) -> Verified:
        trust = load_trust(self.platform.root / "trust.yaml")
        return read_evidence(run.tasks[task] / "evidence", kind, trust, run_id=None)

    def decision(self, run: LocalRun) -> str:
        said = json.loads((run.tasks["start-retraining"] / "evidence" / "report.json").read_text())
        return str(said["decision"])

    def retrained(self) -> list[Path]:
        """The folders of the retraining runs, once all of them have ended."""
        runs = sorted((self.claims / "runs").glob("*"))
        for folder in runs:
            for _ in range(6000):
                if (folder / "state").exists() and (folder / "state").read_text() != "RUNNING":
                    break
                time.sleep(0.1)
        return runs


@pytest.fixture(scope="module")
def watch(platform: Platform, admitted: LocalRun) -> Watch:
    root = platform.root
    write_month(root / "drifted", rows=6_000, seed=2, month="2026-11", shifted="strong")
    (root / "logs").mkdir()
    began = now() - timedelta(hours=20)
    lines = [
        {
            "time": stamp(began + timedelta(minutes=n)),
            "model": "fraud-detection",
            "outcome": "answered",
            "seconds": 0.01,
        }
        for n in range(200)
    ]
    (root / "logs" / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    order = {"name": "fraud-detection", "pipeline": "fraud_detection", "version": "here"}
    retraining = {**order, "parameters": {**platform.arguments, "data_current_uri": str(root / "drifted")}}
    (root / "retraining.yaml").write_text(json.dumps({"version": 1, "orders": [retraining]}))
    return Watch(
        platform,
        admitted,
        {
            "CUSTODY_WATCH_STATE": str(root / "claims"),
            "CUSTODY_RETRAIN": "local",
            "CUSTODY_RETRAIN_COMMAND": f"{sys.executable} -m kfp_custody.pipelines.local_run",
        },
    )


def test_a_window_that_did_not_drift_starts_nothing(watch: Watch) -> None:
    run = watch.run("calm", stamp(now() - timedelta(minutes=2)), "current")
    assert run.succeeded
    assert watch.evidence(run, "check-profile-drift", PROFILE_DRIFT).result in ("PASSED", "WARNED")
    assert watch.decision(run) == "NOT_NEEDED"
    assert watch.retrained() == []


def test_a_window_that_drifted_retrains_once(watch: Watch) -> None:
    when = stamp(now() - timedelta(minutes=1))
    first = watch.run("first", when, "drifted")
    assert first.succeeded, "a finding is no failure"
    drift = watch.evidence(first, "check-profile-drift", PROFILE_DRIFT)
    collected = watch.evidence(first, "collect-logs", COLLECTION)
    monitored = watch.evidence(first, "monitor-inference", MONITORING)
    started = watch.evidence(first, "start-retraining", RETRAINING)
    assert drift.result == "FAILED"
    assert collected.metrics["lines_kept"] == 200
    assert monitored.metrics["requests"] == 200
    assert started.dependency("evidence-1") == drift.bundle_sha256
    assert started.dependency("evidence-2") == monitored.bundle_sha256
    assert len({each.run_id for each in (drift, collected, monitored, started)}) == 1
    assert watch.decision(first) == "STARTED"
    assert b"custody_check_result" in (first.tasks["publish-metrics"] / "text").read_bytes()

    assert watch.decision(watch.run("again", when, "drifted")) == "ALREADY"
    (retraining,) = watch.retrained()
    log = (retraining / "log").read_text()
    decided = sorted((retraining / "artifacts").rglob("enforce-policy.sigstore.json"))
    assert decided, log[-2000:]
    trust = load_trust(watch.platform.root / "trust.yaml")
    # It is a whole run with a chain of its own; whether its gate lets the model pass is for its data to decide.
    decision = read_evidence(decided[0].parent, DECISION, trust, run_id=None)
    assert decision.run_id not in (watch.trained.id, drift.run_id)


def test_an_alert_alone_starts_nothing(watch: Watch) -> None:
    before = watch.retrained()
    run = watch.run("alert", stamp(now() - timedelta(minutes=1)), "drifted", watch_action="alert")
    assert run.succeeded
    assert watch.decision(run) == "ALERT_ONLY"
    assert watch.retrained() == before


def test_evidence_of_another_run_starts_nothing(watch: Watch) -> None:
    run = watch.run("other", stamp(now() - timedelta(minutes=1)), "drifted", watch_training_run_id="another-run")
    assert not run.succeeded
    assert "start-retraining" not in run.tasks
