"""From signed evidence to a person and back: real Pushgateway, Prometheus and Alertmanager, with the shipped rules."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from kfp import dsl
from prometheus_client import start_http_server
from securesystemslib.signer import Signer

from contract.test_metrics_publishing import leave
from kfp_custody.components import publish_metrics
from kfp_custody.components._shared.artifacts import TestResult
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.kinds import DRIFT, ROLLOUT
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.seldon_deployment.serving import telemetry
from services.monitors import pushgateway, running, wait_for

pytestmark = pytest.mark.services
SHIPPED = Path(__file__).resolve().parents[2] / "manifests/components/monitoring"
TOKEN = "not-a-real-token"


@dataclass
class Receiver:
    """A listener for Alertmanager's webhooks: who sent what to which path."""

    port: int = 0
    prometheus: int = 0
    calls: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)

    def counts(self, query: str) -> int:
        """How many series Prometheus has for a query now; none while it starts."""
        asked = urllib.parse.urlencode({"query": query})
        address = f"http://127.0.0.1:{self.prometheus}/api/v1/query?{asked}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return len(json.load(answer)["data"]["result"])
        except urllib.error.HTTPError as error:
            error.close()
            return 0

    def told(self, path: str, alert: str, status: str) -> dict[str, Any] | None:
        """The alert of this name and status that came to a path; None as long as none did."""
        for where, _, document in list(self.calls):
            for each in document["alerts"]:
                if (where, each["labels"]["alertname"], each["status"]) == (path, alert, status):
                    return each  # type: ignore[no-any-return]
        return None


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.calls.append((self.path, self.headers["Authorization"], document))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def metrics_port() -> Iterator[int]:
    """What a model server exports, from this process; yields its port."""
    server, thread = start_http_server(0, "127.0.0.1", telemetry.REGISTRY)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def quick(document: dict[str, Any]) -> dict[str, Any]:
    """Alertmanager's shipped routes without their waiting."""
    route = document["route"]
    route |= {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
    for each in route["routes"]:
        each["repeat_interval"] = "1h"
    return document


@pytest.fixture
def receiver(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The whole line, with the shipped rules and routes; CUSTODY_PUSHGATEWAY leads into it."""
    root = tmp_path / "line"
    root.mkdir()
    with ExitStack() as stack:
        models, listener = stack.enter_context(metrics_port()), stack.enter_context(receiving())
        gateway = stack.enter_context(pushgateway(root))
        (root / "token").write_text(TOKEN)
        routes = quick(yaml.safe_load((SHIPPED / "alertmanager.yml").read_text()))
        for each in routes["receivers"]:
            (webhook,) = each["webhook_configs"]
            webhook["url"] = f"http://127.0.0.1:{listener.port}/{each['name']}"
            del webhook["http_config"]["tls_config"]
            webhook["http_config"]["authorization"]["credentials_file"] = str(root / "token")
        (root / "alertmanager.yml").write_text(yaml.safe_dump(routes))
        places = f"--config.file={root}/alertmanager.yml", f"--storage.path={root}/alerts"
        manager = stack.enter_context(running("prometheus-alertmanager", root, *places, "--cluster.listen-address="))
        scraping = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        scraping["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
        scraping["rule_files"] = [str(SHIPPED / "rules.yml")]
        targets = {"custody-pushgateway": [f"127.0.0.1:{gateway}"], "custody-models": [f"127.0.0.1:{models}"]}
        scraping["scrape_configs"] = [
            {**each, "static_configs": [{"targets": targets[each["job_name"]]}]}
            for each in scraping["scrape_configs"]
            if each["job_name"] in targets
        ]
        (alerting,) = scraping["alerting"]["alertmanagers"]
        alerting["static_configs"] = [{"targets": [f"127.0.0.1:{manager}"]}]
        (root / "prometheus.yml").write_text(yaml.safe_dump(scraping))
        places = f"--config.file={root}/prometheus.yml", f"--storage.tsdb.path={root}/data"
        listener.prometheus = stack.enter_context(running("prometheus", root, *places))
        monkeypatch.setenv("CUSTODY_PUSHGATEWAY", f"http://127.0.0.1:{gateway}")
        yield listener


def publish(root: Path, signer: Signer, run_id: str, **results: str) -> None:
    """Sign what checks of a run said, and publish it as the component does."""
    kinds = {"drift": DRIFT, "rollout": ROLLOUT}
    root.mkdir()
    evidence = {
        name: TestResult(uri=str(leave(root, kinds[name], signer, run_id, result))) for name, result in results.items()
    }
    publish_metrics.python_func(dsl.Artifact(uri=str(root / "text")), run_id, **evidence)


def test_failed_evidence_reaches_people_and_the_retraining_and_is_resolved_by_passed_evidence(
    tmp_path: Path, receiver: Receiver, signer: Signer, run_id: str
) -> None:
    publish(tmp_path / "healthy", signer, run_id, drift="PASSED", rollout="FAILED")
    rolled_back = wait_for(lambda: receiver.told("/page", "CustodyRolledBack", "firing"), "the alert of the rollback")
    assert rolled_back["labels"]["model"] == "fraud-detection"
    assert receiver.told("/ticket", "CustodyDriftFailed", "firing") is None

    publish(tmp_path / "drifted", signer, run_id, drift="FAILED")
    for path in ("/retrain", "/ticket"):
        alert = wait_for(lambda path=path: receiver.told(path, "CustodyDriftFailed", "firing"), f"the alert at {path}")
        assert alert["labels"] == {
            "alertname": "CustodyDriftFailed",
            "kind": "check-drift",
            "model": "fraud-detection",
            "retrain": "true",
            "severity": "ticket",
        }
        assert alert["annotations"]["summary"] == "The data of fraud-detection drifted"

    publish(tmp_path / "trained", signer, run_id, drift="PASSED", rollout="PASSED")
    wait_for(lambda: receiver.told("/ticket", "CustodyDriftFailed", "resolved"), "the end of the drift")
    wait_for(lambda: receiver.told("/page", "CustodyRolledBack", "resolved"), "the end of the rollback")
    assert receiver.told("/retrain", "CustodyDriftFailed", "resolved") is None, "what ended starts no run"
    assert {authorization for _, authorization, _ in receiver.calls} == {f"Bearer {TOKEN}"}


def test_what_is_not_genuine_alarms_nobody(
    tmp_path: Path, receiver: Receiver, signer: Signer, run_id: str, make_signer: Callable[[str], Signer]
) -> None:
    with pytest.raises(EvidenceInvalid):
        publish(tmp_path / "forged", make_signer("thief"), run_id, drift="FAILED")
    publish(tmp_path / "genuine", signer, run_id, rollout="FAILED")
    wait_for(lambda: receiver.told("/page", "CustodyRolledBack", "firing"), "the genuine alert")
    assert receiver.told("/ticket", "CustodyDriftFailed", "firing") is None


def test_a_model_that_the_server_refuses_calls_somebody(receiver: Receiver) -> None:
    wait_for(
        lambda: receiver.counts("custody_models_refused_total"), "the first look at the model server"
    )  # what was counted before it is no increase
    assert receiver.told("/page", "CustodyModelRefusedByServer", "firing") is None
    telemetry.model_refused()
    alert = wait_for(lambda: receiver.told("/page", "CustodyModelRefusedByServer", "firing"), "the alert of the server")
    assert alert["annotations"]["runbook_url"].endswith("RUNBOOKS.md#refused-model")
