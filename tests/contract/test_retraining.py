"""start_retraining as KFP calls it: signed evidence on disk, claims in a folder, a command of this machine."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from kfp import dsl
from securesystemslib.signer import Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.artifacts import TestResult
from kfp_custody.components._shared.digests import list_tree, sha256_bytes
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.evidence import DRIFT, MASKING, RETRAINING, Kind, now, stamp, write_evidence
from kfp_custody.components._shared.evidence import test_result as result_of
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.components.retraining.component import start_retraining


@dataclass
class Bench:
    """A run's evidence, and a way to call the component on it."""

    root: Path
    dataset: Path
    signer: Signer
    run_id: str
    number: int = 0
    log: list[str] = field(default_factory=list)

    def find(self, result: str, name: str = "drift", kind: Kind = DRIFT, run_id: str = "") -> Path:
        listing = list_tree(self.dataset)
        said = result_of(kind, listing, result=result, run_id=run_id or self.run_id, configuration=[], passed=["x"])
        shutil.rmtree(self.root / name, ignore_errors=True)
        write_evidence(self.root / name, said, self.signer, listing)
        return self.root / name

    def run(self, monitoring: str = "drift", **parameters: object) -> str:
        def artifact(kind: type[dsl.Artifact], name: str) -> dsl.Artifact:
            return kind(uri=str(self.root / name))

        self.number += 1
        self.evidence, self.report = (f"{name}-{self.number}" for name in ("evidence", "report"))
        wish = {"scheduled_time": stamp(now()), "action": "run", "run_id": self.run_id, **parameters}
        return start_retraining.python_func(  # type: ignore[no-any-return]
            drift=artifact(TestResult, "drift"),
            monitoring=artifact(TestResult, monitoring),
            evidence=artifact(TestResult, self.evidence),
            report=artifact(dsl.HTML, self.report),
            **wish,
        )

    def signed(self, trust: Trust) -> Verified:
        return read_evidence(self.root / self.evidence, RETRAINING, trust, run_id=self.run_id)

    def said(self) -> dict[str, object]:
        return json.loads((self.root / self.evidence / "report.json").read_text())  # type: ignore[no-any-return]

    @property
    def html(self) -> str:
        return (self.root / self.report).read_text()

    def trained(self) -> int:
        """How many local retrainings ran, once those that began have ended."""
        states = list((self.root / "claims" / "runs").glob("*/state"))
        for state in states:
            for _ in range(500):
                if state.read_text() != "RUNNING":
                    break
                time.sleep(0.02)
        return len((self.root / "notes").read_text().splitlines()) if states else 0


