"""The MLflow run, on SQLite; tests/services has a real server."""

import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components.model_training.tracking import tracked_run

SHA = "ab" * 32


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/deep/mlflow.db"


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_new_run_holds_everything_and_is_finished(uri: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.ubj").write_bytes(b"bytes")
    with tracked_run("train-r1", {"MLFLOW_TRACKING_URI": uri}) as run:
        run.log({"seed": 7}, {"roc_auc": 0.9}, {"custody.run_id": "r1"})
        run.log_rounds({"train/logloss": [0.5, 0.4]})
        run.log_dataset("dataset", SHA, 100, "cd" * 32)
        run.log_files(tmp_path / "model", "model")
    found = client(uri).get_run(run.run_id)
    assert (found.info.status, found.info.run_name, run.store, run.joined) == ("FINISHED", "train-r1", "sqlite", False)
    assert found.data.params == {"train.seed": "7"}
    assert found.data.metrics == {"roc_auc": 0.9, "rounds/train/logloss": 0.4}
    assert found.data.tags["custody.run_id"] == "r1"
    assert [point.value for point in client(uri).get_metric_history(run.run_id, "rounds/train/logloss")] == [0.5, 0.4]
    (given,) = found.inputs.dataset_inputs
    assert given.dataset.digest == SHA[:36]
    assert SHA in given.dataset.source
    assert [tag.value for tag in given.tags] == ["training"]
    assert [file.path for file in client(uri).list_artifacts(run.run_id, "model")] == ["model/model.ubj"]
    assert client(uri).get_experiment(run.experiment_id).name == "kfp-custody"
    assert (Path(uri.removeprefix("sqlite:///")).parent / "artifacts").is_dir()


def test_experiment_is_named_by_the_environment_and_used_again(uri: str) -> None:
    environ = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "cards"}
    ids = set()
    for _ in range(2):
        with tracked_run("r", environ) as run:
            ids.add(run.experiment_id)
    assert [client(uri).get_experiment(number).name for number in ids] == ["cards"]


def test_named_run_is_joined_not_renamed_and_left_open(uri: str) -> None:
    theirs = client(uri).create_run("0", run_name="kfp task").info.run_id
    with tracked_run("train-r1", {"MLFLOW_TRACKING_URI": uri, "MLFLOW_RUN_ID": theirs}) as run:
        run.log({"seed": 7}, {}, {})
    found = client(uri).get_run(theirs)
    assert (run.run_id, run.joined) == (theirs, True)
    assert (found.info.run_name, found.info.status) == ("kfp task", "RUNNING")
    assert found.data.params == {"train.seed": "7"}


def test_retried_task_may_log_the_same_again_into_a_joined_run(uri: str) -> None:
    theirs = client(uri).create_run("0").info.run_id
    for _ in range(2):
        with tracked_run("r", {"MLFLOW_TRACKING_URI": uri, "MLFLOW_RUN_ID": theirs}) as run:
            run.log({"seed": 7}, {"roc_auc": 0.9}, {"custody.run_id": "r1"})


def test_parameters_do_not_clash_with_those_that_kfp_logs(uri: str) -> None:
    theirs = client(uri).create_run("0").info.run_id
    with tracked_run("r", {"MLFLOW_TRACKING_URI": uri, "MLFLOW_RUN_ID": theirs}) as run:
        run.log({"label": "is_fraud"}, {}, {})
    client(uri).log_param(theirs, "label", '"is_fraud"')  # KFP logs JSON, which would be a changed value


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_run_of_a_failed_training_is_marked_failed(uri: str, error: type[BaseException]) -> None:
    with pytest.raises(error), tracked_run("r", {"MLFLOW_TRACKING_URI": uri}) as run:
        raise error
    assert client(uri).get_run(run.run_id).info.status == "FAILED"


def test_run_that_does_not_exist_is_refused(uri: str) -> None:
    with (
        pytest.raises(Misconfigured, match="does not exist"),
        tracked_run("r", {"MLFLOW_TRACKING_URI": uri, "MLFLOW_RUN_ID": "0" * 32}),
    ):
        pytest.fail("the block must not run")


def test_changed_parameter_of_a_joined_run_is_an_error_of_the_service(uri: str) -> None:
    theirs = client(uri).create_run("0").info.run_id
    client(uri).log_param(theirs, "train.seed", "1")
    with (
        pytest.raises(ServiceUnreachable),
        tracked_run("r", {"MLFLOW_TRACKING_URI": uri, "MLFLOW_RUN_ID": theirs}) as run,
    ):
        run.log({"seed": 2}, {}, {})


def test_without_an_address_a_database_in_the_working_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with tracked_run("r", {}) as run:
        assert run.store == "sqlite"
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_credentials_in_an_address_are_refused_and_not_repeated(scheme: str) -> None:
    with (
        pytest.raises(Misconfigured, match="cannot be used") as refusal,
        tracked_run("r", {"MLFLOW_TRACKING_URI": f"{scheme}://scientist:hunter2@mlflow:5000"}),
    ):
        pytest.fail("the block must not run")
    assert "hunter2" not in str(refusal.value)
    assert "scientist" not in str(refusal.value)


@pytest.mark.parametrize("address", ["http://mlflow:port", "http://[::1", "sqlite:///", "gibberish://x"])
def test_addresses_that_are_none_are_refused(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((Misconfigured, ServiceUnreachable)), tracked_run("r", {"MLFLOW_TRACKING_URI": address}):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_server_that_is_down_is_refused_within_seconds(scheme: str) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else can answer on it
        taken.bind(("127.0.0.1", 0))
        user = "" if scheme == "http" else "scientist:hunter2@"
        address = f"{scheme}://{user}127.0.0.1:{taken.getsockname()[1]}/mlflow"
        with (
            pytest.raises(ServiceUnreachable, match="did not answer") as refusal,
            tracked_run("r", {"MLFLOW_TRACKING_URI": address}),
        ):
            pytest.fail("the block must not run")
    assert "hunter2" not in str(refusal.value)
    assert "127.0.0.1" not in str(refusal.value)


def test_sqlite_file_that_is_none_or_locked_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kfp_custody.components.model_training.tracking._SECONDS", 0.1)
    (tmp_path / "text.db").write_text("this is no database at all" * 100)
    (tmp_path / "folder.db").mkdir()
    locked = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    locked.execute("BEGIN EXCLUSIVE")
    for name in ("text.db", "folder.db", "locked.db"):
        with (
            pytest.raises(ServiceUnreachable, match="SQLite") as refusal,
            tracked_run("r", {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/{name}"}),
        ):
            pytest.fail("the block must not run")
        assert name in refusal.value.evidence
    locked.close()


def test_environment_is_as_it_was_afterwards(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    before = dict(os.environ)
    with tracked_run("r", {"MLFLOW_TRACKING_URI": uri}):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert dict(os.environ) == before
