"""screen_poisoning as KFP calls it: of attested bytes only, with a model of an earlier run, and signed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from securesystemslib.signer import Signer

from fraud_tables import Frauds, flipped, frauds, triggered, write_scorer
from genuine_chain import write_masking
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    MaskedDataset,
    SignedModel,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    POISONING,
    TRAINING,
    now,
    provenance,
    resource,
    write_evidence,
)
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components.data_attestation.attestation import attest
from kfp_custody.components.poisoning_screen.component import screen_poisoning

THEN = "an-earlier-run"
ROWS = 6000
NAMES = ("trusted_model", "trusted_provenance", "trusted_dataset", "trusted_attestation")
KINDS = (SignedModel, TrainingProvenance, MaskedDataset, DatasetAttestation)


@dataclass
class Bench:
    """An earlier run that left a window and a model, and a later run with another window."""

    root: Path
    run_id: str
    signer: Signer
    settings: Settings

    def window(self, name: str, made: Frauds, run_id: str) -> None:
        shutil.rmtree(self.root / name, ignore_errors=True)
        (self.root / name / "dataset").mkdir(parents=True)
        table = made.table()
        for number, start in enumerate(range(0, ROWS, ROWS // 2)):
            pq.write_table(table.slice(start, ROWS // 2), self.root / name / "dataset" / f"{number}.parquet")
        masking = write_masking(self.root / name / "masking", self.root / name / "dataset", self.signer, run_id)
        attest(self.root / name / "dataset", masking, self.root / name / "attestation", run_id, self.settings)

    def train(self, window: str = "then") -> None:
        """Write the provenance of the model of THEN, said to be trained on a window."""
        shutil.rmtree(self.root / "provenance", ignore_errors=True)
        listing = list_tree(self.root / "signed" / "model")
        bundle = self.root / window / "attestation" / f"{ATTESTATION.name}.sigstore.json"
        named = [
            resource("dataset", list_tree(self.root / window / "dataset").sha256),
            resource("attestation", sha256_file(bundle)),
        ]
        told: dict[str, Any] = {"started": now(), "parameters": {}, "internal": {}, "byproducts": []}
        statement = provenance(TRAINING, listing, run_id=THEN, dependencies=named, **told)
        write_evidence(self.root / "provenance", statement, self.signer, listing)

    def screen(self, trusted: int = 0, **changes: Any) -> str:
        """Call the component with the first so many artifacts of the earlier run."""
        for name in ("suspects", "evidence", "report"):
            path = self.root / "out" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

        def artifact(kind: Any, *parts: str) -> Any:
            return kind(uri=str(self.root.joinpath(*parts)))

        places = (("signed",), ("provenance",), ("then", "dataset"), ("then", "attestation"))
        given = {
            name: artifact(kind, *place) for name, kind, place in zip(NAMES[:trusted], KINDS, places, strict=False)
        }
        given |= {"run_id": self.run_id, "trusted_run_id": THEN if trusted else ""} | changes
        return screen_poisoning.python_func(  # type: ignore[no-any-return]
            artifact(MaskedDataset, "now", "dataset"),
            artifact(DatasetAttestation, "now", "attestation"),
            artifact(TestResult, "out", "suspects"),
            artifact(TestResult, "out", "evidence"),
            artifact(TestResult, "out", "report"),
            artifact(TestResult, "out", "metrics"),
            **given,
        )


@pytest.fixture
def bench(tmp_path: Path, signer: Signer, settings: Settings, run_id: str) -> Bench:
    made = Bench(tmp_path, run_id, signer, settings)
    made.window("then", frauds(50, ROWS, share=0.2), THEN)
    made.window("now", frauds(51, ROWS, share=0.2), run_id)
    write_scorer(tmp_path / "signed" / "model", frauds(50, ROWS, share=0.2))
    made.train()
    return made


def test_a_clean_dataset_is_signed_for(bench: Bench, trust: Trust) -> None:
    assert bench.screen(trusted=4) == "PASSED"
    out = bench.root / "out"
    verified = read_evidence(out / "evidence", POISONING, trust, run_id=bench.run_id)
    assert verified.subject_sha256 == list_tree(bench.root / "now" / "dataset").sha256
    entries = {entry["name"]: entry for entry in verified.predicate["configuration"]}
    assert set(entries) == {"attestation", "limits", "suspects", "report", *NAMES}
    assert entries["trusted_model"]["annotations"] == {"run": THEN}
    assert entries["suspects"]["digest"]["sha256"] == sha256_file(out / "suspects")
    assert verified.predicate["custody_coverage"] == {"checked": 6, "skipped": 0, "errors": 0}
    assert len(verified.predicate["passedTests"]) == 6
    assert verified.metrics["rows"] == verified.metrics["rows_screened"] == ROWS
    assert (out / "report").stat().st_size < 300_000


def test_without_a_trusted_model_less_is_checked(bench: Bench, trust: Trust) -> None:
    assert bench.screen() == "PASSED"
    verified = read_evidence(bench.root / "out" / "evidence", POISONING, trust, run_id=bench.run_id)
    assert verified.predicate["custody_coverage"] == {"checked": 3, "skipped": 3, "errors": 0}
    assert set(verified.predicate["passedTests"]) == {"label_errors", "near_duplicates", "repeated_values"}
    assert "disagreement_p" not in verified.metrics, "a rule about it denies"


@pytest.mark.parametrize("trusted", [2, 4])
def test_flips_that_the_trusted_model_contradicts(bench: Bench, trust: Trust, trusted: int) -> None:
    made = flipped(frauds(51, ROWS, share=0.2), 51, 0.02, label=1)
    bench.window("now", made, bench.run_id)
    assert bench.screen(trusted=trusted) == "FAILED"
    verified = read_evidence(bench.root / "out" / "evidence", POISONING, trust, run_id=bench.run_id)
    assert verified.predicate["failedTests"] == ["trusted_disagreement"]
    named = pq.read_table(bench.root / "out" / "suspects").to_pylist()
    rows = [entry["row"] for entry in named if entry["check"] == "trusted_disagreement"]
    assert len(set(rows) & set(made.poisoned.tolist())) > 0.8 * len(rows) > 0
    assert [entry["rank"] for entry in named if entry["check"] == "trusted_disagreement"] == [
        *range(1, len(rows) + 1)
    ], "rows of the second file count on from those of the first"


def test_no_value_of_the_data_leaves(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.window("now", triggered(frauds(51, ROWS, share=0.2), 51, 0.02), bench.run_id)
    assert bench.screen(trusted=4) == "FAILED"
    out = bench.root / "out"
    written = (
        (out / "report").read_text() + (out / "evidence" / "report.json").read_text() + "".join(capfd.readouterr())
    )
    assert "in v15" in written
    assert "3.14" not in written
    assert pq.read_schema(out / "suspects").names == ["check", "rank", "row"]


def test_limits_of_ones_own(bench: Bench, trust: Trust) -> None:
    document = yaml.safe_load(
        (Path(__file__).parents[2] / "components/poisoning_screen/thresholds/default.yaml").read_text()
    )
    document["must_judge"] = ["trusted_disagreement"]
    (bench.root / "own.yaml").write_text(yaml.safe_dump(document))
    assert bench.screen(limits=str(bench.root / "own.yaml")) == "WARNED"
    verified = read_evidence(bench.root / "out" / "evidence", POISONING, trust, run_id=bench.run_id)
    assert verified.predicate["warnedTests"] == ["trusted_disagreement"]
    report = json.loads((bench.root / "out" / "evidence" / "report.json").read_bytes())
    assert report["limits"]["must_judge"] == ["trusted_disagreement"]


REFUSED: list[tuple[dict[str, Any], type[CustodyError], str]] = [
    ({"run_id": "another"}, EvidenceInvalid, codes.OTHER_RUN),
    ({"run_id": ""}, Misconfigured, codes.SETTINGS),
    ({"label": ""}, Misconfigured, codes.SETTINGS),
    ({"label": "v00"}, InputRefused, codes.INPUT),
    ({"label": "none"}, InputRefused, codes.INPUT),
    ({"limits": "none"}, Misconfigured, codes.SETTINGS),
    ({"trusted": 1}, Misconfigured, codes.SETTINGS),
    ({"trusted": 3}, Misconfigured, codes.SETTINGS),
    ({"trusted": 4, "trusted_model": None, "trusted_provenance": None}, Misconfigured, codes.SETTINGS),
    ({"trusted": 2, "trusted_run_id": ""}, Misconfigured, codes.SETTINGS),
    ({"trusted": 2, "trusted_run_id": "another"}, EvidenceInvalid, codes.OTHER_RUN),
    ({"trusted_run_id": THEN}, Misconfigured, codes.SETTINGS),
]


@pytest.mark.parametrize(("changes", "kind", "code"), REFUSED, ids=str)
def test_what_is_refused(bench: Bench, changes: dict[str, Any], kind: type, code: str) -> None:
    with pytest.raises(kind) as caught:
        bench.screen(**changes)
    assert caught.value.code == code
    assert not (bench.root / "out" / "evidence").exists()


def test_a_model_of_this_run_judges_nothing(bench: Bench) -> None:
    with pytest.raises(Misconfigured):
        bench.screen(trusted=2, trusted_run_id=bench.run_id)


def test_a_model_that_was_trained_on_the_dataset_judges_nothing(bench: Bench) -> None:
    bench.train("now")
    with pytest.raises(InputRefused) as caught:
        bench.screen(trusted=2)
    assert "trained on the dataset" in str(caught.value)


def test_a_model_of_another_label_judges_nothing(bench: Bench) -> None:
    path = bench.root / "signed" / "model" / "signature.json"
    path.write_text(path.read_text().replace('"label": "is_fraud"', '"label": "is_late"'))
    bench.train()
    with pytest.raises(InputRefused) as caught:
        bench.screen(trusted=2)
    assert "is_late" in str(caught.value)


def damage_dataset(root: Path) -> None:
    (root / "now" / "dataset" / "2.parquet").write_bytes((root / "now" / "dataset" / "0.parquet").read_bytes())


def damage_model(root: Path) -> None:
    path = root / "signed" / "model" / "signature.json"
    path.write_text(path.read_text().replace("0.5", "0.6"))


def damage_window(root: Path) -> None:
    (root / "then" / "dataset" / "1.parquet").unlink()


@pytest.mark.parametrize("damage", [damage_dataset, damage_model, damage_window])
def test_other_bytes_than_those_signed_for(bench: Bench, damage: Callable[[Path], None]) -> None:
    damage(bench.root)
    with pytest.raises(EvidenceInvalid) as caught:
        bench.screen(trusted=4)
    assert caught.value.code == codes.BYTES
    assert not (bench.root / "out" / "evidence").exists()


def test_a_window_that_the_model_was_not_trained_on(bench: Bench) -> None:
    bench.window("then", frauds(52, ROWS, share=0.2), THEN)
    with pytest.raises(EvidenceInvalid) as caught:
        bench.screen(trusted=4)
    assert "trusted dataset" in str(caught.value)
