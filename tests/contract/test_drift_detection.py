"""check_drift as KFP calls it: real artifacts, evidence, model and months on disk."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    MaskedDataset,
    SignedModel,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.digests import list_tree, sha256_bytes
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    DRIFT,
    MASKING,
    TRAINING,
    now,
    provenance,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.drift_detection import stage
from kfp_custody.components.drift_detection.component import check_drift

METRICS = {
    "share_drifted",
    "columns_drifted",
    "max_psi",
    "max_ks",
    "prediction_psi",
    "label_rate_delta",
    "rows_reference",
    "rows_current",
}


def write_month(root: Path, seed: int, shift: float = 0.0, rows: int = 4000) -> None:
    root.mkdir()
    rng = np.random.default_rng(seed)
    columns = {
        "card": pa.array([f"pseudonym{n}" for n in range(rows)]),
        "amount": pa.array(rng.lognormal(3 + shift, 1, rows)),
        "hour": pa.array(rng.integers(0, 24, rows)),
        "channel": pa.array(rng.choice(["atm", "pos"], rows)),
        "is_fraud": pa.array((rng.random(rows) < 0.1).astype(np.int64)),
    }
    pq.write_table(pa.table(columns), root / "data.parquet")


def write_model(root: Path, month: Path) -> None:
    import xgboost

    root.mkdir(parents=True)
    table = pq.read_table(month / "data.parquet")
    matrix = np.column_stack([table["amount"].to_numpy(), table["hour"].to_numpy(), np.zeros(len(table))])
    target = (matrix[:, 0] > np.quantile(matrix[:, 0], 0.9)).astype(int)
    xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(matrix, target).save_model(root / "model.ubj")
    signature = {
        "schema_version": 1,
        "format": "xgboost-ubj",
        "file": "model.ubj",
        "features": [
            {"name": "amount", "type": "number"},
            {"name": "hour", "type": "number"},
            {"name": "channel", "type": "category", "categories": ["atm", "pos"]},
        ],
        "label": "is_fraud",
        "classes": [0, 1],
        "threshold": 0.5,
        "trusted_types": [],
        "versions": {},
    }
    (root / "signature.json").write_text(json.dumps(signature))


@dataclass
class Bench:
    """The artifacts of a run, and a way to run the component on them."""

    root: Path
    run_id: str

    def run(self, **parameters: str) -> str:
        def artifact(kind: type[dsl.Artifact], name: str) -> dsl.Artifact:
            return kind(uri=str(self.root / name))

        self.evidence = artifact(TestResult, "evidence")
        self.metrics = artifact(dsl.Metrics, "metrics")
        return check_drift.python_func(
            reference=artifact(MaskedDataset, "reference"),
            current=artifact(MaskedDataset, "current"),
            attestation=artifact(DatasetAttestation, "attestation"),
            current_masking=artifact(TestResult, "masking"),
            provenance=artifact(TrainingProvenance, "provenance"),
            model=artifact(SignedModel, "model"),
            evidence=self.evidence,
            report=artifact(dsl.HTML, "report"),
            metrics=self.metrics,
            **({"run_id": self.run_id} | parameters),
        )


@pytest.fixture
def bench(tmp_path, signer, settings, run_id):
    def build(shift: float = 0.0) -> Bench:
        root = tmp_path / "run"
        root.mkdir()
        write_month(root / "reference", seed=1)
        write_month(root / "current", seed=2, shift=shift)
        write_model(root / "model" / "model", root / "reference")
        (root / "model" / "model.sig").write_text("{}")
        sign_all(root, signer, run_id)
        return Bench(root, run_id)

    return build


def sign_all(root, signer, run_id):
    masked = list_tree(root / "current")
    statement = test_result(MASKING, masked, result="PASSED", run_id=run_id, configuration=[], passed=["x"])
    write_evidence(root / "masking", statement, signer, masked)
    built = {"started": now(), "parameters": {}, "internal": {}, "dependencies": [], "byproducts": []}
    for kind, place, subject in (
        (ATTESTATION, "attestation", root / "reference"),
        (TRAINING, "provenance", root / "model" / "model"),
    ):
        listing = list_tree(subject)
        write_evidence(root / place, provenance(kind, listing, run_id=run_id, **built), signer, listing)


def test_a_month_like_the_last_passes_and_leaves_evidence_of_it(bench, trust: Trust, run_id):
    bench = bench()
    assert bench.run() == "PASSED"
    evidence = read_evidence(bench.root / "evidence", DRIFT, trust, run_id=run_id)
    require_subject(evidence, bench.root / "current", "current dataset")
    assert evidence.result == bench.evidence.metadata["verdict"] == "PASSED"
    assert set(evidence.metrics) >= METRICS
    assert evidence.metrics == bench.metrics.metadata
    predicate = evidence.statement["predicate"]
    assert set(predicate["passedTests"]) == {
        "column:amount",
        "column:hour",
        "column:channel",
        "prediction",
        "label:is_fraud",
    }
    assert predicate["custody_coverage"] == {"checked": 3, "skipped": 0, "errors": 0}
    assert evidence.dependency("reference") == list_tree(bench.root / "reference").sha256
    assert evidence.dependency("model") == list_tree(bench.root / "model" / "model").sha256
    report = (bench.root / "evidence" / "report.json").read_bytes()
    assert evidence.dependency("report") == sha256_bytes(report)
    assert json.loads(report)["thresholds"]["dataset"] == {"drifted_share": 0.3}


def test_a_shifted_month_fails_and_the_task_still_leaves_its_reports(bench, trust: Trust, run_id):
    bench = bench(shift=1.0)
    assert bench.run() == "FAILED"
    evidence = read_evidence(bench.root / "evidence", DRIFT, trust, run_id=run_id)
    assert evidence.result == "FAILED"
    assert evidence.statement["predicate"]["failedTests"] == ["column:amount", "prediction"]
    report = (bench.root / "report").read_text()
    assert report.index("amount") < report.index("hour")
    assert len(report) < 300_000


@pytest.mark.parametrize(
    ("file", "artifact"),
    [
        ("reference/data.parquet", "reference dataset"),
        ("current/data.parquet", "current dataset"),
        ("model/model/model.ubj", "model"),
        ("model/model/signature.json", "model"),
    ],
)
def test_a_flipped_byte_is_refused_before_anything_is_read(bench, file, artifact):
    bench = bench()
    path = bench.root / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(EvidenceInvalid, match=f"{artifact} expected sha256:[0-9a-f]{{64}}, found sha256:"):
        bench.run()
    assert not (bench.root / "evidence").exists()
    assert not (bench.root / "report").exists()


@pytest.mark.parametrize("file", ["reference/data.parquet", "current/data.parquet", "model/model/model.ubj"])
def test_bytes_that_change_after_they_were_verified_are_never_read(bench, file, monkeypatch):
    bench = bench()
    artifact = {"r": "reference dataset", "c": "current dataset", "m": "model"}[file[0]]
    genuine = stage.require_subject

    def then_changed(verified, root, name):
        listing = genuine(verified, root, name)
        if name == artifact:
            (bench.root / file).write_bytes(b"exchanged")
        return listing

    monkeypatch.setattr(stage, "require_subject", then_changed)
    with pytest.raises(EvidenceInvalid, match=f"{artifact} expected sha256:[0-9a-f]{{64}}, found sha256:"):
        bench.run()
    assert not (bench.root / "evidence").exists()
    assert not list(bench.root.glob(".verified-*"))


def test_an_added_file_is_refused(bench):
    bench = bench()
    (bench.root / "model" / "model" / "extra.py").write_text("")
    with pytest.raises(EvidenceInvalid, match=r"unexpected 'extra\.py'"):
        bench.run()


@pytest.mark.parametrize("place", ["masking", "attestation", "provenance"])
def test_evidence_that_is_missing_or_of_another_kind_is_refused(bench, place):
    bench = bench()
    shutil.rmtree(bench.root / place)
    with pytest.raises(EvidenceInvalid):
        bench.run()
    other = "attestation" if place != "attestation" else "masking"
    shutil.copytree(bench.root / other, bench.root / place)
    with pytest.raises(EvidenceInvalid):
        bench.run()


def test_evidence_of_another_run_is_refused(bench):
    with pytest.raises(EvidenceInvalid, match="belongs to run"):
        bench().run(run_id="another-run")


def test_swapped_months_are_refused(bench):
    bench = bench()
    (bench.root / "reference").rename(bench.root / "other")
    (bench.root / "current").rename(bench.root / "reference")
    (bench.root / "other").rename(bench.root / "current")
    with pytest.raises(EvidenceInvalid, match="reference dataset"):
        bench.run()


@pytest.mark.parametrize("parameters", [{"thresholds": "strict"}, {"run_id": ""}])
def test_wrong_parameters_are_refused(bench, parameters):
    with pytest.raises(Misconfigured):
        bench().run(**parameters)


def test_without_a_signer_nothing_is_checked(bench, monkeypatch):
    bench = bench()
    monkeypatch.delenv("CUSTODY_SIGNER")
    with pytest.raises(Misconfigured, match="No signer"):
        bench.run()


def test_an_empty_month_is_refused_though_it_was_signed_for(bench, signer, run_id):
    bench = bench()
    path = bench.root / "current" / "data.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    shutil.rmtree(bench.root / "masking")
    shutil.rmtree(bench.root / "attestation")
    shutil.rmtree(bench.root / "provenance")
    sign_all(bench.root, signer, run_id)
    with pytest.raises(InputRefused, match="0 rows"):
        bench.run()


def test_in_a_task_a_refusal_ends_without_a_traceback(bench, monkeypatch):
    bench = bench()
    (bench.root / "current" / "data.parquet").write_bytes(b"")
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit, match=r"REFUSED EvidenceInvalid: \[CUS-E215\] current dataset"):
        bench.run()
