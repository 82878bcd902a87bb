"""attest_dataset as KFP calls it: artifacts in, artifacts out."""

from pathlib import Path

import pytest
from securesystemslib.signer import Signer

from genuine_chain import RUN, write_masking
from kfp_custody.components._shared.artifacts import DatasetAttestation, MaskedDataset, TestResult
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import ATTESTATION
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.data_attestation.component import attest_dataset


class Call:
    def __init__(self, root: Path, dataset: Path, signer: Signer) -> None:
        self.dataset = MaskedDataset(name="dataset", uri=str(dataset))
        self.masking = TestResult(name="masking", uri=str(write_masking(root / "masking", dataset, signer)))
        self.attestation = DatasetAttestation(name="attestation", uri=str(root / "deep" / "attestation"))

    def run(self, run_id: str = RUN) -> None:
        attest_dataset.python_func(self.dataset, self.masking, self.attestation, run_id)


@pytest.fixture
def call(tmp_path: Path, dataset: Path, signer: Signer, settings: Settings) -> Call:
    return Call(tmp_path, dataset, signer)


def test_the_dataset_is_attested(call: Call, trust: Trust, dataset: Path) -> None:
    call.run()
    verified = read_evidence(Path(call.attestation.path), ATTESTATION, trust, run_id=RUN)
    assert require_subject(verified, dataset, "dataset") == list_tree(dataset)
    assert call.attestation.metadata["sha256"] == verified.subject_sha256
    assert call.attestation.metadata["dvc_md5"].endswith(".dir")
    assert {type(value) for value in call.attestation.metadata.values()} == {str, float}


def test_other_bytes_are_refused(call: Call, dataset: Path) -> None:
    (dataset / "data.csv").write_text("a,b\n9,9\n")
    with pytest.raises(EvidenceInvalid, match="changed 'data.csv'"):
        call.run()
    assert not Path(call.attestation.path).exists()
    assert call.attestation.metadata == {}


def test_in_a_task_the_refusal_ends_the_process(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit, match=r"REFUSED EvidenceInvalid: .*\n  evidence: .*another-run.*\n  remedy: "):
        call.run("another-run")
