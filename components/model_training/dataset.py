"""From verified bytes to a table, its labels, and the rows of the two parts.

Nothing here trusts a path: each file is loaded once, its buffer is hashed against the attested listing, and Parquet is
parsed from that buffer. Hashing a file and then opening it again would leave a gap in which it can be exchanged.
"""

from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kfp_custody.components._shared.digests import Entry, Listing, require_same, sha256_bytes
from kfp_custody.components._shared.errors import InputRefused

_MAGIC = b"PAR1"

Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers of the training part and of the test part; in time order when there is a time column."""

    train: Rows
    test: Rows


def read_table(root: Path, listing: Listing) -> Any:
    """Read all Parquet files of a verified tree as one `pyarrow.Table`, in the order of their names.

    Other files of the tree are attested as well but hold no rows; they are not read.

    Args:
        root: The directory (or the one file) that `listing` describes.
        listing: The listing that the evidence was checked against.

    Raises:
        EvidenceInvalid: a file changed since it was listed.
        InputRefused: no Parquet file, or one that cannot be parsed; different columns; a name used twice; no row.
        OSError: a file cannot be read.
    """
    tables = []
    for entry in listing.entries:
        if entry.name.endswith(".parquet"):
            path = root / entry.name if root.is_dir() else root
            if not _is_framed(path):
                raise _unreadable(entry)
            tables.append(_parsed(_verified_bytes(path, entry), entry))
    if not tables:
        raise InputRefused(
            "The dataset holds no Parquet file.",
            evidence=f"{len(listing.entries)} files, none named *.parquet",
            remedy="Train on the directory that mask_pii wrote.",
        )
    return _joined(tables)


def read_labels(table: Any, label: str) -> Labels:
    """Return the label column as 0 and 1.

    Raises:
        InputRefused: the column is missing, has gaps, is no number or boolean, holds other values, or one class only.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _column(table, label, "label")
    kind = column.type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputRefused(
            "The label column is neither a number nor a boolean.",
            evidence=f"column {label!r} has the type {kind}",
            remedy="Encode the label as 0 and 1 before masking.",
        )
    numbers = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    gaps = int(np.isnan(numbers).sum())
    if gaps:
        raise InputRefused(
            "The label column has gaps.",
            evidence=f"column {label!r}: {gaps} of {len(numbers)} rows without a label",
            remedy="Drop or label these rows before masking.",
        )
    other = int(np.count_nonzero((numbers != 0) & (numbers != 1)))
    if other:
        raise InputRefused(
            "The label column holds something else than 0 and 1.",
            evidence=f"column {label!r}: {other} of {len(numbers)} rows are neither 0 nor 1",
            remedy="Encode the label as 0 and 1, or name the right column in `label`.",
        )
    labels: Labels = numbers.astype(np.int64)
    _require_both_classes(labels, "the dataset", "Use a dataset with rows of both classes.")
    return labels


def split_rows(table: Any, labels: Labels, time_column: str, test_share: float, seed: int) -> Split:
    """Split rows into an earlier part to train on and a later one to test on.

    Rows of the same moment stay together, so the test part may be a little larger than asked.

    Args:
        table: All rows.
        labels: 0 or 1, one a row.
        time_column: A timestamp, date or number; empty for a seeded stratified split.
        test_share: Share of the rows that are tested on, between 0 and 1.
        seed: Of the stratified split.

    Raises:
        InputRefused: the time column is missing, has gaps, is no time, has one value only; or a part lacks a class.
    """
    if time_column:
        split = _by_time(_times(table, time_column), test_share, time_column)
    else:
        split = stratified(labels, test_share, seed)
    for rows, name in ((split.train, "the training part"), (split.test, "the test part")):
        _require_both_classes(labels[rows], name, "Use more rows, another test_share, or a split without time_column.")
    return split


def stratified(labels: Labels, test_share: float, seed: int) -> Split:
    """Split at random, with the same share of each class in both parts (at least one row of each in the test part)."""
    random = np.random.default_rng(seed)
    test = []
    for value in (0, 1):
        rows = random.permutation(np.flatnonzero(labels == value))
        test.append(rows[: max(1, round(len(rows) * test_share))])
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.concatenate(test)] = True
    return Split(np.flatnonzero(~chosen), np.flatnonzero(chosen))


