"""fetch_dataset as KFP calls it: parameters in, artifacts out."""

from pathlib import Path

import pytest
from kfp import dsl

from kfp_custody.components._shared.artifacts import SourceAttestation
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.evidence import FETCHING
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.data_versioning.component import fetch_dataset

RUN = "fraud-detection-test-run"


class Call:
    def __init__(self, root: Path, allowed: Path) -> None:
        self.data = dsl.Dataset(name="data", uri=str(root / "outputs" / "data"))
        self.evidence = SourceAttestation(name="evidence", uri=str(root / "outputs" / "evidence"))
        # Beside the trust file, where it is looked for when nothing names another.
        (root / "sources.yaml").write_text(f"version: 1\nsources:\n  - prefix: {allowed}/\n    engine: local\n")

    def run(self, uri: str, revision: str = "") -> None:
        fetch_dataset.python_func(self.data, self.evidence, RUN, uri, revision)


@pytest.fixture
def call(tmp_path: Path, dataset: Path, settings: Settings) -> Call:
    return Call(tmp_path, dataset)


def test_a_folder_is_fetched_and_signed_for(call: Call, dataset: Path, trust: Trust) -> None:
    call.run(str(dataset), f"sha256:{list_tree(dataset).sha256}")
    assert list_tree(Path(call.data.path)) == list_tree(dataset)
    verified = read_evidence(Path(call.evidence.path), FETCHING, trust, run_id=RUN)
    assert require_subject(verified, Path(call.data.path), "data") == list_tree(dataset)
    facts = {"sha256": verified.subject_sha256, "commit": "", "engine": "local", "files": 2.0, "bytes": 16.0}
    assert call.data.metadata == facts == call.evidence.metadata


def test_what_is_not_allowed_leaves_nothing(call: Call, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(PolicyRefused, match="below no prefix"):
        call.run(str(tmp_path / "other"))
    assert not (tmp_path / "outputs").exists()
    assert call.data.metadata == {}


def test_other_data_than_pinned_leaves_nothing(call: Call, dataset: Path, tmp_path: Path) -> None:
    pinned = list_tree(dataset).sha256
    (dataset / "data.csv").write_text("a,b\n1,3\n")
    with pytest.raises(EvidenceInvalid, match=rf"CUS-E265(.|\n)*expected sha256:{pinned}"):
        call.run(str(dataset), f"sha256:{pinned}")
    assert list((tmp_path / "outputs").iterdir()) == []


def test_in_a_task_the_refusal_ends_the_process(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit, match=r"REFUSED InputRefused: \[CUS-E131\].*\n  evidence: .*\n  remedy: "):
        call.run("https://example.org/data.csv")
