"""Other scanners are heard by their exit code, and warn at most."""

import sys
from pathlib import Path

import pytest

from kfp_custody.components.model_scanning.formats import FAILED, PASSED, WARNED, Item
from kfp_custody.components.model_scanning.opinions import opinions
from kfp_custody.components.model_scanning.scanning import Scan

FILE = (Item("model.ubj", "xgboost-ubj", PASSED, ""),)


def program(folder: Path, name: str, body: str) -> None:
    """A program that ends as the scanner of that name would; its last argument is the file."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\nimport os, sys\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/a").write_bytes(b"a")
    (tmp_path / "model/b").write_bytes(b"b")
    return tmp_path / "model"


def test_who_is_not_installed_has_no_opinion(model: Path, tmp_path: Path) -> None:
    assert opinions(model, ["a", "b"], tmp_path / "nothing") == {}


@pytest.mark.parametrize(
    ("body", "heard"),
    [
        ("sys.exit(0)", "clear"),
        ("sys.exit(sys.argv[-1].endswith('b'))", "flagged"),
        ("sys.exit(3)", "none"),
        ("sys.exit(3 * sys.argv[-1].endswith('b'))", "none"),
        ("sys.exit(1 if sys.argv[-1].endswith('b') else 3)", "flagged"),
        ("os.kill(os.getpid(), 9)", "none"),
    ],
)
def test_the_worst_that_was_said_of_a_file_counts(model: Path, tmp_path: Path, body: str, heard: str) -> None:
    program(tmp_path / "bin", "picklescan", body)
    assert opinions(model, ["a", "b"], tmp_path / "bin") == {"picklescan": heard}


def test_a_scanner_gets_no_setting_of_ours(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTODY_SIGNER", "file:/etc/custody/key.pem")
    program(tmp_path / "bin", "modelscan", "sys.exit(any(name.startswith('CUSTODY') for name in os.environ))")
    assert opinions(model, ["a"], tmp_path / "bin") == {"modelscan": "clear"}


@pytest.mark.parametrize(
    ("fault", "word", "verdict"),
    [
        ("", "clear", PASSED),
        ("", "none", PASSED),
        ("", "flagged", WARNED),
        ("none declared", "clear", FAILED),
        ("none declared", "flagged", FAILED),
    ],
)
def test_an_opinion_warns_and_excuses_nothing(fault: str, word: str, verdict: str) -> None:
    scan = Scan("xgboost-ubj", fault, FILE, 1, {"fickling": word})
    assert scan.verdict == verdict
    assert ("opinion:fickling" in scan.named(WARNED)) == (word == "flagged")
    assert ("opinion:fickling" in scan.named(PASSED)) == (word == "clear")
