"""From V2 tensors to the columns of a model, refusing what the signature does not allow.

MLServer's own runtimes answer a wrong column count or type with 500, which counts as a failure of the model. A client's
mistake is a 400 here, and its message never repeats a value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared.scoring import LARGEST, Feature

if TYPE_CHECKING:
    import numpy as np

MAX_ROWS = 10_000
NUMBERS = frozenset(
    ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
)


class InputFault(Exception):
    """Why a request cannot be answered; safe to show to the client."""


@dataclass(frozen=True)
class Tensor:
    """One input of a V2 inference request."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any


Column = list[float] | list[str | None]


def read_columns(tensors: Sequence[Tensor], features: Sequence[Feature]) -> dict[str, Column]:
    """Return one column per feature, by name and in the model's order.

    Accepted are one tensor per feature, found by name, of shape [rows] or [rows, 1] (numbers in any numeric type,
    categories as BYTES), or a single FP64 matrix of shape [rows, features] with categories as their index. Null and
    NaN mean missing. All columns have the same number of rows, 1 to `MAX_ROWS`.

    Returns:
        Numbers as floats (NaN when missing), categories as strings that the model knows (None when missing or unknown).

    Raises:
        InputFault: names, counts, shapes or types are not those of the signature.
    """
    names = [feature.name for feature in features]
    if len(tensors) == 1 and tensors[0].name not in names:
        return _from_matrix(tensors[0], features)
    given = {tensor.name: tensor for tensor in tensors}
    if len(given) < len(tensors):
        raise InputFault("an input is given twice")
    missing, unknown = sorted(set(names) - set(given)), sorted(set(given) - set(names))
    if missing or unknown:
        raise InputFault(f"inputs missing: {missing}; inputs not taken by the model: {len(unknown)}")
    columns = {feature.name: _column(given[feature.name], feature) for feature in features}
    if len({len(column) for column in columns.values()}) > 1:
        raise InputFault("the inputs have different numbers of rows")
    return columns


def as_arrays(columns: Mapping[str, Column]) -> "dict[str, np.ndarray[Any, Any]]":
    """Return columns as a model is asked with them: FP64, or Python texts."""
    import numpy as np

    return {
        name: np.array(column, dtype=np.float64 if isinstance(column[0], float) else object)
        for name, column in columns.items()
    }


def _column(tensor: Tensor, feature: Feature) -> Column:
    if len(tensor.shape) not in (1, 2) or _width(tensor) != 1:
        raise InputFault(f"input {feature.name!r} must have shape [rows] or [rows, 1]")
    values = _values(tensor, 1)
    if feature.type == "number":
        if tensor.datatype not in NUMBERS:
            raise InputFault(f"input {feature.name!r} must be a number type, not {tensor.datatype}")
        return _floats(values, feature.name)
    if tensor.datatype != "BYTES":
        raise InputFault(f"input {feature.name!r} must be BYTES, not {tensor.datatype}")
    return _categories(values, feature)


def _from_matrix(tensor: Tensor, features: Sequence[Feature]) -> dict[str, Column]:
    width = len(features)
    if tensor.datatype != "FP64" or len(tensor.shape) != 2 or tensor.shape[1] != width:
        raise InputFault(f"give one input per feature by name, or one FP64 matrix of shape [rows, {width}]")
    values = _floats(_values(tensor, width), tensor.name[:80])
    return {feature.name: _from_codes(values[at::width], feature) for at, feature in enumerate(features)}


def _from_codes(column: list[float], feature: Feature) -> Column:
    if feature.type == "number":
        return column
    known = feature.categories
    if any(not math.isnan(code) and not (code.is_integer() and 0 <= code < len(known)) for code in column):
        raise InputFault(f"feature {feature.name!r} of the matrix must be the index of a category, or NaN")
    return [None if math.isnan(code) else known[int(code)] for code in column]


def _values(tensor: Tensor, width: int) -> list[Any]:
    values = tensor.data.tolist() if hasattr(tensor.data, "tolist") else tensor.data
    if not isinstance(values, list):
        raise InputFault(f"the data of input {tensor.name[:80]!r} is no list")
    if values and isinstance(values[0], list):
        if not all(isinstance(row, list) for row in values):
            raise InputFault(f"the data of input {tensor.name[:80]!r} is ragged")
        values = list(chain.from_iterable(values))
    rows = tensor.shape[0]
    if not 1 <= rows <= MAX_ROWS:
        raise InputFault(f"a request must have 1 to {MAX_ROWS} rows")
    if len(values) != rows * width:
        raise InputFault(f"input {tensor.name[:80]!r} does not have as many values as its shape says")
    return values


def _floats(values: list[Any], name: str) -> list[float]:
    if not set(map(type, values)) <= {float, int, bool, type(None)}:
        raise InputFault(f"input {name!r} holds something that is no number")
    try:
        numbers = [math.nan if value is None else float(value) for value in values]
    except OverflowError as error:
        raise InputFault(f"input {name!r} holds a number that does not fit") from error
    if any(abs(number) > LARGEST for number in numbers):
        raise InputFault(f"input {name!r} holds a number that is infinite or does not fit single precision")
    return numbers


def _categories(values: list[Any], feature: Feature) -> list[str | None]:
    if not set(map(type, values)) <= {str, bytes, type(None)}:
        raise InputFault(f"input {feature.name!r} holds something that is no text")
    known = frozenset(feature.categories)
    try:
        texts = [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError as error:
        raise InputFault(f"input {feature.name!r} holds text that is not UTF-8") from error
    return [text if text in known else None for text in texts]


def _width(tensor: Tensor) -> int:
    return tensor.shape[1] if len(tensor.shape) == 2 else 1
