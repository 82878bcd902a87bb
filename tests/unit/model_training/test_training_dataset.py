"""From verified bytes to labels and parts."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_data import transactions, write_dataset

from kfp_custody.components._shared.digests import Entry, Listing, list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components.model_training.dataset import read_labels, read_table, split_rows, stratified


def test_reads_every_parquet_file_in_the_order_of_names(tmp_path: Path) -> None:
    table = transactions(100)
    root = write_dataset(tmp_path / "d", table, files=3)
    (root / "README.txt").write_text("attested, but no rows")
    assert read_table(root, list_tree(root)).column("transaction_id").to_pylist() == table["transaction_id"].to_pylist()


def test_reads_a_single_file(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "d", transactions(50)) / "part-0.parquet"
    assert read_table(root, list_tree(root)).num_rows == 50


def test_file_exchanged_after_it_was_listed_is_refused_with_both_digests(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "d", transactions(50))
    listing = list_tree(root)
    pq.write_table(transactions(50, seed=2), root / "part-0.parquet")
    with pytest.raises(EvidenceInvalid) as refusal:
        read_table(root, listing)
    assert listing.entries[0].sha256 in str(refusal.value)
    assert list_tree(root).entries[0].sha256 in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"a,b\n1,2\n", "a,b\nä,ö\n".encode("latin-1"), b"PAR1" + b"\0" * 64 + b"PAR1", b"\x80\x04pickle."],
    ids=["zero-byte", "magic-only", "csv", "latin-1", "framed-garbage", "pickle"],
)
def test_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "data.parquet").write_bytes(content)
    with pytest.raises(InputRefused, match="no readable Parquet") as refusal:
        read_table(tmp_path / "d", list_tree(tmp_path / "d"))
    assert "data.parquet" in refusal.value.evidence


def test_huge_file_that_is_no_parquet_is_refused_without_loading_it(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with (tmp_path / "d" / "data.parquet").open("wb") as file:
        file.truncate(2**31)  # sparse: 2 GiB that take no space
    tracemalloc.start()
    with pytest.raises(InputRefused, match="no readable Parquet"):
        read_table(tmp_path / "d", Listing((Entry("data.parquet", "0" * 64, 2**31),)))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_truncated_parquet_is_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "d", transactions(500))
    file = root / "part-0.parquet"
    file.write_bytes(file.read_bytes()[:2000] + file.read_bytes()[-8:])
    with pytest.raises(InputRefused, match="no readable Parquet"):
        read_table(root, list_tree(root))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    raw = pa.array([b"\xff\xfe", b"ok"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    (tmp_path / "d").mkdir()
    pq.write_table(pa.table({"memo": text, "is_fraud": [0, 1]}), tmp_path / "d" / "data.parquet")
    with pytest.raises(InputRefused, match="UTF-8"):
        read_table(tmp_path / "d", list_tree(tmp_path / "d"))


def test_dataset_without_parquet_is_refused(dataset: Path) -> None:
    with pytest.raises(InputRefused, match="no Parquet file"):
        read_table(dataset, list_tree(dataset))


def test_empty_dataset_is_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "d", transactions(10).slice(0, 0))
    with pytest.raises(InputRefused, match="empty"):
        read_table(root, list_tree(root))


def test_files_with_mixed_types_are_refused_naming_the_column(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "d", pa.table({"amount": [1.0], "is_fraud": [0]}))
    pq.write_table(pa.table({"amount": ["one"], "is_fraud": [1]}), root / "part-1.parquet")
    with pytest.raises(InputRefused, match="same columns and types") as refusal:
        read_table(root, list_tree(root))
    assert "amount double" in refusal.value.evidence
    assert "amount string" in refusal.value.evidence
    assert "is_fraud" not in refusal.value.evidence


def test_column_named_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["amount", "amount"])
    root = write_dataset(tmp_path / "d", table)
    with pytest.raises(InputRefused, match="same name"):
        read_table(root, list_tree(root))


@pytest.mark.parametrize(
    "values",
    [pa.array([0, 1]), pa.array([False, True]), pa.array([0.0, 1.0]), pa.array([0, 1], pa.uint8())],
    ids=["int", "bool", "float", "uint8"],
)
def test_label_of_any_number_type_becomes_zero_and_one(values: pa.Array) -> None:
    assert read_labels(pa.table({"y": values}), "y").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (pa.array([0, 1, None]), "has gaps"),
        (pa.array([0.0, 1.0, float("nan")]), "has gaps"),
        (pa.array([0, 1, 2]), "something else than 0 and 1"),
        (pa.array([0.0, 0.5, 1.0]), "something else than 0 and 1"),
        (pa.array([0.0, 1.0, float("inf")]), "something else than 0 and 1"),
        (pa.array(["0", "1", "yes"]), "neither a number nor a boolean"),
        (pa.array([0, 0, 0]), "one class only"),
        (pa.array([1, 1, 1]), "one class only"),
        (pa.nulls(3), "neither a number nor a boolean"),
    ],
)
def test_bad_labels_are_refused(values: pa.Array, why: str) -> None:
    with pytest.raises(InputRefused, match=why):
        read_labels(pa.table({"y": values}), "y")


def test_missing_label_column_is_refused_and_the_columns_are_named() -> None:
    with pytest.raises(InputRefused, match="label column is missing") as refusal:
        read_labels(pa.table({"amount": [1.0], "Class": [0]}), "is_fraud")
    assert "amount, Class" in refusal.value.evidence


@pytest.mark.parametrize(
    "times",
    [
        pa.array(range(8)),
        pa.array([float(n) for n in range(8)]),
        pa.array([datetime(2026, 1, 1, n, tzinfo=UTC) for n in range(8)], pa.timestamp("us", "UTC")),
        pa.array([date(2026, 1, 1 + n) for n in range(8)]),
    ],
    ids=["int", "float", "timestamp", "date"],
)
def test_split_by_time_tests_on_the_latest_rows(times: pa.Array) -> None:
    order = np.array([3, 0, 7, 5, 1, 6, 2, 4])
    table = pa.table({"t": times.take(pa.array(order))})
    labels = (order % 2).astype(np.int64)
    split = split_rows(table, labels, "t", 0.25, 7)
    assert order[split.train].tolist() == [0, 1, 2, 3, 4, 5]
    assert order[split.test].tolist() == [6, 7]


def test_rows_of_one_moment_stay_in_one_part() -> None:
    labels = np.array([0, 1, 1, 0, 1, 0])
    parts = split_rows(pa.table({"t": [1, 1, 2, 2, 2, 2]}), labels, "t", 0.25, 7)
    assert sorted(parts.test.tolist()) == [2, 3, 4, 5]


def test_split_by_time_with_a_first_moment_longer_than_the_training_share() -> None:
    parts = split_rows(pa.table({"t": [1, 1, 1, 1, 2, 2]}), np.array([0, 1, 0, 1, 0, 1]), "t", 0.5, 7)
    assert parts.train.tolist() == [0, 1, 2, 3]
    assert parts.test.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (pa.array([1, 2, None, 4]), "gaps"),
        (pa.array([1.0, 2.0, float("nan"), 4.0]), "gaps"),
        (pa.array([1.0, 2.0, float("inf"), 4.0]), "gaps"),
        (pa.array(["a", "b", "c", "d"]), "neither a time nor a number"),
        (pa.array([5, 5, 5, 5]), "one moment only"),
    ],
)
def test_bad_time_columns_are_refused(column: pa.Array, why: str) -> None:
    with pytest.raises(InputRefused, match=why):
        split_rows(pa.table({"t": column}), np.array([0, 1, 0, 1]), "t", 0.25, 7)


def test_missing_time_column_is_refused() -> None:
    with pytest.raises(InputRefused, match="time column is missing"):
        split_rows(pa.table({"a": [1, 2]}), np.array([0, 1]), "timestamp", 0.25, 7)


@pytest.mark.parametrize(
    ("labels", "part"),
    [([0, 1, 0, 1, 0, 0, 0, 0], "the test part"), ([0, 0, 0, 0, 0, 0, 0, 1], "the training part")],
)
def test_part_with_one_class_is_refused(labels: list[int], part: str) -> None:
    with pytest.raises(InputRefused, match=f"one class only in {part}"):
        split_rows(pa.table({"t": list(range(8))}), np.array(labels), "t", 0.25, 7)


def test_stratified_split_is_seeded_and_keeps_the_share_of_classes() -> None:
    labels = (np.arange(1000) % 10 == 0).astype(np.int64)
    first, again, other = (split_rows(pa.table({"a": labels}), labels, "", 0.25, seed) for seed in (7, 7, 8))
    assert first.test.tolist() == again.test.tolist() != other.test.tolist()
    assert labels[first.test].sum() == 25
    assert sorted([*first.train, *first.test]) == list(range(1000))


def test_stratified_split_of_one_positive_leaves_the_training_part_without() -> None:
    labels = np.array([0] * 9 + [1])
    assert labels[stratified(labels, 0.25, 7).test].sum() == 1
    with pytest.raises(InputRefused, match="the training part"):
        split_rows(pa.table({"a": labels}), labels, "", 0.25, 7)


def test_listing_of_another_size_is_not_compared(tmp_path: Path) -> None:
    """A listing read from evidence has no sizes; only names and digests count."""
    root = write_dataset(tmp_path / "d", transactions(20))
    listing: Any = Listing(tuple(replace(entry, size=0) for entry in list_tree(root).entries))
    assert isinstance(listing.entries[0], Entry)
    assert read_table(root, listing).num_rows == 20
