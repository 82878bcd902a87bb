"""scan_model as KFP calls it: of the bytes that train_model signed for, and signed whatever it finds."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from kfp.dsl import HTML, Metrics
from securesystemslib.signer import Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.artifacts import TestResult, TrainedModel, TrainingProvenance
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.evidence import SCAN, TRAINING, now, provenance, resource, write_evidence
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.model_scanning.allowing import load_allowed
from kfp_custody.components.model_scanning.component import scan_model


class Marks:
    """Would make a folder when it is loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


class Call:
    """A trained model with its provenance, and the task that scans it."""

    def __init__(self, root: Path, signer: Signer, run_id: str) -> None:
        rng = np.random.default_rng(3)
        features = rng.normal(size=(200, 2))
        booster = xgboost.XGBClassifier(n_estimators=3).fit(features, features[:, 0] > 0).get_booster()
        signature = {
            "schema_version": 1,
            "format": "xgboost-ubj",
            "file": "model.ubj",
            "features": [{"name": "amount", "type": "number"}, {"name": "age", "type": "number"}],
            "label": "is_fraud",
            "threshold": 0.5,
            "trusted_types": [],
        }
        self.root, self.signer, self.run_id, self.model = root, signer, run_id, root / "model"
        self.model.mkdir()
        (self.model / "model.ubj").write_bytes(booster.save_raw("ubj"))
        (self.model / "signature.json").write_text(json.dumps(signature))
        self.vouch()

    def vouch(self) -> None:
        """Write the provenance of whatever lies in the model's folder now."""
        directory = self.root / "provenance"
        for path in directory.glob("*"):
            path.unlink()
        listing = list_tree(self.model)
        told: dict[str, Any] = {"run_id": self.run_id, "started": now(), "parameters": {}, "internal": {}}
        statement = provenance(TRAINING, listing, **told, dependencies=[resource("dataset", "ab" * 32)], byproducts=[])
        write_evidence(directory, statement, self.signer, listing)

    def run(self, run_id: str = "", allow_list: str = "default") -> str:
        def artifact(kind: Any, name: str) -> Any:
            return kind(uri=str(self.root / name))

        self.metrics = artifact(Metrics, "metrics")
        return scan_model.python_func(  # type: ignore[no-any-return]
            artifact(TrainedModel, "model"),
            artifact(TrainingProvenance, "provenance"),
            artifact(TestResult, "out/evidence"),
            artifact(HTML, "out/report.html"),
            self.metrics,
            run_id or self.run_id,
            allow_list,
        )

    def report(self) -> Any:
        return json.loads((self.root / "out/evidence/report.json").read_bytes())


@pytest.fixture
def call(tmp_path: Path, signer: Signer, settings: object, run_id: str) -> Call:
    return Call(tmp_path, signer, run_id)


def test_a_trained_model_passes_and_that_is_signed(call: Call, trust: Trust) -> None:
    assert call.run() == "PASSED"
    verified = read_evidence(call.root / "out/evidence", SCAN, trust, run_id=call.run_id)
    require_subject(verified, call.model, "model")
    assert verified.predicate["result"] == "PASSED"
    assert verified.predicate["passedTests"] == ["declared-format", "file:model.ubj", "file:signature.json"]
    assert verified.predicate["custody_coverage"] == {"checked": 2, "skipped": 0, "errors": 0}
    assert verified.dependency("allow-list") == load_allowed("default").sha256
    assert call.metrics.metadata["files"] == 2.0
    assert "xgboost-ubj" in (call.root / "out/report.html").read_text()


def test_a_pickle_in_the_place_of_the_model_fails_and_is_never_run(call: Call, trust: Trust) -> None:
    marker = call.root / "marker"
    (call.model / "model.ubj").write_bytes(pickle.dumps(Marks(marker)))
    call.vouch()
    assert call.run() == "FAILED"
    assert not marker.exists()
    verified = read_evidence(call.root / "out/evidence", SCAN, trust, run_id=call.run_id)
    assert verified.predicate["failedTests"] == ["declared-format", "file:model.ubj"]
    assert "posix.mkdir" in (call.root / "out/report.html").read_text()
    assert call.metrics.metadata["items_denied"] == 1.0


@pytest.mark.parametrize("name", ["notes.txt", "model.pkl", "weights/more.npy"])
def test_a_file_more_than_declared_fails(call: Call, name: str) -> None:
    (call.model / name).parent.mkdir(exist_ok=True)
    (call.model / name).write_bytes((call.model / "model.ubj").read_bytes())
    call.vouch()
    assert call.run() == "FAILED"
    assert "other files" in call.report()["declared_fault"]


@pytest.mark.parametrize(("field", "value"), [("format", "sklearn-skops"), ("format", "pickle"), ("file", "other")])
def test_another_declaration_fails(call: Call, field: str, value: str) -> None:
    path = call.model / "signature.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    call.vouch()
    assert call.run() == "FAILED"
    assert call.report()["declared_fault"]


def test_a_model_without_a_declaration_fails(call: Call) -> None:
    (call.model / "signature.json").unlink()
    call.vouch()
    assert call.run() == "FAILED"


def test_a_report_stays_small_whatever_the_model_holds(call: Call) -> None:
    for number in range(3000):
        (call.model / f"{'<&' * 60}{number}").write_bytes(b"c" + b"&'" * 100 + b"\nx\n.")
    call.vouch()
    assert call.run() == "FAILED"
    assert (call.root / "out/report.html").stat().st_size < 300_000
    assert call.report()["items_left_out"] > 0


def test_other_bytes_than_those_signed_for_are_not_scanned(call: Call) -> None:
    (call.model / "model.ubj").write_bytes(b"{}")
    with pytest.raises(EvidenceInvalid) as caught:
        call.run()
    assert caught.value.code == codes.BYTES
    assert not (call.root / "out").exists()


def test_the_provenance_of_another_run(call: Call) -> None:
    with pytest.raises(EvidenceInvalid) as caught:
        call.run("another-run")
    assert caught.value.code == codes.OTHER_RUN


@pytest.mark.parametrize("text", ["version: 2", "version: 1\ncalls: []", "calls: [a.b]\ncalls: []", ""])
def test_a_malformed_allow_list_is_refused(call: Call, text: str) -> None:
    path = call.root / "allow.yaml"
    path.write_text(text)
    with pytest.raises(Misconfigured):
        call.run(allow_list=str(path))


def test_an_unknown_allow_list_is_refused(call: Call) -> None:
    with pytest.raises(Misconfigured, match="default"):
        call.run(allow_list="nothing")
