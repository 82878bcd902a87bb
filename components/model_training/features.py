"""Which columns a model may see, and the one mapping from a table to what it sees.

A model sees two kinds of columns: numbers (float64, NaN when missing, booleans as 0 and 1) and categories (text from a
list that was learned, None for everything else). The list is all that a server needs to repeat the mapping.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import Feature

MAX_CATEGORIES = 50
# The list of categories leaves with the model: a value that few rows have may be a person's.
MIN_CATEGORY_ROWS = 5
# Whole numbers that never repeat in this many rows count something or name something; they do not measure.
MIN_IDENTIFIER_ROWS = 1000
_IDENTIFIER = re.compile(r"(?:^|[_\-. ])(?i:id|uuid|guid)$|[a-z](?:Id|ID|UUID|Guid)$", re.ASCII)
_SINGLE = float(np.finfo(np.float32).max)  # tree libraries compute in single precision


@dataclass(frozen=True)
class Selection:
    """The features in the order the model takes them, and the columns left out with the reason."""

    features: tuple[Feature, ...]
    dropped: Mapping[str, str]


def select_features(table: Any, rows: npt.NDArray[np.int64], label: str, time_column: str) -> Selection:
    """Choose the columns that a model may see, looking at the training rows only.

    Args:
        table: All rows, a `pyarrow.Table`.
        rows: Row numbers of the training part.
        label: Name of the label column.
        time_column: Name of the time column, or empty.

    Raises:
        InputRefused: no column is usable.
    """
    features: list[Feature] = []
    dropped: dict[str, str] = {label: "the label"}
    if time_column:
        dropped[time_column] = "the time column"
    part = table.drop_columns(list(dropped)).take(rows)
    for name in part.column_names:
        found = _judge(name, part.column(name).combine_chunks())
        if isinstance(found, Feature):
            features.append(found)
        else:
            dropped[name] = found
    if not features:
        raise InputRefused(
            "No column of the dataset can be used as a feature.",
            evidence="; ".join(f"{name}: {why}" for name, why in dropped.items()),
            remedy="Keep numbers, or text with few distinct values, when masking.",
        )
    return Selection(tuple(features), dropped)


def model_frame(table: Any, features: Sequence[Feature]) -> Any:
    """Return the features as a `pandas.DataFrame` of shape (rows, features), in their order.

    Raises:
        InputRefused: a number is infinite or beyond single precision.
    """
    import pandas as pd

    columns = {feature.name: _values(table.column(feature.name).combine_chunks(), feature) for feature in features}
    beyond = {
        feature.name: int(np.count_nonzero(np.abs(columns[feature.name]) > _SINGLE))
        for feature in features
        if feature.type == "number"
    }
    if any(beyond.values()):
        raise InputRefused(
            "A feature is infinite, or too large for single precision.",
            evidence=", ".join(f"column {name!r}: {count} rows" for name, count in beyond.items() if count),
            remedy="Correct or clip these values before masking; leave unknown values empty (null).",
        )
    # The dtype is named because pandas would turn text into its own string type.
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})


def describe(frame: Any) -> tuple[Feature, ...]:
    """Return the features of a frame that `model_frame` made: categories are the sorted values that occur."""
    return tuple(
        Feature(name, "category", tuple(sorted(frame[name].dropna().unique())))
        if frame[name].dtype == object
        else Feature(name, "number")
        for name in frame.columns
    )


def encode(frame: Any, features: Sequence[Feature]) -> npt.NDArray[np.float32]:
    """Return the matrix that XGBoost takes, of shape (rows, features).

    A number stays what it is, a category becomes its index in the feature's list, anything else NaN.
    """
    matrix = np.empty((len(frame), len(features)), dtype=np.float32)
    for position, feature in enumerate(features):
        column = frame[feature.name]
        if feature.type == "category":
            column = column.map({value: index for index, value in enumerate(feature.categories)})
        matrix[:, position] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return matrix


def _judge(name: str, column: Any) -> Feature | str:
    """Return the feature that a column becomes, or why it does not."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _IDENTIFIER.search(name):
        return "an identifier, by its name"
    if column.null_count == len(column):
        return "empty in the training part"
    if (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        return _judge_number(name, column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _judge_text(name, column)
    if pa.types.is_temporal(kind):
        return "a date or time"
    return f"of the type {kind}"


def _judge_number(name: str, column: Any) -> Feature | str:
    import pyarrow as pa

    values = _values(column, Feature(name, "number"))
    known = values[~np.isnan(values)]
    if known.size == 0:
        return "empty in the training part"
    distinct = np.unique(known).size
    if distinct == 1 and known.size == values.size:
        return "constant in the training part"
    if pa.types.is_integer(column.type) and distinct == values.size >= MIN_IDENTIFIER_ROWS:
        return "an identifier: whole numbers that never repeat"
    return Feature(name, "number")


def _judge_text(name: str, column: Any) -> Feature | str:
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = pc.value_counts(column.cast(pa.large_string()).drop_null())
    if len(counts) > MAX_CATEGORIES:
        return f"text with {len(counts)} distinct values (a pseudonym, or free text)"
    frequent = counts.filter(pc.greater_equal(counts.field("counts"), MIN_CATEGORY_ROWS))
    categories = tuple(sorted(frequent.field("values").to_pylist()))
    if not categories:
        return f"text without a value that {MIN_CATEGORY_ROWS} rows have"
    if len(counts) == 1 and column.null_count == 0:
        return "constant in the training part"
    return Feature(name, "category", categories)


def _values(column: Any, feature: Feature) -> npt.NDArray[Any]:
    """Return a column as float64, or as text (dtype object) from the feature's list with None for the rest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if feature.type == "number":
        numbers: npt.NDArray[np.float64] = np.array(pc.cast(column, pa.float64(), safe=False), dtype=np.float64)
        return numbers
    known = pa.array(feature.categories, pa.large_string())
    index = pc.fill_null(pc.index_in(column.cast(pa.large_string()), value_set=known), -1).to_numpy()
    texts: npt.NDArray[np.object_] = np.array([*feature.categories, None], dtype=object)[index]  # -1 is the last: None
    return texts
