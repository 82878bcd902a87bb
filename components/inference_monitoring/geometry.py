"""Rows as points: scaled so that a distance of 1 means about as much in every column.

Numbers are centred on their median and divided by their spread, both taken from quartiles, which no client's strange
queries move. A missing value lies at a place of its own. Categories are either the same or a distance of 1 apart.
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared.distances import Floats

_MISSING = -4.0
_FARTHEST = 1e4
_QUARTILES = 1.349  # what lies between those of a normal distribution, in standard deviations


@dataclass(frozen=True)
class Points:
    """Rows as points: numbers (n, numeric columns), categories (n, others), and what equal rows have in common (n,)."""

    numbers: Floats
    texts: Floats
    keys: NDArray[np.uint64]

    def __getitem__(self, chosen: Any) -> "Points":
        """Return some of the points."""
        return Points(self.numbers[chosen], self.texts[chosen], self.keys[chosen])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.keys)

    def after(self, earlier: "Points") -> "Points":
        """Return these points with earlier ones before them."""
        return Points(
            np.concatenate((earlier.numbers, self.numbers)),
            np.concatenate((earlier.texts, self.texts)),
            np.concatenate((earlier.keys, self.keys)),
        )

    def distances(self, others: "Points") -> Floats:
        """Return the squares of the distances from every point to every other one, shape (n, others).

        |a - b|^2 = |a|^2 + |b|^2 - 2ab, all of it as one product of matrices.
        """
        one, other = np.ones((len(self), 1)), np.ones((len(others), 1))
        left = np.hstack((-2.0 * self.numbers, one, (self.numbers**2).sum(axis=1, keepdims=True)))
        right = np.hstack((others.numbers, (others.numbers**2).sum(axis=1, keepdims=True), other))
        found: Floats = left @ right.T
        for column in range(self.texts.shape[1]):
            found += self.texts[:, column, None] != others.texts[:, column]
        return found


@dataclass(frozen=True)
class Scale:
    """Centre and spread of every number, and which columns are which."""

    centre: Floats
    spread: Floats
    numbers: NDArray[np.int64]
    texts: NDArray[np.int64]
    mixers: NDArray[np.uint64]

    def points(self, values: Floats) -> Points:
        """Return rows, shape (n, columns), as points."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (values[:, self.numbers] - self.centre) / self.spread
        scaled[np.isnan(scaled)] = _MISSING
        np.clip(scaled, -_FARTHEST, _FARTHEST, out=scaled)
        return Points(scaled, values[:, self.texts], _keys(values, self.mixers))


def _keys(values: Floats, mixers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a number for each row, the same for equal rows."""
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)  # zero and minus zero are equal
    bits ^= bits >> np.uint64(32)  # whole numbers have their low bits empty
    bits *= mixers
    bits ^= bits >> np.uint64(29)
    bits *= mixers[::-1]
    keys: NDArray[np.uint64] = (bits ^ (bits >> np.uint64(32))).sum(axis=1)
    return keys


def scale_of(sample: Floats, texts: Set[int], quartiles: dict[int, Floats]) -> Scale:
    """Return a scale.

    Args:
        sample: Rows, shape (n, columns), as many of each client.
        texts: Columns that hold categories.
        quartiles: Of columns that a profile knows: quartiles, shape (3,).
    """
    width = sample.shape[1]
    numbers = np.array([column for column in range(width) if column not in texts], dtype=np.int64)
    centre, spread = np.zeros(numbers.size), np.ones(numbers.size)
    for place, column in enumerate(numbers.tolist()):
        values = sample[np.isfinite(sample[:, column]), column]
        if column not in quartiles and not values.size:
            continue
        low, middle, high = quartiles.get(column, np.quantile(values, (0.25, 0.5, 0.75)) if values.size else [])
        with np.errstate(over="ignore", invalid="ignore"):
            wide = (high - low) / _QUARTILES or float(values.std() if values.size else 0.0)
        centre[place], spread[place] = middle, wide if np.isfinite(wide) and wide > 0 else 1.0
    # Odd numbers that nobody knows, so that nobody can make rows that differ and have one key.
    mixers: NDArray[np.uint64] = np.random.default_rng().integers(0, 2**64, (width,), dtype=np.uint64) | np.uint64(1)
    return Scale(centre, spread, numbers, np.array(sorted(texts), dtype=np.int64), mixers)
