"""train_model as KFP calls it: real artifacts, metadata and all, and a process that ends as a task does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Metrics
from securesystemslib.signer import Signer

from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    MaskedDataset,
    TrainedModel,
    TrainingProvenance,
)
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import TRAINING
from kfp_custody.components._shared.scoring import load_scorer
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.model_training.component import train_model

HELPERS = Path(__file__).parents[1] / "unit" / "model_training"


@pytest.fixture
def artifacts(
    tmp_path: Path, settings: Settings, signer: Signer, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(HELPERS))
    from training_data import Room, transactions

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    Room(tmp_path, settings, signer, run_id).give(transactions(1000))
    out = tmp_path / "out"
    return {
        "dataset": MaskedDataset(uri=str(tmp_path / "given" / "dataset")),
        "attestation": DatasetAttestation(uri=str(tmp_path / "given" / "attestation")),
        "model": TrainedModel(name="model", uri=str(out / "model")),
        "provenance": TrainingProvenance(name="provenance", uri=str(out / "provenance")),
        "metrics": Metrics(name="metrics", uri=str(out / "metrics")),
        "roc": ClassificationMetrics(name="roc", uri=str(out / "roc")),
        "report": HTML(name="report", uri=str(out / "report.html")),
        "tensorboard": Artifact(name="tensorboard", uri=str(out / "tensorboard")),
    }


def flat(metadata: dict[str, Any]) -> bool:
    return all(isinstance(value, str | float) for value in metadata.values())


def test_component_fills_every_artifact(artifacts: dict[str, Any], run_id: str, trust: Trust) -> None:
    assert train_model.python_func(**artifacts, run_id=run_id) is None
    evidence = read_evidence(Path(artifacts["provenance"].path), TRAINING, trust, run_id=run_id)
    model = require_subject(evidence, Path(artifacts["model"].path), "model")
    assert artifacts["model"].metadata["sha256"] == model.sha256
    assert artifacts["metrics"].metadata == evidence.metrics
    assert flat(artifacts["model"].metadata)
    assert flat(artifacts["metrics"].metadata)
    roc = artifacts["roc"].metadata
    assert 2 < len(roc["confidenceMetrics"]) <= 200
    assert [len(row["row"]) for row in roc["confusionMatrix"]["rows"]] == [2, 2]
    json.dumps(roc, allow_nan=False)
    assert Path(artifacts["report"].path).read_text().startswith("<!doctype html>")
    assert list(Path(artifacts["tensorboard"].path).iterdir())
    assert load_scorer(Path(artifacts["model"].path)).signature.label == "is_fraud"


def test_parameters_reach_the_training(artifacts: dict[str, Any], run_id: str, trust: Trust) -> None:
    given = {"algorithm": "logistic_regression", "time_column": "", "seed": 3, "test_share": 0.5}
    train_model.python_func(**artifacts, run_id=run_id, **given)
    evidence = read_evidence(Path(artifacts["provenance"].path), TRAINING, trust, run_id=run_id)
    assert evidence.predicate["buildDefinition"]["externalParameters"] == {"label": "is_fraud", "trainer": "", **given}
    assert artifacts["metrics"].metadata["rows_test"] == pytest.approx(500, abs=1)
    assert artifacts["model"].metadata["format"] == "sklearn-skops"


def test_called_from_python_a_refusal_is_raised(artifacts: dict[str, Any]) -> None:
    with pytest.raises(EvidenceInvalid, match="train|attest"):
        train_model.python_func(**artifacts, run_id="another-run")
    assert not Path(artifacts["model"].path).exists()


def test_in_a_task_a_refusal_ends_the_process_with_a_message_and_no_traceback(
    artifacts: dict[str, Any], run_id: str, tmp_path: Path, executor: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    dataset = Path(artifacts["dataset"].path)
    data = bytearray((dataset / "part-0.parquet").read_bytes())
    data[100] ^= 1
    (dataset / "part-0.parquet").write_bytes(data)
    ended = executor(artifacts, run_id)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-4:]
    assert last[0].startswith("REFUSED EvidenceInvalid") or "REFUSED EvidenceInvalid" in ended.stderr
    assert not any("Traceback" in line for line in last)
    assert "remedy" in last[-1]
    assert not (tmp_path / "out" / "model").exists()


@pytest.fixture
def executor() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the component as KFP's executor does: its own process, _KFP_RUNTIME=true."""
    program = (
        "import inspect, sys, textwrap\n"
        "from kfp import dsl\n"
        "from kfp.dsl import *\n"
        "from kfp_custody.components._shared.artifacts import *\n"
        "from pathlib import Path\n"
        "source = Path(sys.argv[1]).read_text().split('@dsl.component')[1].split('\\n', 1)[1]\n"
        "exec(compile(source, 'component', 'exec'))\n"
        "paths = dict(pair.split('=', 1) for pair in sys.argv[3:])\n"
        "train_model(**{name: Artifact(uri=path) for name, path in paths.items()}, run_id=sys.argv[2])\n"
    )

    def run(artifacts: dict[str, Any], run_id: str) -> subprocess.CompletedProcess[str]:
        source = Path(train_model.python_func.__code__.co_filename)
        pairs = [f"{name}={artifact.path}" for name, artifact in artifacts.items()]
        return subprocess.run(
            [sys.executable, "-c", program, str(source), run_id, *pairs],
            env={**os.environ, "_KFP_RUNTIME": "true"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
