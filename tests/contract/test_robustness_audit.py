"""audit_robustness as KFP calls it: real artifacts, evidence, model and dataset on disk."""

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
from kfp_custody.components._shared.digests import list_tree, sha256_bytes, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    ROBUSTNESS,
    TRAINING,
    now,
    provenance,
    resource,
    write_evidence,
)
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.robustness_audit import stage
from kfp_custody.components.robustness_audit.component import audit_robustness

BUILT = {"started": now(), "parameters": {}, "internal": {}, "byproducts": []}


def write_month(root: Path, rows: int = 1500) -> None:
    root.mkdir()
    random = np.random.default_rng(1)
    amount, hour = random.lognormal(3, 1, rows), random.integers(0, 24, rows)
    columns = {
        "card": pa.array([f"pseudonym{number}" for number in range(rows)]),
        "amount": pa.array(amount),
        "hour": pa.array(hour),
        "channel": pa.array(random.choice(["atm", "pos"], rows)),
        "is_fraud": pa.array(((amount > 60) & (hour < 12)).astype(np.int64)),
    }
    pq.write_table(pa.table(columns), root / "data.parquet")


def write_model(root: Path, month: Path) -> None:
    import xgboost

    root.mkdir(parents=True)
    table = pq.read_table(month / "data.parquet")
    matrix = np.column_stack([table["amount"].to_numpy(), table["hour"].to_numpy(), np.zeros(len(table))])
    model = xgboost.XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1).fit(matrix, table["is_fraud"].to_numpy())
    model.save_model(root / "model.ubj")
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
        "threshold": 0.5,
        "trusted_types": [],
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
        return audit_robustness.python_func(
            model=artifact(SignedModel, "model"),
            provenance=artifact(TrainingProvenance, "provenance"),
            dataset=artifact(MaskedDataset, "dataset"),
            attestation=artifact(DatasetAttestation, "attestation"),
            evidence=self.evidence,
            report=artifact(dsl.HTML, "report"),
            metrics=self.metrics,
            **({"run_id": self.run_id} | parameters),
        )


@pytest.fixture
def bench(tmp_path, signer, settings, run_id):
    root = tmp_path / "run"
    root.mkdir()
    write_month(root / "dataset")
    write_model(root / "model" / "model", root / "dataset")
    (root / "model" / "model.sig").write_text("{}")
    sign_all(root, signer, run_id)
    return Bench(root, run_id)


def sign_all(root, signer, run_id, dataset=None):
    """Leave attestation and provenance; `dataset`: the digest that the provenance is to name."""
    listing = list_tree(root / "dataset")
    statement = provenance(ATTESTATION, listing, run_id=run_id, dependencies=[], **BUILT)
    bundle = write_evidence(root / "attestation", statement, signer, listing)
    model = list_tree(root / "model" / "model")
    made_of = [resource("dataset", dataset or listing.sha256), resource("attestation", sha256_file(bundle))]
    statement = provenance(TRAINING, model, run_id=run_id, dependencies=made_of, **BUILT)
    write_evidence(root / "provenance", statement, signer, model)


def test_an_audit_leaves_evidence_about_the_model(bench, trust: Trust, run_id):
    verdict = bench.run()
    evidence = read_evidence(bench.root / "evidence", ROBUSTNESS, trust, run_id=run_id)
    require_subject(evidence, bench.root / "model" / "model", "model")
    assert verdict == evidence.result == bench.evidence.metadata["verdict"]
    assert evidence.metrics == bench.metrics.metadata
    assert 0.0 <= evidence.metrics["still_detected_050"] <= evidence.metrics["still_detected_025"] <= 1.0
    predicate = evidence.statement["predicate"]
    named = [*predicate["passedTests"], *predicate["warnedTests"], *predicate["failedTests"]]
    assert sorted(named) == [
        "median_distance",
        "rows",
        *(f"still_detected:{far}" for far in ("0.25", "0.5", "1", "2")),
    ]
    assert predicate["custody_coverage"]["checked"] == evidence.metrics["attacked"] > 30
    assert evidence.dependency("dataset") == list_tree(bench.root / "dataset").sha256
    report = (bench.root / "evidence" / "report.json").read_bytes()
    assert evidence.dependency("report") == sha256_bytes(report)
    assert json.loads(report)["not_moved"] == {"channel": "immutable"}
    page = (bench.root / "report").read_text()
    assert len(page) < 300_000
    assert "pseudonym" not in page


