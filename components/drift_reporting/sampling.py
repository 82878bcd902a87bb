"""A random sample of a dataset's rows: the columns that a model takes, of Parquet files whose bytes were verified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import Feature

Column = NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """`rows` of the `of` rows of a dataset: the features that could be read, numbers as float64, the rest as texts."""

    rows: int
    of: int
    columns: Mapping[str, Column]


def sample(root: Path, names: Sequence[str], features: Sequence[Feature], most: int, role: str) -> Sample:
    """Read a sample, which is the same for the same number of rows; in memory row group by row group.

    A feature that a dataset lacks, or has in another type, is left out.

    Args:
        root: The dataset's directory, or one Parquet file.
        names: Relative names of its files, from the verified listing.
        features: What the model takes.
        most: Most rows of the sample.
        role: What messages call the dataset.

    Raises:
        InputRefused: no Parquet file, one that cannot be read, no rows, or files that differ in their columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [root / name if root.is_dir() else root for name in names if name.endswith(".parquet")]
    try:
        files = [pq.ParquetFile(path) for path in paths]
        rows = sum(file.metadata.num_rows for file in files)
        if not rows:
            raise _refused(role, "0 rows" if files else "no file named *.parquet")
        held = set(files[0].schema_arrow.names)
        if any(file.schema_arrow.names != files[0].schema_arrow.names for file in files):
            raise _refused(role, "its Parquet files differ in their columns")
        kept = [feature for feature in features if feature.name in held]
        chosen = _chosen(rows, most)
        parts, place = [], 0
        for file in files:
            for number in range(file.num_row_groups):
                group = file.read_row_group(number, [feature.name for feature in kept])
                start, end = np.searchsorted(chosen, (place, place + group.num_rows))
                parts.append(group.take(chosen[start:end] - place))
                place += group.num_rows
        table = pa.concat_tables(parts)
    except (pa.ArrowException, ValueError) as error:
        raise _refused(role, f"not readable as Parquet ({type(error).__name__})") from error
    read = {feature.name: _column(table.column(feature.name), feature) for feature in kept}
    return Sample(chosen.size, rows, {name: values for name, values in read.items() if values is not None})


def _chosen(rows: int, most: int) -> NDArray[np.int64]:
    if rows <= most:
        return np.arange(rows, dtype=np.int64)
    return np.sort(np.random.default_rng(rows).choice(rows, most, replace=False))


def _column(column: Any, feature: Feature) -> Column | None:
    """Return a feature's values, or None for one of another type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types, kind = pa.types, column.type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if feature.type == "category":
        texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        return np.array(column.to_pylist(), dtype=object) if texts else None
    if types.is_boolean(kind):
        column = pc.cast(column, pa.int8())
    elif not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
        return None
    values = np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    return np.where(np.isinf(values), np.nan, values)


def _refused(role: str, why: str) -> InputRefused:
    return InputRefused(
        f"The {role} dataset cannot be shown.",
        evidence=f"{role} dataset: {why}",
        remedy="Give the dataset that mask_pii wrote, with at least one row.",
    )
