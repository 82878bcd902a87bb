"""export: an admitted model for another server, or nothing."""

import json
import re
from pathlib import Path

import pytest
from releases import run
from securesystemslib.signer import Signer
from typer.testing import Result

from kfp_custody.components._shared.digests import list_tree
from unit.seldon_deployment.signed_models import decide, sign, trust_text, write_model

NAME = "fraud-detection"
FILES = {
    "bentoml": {"bentofile.yaml", "service.py", "custody.json", "signed/model.sig"},
    "triton": {
        f"{NAME}/config.pbtxt",
        *(f"{NAME}/1/{name}" for name in ("model.py", "custody.json", "signed/model.sig")),
    },
    "torchserve": {f"{NAME}.mar"},
}


@pytest.fixture
def place(tmp_path: Path, signer: Signer) -> Path:
    """A signed model, the gate's decision about it, and a trust file."""
    sign(write_model(tmp_path / "signed" / "model"), signer)
    decide(tmp_path / "decision", tmp_path / "signed" / "model", signer, "run-1")
    (tmp_path / "trust.yaml").write_text(trust_text(signer))
    return tmp_path


def export(place: Path, form: str = "bentoml", **changes: str) -> Result:
    options = {
        "model": str(place / "signed"),
        "decision": str(place / "decision"),
        "trust": str(place / "trust.yaml"),
        "run-id": "run-1",
        "name": NAME,
        "out": str(place / "out"),
    } | {key.replace("_", "-"): value for key, value in changes.items()}
    return run("export", "--format", form, *(part for key, value in options.items() for part in (f"--{key}", value)))


@pytest.mark.parametrize("form", FILES)
def test_an_admitted_model_is_exported(place: Path, form: str) -> None:
    result = export(place, form)
    assert result.exit_code == 0, result.output
    digest = list_tree(place / "signed" / "model").sha256
    assert result.stdout == f"model  sha256:{digest}\nexport {place / 'out'}\n"
    written = {str(path.relative_to(place / "out")) for path in (place / "out").rglob("*") if path.is_file()}
    assert {name for name in written if "signed/model/" not in name} == FILES[form]
    for pins in (place / "out").rglob("custody.json"):
        assert json.loads(pins.read_text())["listing_sha256"] == digest


@pytest.mark.parametrize("form", FILES)
def test_a_model_that_the_gate_refused_is_not_exported(place: Path, signer: Signer, form: str) -> None:
    decide(place / "denied", place / "signed" / "model", signer, "run-1", passed=False)
    refused(export(place, form, decision=str(place / "denied")), place, "PolicyRefused", 1)


def refused(result: Result, place: Path, kind: str, status: int) -> None:
    assert result.exit_code == status, result.output
    assert re.match(rf"REFUSED {kind}: \[CUS-E\d+\]", result.stderr)
    assert len(result.stderr.rstrip().splitlines()) == 3
    assert not (place / "out").exists()
    assert not list(place.glob(".*"))


def test_another_run_or_service_is_refused(place: Path) -> None:
    refused(export(place, run_id="run-2"), place, "EvidenceInvalid", 1)
    refused(export(place, name="credit-scoring"), place, "PolicyRefused", 1)


def test_a_changed_model_is_refused(place: Path) -> None:
    with (place / "signed" / "model" / "model.ubj").open("ab") as file:
        file.write(b"x")
    refused(export(place), place, "EvidenceInvalid", 1)


def test_an_existing_folder_is_refused_and_left_as_it_is(place: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "mine").write_text("x")
    result = export(place)
    assert result.exit_code == 2
    assert "[CUS-E549]" in result.stderr
    assert [path.name for path in (place / "out").iterdir()] == ["mine"]


def test_an_export_does_not_lie_in_what_it_is_made_of(place: Path) -> None:
    assert export(place, out=str(place / "signed" / "out")).exit_code == 2
    assert export(place, out=str(place / "decision" / "out")).exit_code == 2
    assert not (place / "signed" / "out").exists()


def test_an_unknown_format_is_a_mistake_of_usage(place: Path) -> None:
    assert export(place, "onnx").exit_code == 2
