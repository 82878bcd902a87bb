"""train_model's lineage in a real MLflow server on the loopback interface."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import Settings

pytestmark = pytest.mark.services
HELPERS = Path(__file__).parents[1] / "unit" / "model_training"


@dataclass(frozen=True)
class Server:
    """A running server: its address and its process."""

    uri: str
    process: subprocess.Popen[bytes]

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("mlflow-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{state}/mlflow.db", "--artifacts-destination", str(state / "files")]
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=state,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )
    try:
        uri = f"http://127.0.0.1:{port}"
        wait_until_ready(uri, process, state / "log")
        yield Server(uri, process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def wait_until_ready(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.3)
    pytest.fail(f"the server is not ready: {log.read_text()}")


@pytest.fixture
def room(tmp_path: Path, settings: Settings, signer: Signer, run_id: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HELPERS))
    from training_data import Room, transactions

    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    made = Room(tmp_path / "room", settings, signer, run_id)
    made.give(transactions(600))
    return made


def test_new_run_in_the_server(server: Server, room: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cards")
    trained = room.train(algorithm="logistic_regression")
    run = server.client.get_run(trained.metadata["mlflow_run_id"])
    assert server.client.get_experiment(run.info.experiment_id).name == "cards"
    assert run.info.status == "FINISHED"
    assert run.data.params["train.seed"] == "7"
    assert run.data.metrics == {**run.data.metrics, **trained.metrics}
    assert run.inputs.dataset_inputs[0].dataset.digest == trained.metadata["dataset_sha256"][:36]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    fetched = server.client.download_artifacts(run.info.run_id, "model", str(tmp_path))
    assert list_tree(Path(fetched)).sha256 == trained.metadata["sha256"]


def test_run_of_kfp_is_joined(server: Server, room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """KFP names the task's own run, ends it, and logs every parameter of the task as JSON."""
    theirs = server.client.create_run("0", run_name="train-model").info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs)
    trained = room.train(algorithm="logistic_regression")
    assert trained.metadata["mlflow_run_id"] == theirs
    run = server.client.get_run(theirs)
    assert (run.info.run_name, run.info.status) == ("train-model", "RUNNING")
    server.client.log_param(theirs, "label", '"is_fraud"')
    server.client.log_metric(theirs, "roc_auc", trained.metrics["roc_auc"])
    server.client.set_terminated(theirs)
    assert run.data.tags["custody.model.sha256"] == trained.metadata["sha256"]


def test_run_that_the_server_does_not_know_is_refused(
    server: Server, room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(Misconfigured, match="does not exist"):
        room.train(algorithm="logistic_regression")
    assert room.left() == []


def test_server_that_hangs_is_refused_within_its_time_limit(
    server: Server, room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    os.killpg(server.process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(ServiceUnreachable):
            room.train(algorithm="logistic_regression")
        assert time.monotonic() - started < 40
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    assert room.left() == []


def test_server_that_goes_away_while_training_leaves_nothing(
    server: Server, room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer stops the server; the run was open by then, and nothing can be logged."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("TEST_SERVER_GROUP", str(server.process.pid))
    try:
        with pytest.raises(ServiceUnreachable):
            room.train(trainer="stops_the_server:train")
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    assert room.left() == []


def test_server_that_is_down_is_refused(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(ServiceUnreachable, match="MLflow did not answer"):
            room.train()
        assert time.monotonic() - started < 30
    assert room.left() == []