@pytest.fixture
def bench(
    tmp_path: Path, dataset: Path, signer: Signer, settings: object, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    script = tmp_path / "retrain.py"
    script.write_text(f"import sys\nopen({str(tmp_path / 'notes')!r}, 'a').write(sys.argv[2] + '\\n')\n")
    orders = tmp_path / "retraining.yaml"
    orders.write_text("version: 1\norders:\n  - {name: fraud-detection, pipeline: fraud-detection, version: one}\n")
    monkeypatch.setenv("CUSTODY_WATCH_STATE", str(tmp_path / "claims"))
    monkeypatch.setenv("CUSTODY_RETRAIN", "local")
    monkeypatch.setenv("CUSTODY_RETRAIN_COMMAND", f"{sys.executable} {script}")
    return Bench(tmp_path, dataset, signer, run_id)


def ago(**delta: float) -> str:
    return stamp(now() - timedelta(**delta))


def test_a_failed_check_starts_one_retraining_and_the_evidence_says_so(bench: Bench, trust: Trust) -> None:
    bench.find("FAILED")
    when = ago(minutes=1)
    assert bench.run(scheduled_time=when) == "STARTED"
    signed, said = bench.signed(trust), bench.said()
    assert signed.result == "PASSED"
    assert signed.predicate["passedTests"] == ["evidence", "started"]
    assert signed.subject_sha256 == list_tree(bench.dataset).sha256
    drift = bench.root / "drift" / "check-drift.sigstore.json"
    assert signed.dependency("evidence-1") == sha256_bytes(drift.read_bytes())
    assert signed.dependency("retraining-file") == sha256_bytes((bench.root / "retraining.yaml").read_bytes())
    assert signed.dependency("claim") == said["claim"]
    (claim,) = [each for each in signed.predicate["configuration"] if each["name"] == "claim"]
    run = {"schedule": "drift-watch", "time": when, "decision": "STARTED", "run": f"local-{said['claim']}"}
    assert claim["annotations"] == run
    assert said["order"] == {"name": "fraud-detection", "pipeline": "fraud-detection", "version": "one"}
    assert "STARTED" in bench.html
    assert bench.run(scheduled_time=when) == "ALREADY"
    assert bench.said()["run_id"] == run["run"]
    assert bench.run(scheduled_time=f"{when[:-1]}.250+00:00") == "ALREADY", "the same moment, written in another way"
    assert bench.trained() == 1


@pytest.mark.parametrize("result", ["PASSED", "WARNED"])
def test_without_a_failed_check_nothing_is_started(bench: Bench, trust: Trust, result: str) -> None:
    bench.find(result)
    assert bench.run() == "NOT_NEEDED"
    assert bench.said()["run_id"] is None
    assert bench.signed(trust).result == "PASSED"
    assert bench.trained() == 0


def test_either_check_may_ask(bench: Bench, trust: Trust) -> None:
    bench.find("PASSED")
    bench.find("FAILED", "second")
    assert bench.run(monitoring="second") == "STARTED"
    assert bench.signed(trust).dependency("evidence-2")


def test_an_alert_starts_nothing_and_needs_no_store(
    bench: Bench, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUSTODY_WATCH_STATE")
    bench.find("FAILED")
    assert bench.run(action="alert") == "ALERT_ONLY"
    assert bench.signed(trust).result == "WARNED"
    bench.find("PASSED")
    assert bench.run(action="alert") == "NOT_NEEDED"
    assert bench.trained() == 0


def test_a_window_that_is_too_old_is_recorded_and_starts_on_demand_alone(bench: Bench, trust: Trust) -> None:
    bench.find("FAILED")
    old = ago(hours=25)
    assert bench.run(scheduled_time=old) == "TOO_LATE"
    assert bench.run(scheduled_time=old) == "TOO_LATE"
    assert bench.signed(trust).result == "WARNED"
    assert bench.signed(trust).predicate["warnedTests"] == ["too_late"]
    assert "nothing was started" in bench.html
    (claim,) = [path for path in (bench.root / "claims").glob("*.json") if "MISSED" in path.read_text()]
    assert old in claim.read_text()
    assert bench.trained() == 0
    assert bench.run(scheduled_time=old, max_age_hours=26) == "STARTED", "who allows more, may start it"
    assert bench.run(scheduled_time=old) == "ALREADY", "and then it is not too late, but done"
    older = ago(days=3)
    assert bench.run(scheduled_time=older, action="backfill") == "STARTED"
    assert bench.run(scheduled_time=older, action="backfill") == "ALREADY"
    assert bench.trained() == 2


def test_windows_that_were_missed_are_said_and_not_caught_up(bench: Bench, trust: Trust) -> None:
    bench.find("PASSED")
    assert bench.run(scheduled_time=ago(hours=96), every_hours=24) == "NOT_NEEDED"
    assert bench.said()["window_before"] is None
    bench.find("FAILED")
    late = ago(minutes=1)
    assert bench.run(scheduled_time=late, every_hours=24) == "STARTED"
    assert bench.said()["missed_windows"] == 3
    assert "3 windows in between were missed; they are not caught up" in bench.html
    assert bench.signed(trust).predicate["warnedTests"] == ["windows"]
    assert bench.signed(trust).metrics == {"missed_windows": 3.0}
    assert bench.run(scheduled_time=late, every_hours=24) == "ALREADY"
    assert bench.said()["missed_windows"] == 3, "an attempt that is repeated says it again"
    assert bench.run(scheduled_time=ago(hours=50), every_hours=24, max_age_hours=99) == "STARTED"
    assert bench.said()["window_before"] is None, "one that comes late is not behind the newest"
    assert bench.trained() == 2


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"run_id": ""}, "run_id"),
        ({"schedule_name": " "}, "schedule_name"),
        ({"schedule_name": "a\nb"}, "schedule_name"),
        ({"schedule_name": "x" * 256}, "schedule_name"),
        ({"action": "latest"}, "action"),
        ({"max_age_hours": 0}, "max_age_hours"),
        ({"every_hours": -1}, "every_hours"),
        ({"scheduled_time": "{{$.pipeline_job_schedule_time_utc}}"}, "no time"),
        ({"scheduled_time": "2026-01-31"}, "no time"),
        ({"scheduled_time": "2026-01-31T12:00:00"}, "no time"),
        ({"scheduled_time": "2026-02-31T12:00:00Z"}, "no time"),
        ({"scheduled_time": "9999-12-31T23:59:59-23:00"}, "no time"),
        ({"scheduled_time": ago(hours=-1)}, "future"),
        ({"order": "other"}, "no such retraining"),
    ],
)
def test_what_is_wrong_starts_nothing(bench: Bench, parameters: dict[str, object], what: str) -> None:
    bench.find("FAILED")
    with pytest.raises(Misconfigured, match=what):
        bench.run(**parameters)
    assert not (bench.root / bench.evidence).exists()
    assert bench.trained() == 0


def forge(bench: Bench) -> None:
    path = bench.root / "drift" / "check-drift.sigstore.json"
    path.write_text(path.read_text().replace('"sig":"M', '"sig":"N'))


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (lambda bench: bench.find("FAILED", run_id="another-run"), codes.OTHER_RUN),
        (lambda bench: bench.find("FAILED", kind=MASKING), codes.NO_EVIDENCE),
        (lambda bench: shutil.rmtree(bench.find("FAILED")), codes.NO_EVIDENCE),
        (lambda bench: (bench.find("FAILED") / "SHA256SUMS").unlink(), codes.NO_EVIDENCE),
        (lambda bench: (bench.find("FAILED"), forge(bench)), codes.SIGNATURE),
    ],
)
def test_evidence_that_is_not_this_runs_starts_nothing(
    bench: Bench, prepare: Callable[[Bench], object], code: str
) -> None:
    prepare(bench)
    with pytest.raises(EvidenceInvalid) as refusal:
        bench.run()
    assert refusal.value.code == code
    assert bench.trained() == 0


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"CUSTODY_WATCH_STATE": ""}, codes.WATCH_SETTINGS),
        ({"CUSTODY_WATCH_STATE": "claims"}, codes.WATCH_SETTINGS),
        ({"CUSTODY_WATCH_STATE": "kubernetes"}, codes.WATCH_SETTINGS),
        ({"CUSTODY_RETRAIN": "airflow"}, codes.WATCH_SETTINGS),
        ({"CUSTODY_RETRAIN_COMMAND": ""}, codes.WATCH_SETTINGS),
        ({"CUSTODY_RETRAINING": "/nowhere/retraining.yaml"}, codes.RETRAINING_FILE),
        ({"CUSTODY_SIGNER": ""}, codes.NO_SIGNER),
    ],
)
def test_a_platform_that_does_not_say_starts_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], code: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bench.find("FAILED")
    with pytest.raises(CustodyError) as refusal:
        bench.run()
    assert refusal.value.code == code
    assert bench.trained() == 0
