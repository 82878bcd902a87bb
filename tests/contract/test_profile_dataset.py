"""profile_dataset as KFP calls it: of attested bytes only, and signed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from securesystemslib.signer import Signer

from genuine_chain import write_masking
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.artifacts import DatasetAttestation, DatasetProfile, MaskedDataset, TestResult
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import PROFILE
from kfp_custody.components._shared.profiles import CategoryProfile, NumberProfile, OtherProfile, read_profile
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.data_attestation.attestation import attest
from kfp_custody.components.drift_detection.component import profile_dataset


@pytest.fixture
def attested(tmp_path: Path, signer: Signer, settings: Settings, run_id: str) -> Path:
    rng = np.random.default_rng(1)
    (tmp_path / "dataset").mkdir()
    for number in range(2):
        table = {
            "amount": rng.normal(size=3000),
            "large": rng.random(3000) < 0.3,
            "channel": rng.choice(["atm", "pos"], 3000),
            "token": [f"t{number}-{row}" for row in range(3000)],
            "day": pa.array([None, 1] * 1500, pa.date32()),
        }
        pq.write_table(pa.table(table), tmp_path / "dataset" / f"{number}.parquet", row_group_size=1000)
    masking = write_masking(tmp_path / "masking", tmp_path / "dataset", signer, run_id)
    attest(tmp_path / "dataset", masking, tmp_path / "attestation", run_id, settings)
    return tmp_path


def profiled(root: Path, run_id: str) -> DatasetProfile:
    def artifact(kind: Any, name: str) -> Any:
        return kind(uri=str(root / name))

    profile = artifact(DatasetProfile, "profile")
    profile_dataset.python_func(
        artifact(MaskedDataset, "dataset"),
        artifact(DatasetAttestation, "attestation"),
        profile,
        artifact(TestResult, "evidence"),
        run_id,
    )
    return profile  # type: ignore[no-any-return]


def test_the_columns_are_described_and_signed_for(attested: Path, trust: Trust, run_id: str) -> None:
    artifact = profiled(attested, run_id)
    found = read_profile((attested / "profile" / "profile.json").read_bytes())
    names = ("amount", "large", "channel", "token", "day")
    assert (found.rows, set(found.columns)) == (6000, set(names))
    amount, large, channel, token, day = (found.columns[name] for name in names)
    assert isinstance(amount, NumberProfile)
    assert len(amount.quantiles) == 1200
    assert isinstance(large, NumberProfile)
    assert set(large.quantiles) == {0.0, 1.0}
    assert isinstance(channel, CategoryProfile)
    assert sum(channel.counts.values()) == 6000
    assert token == CategoryProfile(0, {}, 6000, 6000), "what one row alone holds is never named"
    assert day == OtherProfile(3000, "time")
    verified = read_evidence(attested / "evidence", PROFILE, trust, run_id=run_id)
    require_subject(verified, attested / "profile", "profile")
    assert verified.dependency("dataset") == list_tree(attested / "dataset").sha256
    assert artifact.metadata["rows"] == 6000.0


def test_other_bytes_than_the_attested_are_not_profiled(attested: Path, run_id: str) -> None:
    (attested / "dataset" / "2.parquet").write_bytes((attested / "dataset" / "0.parquet").read_bytes())
    with pytest.raises(EvidenceInvalid) as caught:
        profiled(attested, run_id)
    assert caught.value.code == codes.BYTES
    assert not (attested / "profile").exists()
    assert not (attested / "evidence").exists()


def test_the_attestation_of_another_run(attested: Path) -> None:
    with pytest.raises(EvidenceInvalid) as caught:
        profiled(attested, "another-run")
    assert caught.value.code == codes.OTHER_RUN
