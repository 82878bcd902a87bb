"""The stage as a whole: what is refused before anything is read, what is left behind, what is signed."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from securesystemslib.signer import Signer
from training_data import Room, attest, transactions, write_dataset

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import (
    CustodyError,
    EvidenceInvalid,
    InputRefused,
    Misconfigured,
    ServiceUnreachable,
)
from kfp_custody.components._shared.evidence import ATTESTATION, TRAINING
from kfp_custody.components._shared.scoring import load_scorer
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def room(
    tmp_path: Path, settings: Settings, signer: Signer, run_id: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> Room:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return Room(tmp_path / "room", settings, signer, run_id)


def mlflow_run(uri: str, run: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri).get_run(run)


def runs_so_far(uri: str) -> int:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return sum(len(client.search_runs([found.experiment_id])) for found in client.search_experiments())


def test_one_training_leaves_model_figures_lineage_and_signed_provenance(room: Room, trust: Trust, uri: str) -> None:
    dataset = room.give(transactions(2000), files=3)
    trained = room.train()

    assert trained.metrics["roc_auc"] > 0.8
    assert trained.metrics["rows_train"] + trained.metrics["rows_test"] == 2000
    assert sum(map(sum, trained.confusion)) == trained.metrics["rows_test"]
    assert all(len(values) <= 200 for values in trained.roc)
    assert all(isinstance(value, float) for value in trained.metrics.values())
    assert all(isinstance(value, str) for value in trained.metadata.values())

    evidence = read_evidence(room.outputs.provenance, TRAINING, trust, run_id=room.run_id)
    model = require_subject(evidence, room.outputs.model, "model")
    attestation = room.root / "given" / "attestation" / "attest-dataset.sigstore.json"
    assert evidence.dependency("dataset") == list_tree(dataset).sha256
    assert evidence.dependency("attestation") == sha256_file(attestation)
    assert evidence.dependency("html") == sha256_file(room.outputs.report)
    assert evidence.dependency("report") == sha256_file(room.outputs.provenance / "report.json")
    assert evidence.metrics == trained.metrics
    build = evidence.predicate["buildDefinition"]
    assert build["externalParameters"] == {
        "label": "is_fraud",
        "time_column": "timestamp",
        "algorithm": "xgboost",
        "trainer": "",
        "seed": 7,
        "test_share": 0.25,
    }
    assert build["internalParameters"]["mlflow"]["store"] == "sqlite"
    assert uri not in json.dumps(evidence.statement)

    run = mlflow_run(uri, trained.metadata["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["train.algorithm"] == "xgboost"
    assert run.data.metrics["roc_auc"] == trained.metrics["roc_auc"]
    assert run.data.tags["custody.run_id"] == room.run_id
    assert run.data.tags["custody.dataset.sha256"] == list_tree(dataset).sha256
    assert run.data.tags["custody.model.sha256"] == model.sha256 == trained.metadata["sha256"]
    assert run.data.tags["custody.provenance.sha256"] == evidence.bundle_sha256
    assert run.inputs.dataset_inputs[0].dataset.digest == list_tree(dataset).sha256[:36]
    logged = Path(run.info.artifact_uri)
    assert list_tree(logged / "model") == model
    assert (logged / "evidence" / "train-model.sigstore.json").is_file()

    assert load_scorer(room.outputs.model).threshold == trained.metrics["threshold"]
    assert not any("partial" in name for name in room.left())


def test_event_files_are_read_back(room: Room) -> None:
    room.give(transactions(1000))
    trained = room.train()
    (file,) = room.outputs.tensorboard.iterdir()
    scalars, curves = events(file)
    assert scalars[("final/roc_auc", 0)] == pytest.approx(trained.metrics["roc_auc"])
    assert ("rounds/test/logloss", 199) in scalars
    assert curves == {"test"}


def events(file: Path) -> tuple[dict[tuple[str, int], float], set[str]]:
    """Read TensorBoard's record format: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, curves, data, position = {}, set(), file.read_bytes(), 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 8], "little")
        event = Event.FromString(data[position + 12 : position + 12 + size])
        position += 12 + size + 4
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "pr_curves":
                curves.add(value.tag.partition("/")[0])
            else:
                scalars[(value.tag, event.step)] = value.simple_value
    return scalars, curves


