"""A dataset of Parquet files, read one column at a time so that memory does not grow with the number of columns."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kfp_custody.components._shared.distances import Floats
from kfp_custody.components._shared.errors import InputRefused

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


@dataclass(frozen=True)
class Columns:
    """The columns of one dataset. `role` (reference or current) is what messages call it."""

    role: str
    files: "tuple[pq.ParquetFile, ...]"

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return sum(file.metadata.num_rows for file in self.files)

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Kind of each column: number, boolean, text, time, null (no value at all) or other."""
        return {field.name: _kind(field.type) for field in self.files[0].schema_arrow}

    def numbers(self, name: str) -> Floats:
        """Return a number or boolean column as float64 of shape (rows,), NaN where it is missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        values, place = np.empty(self.rows, dtype=np.float64), 0
        nothing = as_arrow(np.array([np.nan]))[0]
        for group in self.groups(name):
            for chunk in group.chunks:
                numbers = pc.cast(chunk, pa.int8()) if pa.types.is_boolean(chunk.type) else chunk
                part = pc.cast(numbers, pa.float64(), safe=False)
                values[place : place + len(part)] = np.from_dlpack(
                    pc.fill_null(part, nothing) if part.null_count else part
                )
                place += len(part)
        return values

    def texts(self, name: str) -> "Iterator[pa.ChunkedArray]":
        """Yield a column as text, row group by row group."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for group in self.groups(name):
            yield pc.cast(group, pa.large_string())

    def counts(self, name: str) -> tuple[dict[str, int], int]:
        """Return how often each text of a column occurs, and how many are missing."""
        counts: Counter[str] = Counter()
        missing = 0
        for column in self.texts(name):
            missing += column.null_count
            counts.update(count_texts(column))
        return dict(counts), missing

    def missing(self, name: str) -> int:
        """Return how many values of a column are missing."""
        return sum(column.null_count for column in self.groups(name))

    def groups(self, name: str) -> "Iterator[pa.ChunkedArray]":
        """Yield a column row group by row group, so that no more than one is in memory."""
        import pyarrow as pa

        try:
            for file in self.files:
                for number in range(file.num_row_groups):
                    # By name, not by place: reading `a` also brings a column called `a.b`.
                    yield file.read_row_group(number, [name]).select([name]).column(0)
        except (pa.ArrowException, ValueError) as error:
            raise unreadable(self.role, f"column {name!r} ({type(error).__name__})") from error


def open_columns(root: Path, names: list[str], role: str) -> Columns:
    """Open the Parquet files of a dataset whose bytes were verified.

    Args:
        root: The dataset's directory, or one Parquet file.
        names: Relative names of its files, from the verified listing.
        role: What messages call it.

    Raises:
        InputRefused: no Parquet file, unreadable, no rows, a column name used twice, or files that differ in columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [root / name if root.is_dir() else root for name in names if name.endswith(".parquet")]
    try:
        columns = Columns(role, tuple(pq.ParquetFile(path) for path in paths))
    except (pa.ArrowException, ValueError) as error:
        raise unreadable(role, f"not readable as Parquet ({type(error).__name__})") from error
    if not columns.files:
        raise unreadable(role, f"{len(names)} files, none of them named *.parquet")
    schemas = [file.schema_arrow.remove_metadata() for file in columns.files]
    if any(not schema.equals(schemas[0]) for schema in schemas):
        raise unreadable(role, "its Parquet files differ in their columns")
    if len(set(schemas[0].names)) != len(schemas[0].names):
        raise unreadable(role, "a column name is used twice")
    if columns.rows == 0:
        raise unreadable(role, "0 rows")
    return columns


def count_texts(column: "pa.ChunkedArray") -> dict[str, int]:
    """Return how often each text occurs."""
    counted = column.drop_null().value_counts()
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def as_arrow(values: "np.ndarray[Any, np.dtype[Any]]") -> "pa.Array":
    """Return numbers as an Arrow array over the same memory.

    To convert them itself, as in `to_numpy` and `pa.array`, pyarrow imports pandas wherever it is installed, which
    takes longer than reading some millions of rows.
    """
    import pyarrow as pa

    kind = pa.float64() if values.dtype == np.float64 else pa.int64()
    return pa.Array.from_buffers(kind, values.size, [None, pa.py_buffer(values)])


def sample_rows(rows: int, wanted: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Return the sorted positions of a random sample that is the same for the same number of rows."""
    if rows <= wanted:
        return np.arange(rows, dtype=np.int64)
    return np.sort(np.random.default_rng(rows).choice(rows, wanted, replace=False))


def unreadable(role: str, why: str) -> InputRefused:
    """Return the refusal of a dataset whose columns cannot be used."""
    return InputRefused(
        f"The {role} dataset cannot be used.",
        evidence=f"{role} dataset: {why}",
        remedy="Give the dataset that mask_pii wrote, with at least one row and the columns that the model takes.",
    )


def _kind(kind: "pa.DataType") -> str:
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_temporal(kind):
        return "time"
    return "null" if types.is_null(kind) else "other"
