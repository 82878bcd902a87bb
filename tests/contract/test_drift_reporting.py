"""report_drift as KFP calls it: Evidently's report of verified bytes, and nothing signed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from securesystemslib.signer import Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    MaskedDataset,
    SignedModel,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    MASKING,
    TRAINING,
    now,
    provenance,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.scoring import Feature
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.drift_reporting import stage
from kfp_custody.components.drift_reporting.component import report_drift
from kfp_custody.components.drift_reporting.sampling import sample

ROWS = 3000
FEATURES = (Feature("amount", "number"), Feature("night", "number"), Feature("channel", "category", ("atm", "pos")))


def month(seed: int, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    columns = {
        "card": pa.array([f"pseudonym{n}" for n in range(ROWS)]),
        "amount": pa.array(rng.lognormal(3, 1, ROWS)),
        "night": pa.array(rng.random(ROWS) < 0.2),
        "channel": pa.array(rng.choice(["atm", "pos"], ROWS)).dictionary_encode(),
    } | changes
    return {name: values for name, values in columns.items() if values is not None}


@pytest.fixture
def made(tmp_path: Path, signer: Signer, settings: Settings, run_id: str) -> Callable[..., Path]:
    """Leave the artifacts of a run; `changes`: columns of the current month."""
    assert settings.trust_file

    def build(**changes: Any) -> Path:
        for name, columns in (("reference", month(1)), ("current", month(2, **changes))):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            (tmp_path / name).mkdir()
            pq.write_table(pa.table(columns), tmp_path / name / "data.parquet", row_group_size=1000)
        (tmp_path / "model" / "model").mkdir(parents=True, exist_ok=True)
        features = [{"name": one.name, "type": one.type} for one in FEATURES]
        features[2]["categories"] = ["atm", "pos"]  # type: ignore[assignment]
        signature = {"schema_version": 1, "format": "xgboost-ubj", "file": "model.ubj", "features": features}
        signature |= {"label": "is_fraud", "threshold": 0.5, "trusted_types": []}
        (tmp_path / "model" / "model" / "signature.json").write_text(json.dumps(signature))
        masked = list_tree(tmp_path / "current")
        statement = test_result(MASKING, masked, result="PASSED", run_id=run_id, configuration=[], passed=["x"])
        for place in ("masking", "attestation", "provenance"):
            shutil.rmtree(tmp_path / place, ignore_errors=True)
        write_evidence(tmp_path / "masking", statement, signer, masked)
        built = {"started": now(), "parameters": {}, "internal": {}, "dependencies": [], "byproducts": []}
        for kind, place, name in ((ATTESTATION, "attestation", "reference"), (TRAINING, "provenance", "model/model")):
            listing = list_tree(tmp_path / name)
            write_evidence(tmp_path / place, provenance(kind, listing, run_id=run_id, **built), signer, listing)
        return tmp_path

    return build


def drawn(root: Path, run: str, **parameters: Any) -> str:
    def artifact(kind: Any, name: str) -> Any:
        return kind(uri=str(root / name))

    report_drift.python_func(
        artifact(MaskedDataset, "reference"),
        artifact(MaskedDataset, "current"),
        artifact(DatasetAttestation, "attestation"),
        artifact(TestResult, "masking"),
        artifact(TrainingProvenance, "provenance"),
        artifact(SignedModel, "model"),
        artifact(TestResult, "report"),
        **({"run_id": run} | parameters),
    )
    return (root / "report").read_text()


def test_a_report_over_a_sample_says_so(made: Callable[..., Path], run_id: str) -> None:
    report = drawn(made(), run_id, sample_rows=500)
    assert "random sample of 500 of 3000 reference rows and 500 of 3000 current rows" in report
    assert "Wasserstein" in report
    assert "Jensen-Shannon" in report
    assert "Not shown here" not in report


@pytest.mark.parametrize(
    "values",
    [
        pa.nulls(ROWS, pa.float64()),
        pa.array([np.inf] * ROWS),
        pa.array(["12.50"] * ROWS),
        pa.array([[1.0]] * ROWS),
        None,
    ],
    ids=["null", "infinite", "text", "list", "missing"],
)
def test_what_evidently_cannot_take_is_left_out_and_named(made: Callable[..., Path], run_id: str, values: Any) -> None:
    assert "Not shown here: amount." in drawn(made(amount=values), run_id)


def test_many_categories_are_left_out(made: Callable[..., Path], run_id: str) -> None:
    report = drawn(made(channel=pa.array([f"c{n}" for n in range(ROWS)])), run_id)
    assert "Not shown here: channel." in report


def test_nothing_to_show(made: Callable[..., Path], run_id: str) -> None:
    report = drawn(made(amount=None, night=None, channel=None), run_id)
    assert "Nothing to show" in report
    assert "Not shown here: amount, night, channel." in report


@pytest.mark.parametrize("file", ["reference/data.parquet", "current/data.parquet", "model/model/signature.json"])
def test_a_flipped_byte_is_refused(made: Callable[..., Path], run_id: str, file: str) -> None:
    root = made()
    data = bytearray((root / file).read_bytes())
    data[len(data) // 2] ^= 1
    (root / file).write_bytes(data)
    with pytest.raises(EvidenceInvalid) as caught:
        drawn(root, run_id)
    assert caught.value.code == codes.BYTES
    assert not (root / "report").exists()


def test_bytes_that_change_after_they_were_verified_are_never_read(
    made: Callable[..., Path], run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, genuine = made(), stage.require_subject

    def then_changed(verified: Any, tree: Path, name: str) -> Any:
        listing = genuine(verified, tree, name)
        if name == "current dataset":
            (root / "current" / "data.parquet").write_bytes(b"exchanged")
        return listing

    monkeypatch.setattr(stage, "require_subject", then_changed)
    with pytest.raises(EvidenceInvalid, match="current dataset"):
        drawn(root, run_id)
    assert not list(root.glob(".verified-*"))


def test_evidence_of_another_run_is_refused(made: Callable[..., Path]) -> None:
    with pytest.raises(EvidenceInvalid) as caught:
        drawn(made(), "another-run")
    assert caught.value.code == codes.OTHER_RUN


@pytest.mark.parametrize("parameters", [{"run_id": ""}, {"sample_rows": 0}, {"sample_rows": 100_001}])
def test_wrong_parameters_are_refused(made: Callable[..., Path], run_id: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        drawn(made(), run_id, **parameters)


def test_a_sample_is_of_all_rows_and_the_same_each_time(tmp_path: Path) -> None:
    for number in range(3):
        rows = pa.table({"amount": np.arange(1000.0) + 1000 * number, "night": [True] * 1000, "channel": ["x"] * 1000})
        pq.write_table(rows, tmp_path / f"{number}.parquet", row_group_size=300)
    names = ["SHA256SUMS", *(f"{number}.parquet" for number in range(3))]
    first, again = (sample(tmp_path, names, FEATURES, 200, "current") for _ in range(2))
    assert (first.rows, first.of) == (200, 3000)
    amount = first.columns["amount"]
    assert np.array_equal(amount, again.columns["amount"])
    assert len(set(amount // 1000)) == 3
    assert (np.diff(amount) > 0).all()
    whole = sample(tmp_path, names, FEATURES, 10_000, "current")
    assert np.array_equal(whole.columns["amount"], np.arange(3000.0))


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="no file named"):
        sample(tmp_path, ["data.csv"], FEATURES, 10, "current")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputRefused, match="not readable"):
        sample(tmp_path, ["a.parquet"], FEATURES, 10, "current")
    pq.write_table(pa.table({"amount": pa.array([], pa.float64())}), tmp_path / "a.parquet")
    with pytest.raises(InputRefused, match="0 rows"):
        sample(tmp_path, ["a.parquet"], FEATURES, 10, "current")
    pq.write_table(pa.table({"amount": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"night": [True]}), tmp_path / "b.parquet")
    with pytest.raises(InputRefused, match="differ"):
        sample(tmp_path, ["a.parquet", "b.parquet"], FEATURES, 10, "current")