def test_report_names_columns_and_digests_and_no_value(room: Room) -> None:
    table = transactions(1000)
    dataset = room.give(table)
    trained = room.train(algorithm="logistic_regression")
    page = room.outputs.report.read_text()
    for name in (*table.column_names, list_tree(dataset).sha256, trained.metadata["sha256"], room.run_id):
        assert name in page
    for title in ("ROC", "Precision and recall", "Calibration", "Confusion matrix", "an identifier, by its name"):
        assert title in page
    assert "<script" not in page
    assert "http://" not in page
    for column in ("transaction_id", "customer_id"):
        assert not any(value in page for value in table[column].to_pylist())


def test_other_layout_of_columns(room: Room) -> None:
    """Seconds as time column, another label: the public credit-card set."""
    table = transactions(1000)
    seconds = pa.array(np.arange(1000, dtype=np.float64))
    table = table.drop_columns(["timestamp", "is_fraud"]).append_column("Time", seconds)
    room.give(table.append_column("Class", transactions(1000)["is_fraud"]))
    trained = room.train(label="Class", time_column="Time")
    assert trained.metrics["rows_test"] == 250


def test_split_without_time(room: Room) -> None:
    room.give(transactions(800).drop_columns(["timestamp"]))
    assert room.train(time_column="", algorithm="logistic_regression").metrics["rows_test"] == pytest.approx(200, abs=1)


def test_image_and_source_stand_in_the_provenance(room: Room, trust: Trust) -> None:
    room.give(transactions(600))
    settings = Settings(**{**vars(room.settings), "image_digest": "sha256:" + "ef" * 32, "source_revision": "0123abc"})
    Room(room.root, settings, room.signer, room.run_id).train(algorithm="logistic_regression")
    evidence = read_evidence(room.outputs.provenance, TRAINING, trust, run_id=room.run_id)
    assert evidence.dependency("image") == "ef" * 32
    assert "0123abc" in json.dumps(evidence.statement)


def test_own_trainer(room: Room, trust: Trust) -> None:
    room.give(transactions(800))
    trained = room.train(trainer="own_trainers:forest_of_trees")
    evidence = read_evidence(room.outputs.provenance, TRAINING, trust, run_id=room.run_id)
    assert evidence.dependency("trainer") == sha256_file(Path(__file__).parent / "own_trainers.py")
    assert trained.metadata["trainer"] == "own_trainers:forest_of_trees"


def flip(room: Room) -> None:
    file = room.root / "given" / "dataset" / "part-0.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def add(room: Room) -> None:
    pq.write_table(transactions(10), room.root / "given" / "dataset" / "more.parquet")


def remove(room: Room) -> None:
    (room.root / "given" / "dataset" / "part-1.parquet").unlink()


def rename(room: Room) -> None:
    (room.root / "given" / "dataset" / "part-1.parquet").rename(room.root / "given" / "dataset" / "part-9.parquet")


def empty(room: Room) -> None:
    (room.root / "given" / "dataset" / "part-0.parquet").write_bytes(b"")