def test_a_model_that_is_passed_easily_fails_and_the_task_still_leaves_its_reports(bench, trust: Trust, run_id):
    limits = stage.load_limits("default")
    text = Path(stage.__file__).with_name("thresholds").joinpath("default.yaml").read_text()
    strict = bench.root / "strict.yaml"
    strict.write_text(text.replace("median_distance: {warn: 0.5, fail: 0.25}", "median_distance: {warn: 99, fail: 99}"))
    assert limits.median_distance.fail == 0.25
    assert bench.run(limits=str(strict)) == "FAILED"
    evidence = read_evidence(bench.root / "evidence", ROBUSTNESS, trust, run_id=run_id)
    assert "median_distance" in evidence.statement["predicate"]["failedTests"]
    assert evidence.dependency("limits") == sha256_file(strict)


@pytest.mark.parametrize(
    ("file", "artifact"),
    [
        ("dataset/data.parquet", "dataset"),
        ("model/model/model.ubj", "model"),
        ("model/model/signature.json", "model"),
    ],
)
def test_a_flipped_byte_is_refused_before_anything_is_read(bench, file, artifact):
    path = bench.root / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(EvidenceInvalid, match=f"{artifact} expected sha256:[0-9a-f]{{64}}, found sha256:"):
        bench.run()
    assert not (bench.root / "evidence").exists()
    assert not (bench.root / "report").exists()


@pytest.mark.parametrize("file", ["dataset/data.parquet", "model/model/model.ubj"])
def test_bytes_that_change_after_they_were_verified_are_never_read(bench, file, monkeypatch):
    artifact = file.partition("/")[0]
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


def test_a_dataset_that_the_model_was_not_trained_on_is_refused(bench, signer, run_id):
    for place in ("attestation", "provenance"):
        shutil.rmtree(bench.root / place)
    sign_all(bench.root, signer, run_id, dataset="ab" * 32)
    with pytest.raises(EvidenceInvalid, match="the dataset of the model"):
        bench.run()


@pytest.mark.parametrize("place", ["attestation", "provenance"])
def test_evidence_that_is_missing_or_of_another_kind_is_refused(bench, place):
    shutil.rmtree(bench.root / place)
    with pytest.raises(EvidenceInvalid):
        bench.run()
    shutil.copytree(bench.root / ("attestation" if place == "provenance" else "provenance"), bench.root / place)
    with pytest.raises(EvidenceInvalid):
        bench.run()


def test_evidence_of_another_run_is_refused(bench):
    with pytest.raises(EvidenceInvalid, match="belongs to run"):
        bench.run(run_id="another-run")


@pytest.mark.parametrize("parameters", [{"limits": "strict"}, {"constraints": "strict"}, {"run_id": ""}])
def test_wrong_parameters_are_refused(bench, parameters):
    with pytest.raises(Misconfigured):
        bench.run(**parameters)
    assert not (bench.root / "evidence").exists()


def test_without_a_signer_nothing_is_audited(bench, monkeypatch):
    monkeypatch.delenv("CUSTODY_SIGNER")
    with pytest.raises(Misconfigured, match="No signer"):
        bench.run()


def test_in_a_task_a_refusal_ends_without_a_traceback(bench, monkeypatch):
    (bench.root / "dataset" / "data.parquet").write_bytes(b"")
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit, match=r"REFUSED EvidenceInvalid: \[CUS-E215\] dataset"):
        bench.run()
