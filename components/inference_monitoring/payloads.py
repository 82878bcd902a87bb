"""What a payload holds: rows of features, and scores. V2 tensors, Seldon's `data`, and V1 `instances` are read.

Values are handed on as they are and are nowhere written but to the stage's own scratch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from kfp_custody.components._shared.request_logs import LineFault, parse_line

MAX_ROWS = 10_000
MAX_COLUMNS = 10_000
# What reading a structure of another shape raises.
_OTHER_SHAPE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_SCORES = ("probability", "predict_proba", "probabilities", "score", "scores")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under names, every row as long as there are names."""

    names: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered: for how many rows, their probabilities of class 1 (none when it gave none), or a fault."""

    rows: int
    scores: Sequence[float] = ()
    failed: bool = False


def read_body(body: Any) -> Mapping[str, Any]:
    """Return a payload that may be JSON in a text.

    Raises:
        LineFault: it is no object.
    """
    if isinstance(body, str):
        body = parse_line(body.encode(errors="surrogatepass"))
    if not isinstance(body, dict):
        raise LineFault("its body is no object")
    return body


def read_table(body: Mapping[str, Any]) -> Table:
    """Return the rows of a request.

    Raises:
        LineFault: it is of no known form, or its rows are not equally long.
    """
    try:
        if "inputs" in body:
            table = _tensors(body["inputs"])
        elif "instances" in body:
            table = _instances(body["instances"])
        else:
            table = _data(body["data"])
    except _OTHER_SHAPE as error:
        raise LineFault("its request is of no known form") from error
    if not 1 <= len(table.rows) <= MAX_ROWS or not 1 <= len(table.names) <= MAX_COLUMNS:
        raise LineFault("it has no rows or columns, or too many")
    if set(map(type, table.names)) != {str} or len(set(table.names)) < len(table.names):
        raise LineFault("its columns are not named, or twice")
    if set(map(len, table.rows)) != {len(table.names)}:
        raise LineFault("its rows are not equally long")
    return table


def read_answer(body: Mapping[str, Any]) -> Answer:
    """Return what a response says.

    Raises:
        LineFault: it is of no known form.
    """
    try:
        if "outputs" in body:
            outputs = body["outputs"]
            chosen = next((output for output in outputs if output["name"] in _SCORES), outputs[0])
            values, rows = _flat(chosen["data"]), _count(chosen["shape"][0])
            return Answer(rows, _probabilities(values, rows) if chosen["datatype"][:2] == "FP" else ())
        if "predictions" in body:
            return _listed(body["predictions"])
        if "data" in body:
            tensor = body["data"].get("tensor")
            if tensor is None:
                return _listed(body["data"]["ndarray"])
            rows = _count(tensor["shape"][0])
            return Answer(rows, _probabilities(tensor["values"], rows))
    except _OTHER_SHAPE as error:
        raise LineFault("its response is of no known form") from error
    if "error" in body or "status" in body:
        return Answer(0, failed=True)
    raise LineFault("its response is of no known form")


@cache
def numbered(width: int) -> tuple[str, ...]:
    """Return names for columns that have none; the same however the payload calls their matrix."""
    if width > MAX_COLUMNS:
        raise LineFault("it has too many columns")
    return tuple(f"[{number}]" for number in range(width))


def _tensors(inputs: Any) -> Table:
    if len(inputs) == 1 and len(inputs[0]["shape"]) == 2 and inputs[0]["shape"][1] != 1:
        width, values = inputs[0]["shape"][1], _flat(inputs[0]["data"])
        if _count(width) < 1 or width > MAX_COLUMNS or len(values) % width:
            raise LineFault("a tensor has not as many values as its shape says")
        return _unnamed([values[at : at + width] for at in range(0, len(values), width)], None)
    columns = [_flat(tensor["data"]) for tensor in inputs]
    return Table(tuple([tensor["name"] for tensor in inputs]), list(zip(*columns, strict=True)))


def _instances(instances: Any) -> Table:
    if isinstance(instances[0], dict):
        names = tuple(sorted(instances[0]))
        return Table(names, [[row[name] for name in names] for row in instances if len(row) == len(names)])
    return _unnamed(instances, None)


def _data(data: Any) -> Table:
    names = data.get("names")
    if "tensor" in data:
        width, values = data["tensor"]["shape"][1], data["tensor"]["values"]
        if not 1 <= _count(width) <= MAX_COLUMNS or len(values) % width:
            raise LineFault("a tensor has not as many values as its shape says")
        return _unnamed([values[at : at + width] for at in range(0, len(values), width)], names)
    return _unnamed(data["ndarray"], names)


def _unnamed(rows: Any, names: Any) -> Table:
    rows = rows if isinstance(rows[0], list) else [rows]
    if set(map(type, rows)) != {list}:
        raise LineFault("its rows are no lists")
    return Table(tuple(names) if names else numbered(len(rows[0])), rows)


def _listed(rows: Any) -> Answer:
    return Answer(len(rows), _probabilities(_flat(rows), len(rows)))


def _probabilities(values: Sequence[Any], rows: int) -> Sequence[float]:
    """Return the probabilities of class 1 of flat values, one or two a row; none when they are something else."""
    if rows < 1 or len(values) not in (rows, 2 * rows):
        return ()
    scores = values if len(values) == rows else values[1::2]
    return scores if set(map(type, scores)) == {float} and min(scores) >= 0 and max(scores) <= 1 else ()


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise LineFault("its values are no list")
    return list(chain.from_iterable(data)) if data and isinstance(data[0], list) else data


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_ROWS:
        raise LineFault("a shape is no number of rows")
    return value