@pytest.mark.parametrize("tamper", [flip, add, remove, rename, empty])
def test_changed_dataset_is_refused_before_a_row_is_read(
    room: Room, tamper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = list_tree(room.give(transactions(300), files=2))
    tamper(room)
    monkeypatch.setattr(pq, "ParquetFile", lambda *_: pytest.fail("a row was read"))
    with pytest.raises(EvidenceInvalid) as refusal:
        room.train()
    found = list_tree(room.root / "given" / "dataset").sha256
    assert "dataset" in refusal.value.evidence
    assert listing.sha256 in refusal.value.evidence
    assert found in refusal.value.evidence
    assert room.left() == []


def test_symbolic_link_in_the_dataset_is_refused(room: Room) -> None:
    dataset = room.give(transactions(300))
    (dataset / "part-0.parquet").rename(room.root / "moved")
    (dataset / "part-0.parquet").symlink_to(room.root / "moved")
    with pytest.raises(InputRefused, match="symbolic link"):
        room.train()


def test_evidence_of_another_run_dataset_or_signer_is_refused(room: Room, make_signer: Any) -> None:
    dataset = room.give(transactions(300))
    attestation = room.root / "given" / "attestation"
    other = write_dataset(room.root / "other", transactions(300, seed=9))
    for name, subject, signer, run in (
        ("another run", dataset, room.signer, "yesterday"),
        ("another dataset", other, room.signer, room.run_id),
        ("another signer", dataset, make_signer("stranger"), room.run_id),
    ):
        shutil.rmtree(attestation)
        attest(subject, attestation, signer, run)
        with pytest.raises(EvidenceInvalid):
            room.train()
        assert room.left() == [], name


def test_missing_and_truncated_attestation_are_refused(room: Room) -> None:
    room.give(transactions(300))
    bundle = room.root / "given" / "attestation" / f"{ATTESTATION.name}.sigstore.json"
    data = bundle.read_bytes()
    for content in (data[: len(data) // 2], b"", b"{}"):
        bundle.write_bytes(content)
        with pytest.raises(EvidenceInvalid):
            room.train()
    bundle.unlink()
    with pytest.raises(EvidenceInvalid):
        room.train()
    assert room.left() == []


def with_column(name: str, values: Any) -> pa.Table:
    table = transactions(300)
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (transactions(300).slice(0, 0), "empty"),
        (transactions(300).drop_columns(["is_fraud"]), "label column is missing"),
        (transactions(300).drop_columns(["timestamp"]), "time column is missing"),
        (with_column("is_fraud", pa.array([0] * 300)), "one class only"),
        (with_column("is_fraud", pa.array([0.0, 1.0, float("nan")] * 100)), "has gaps"),
        (with_column("amount", pa.array([1.0, 2.0, float("inf")] * 100)), "infinite"),
        (transactions(300).select(["transaction_id", "timestamp", "email", "is_fraud"]), "No column"),
    ],
    ids=["empty", "no-label", "no-time", "one-class", "nan-label", "inf", "no-feature"],
)
def test_data_that_cannot_be_trained_on_is_refused_before_a_run_is_opened(
    room: Room, uri: str, table: pa.Table, why: str
) -> None:
    room.give(table)
    before = runs_so_far(uri)
    with pytest.raises(InputRefused, match=why):
        room.train()
    assert room.left() == []
    assert runs_so_far(uri) == before


@pytest.mark.parametrize(
    "parameters",
    [
        {"algorithm": "lightgbm"},
        {"trainer": "no.such:thing"},
        {"test_share": 0.0},
        {"test_share": 1.0},
        {"test_share": float("nan")},
        {"seed": -1},
        {"seed": 2**32},
        {"label": ""},
        {"label": "timestamp"},
    ],
)
def test_wrong_parameters_are_refused(room: Room, parameters: dict[str, Any]) -> None:
    room.give(transactions(300))
    with pytest.raises(Misconfigured):
        room.train(**parameters)
    assert room.left() == []


def test_empty_run_is_refused(room: Room) -> None:
    room.give(transactions(300))
    with pytest.raises(Misconfigured, match="parameter"):
        Room(room.root, room.settings, room.signer, "").train()


def test_missing_signer_is_refused_before_anything_is_read(room: Room) -> None:
    settings = Settings(**{**vars(room.settings), "signers": {}})
    with pytest.raises(Misconfigured, match="signer"):
        Room(room.root, settings, room.signer, room.run_id).train()


@pytest.mark.parametrize(
    ("trainer", "kind"), [("fails", Misconfigured), ("own_class", InputRefused), ("unfaithful", InputRefused)]
)
def test_refusal_while_training_leaves_nothing_and_a_failed_run(
    room: Room, uri: str, trainer: str, kind: type[CustodyError]
) -> None:
    from mlflow import MlflowClient

    room.give(transactions(600))
    with pytest.raises(kind):
        room.train(trainer=f"own_trainers:{trainer}")
    assert room.left() == []
    client = MlflowClient(tracking_uri=uri)
    (latest,) = client.search_runs([client.get_experiment_by_name("kfp-custody").experiment_id], max_results=1)
    assert latest.info.status == "FAILED"


def test_task_killed_while_training_leaves_nothing_that_a_later_stage_accepts(
    room: Room, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.give(transactions(300))
    child = os.fork()
    if child == 0:
        room.train(trainer="own_trainers:dies")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not room.outputs.model.exists()
    assert not room.outputs.report.exists()
    with pytest.raises(EvidenceInvalid):
        read_evidence(room.outputs.provenance, TRAINING, trust, run_id=room.run_id)
    assert all("partial" in name for name in room.left())
    assert room.train(algorithm="logistic_regression").metrics["rows_test"] == 75


def test_mlflow_that_cannot_be_reached_leaves_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.give(transactions(300))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnreachable):
        room.train()
    assert room.left() == []
