"""The loop on this machine: a window that drifted leads to a retraining run, once, whatever fires again."""

import json
import shutil
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from browser import render_in_frame
from kfp import local
from local_runs import LocalRun, Platform

from kfp_custody.components._shared.evidence import now, stamp
from kfp_custody.components._shared.kinds import COLLECTION, DECISION, MONITORING, PROFILE_DRIFT, RETRAINING, Kind
from kfp_custody.components._shared.settings import load_watch_settings
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.components.retraining.webhook import Webhook
from kfp_custody.components.seldon_deployment.v2_client import score
from kfp_custody.pipelines.drift_watch.pipeline import drift_watch_at
from kfp_custody.pipelines.fraud_detection.sample_data import write_month
from kfp_custody.pipelines.platform import without_retries
from services.monitors import pushgateway, running, wait_for

MONITORING_FILES = Path(__file__).resolve().parents[2] / "manifests/components/monitoring"
pytestmark = pytest.mark.loops
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


def test_a_window_that_drifted_retrains_once(watch: Watch, tmp_path: Path) -> None:
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
    for task in ("check-profile-drift", "monitor-inference", "start-retraining"):
        report = first.tasks[task] / "report"
        assert report.stat().st_size <= 300_000
        (text, _), console, asked = render_in_frame(report, tmp_path)
        assert text > 300, task
        assert (console, asked) == ([], set()), task

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


# --- from requests to a retraining ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A Pushgateway, a Prometheus with the shipped rules, an Alertmanager with the shipped routes, and our webhook."""

    gateway: str
    prometheus: str

    def firing(self, alert: str) -> bool:
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/alerts", timeout=10) as answer:
            alerts = json.load(answer)["data"]["alerts"]
        return any((each["labels"]["alertname"], each["state"]) == (alert, "firing") for each in alerts)

    def published(self) -> bool:
        """Whether Prometheus has what was pushed."""
        query = urllib.parse.quote('custody_check_result{kind="monitor-inference"}')
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/query?query={query}", timeout=10) as answer:
            return bool(json.load(answer)["data"]["result"])


@pytest.fixture
def line(watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """The webhook starts what the platform's retraining file says for an alert about scores."""
    document = json.loads((watch.platform.root / "retraining.yaml").read_text())
    alert = {"labels": {"alertname": "CustodyScoresShifted", "model": "fraud-detection"}, "order": "fraud-detection"}
    (tmp_path / "retraining.yaml").write_text(json.dumps({**document, "alerts": [alert]}))
    for name, value in (watch.platform.environment | watch.environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("CUSTODY_RETRAINING", str(tmp_path / "retraining.yaml"))
    (tmp_path / "token").write_text("a-token-of-this-test-0123456789")
    (tmp_path / "token").chmod(0o600)
    with ExitStack() as stack:
        settings = load_watch_settings(watch.platform.root / "trust.yaml")
        webhook = stack.enter_context(Webhook(("127.0.0.1", 0), tmp_path / "token", settings))
        thread = threading.Thread(target=webhook.serve_forever, args=(0.05,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(webhook.shutdown)
        gateway = stack.enter_context(pushgateway(tmp_path))
        routes = yaml.safe_load((MONITORING_FILES / "alertmanager.yml").read_text())
        for each in routes["receivers"]:
            (told,) = each["webhook_configs"]
            told["url"] = f"http://127.0.0.1:{webhook.server_address[1] if each['name'] == 'retrain' else 9}/retrain"
            del told["http_config"]["tls_config"]
            told["http_config"]["authorization"]["credentials_file"] = str(tmp_path / "token")
        for route in (routes["route"], *routes["route"]["routes"]):
            route |= {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1s"}  # it says it again and again
        (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(routes))
        places = f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/alerts"
        manager = stack.enter_context(
            running("prometheus-alertmanager", tmp_path, *places, "--cluster.listen-address=")
        )
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        scraped = [{"targets": [f"127.0.0.1:{gateway}"]}]
        scraping = {
            "global": every,
            "rule_files": [str(MONITORING_FILES / "rules.yml")],
            "scrape_configs": [{"job_name": "custody-pushgateway", "honor_labels": True, "static_configs": scraped}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{manager}"]}]}]},
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scraping))
        places = f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"
        port = stack.enter_context(running("prometheus", tmp_path, *places))
        yield Line(f"http://127.0.0.1:{gateway}", f"http://127.0.0.1:{port}")


def ask(watch: Watch, rows: pa.Table) -> None:
    """Ask the model that the training run put into service, fifty rows a request."""
    url = f"http://127.0.0.1:{watch.platform.environment['CUSTODY_SERVING_PORT']}/v2/models/fraud-detection"
    asked = rows.to_pylist()
    for first in range(0, len(asked), 50):
        score(url, asked[first : first + 50])


def look(watch: Watch, line: Line, name: str) -> LocalRun:
    """Ship the server's log, wait until the second is over, and look at the window that ends now."""
    shipped = watch.platform.root / "shipped" / name
    shipped.mkdir(parents=True)
    shutil.copy(Path(watch.platform.environment["CUSTODY_SERVING_DIR"], "requests.jsonl"), shipped)
    time.sleep(1.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUSTODY_PUSHGATEWAY", line.gateway)
        given = {"watch_logs_uri": str(shipped), "watch_hours": 1, "watch_action": "alert"}
        return watch.run(name, stamp(now()), "current", **given)


def test_shifted_requests_lead_to_an_alert_and_that_to_one_retraining(watch: Watch, line: Line) -> None:
    """Model server, monitoring servers, webhook and runs are real; only the shipping of the log is the test's."""
    month = pq.read_table(watch.trained.tasks["mask-pii-2"] / "masked")  # as the model knows it
    before = watch.retrained()
    ask(watch, month.slice(0, 500))
    calm = look(watch, line, "honest-requests")
    assert watch.evidence(calm, "monitor-inference", MONITORING).result != "FAILED"
    wait_for(line.published, "the honest window in Prometheus")
    assert not line.firing("CustodyScoresShifted")

    odd = month.slice(0, 2000)
    for name in ("amount", "amount_ratio", "distance_from_home_km"):
        odd = odd.set_column(odd.column_names.index(name), name, pc.multiply(odd[name], 40))
    ask(watch, odd)
    found = watch.evidence(look(watch, line, "odd-requests"), "monitor-inference", MONITORING)
    assert found.result == "FAILED"
    assert found.metrics["prediction_psi"] > 0.25
    wait_for(lambda: line.firing("CustodyScoresShifted"), "the alert")
    wait_for(lambda: len(list((watch.claims / "runs").glob("*"))) > len(before), "the retraining")
    (retraining,) = set(watch.retrained()) - set(before)
    time.sleep(3)  # the alert still fires and is said again
    assert len(watch.retrained()) == len(before) + 1
    decided = sorted((retraining / "artifacts").rglob("enforce-policy.sigstore.json"))
    assert decided, (retraining / "log").read_text()[-2000:]
