"""A real Alertmanager with the shipped routes, over TLS and with its token, and what it leads to: one retraining."""

import json
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from kfp_api import Fault, KfpApi
from kfp_command import Command, FileMaker

from kfp_custody.components._shared.evidence import now, stamp
from kfp_custody.components._shared.settings import load_watch_settings
from kfp_custody.components.retraining.once import Timing
from kfp_custody.components.retraining.webhook import Webhook
from kube_api.certificates import certified
from services.monitors import running, wait_for

pytestmark = [pytest.mark.services, pytest.mark.loops]
SHIPPED = Path(__file__).resolve().parents[2] / "manifests/components/monitoring/alertmanager.yml"
TOKEN = "a-token-of-this-test-0123456789"
LABELS = {"alertname": "CustodyDriftFailed", "model": "fraud-detection", "retrain": "true", "severity": "ticket"}


@dataclass(frozen=True)
class Line:
    """Alertmanager, with the webhook at its receiver `retrain`."""

    port: int

    def fire(self, began: str, ends: str = "", **labels: str) -> None:
        """Say an alert, as Prometheus does again and again."""
        alert = {"labels": {**LABELS, **labels}, "startsAt": began, **({"endsAt": ends} if ends else {})}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v2/alerts",
            json.dumps([alert]).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


@pytest.fixture
def place(tmp_path: Path, quiet_environment: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the platform says: what an alert starts, and where claims are kept."""
    orders = [{"name": "small", "pipeline": "small", "version": "one"}]
    alerts = [{"labels": {"alertname": "CustodyDriftFailed", "model": "fraud-detection"}, "order": "small"}]
    (tmp_path / "retraining.yaml").write_text(json.dumps({"version": 1, "orders": orders, "alerts": alerts}))
    monkeypatch.setenv("CUSTODY_RETRAINING", str(tmp_path / "retraining.yaml"))
    monkeypatch.setenv("CUSTODY_WATCH_STATE", str(tmp_path / "claims"))
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    return tmp_path


@contextmanager
def shipped_line(place: Path) -> Iterator[Line]:
    root = place / "line"
    root.mkdir()
    ca, context = certified(root)
    timing = Timing(lease=1.0, skew=1.0, patience=0.0)
    settings = load_watch_settings(place / "trust.yaml")
    with ExitStack() as stack:
        server = stack.enter_context(Webhook(("127.0.0.1", 0), place / "token", settings, context, timing))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        document = yaml.safe_load(SHIPPED.read_text())
        for each in document["receivers"]:
            (webhook,) = each["webhook_configs"]
            port = server.server_address[1] if each["name"] == "retrain" else 9
            webhook["url"] = f"https://127.0.0.1:{port}/{each['name']}"
            webhook["http_config"]["tls_config"]["ca_file"] = str(ca)
            webhook["http_config"]["authorization"]["credentials_file"] = str(place / "token")
        for route in (document["route"], *document["route"]["routes"]):
            route |= {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1s"}  # it says all twice
        (root / "alertmanager.yml").write_text(yaml.safe_dump(document))
        places = f"--config.file={root}/alertmanager.yml", f"--storage.path={root}/alerts"
        port = stack.enter_context(running("prometheus-alertmanager", root, *places, "--cluster.listen-address="))
        yield Line(port)


def test_an_alert_starts_one_run_although_the_server_was_down_and_it_is_said_again(
    place: Path, api: KfpApi, custody: Command, pipeline_file: FileMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert custody("upload", pipeline_file(), "--version", "one").exit_code == 0
    monkeypatch.setenv("KFP_HOST", api.url)
    api.faults += [Fault("GET", "/healthz", 503, times=8), Fault("POST", "/runs", "lost")]
    began = stamp(now() - timedelta(minutes=1))
    claims = place / "claims"
    with shipped_line(place) as line:
        line.fire(began)
        wait_for(lambda: api.state.runs, "the run")
        wait_for(lambda: any("STARTED" in path.read_text() for path in claims.glob("*.json")), "the record")
        for _ in range(3):
            time.sleep(1)
            line.fire(began)
        assert len(api.sent("POST", "/runs")) == 1
        assert [json.loads(path.read_text())["due"]["time"] for path in claims.glob("*.json")] == [began]
        line.fire(began, ends=stamp(now()))  # it ended
        time.sleep(2)
        assert len(api.state.runs) == 1
        line.fire(stamp(now()))  # and began again
        wait_for(lambda: len(api.state.runs) == 2, "the second run")
        line.fire(stamp(now()), model="another")  # nobody said what that starts
        time.sleep(2)
    assert len(api.state.runs) == 2


def test_an_alert_retrains_on_this_machine_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, notes = place / "retrain.py", place / "notes"
    script.write_text(f"open({str(notes)!r}, 'a').write('trained\\n')\n")
    monkeypatch.setenv("CUSTODY_RETRAIN", "local")
    monkeypatch.setenv("CUSTODY_RETRAIN_COMMAND", f"{sys.executable} {script}")
    began = stamp(now() - timedelta(minutes=1))
    with shipped_line(place) as line:
        for _ in range(4):
            line.fire(began)
            time.sleep(1)
        wait_for(notes.exists, "the retraining")
    assert notes.read_text() == "trained\n"
