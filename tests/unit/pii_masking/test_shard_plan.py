"""As many shards as the rows need."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components.pii_masking.planning import plan_shards

POLICY = "version: 1\ncolumns: {zip: {operator: generalize, prefix: 3}}"


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return str(path)


def write(path: Path, rows: int) -> Path:
    pq.write_table(pa.table({"zip": pa.array(["01234"] * rows, pa.string())}), path)
    return path


@pytest.mark.parametrize(
    ("rows", "most", "shards"), [(1, 1, 1), (10, 10, 1), (11, 10, 2), (20, 10, 2), (1000, 1, 32), (64, 2, 32)]
)
def test_no_shard_has_more_rows_than_asked_unless_there_would_be_too_many(
    tmp_path: Path, policy: str, rows: int, most: int, shards: int
) -> None:
    plan = plan_shards(write(tmp_path / "data.parquet", rows), policy, most)
    assert (plan.shards, plan.rows) == (shards, rows)
    assert plan.numbers == list(range(shards))


def test_all_files_count_and_csv_is_read_as_the_masking_reads_it(tmp_path: Path, policy: str) -> None:
    folder = tmp_path / "csv"
    folder.mkdir()
    for number, zips in enumerate((["01234", "x"], ["00000"])):  # a number in the first block would refuse the x
        csv.write_csv(pa.table({"zip": zips}), folder / f"{number}.csv")
    assert plan_shards(folder, policy, 1).shards == 3


@pytest.mark.parametrize("most", [0, -1])
def test_too_few_rows_a_shard(tmp_path: Path, policy: str, most: int) -> None:
    with pytest.raises(Misconfigured) as caught:
        plan_shards(write(tmp_path / "data.parquet", 3), policy, most)
    assert caught.value.code == codes.SHARD_NUMBER


def test_no_rows_and_no_table(tmp_path: Path, policy: str) -> None:
    with pytest.raises(InputRefused, match="0 rows"):
        plan_shards(write(tmp_path / "data.parquet", 0), policy, 3)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputRefused, match="bad.parquet"):
        plan_shards(tmp_path / "bad.parquet", policy, 3)
