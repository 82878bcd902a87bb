"""The rows that are screened: a sample of a dataset of Parquet files whose bytes were verified, with its labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import LARGEST, Feature

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_MOST_CATEGORIES = 50
_IDENTIFIER_ROWS = 1000  # whole numbers that never repeat in so many rows name something; they do not measure


@dataclass(frozen=True)
class Rows:
    """Some rows of a dataset.

    `places`: their numbers in the dataset, from 0, over its files in the order of the listing, shape (rows,).
    `of`: how many rows the dataset has. `labels`: 0 or 1, shape (rows,). `columns`: numbers and texts, without the
    label. `unread`: names of the columns that are neither.
    """

    places: Integers
    of: int
    labels: Integers
    columns: "pa.Table"
    unread: tuple[str, ...] = ()

    @cached_property
    def numbers(self) -> Mapping[str, Floats]:
        """Columns of numbers and booleans that differ from row to row; NaN where one is missing or infinite."""
        found = {name: self._numbers(name) for name in self.columns.column_names if self._kind(name) == "number"}
        return {name: values for name, values in found.items() if not self._is_useless(name, values)}

    @cached_property
    def categories(self) -> Mapping[str, Floats]:
        """Columns of few texts, as the number of the text; NaN where one is missing."""
        return {
            name: codes
            for name in self.columns.column_names
            if self._kind(name) == "text" and (codes := self._codes(name)) is not None
        }

    @property
    def left_out(self) -> list[str]:
        """Names of the columns that no check looks at."""
        used = {*self.numbers, *self.categories}
        return [*(name for name in self.columns.column_names if name not in used), *self.unread]

    def matrix(self, without: Sequence[str] = ()) -> tuple[list[str], NDArray[np.float32]]:
        """Return names and values of the columns, shape (rows, columns), in single precision."""
        used = {name: values for name, values in {**self.numbers, **self.categories}.items() if name not in without}
        shape = (self.labels.size, len(used))
        return list(used), np.column_stack(list(used.values())).astype(np.float32) if used else np.empty(shape, "f4")

    def inputs(self, features: Sequence[Feature]) -> dict[str, NDArray[Any]]:
        """Return what a model takes; a feature that is missing or of another type is left out.

        Infinite numbers are missing ones, so that a row cannot keep the model from scoring the others.
        """
        kinds = {"number": "number", "category": "text"}
        held = [feature for feature in features if feature.name in self.columns.column_names]
        return {
            feature.name: self._numbers(feature.name)
            if feature.type == "number"
            else np.array(self.columns.column(feature.name).to_pylist(), dtype=object)
            for feature in held
            if self._kind(feature.name) == kinds[feature.type]
        }

    def _kind(self, name: str) -> str:
        return _kind(self.columns.schema.field(name).type)

    def _numbers(self, name: str) -> Floats:
        values = _floats(self.columns.column(name))
        values[np.abs(values) > LARGEST] = np.nan
        return values

    def _codes(self, name: str) -> Floats | None:
        import pyarrow as pa
        import pyarrow.compute as pc

        encoded = pc.dictionary_encode(pc.cast(self.columns.column(name), pa.large_string())).combine_chunks()
        if not 2 <= len(encoded.dictionary) <= _MOST_CATEGORIES:
            return None
        # By the alphabet and not by who comes first, so that the order of the rows changes nothing.
        ranks = np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist()))).astype(np.float64)
        places = np.array(pc.fill_null(encoded.indices, len(ranks)).to_numpy(), dtype=np.int64)
        return np.append(ranks, np.nan)[places]

    def _is_useless(self, name: str, values: Floats) -> bool:
        import pyarrow as pa

        known = values[~np.isnan(values)]
        distinct = np.unique(known).size
        names_rows = pa.types.is_integer(self.columns.schema.field(name).type)
        return distinct < 2 or (names_rows and distinct == values.size >= _IDENTIFIER_ROWS)


def read_rows(root: Path, names: Sequence[str], label: str, most: int, role: str) -> Rows:
    """Read a sample, which is the same for the same number of rows; in memory row group by row group.

    Args:
        root: The dataset's directory, or one Parquet file.
        names: Relative names of its files, from the verified listing.
        label: Name of the label column.
        most: Most rows of the sample.
        role: What messages call the dataset.

    Raises:
        InputRefused: no Parquet file, one that cannot be read, no rows, files that differ in their columns, a column
            name used twice, or a label that is missing somewhere or no 0 and 1.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [root / name if root.is_dir() else root for name in names if name.endswith(".parquet")]
    try:
        files = [pq.ParquetFile(path) for path in paths]
        schemas = [file.schema_arrow.remove_metadata() for file in files]
        of = sum(file.metadata.num_rows for file in files)
        if not of:
            raise _refused(role, "0 rows" if files else "no file named *.parquet")
        if any(not schema.equals(schemas[0]) for schema in schemas):
            raise _refused(role, "its Parquet files differ in their columns")
        if len(set(schemas[0].names)) != len(schemas[0].names):
            raise _refused(role, "a column name is used twice")
        if label not in schemas[0].names:
            raise _refused(role, f"it has no column {label!r}")
        # The label comes first: nested columns and the like are not read, whatever is in them.
        wanted = [label, *(field.name for field in schemas[0] if field.name != label and _kind(field.type))]
        chosen, parts, place = _chosen(of, most), [], 0
        for file in files:
            for number in range(file.num_row_groups):
                group = file.read_row_group(number, wanted).select(wanted)
                start, end = np.searchsorted(chosen, (place, place + group.num_rows))
                parts.append(group.take(pa.array(chosen[start:end] - place)))
                place += group.num_rows
        table = pa.concat_tables(parts)
    except (pa.ArrowException, ValueError) as error:
        raise _refused(role, f"not readable as Parquet ({type(error).__name__})") from error
    unread = tuple(name for name in schemas[0].names if name not in wanted)
    return Rows(chosen, of, _labels(table.column(0), label, role), table.drop_columns([label]), unread)


def _chosen(rows: int, most: int) -> Integers:
    if rows <= most:
        return np.arange(rows, dtype=np.int64)
    return np.sort(np.random.default_rng(rows).choice(rows, most, replace=False)).astype(np.int64)


def _kind(kind: "pa.DataType") -> str:
    """Return `number`, `text`, or nothing for what no check looks at."""
    import pyarrow as pa

    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind):
        return "number"
    return "text" if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) else ""


def _floats(column: "pa.ChunkedArray") -> Floats:
    """Return numbers or booleans, NaN where one is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int8())
    return np.array(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _labels(column: "pa.ChunkedArray", label: str, role: str) -> Integers:
    if _kind(column.type) != "number":
        raise _refused(role, f"the label {label!r} is of the type {column.type}, neither number nor boolean")
    values = _floats(column)
    wrong = int(np.count_nonzero(~np.isin(values, (0.0, 1.0))))
    if wrong:
        raise _refused(role, f"the label {label!r} is neither 0 nor 1 in {wrong} of {values.size} rows")
    return values.astype(np.int64)


def _refused(role: str, why: str) -> InputRefused:
    return InputRefused(
        f"The {role} dataset cannot be screened.",
        evidence=f"{role} dataset: {why}",
        remedy="Give the dataset that mask_pii wrote, and the name of its label column, which is 0 or 1 in each row.",
    )