def _is_framed(path: Path) -> bool:
    """Say whether a file starts and ends as Parquet does, before all of it is loaded."""
    with path.open("rb") as file:
        size = file.seek(0, SEEK_END)
        file.seek(0)
        head = file.read(len(_MAGIC))
        file.seek(max(0, size - len(_MAGIC)))
        return size > 2 * len(_MAGIC) and head == file.read() == _MAGIC


def _verified_bytes(path: Path, entry: Entry) -> bytes:
    data = path.read_bytes()
    found = Entry(entry.name, sha256_bytes(data), len(data))
    require_same(Listing((Entry(entry.name, entry.sha256),)), Listing((found,)), "dataset")
    return data


def _parsed(data: bytes, entry: Entry) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        table.validate(full=True)  # text that is not UTF-8
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:  # from a buffer, an OSError means corrupt pages
        raise _unreadable(entry) from error
    return table


def _unreadable(entry: Entry) -> InputRefused:
    return InputRefused(
        "A file of the dataset is no readable Parquet.",
        evidence=f"{entry.name}: {entry.size} bytes, sha256:{entry.sha256}",
        remedy="Write the dataset as Parquet (UTF-8 text), then mask and attest it again.",
    )


def _joined(tables: list[Any]) -> Any:
    import pyarrow as pa

    first = tables[0].schema
    for table in tables[1:]:
        if not table.schema.equals(first):
            differing = sorted({f"{field.name} {field.type}" for field in set(first) ^ set(table.schema)})
            raise InputRefused(
                "The files of the dataset do not have the same columns and types.",
                evidence=f"{len(tables)} files; differing: {', '.join(differing[:6]) or 'the order of the columns'}",
                remedy="Write all files with one schema, then mask and attest again.",
            )
    doubled = sorted({name for name in first.names if first.names.count(name) > 1})
    if doubled:
        raise InputRefused(
            "Two columns of the dataset have the same name.",
            evidence=f"twice: {', '.join(map(repr, doubled))}",
            remedy="Rename one of them before masking.",
        )
    table = pa.concat_tables(tables)
    if table.num_rows == 0:
        raise InputRefused(
            "The dataset is empty.",
            evidence=f"0 rows, {table.num_columns} columns",
            remedy="Check the source and the time range of the extraction.",
        )
    return table


def _column(table: Any, name: str, role: str) -> Any:
    if name not in table.column_names:
        raise InputRefused(
            f"The {role} column is missing.",
            evidence=f"no column {name!r}; the columns are {', '.join(table.column_names)}",
            remedy="Name a column of the dataset.",
        )
    return table.column(name).combine_chunks()


def _times(table: Any, name: str) -> npt.NDArray[Any]:
    import pyarrow as pa

    column = _column(table, name, "time")
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
        column = column.cast(pa.int64())
    elif pa.types.is_date32(kind):
        column = column.cast(pa.int32())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputRefused(
            "The time column is neither a time nor a number.",
            evidence=f"column {name!r} has the type {kind}",
            remedy="Write it as a timestamp or a number, or leave time_column empty for a stratified split.",
        )
    gaps = column.null_count
    if not gaps:
        times: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
        gaps = int(np.count_nonzero(~np.isfinite(times)))
    if gaps:
        raise InputRefused(
            "The time column has gaps or infinities, so the rows have no order.",
            evidence=f"column {name!r}: {gaps} of {len(column)} rows",
            remedy="Drop these rows, or leave time_column empty for a stratified split.",
        )
    return times


def _by_time(times: npt.NDArray[Any], test_share: float, name: str) -> Split:
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    cut = min(max(1, round(len(order) * (1 - test_share))), len(order) - 1)
    # Rows of one moment belong to one part: go back to where this moment starts, or forward when it is the first.
    start = int(np.searchsorted(ordered, ordered[cut], side="left"))
    start = start or int(np.searchsorted(ordered, ordered[cut], side="right"))
    if start == len(order):
        raise InputRefused(
            "The time column holds one moment only, so there is no later part to test on.",
            evidence=f"column {name!r}: 1 distinct value in {len(order)} rows",
            remedy="Name another time column, or leave time_column empty for a stratified split.",
        )
    return Split(order[:start], order[start:])


def _require_both_classes(labels: Labels, where: str, remedy: str) -> None:
    ones = int(labels.sum())
    if ones == 0 or ones == len(labels):
        raise InputRefused(
            f"There is one class only in {where}.",
            evidence=f"{len(labels) - ones} rows of class 0, {ones} rows of class 1",
            remedy=remedy,
        )
