"""What rows may become: the values that the constraints allow, how far they are, and whether the model detects them.

A point is the numbers of a row that may change and the options that were chosen for it. Every point that is asked about
went through `allowed` before, so what an attack finds holds to the constraints by construction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared.scoring import Scorer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

OWN = -1  # the code of the option that a row has itself
_AT_ONCE = 1 << 16  # rows that the model scores in one call, to bound memory


@dataclass(frozen=True)
class Number:
    """A number that may change: its standard deviation in the training data, its box, and whether it is whole."""

    name: str
    deviation: float
    low: float
    high: float
    integer: bool


@dataclass(frozen=True)
class Choice:
    """Something that may be switched: `options[i]` are the values of its `columns`; a switch counts `cost`."""

    name: str
    columns: tuple[str, ...]
    options: tuple[tuple[Any, ...], ...]
    cost: float


@dataclass(frozen=True)
class Points:
    """Changed rows.

    Attributes:
        rows: Which row each point was made of, shape (points,).
        values: Its numbers, shape (points, numbers), in their own units.
        codes: Its options, shape (points, choices); OWN where nothing was switched.
    """

    rows: Ints
    values: Floats
    codes: Ints

    def take(self, which: "Ints | Bools") -> "Points":
        """Return some of the points."""
        return Points(self.rows[which], self.values[which], self.codes[which])


class Space:
    """The rows that are attacked, and what may become of them."""

    def __init__(
        self,
        scorer: Scorer,
        columns: Mapping[str, NDArray[Any]],
        numbers: tuple[Number, ...],
        choices: tuple[Choice, ...],
    ) -> None:
        """Keep the rows.

        Args:
            scorer: The model.
            columns: One array of shape (rows,) for each feature.
            numbers: The numbers that may change. One that is missing in a row stays missing there.
            choices: What may be switched.
        """
        self.scorer, self.numbers, self.choices = scorer, numbers, choices
        self._columns = dict(columns)
        self.size = len(next(iter(columns.values())))
        self.own = self.numbers_of(columns)
        self.deviations = np.array([number.deviation for number in numbers])
        self.integer = np.array([number.integer for number in numbers], dtype=bool)
        self.movable = np.isfinite(self.own)
        self._complete = bool(self.movable.all())
        low, high = (np.array([getattr(number, end) for number in numbers]) for end in ("low", "high"))
        # A row that lies outside of the box may stay where it is.
        self._low = np.fmin(np.where(self.integer, np.ceil(low), low), self.own)
        self._high = np.fmax(np.where(self.integer, np.floor(high), high), self.own)
        self.own_codes = self.codes_of(columns)
        self._costs = np.array([choice.cost for choice in choices])
        self.queries = 0

    def numbers_of(self, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """Return the numbers that may change of any rows, shape (rows, numbers)."""
        rows = len(next(iter(columns.values())))
        parts = [np.asarray(columns[number.name], dtype=np.float64) for number in self.numbers]
        return np.stack(parts, axis=1) if parts else np.empty((rows, 0))

    def codes_of(self, columns: Mapping[str, NDArray[Any]]) -> Ints:
        """Return which option any rows have, shape (rows, choices); OWN where it is none of them."""
        found = np.full((len(next(iter(columns.values()))), len(self.choices)), OWN, dtype=np.int64)
        for place, choice in enumerate(self.choices):
            codes = {option: code for code, option in enumerate(choice.options)}
            held = zip(*(columns[name].tolist() for name in choice.columns), strict=True)
            found[:, place] = [codes.get(values, OWN) for values in held]
        return found

    def unchanged(self) -> Points:
        """Return every row as it is."""
        return Points(np.arange(self.size), self.own.copy(), np.full((self.size, len(self.choices)), OWN))

    def allowed(self, rows: Ints, values: Floats, codes: Ints) -> Points:
        """Return the allowed points nearest to some values, number by number; what a row has itself is always allowed.

        Args:
            rows: Which row, shape (points,).
            values: Shape (points, numbers); NaN leaves a number as it is.
            codes: Shape (points, choices).
        """
        own, low, high = self.own[rows], self._low[rows], self._high[rows]
        values = np.clip(values, low, high)
        if self.integer.any():
            whole = np.clip(np.rint(values), low, high)
            values = np.where(self.integer & (values != own), whole, values)
        known = np.isfinite(values)
        if not (self._complete and known.all()):
            values = np.where(known & self.movable[rows], values, own)
        return Points(rows, values, np.where(codes == self.own_codes[rows], OWN, codes))

    def shifts(self, points: Points) -> Floats:
        """Return how far each number was moved, in standard deviations, shape (points, numbers)."""
        own = self.own[points.rows]
        shifts = (points.values - own) / self.deviations
        return shifts if self._complete else np.where(self.movable[points.rows], shifts, 0.0)

    def distances(self, points: Points) -> Floats:
        """Return how far points are from their rows: L2 in standard deviations, and the cost of each switch."""
        switched = np.where(points.codes != OWN, self._costs, 0.0)
        found: Floats = np.sqrt((self.shifts(points) ** 2).sum(axis=1) + (switched**2).sum(axis=1))
        return found

    def passes(self, points: Points) -> Bools:
        """Say which points the model does not detect, shape (points,).

        Raises:
            InputRefused: the model cannot score them.
        """
        count = len(points.rows)
        self.queries += count
        parts = [
            self._passes(points.take(np.arange(at, min(at + _AT_ONCE, count)))) for at in range(0, count, _AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=bool)

    def columns_of(self, points: Points) -> dict[str, NDArray[Any]]:
        """Return points as the columns that the model takes."""
        moved = {number.name: points.values[:, place] for place, number in enumerate(self.numbers)}
        columns = {
            name: moved[name] if name in moved else values[points.rows] for name, values in self._columns.items()
        }
        for place, choice in enumerate(self.choices):
            switched = np.flatnonzero(points.codes[:, place] != OWN)
            codes = points.codes[switched, place]
            for position, name in enumerate(choice.columns):
                values = np.array([option[position] for option in choice.options], dtype=columns[name].dtype)
                columns[name][switched] = values[codes]
        return columns

    def _passes(self, points: Points) -> Bools:
        found: Bools = self.scorer.score(self.columns_of(points)) < self.scorer.threshold
        return found
