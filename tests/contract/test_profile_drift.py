"""check_profile_drift as KFP calls it: a month against the signed profile of the month a model was trained on."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from securesystemslib.signer import Signer

from genuine_chain import write_masking
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    DatasetProfile,
    MaskedDataset,
    SignedModel,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.digests import list_tree, sha256_bytes, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    PROFILE,
    PROFILE_DRIFT,
    TRAINING,
    now,
    provenance,
    resource,
    write_evidence,
)
from kfp_custody.components._shared.profiles import read_profile
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.data_attestation.attestation import attest
from kfp_custody.components.drift_detection.component import check_profile_drift, profile_dataset

THEN = "the-training-run"
ROWS = 6000


def write_month(root: Path, seed: int, shift: float = 0.0) -> None:
    root.mkdir()
    rng = np.random.default_rng(seed)
    columns = {
        "card": pa.array([f"pseudonym{n}" for n in range(ROWS)]),
        "amount": pa.array(rng.lognormal(3 + shift, 1, ROWS)),
        "hour": pa.array(rng.integers(0, 24, ROWS)),
        "channel": pa.array(rng.choice(["atm", "pos"], ROWS)),
        "is_fraud": pa.array((rng.random(ROWS) < 0.1).astype(np.int64)),
    }
    pq.write_table(pa.table(columns), root / "data.parquet", row_group_size=2500)


def write_model(root: Path, month: Path) -> None:
    import xgboost

    root.mkdir(parents=True)
    table = pq.read_table(month / "data.parquet")
    matrix = np.column_stack([table["amount"].to_numpy(), table["hour"].to_numpy(), np.zeros(len(table))])
    target = (matrix[:, 0] > np.quantile(matrix[:, 0], 0.9)).astype(int)
    xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(matrix, target).save_model(root / "model.ubj")
    features = [
        {"name": "amount", "type": "number"},
        {"name": "hour", "type": "number"},
        {"name": "channel", "type": "category", "categories": ["atm", "pos"]},
    ]
    signature = {"schema_version": 1, "format": "xgboost-ubj", "file": "model.ubj", "features": features}
    signature |= {"label": "is_fraud", "threshold": 0.5, "trusted_types": []}
    (root / "signature.json").write_text(json.dumps(signature))


def write_training(directory: Path, root: Path, signer: Signer) -> None:
    listing = list_tree(root / "model" / "model")
    named = [
        resource("dataset", list_tree(root / "reference").sha256),
        resource("attestation", sha256_file(root / "attestation" / f"{ATTESTATION.name}.sigstore.json")),
    ]
    made = {"started": now(), "parameters": {}, "internal": {}, "dependencies": named, "byproducts": []}
    write_evidence(directory, provenance(TRAINING, listing, run_id=THEN, **made), signer, listing)


@dataclass
class Bench:
    """A training run that left a model and a profile, and a later run with another month."""

    root: Path
    run_id: str
    signer: Signer

    def artifact(self, kind: Any, name: str) -> Any:
        return kind(uri=str(self.root / name))

    def profile(self, *, model: bool = True, provenance: bool = True) -> None:
        for name in ("profile", "profile-evidence"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        profile_dataset.python_func(
            self.artifact(MaskedDataset, "reference"),
            self.artifact(DatasetAttestation, "attestation"),
            self.artifact(DatasetProfile, "profile"),
            self.artifact(TestResult, "profile-evidence"),
            THEN,
            self.artifact(SignedModel, "model") if model else None,
            self.artifact(TrainingProvenance, "provenance") if provenance else None,
        )

    def run(self, **parameters: Any) -> str:
        self.metrics = self.artifact(TestResult, "metrics")
        found: str = check_profile_drift.python_func(
            current=self.artifact(MaskedDataset, "current"),
            current_masking=self.artifact(TestResult, "masking"),
            profile=self.artifact(DatasetProfile, "profile"),
            profile_evidence=self.artifact(TestResult, "profile-evidence"),
            provenance=self.artifact(TrainingProvenance, "provenance"),
            model=self.artifact(SignedModel, "model"),
            evidence=self.artifact(TestResult, "evidence"),
            report=self.artifact(TestResult, "report"),
            metrics=self.metrics,
            **({"run_id": self.run_id, "training_run_id": THEN} | parameters),
        )
        return found

    def report(self) -> Any:
        return json.loads((self.root / "evidence" / "report.json").read_bytes())


@pytest.fixture
def bench(tmp_path: Path, signer: Signer, settings: Settings, run_id: str) -> Callable[..., Bench]:
    def build(shift: float = 0.0) -> Bench:
        write_month(tmp_path / "reference", 1)
        write_month(tmp_path / "current", 2, shift)
        write_masking(tmp_path / "masking-then", tmp_path / "reference", signer, THEN)
        write_masking(tmp_path / "masking", tmp_path / "current", signer, run_id)
        attest(tmp_path / "reference", tmp_path / "masking-then", tmp_path / "attestation", THEN, settings)
        write_model(tmp_path / "model" / "model", tmp_path / "reference")
        write_training(tmp_path / "provenance", tmp_path, signer)
        made = Bench(tmp_path, run_id, signer)
        made.profile()
        return made

    return build


def test_a_profile_made_for_a_model_holds_its_scores_and_label(bench: Callable[..., Bench], trust: Trust) -> None:
    root = bench().root
    found = read_profile((root / "profile" / "profile.json").read_bytes())
    assert found.scores is not None
    assert found.scores.scores.finite == ROWS
    assert 0.05 < found.scores.positive_share < 0.15
    table = pq.read_table(root / "reference" / "data.parquet")
    assert found.label is not None
    assert (found.label.rows, found.label.positives) == (ROWS, int(table["is_fraud"].to_numpy().sum()))
    verified = read_evidence(root / "profile-evidence", PROFILE, trust, run_id=THEN)
    assert verified.dependency("model") == list_tree(root / "model" / "model").sha256
    assert verified.dependency("provenance") == sha256_file(root / "provenance" / f"{TRAINING.name}.sigstore.json")


def test_a_month_like_the_training_month_passes(bench: Callable[..., Bench], trust: Trust, run_id: str) -> None:
    made = bench()
    assert made.run() == "PASSED"
    evidence = read_evidence(made.root / "evidence", PROFILE_DRIFT, trust, run_id=run_id)
    require_subject(evidence, made.root / "current", "current dataset")
    assert evidence.result == "PASSED"
    assert set(evidence.predicate["passedTests"]) == {
        *("column:amount", "column:hour", "column:channel"),
        *("prediction", "label:is_fraud"),
    }
    assert evidence.metrics == made.metrics.metadata
    assert evidence.metrics["prediction_psi"] < 0.05
    assert evidence.predicate["custody_coverage"] == {"checked": 3, "skipped": 0, "errors": 0}
    assert evidence.dependency("profile") == list_tree(made.root / "profile").sha256
    assert evidence.dependency("report") == sha256_bytes((made.root / "evidence" / "report.json").read_bytes())
    assert made.report()["stage"] == "check-profile-drift"
    assert len((made.root / "report").read_bytes()) < 300_000


def test_a_shifted_month_fails(bench: Callable[..., Bench]) -> None:
    made = bench(shift=1.0)
    assert made.run() == "FAILED"
    assert made.report()["columns"][0]["name"] == "amount"
    assert made.report()["prediction"]["verdict"] == "drift"


def test_without_scores_the_prediction_is_unknown_and_nothing_passes(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.profile(model=False, provenance=False)
    assert made.run() == "WARNED"
    report = made.report()
    assert report["prediction"]["verdict"] == "unknown"
    assert report["coverage"] == {"checked": 3, "skipped": 1, "errors": 0}
    assert report["label"] is None
    assert "prediction_psi" not in made.metrics.metadata


@pytest.mark.parametrize("given", [{"model": False}, {"provenance": False}])
def test_a_model_is_profiled_with_its_provenance_or_not_at_all(
    bench: Callable[..., Bench], given: dict[str, bool]
) -> None:
    made = bench()
    with pytest.raises(Misconfigured, match="or not at all"):
        made.profile(**given)
    assert not (made.root / "profile").exists()


@pytest.mark.parametrize(
    "file", ["current/data.parquet", "profile/profile.json", "model/model/model.ubj", "model/model/signature.json"]
)
def test_a_flipped_byte_is_refused(bench: Callable[..., Bench], file: str) -> None:
    made = bench()
    data = bytearray((made.root / file).read_bytes())
    data[len(data) // 2] ^= 1
    (made.root / file).write_bytes(data)
    with pytest.raises(EvidenceInvalid) as caught:
        made.run()
    assert caught.value.code == codes.BYTES
    assert not (made.root / "evidence").exists()
    assert not (made.root / "report").exists()


@pytest.mark.parametrize(
    "parameters", [{"run_id": "another-run"}, {"training_run_id": "another-run"}, {"training_run_id": ""}]
)
def test_evidence_of_another_run_is_refused(bench: Callable[..., Bench], parameters: dict[str, str]) -> None:
    with pytest.raises(EvidenceInvalid) as caught:
        bench().run(**parameters)
    assert caught.value.code == codes.OTHER_RUN


def test_the_profile_of_another_dataset_than_the_models_is_refused(
    bench: Callable[..., Bench], settings: Settings
) -> None:
    made = bench()
    for name in ("reference", "masking-then", "attestation"):
        shutil.rmtree(made.root / name)
    write_month(made.root / "reference", 7)
    write_masking(made.root / "masking-then", made.root / "reference", made.signer, THEN)
    attest(made.root / "reference", made.root / "masking-then", made.root / "attestation", THEN, settings)
    with pytest.raises(EvidenceInvalid, match="the dataset to profile"):
        made.profile()
    made.profile(model=False, provenance=False)
    with pytest.raises(EvidenceInvalid, match="the dataset of the profile"):
        made.run()


def test_the_scores_of_another_model_are_refused(bench: Callable[..., Bench]) -> None:
    made = bench()
    shutil.rmtree(made.root / "provenance")
    signature = made.root / "model" / "model" / "signature.json"
    signature.write_text(signature.read_text().replace("0.5", "0.25"))
    write_training(made.root / "provenance", made.root, made.signer)
    with pytest.raises(EvidenceInvalid, match="the model that scored the profile"):
        made.run()


def test_what_is_no_profile_is_refused_though_it_was_signed_for(bench: Callable[..., Bench]) -> None:
    made = bench()
    shutil.rmtree(made.root / "profile-evidence")
    path = made.root / "profile" / "profile.json"
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":1'))
    listing = list_tree(made.root / "profile")
    named = [
        resource("dataset", list_tree(made.root / "reference").sha256),
        resource("attestation", sha256_file(made.root / "attestation" / f"{ATTESTATION.name}.sigstore.json")),
    ]
    built = {"started": now(), "parameters": {}, "internal": {}, "dependencies": named, "byproducts": []}
    statement = provenance(PROFILE, listing, run_id=THEN, **built)
    write_evidence(made.root / "profile-evidence", statement, made.signer, listing)
    with pytest.raises(InputRefused, match="another version"):
        made.run()


@pytest.mark.parametrize("parameters", [{"thresholds": "strict"}, {"run_id": ""}])
def test_wrong_parameters_are_refused(bench: Callable[..., Bench], parameters: dict[str, str]) -> None:
    with pytest.raises(Misconfigured):
        bench().run(**parameters)


def test_in_a_task_a_refusal_ends_without_a_traceback(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench()
    (made.root / "profile" / "profile.json").write_bytes(b"")
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit, match=r"REFUSED EvidenceInvalid: \[CUS-E215\] profile"):
        made.run()


# --- what past checks left --------------------------------------------------------------------------------------------


def keep(made: Bench, name: str) -> None:
    """Move the evidence of a check to the history."""
    (made.root / "history").mkdir(exist_ok=True)
    (made.root / "evidence").rename(made.root / "history" / name)


def test_past_checks_of_this_model_are_listed_and_drawn(bench: Callable[..., Bench]) -> None:
    made = bench()
    for name in ("first", "second"):
        made.run()
        keep(made, name)
    shutil.copytree(made.root / "history" / "first", made.root / "history" / "again")
    made.run(history=made.artifact(TestResult, "history"))
    history = made.report()["history"]
    assert len(history) in (1, 2), "checks of the same second and bytes are one piece of evidence"
    assert {(past["run_id"], past["result"], past["share_drifted"]) for past in history} == {
        (made.run_id, "PASSED", 0.0)
    }
    assert f"{len(history) + 1} checks, this one last" in (made.root / "report").read_text()


def test_checks_of_another_model_are_left_out(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.run()
    keep(made, "first")
    shutil.rmtree(made.root / "provenance")
    signature = made.root / "model" / "model" / "signature.json"
    signature.write_text(signature.read_text().replace("0.5", "0.25"))
    write_training(made.root / "provenance", made.root, made.signer)
    made.profile()
    made.run(history=made.artifact(TestResult, "history"))
    assert made.report()["history"] == []


def test_a_forged_past_is_refused(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.run()
    keep(made, "first")
    path = made.root / "history" / "first" / "report.json"
    path.write_bytes(path.read_bytes().replace(b"PASSED", b"FAILED"))
    with pytest.raises(EvidenceInvalid) as caught:
        made.run(history=made.artifact(TestResult, "history"))
    assert caught.value.code == codes.ATTACHMENT
    assert not (made.root / "evidence").exists()


def test_a_history_of_something_else_is_refused(bench: Callable[..., Bench]) -> None:
    made = bench()
    shutil.copytree(made.root / "masking", made.root / "history" / "masking")
    with pytest.raises(InputRefused, match="holds no evidence of a drift check"):
        made.run(history=made.artifact(TestResult, "history"))
