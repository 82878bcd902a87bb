"""What one side of a comparison knows of a column: all of its values, or what a profile keeps of them.

Both engines compare the same things. A profile's mid-quantiles stand in the place of the sorted values, and `slack`
says how far that moves their distribution; of values that are all there it is 0.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from kfp_custody.components._shared.distances import Floats
from kfp_custody.components._shared.profiles import (
    MOST_CATEGORIES,
    SMALLEST_GROUP,
    CategoryProfile,
    NumberProfile,
)


@dataclass(frozen=True)
class Side:
    """How many rows a column has on one side, and how many of them are missing or infinite."""

    rows: int
    missing: int
    infinite: int = 0

    @property
    def values(self) -> int:
        """Rows that can be compared."""
        return self.rows - self.missing - self.infinite


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Attributes:
        side: Its rows.
        values: In ascending order, all finite: every value, or quantiles that stand for equal shares of them.
        moments: Mean and standard deviation of every value; None where they are taken from `values`.
    """

    side: Side
    values: Floats
    moments: tuple[float | None, float | None] | None = None

    @cached_property
    def mean(self) -> float | None:
        """Mean of the finite values; None where there is none in the range of a double."""
        return self.moments[0] if self.moments else self._finite(self.values.mean)

    @cached_property
    def std(self) -> float | None:
        """Standard deviation of the finite values; None where there is none in the range of a double."""
        return self.moments[1] if self.moments else self._finite(self.values.std)

    @property
    def slack(self) -> float:
        """How far the distribution of `values` may be from that of every value: half a quantile's share and a row's."""
        if self.moments is None or not self.values.size:
            return 0.0
        return 0.5 / self.values.size + 1.0 / self.side.values

    @property
    def distance_slack(self) -> float:
        """How large the Wasserstein distance of `values` from every value may be.

        Between the outer quantiles the distributions differ by no more than `slack`. Beyond them at most that share of
        the rows lies somewhere, which mean and standard deviation bound: by Cauchy and Schwarz, and by H. Scarf ("A
        min-max solution of an inventory problem", 1958).
        """
        if not self.slack:
            return 0.0
        if self.mean is None or self.std is None:
            return math.inf
        low, high = float(self.values[0]), float(self.values[-1])
        beyond = 0.0
        for gap in (high - self.mean, self.mean - low):
            root = math.hypot(self.std, gap)
            beyond += max(min(math.sqrt(self.slack) * root, (root - gap) / 2.0), 0.0)
        return self.slack * (high - low) + beyond

    def _finite(self, moment: Callable[[], np.float64]) -> float | None:
        with np.errstate(over="ignore", invalid="ignore"):  # numbers near the end of the range
            found = float(moment()) if self.values.size else math.nan
        return found if math.isfinite(found) else None


@dataclass(frozen=True)
class Texts:
    """A column of categories.

    Attributes:
        side: Its rows.
        counts: Rows by category, of those that are named.
        other_rows: Rows with a category that is not named.
        least: Fewest rows of a category that is named: 1 when all are.
    """

    side: Side
    counts: Mapping[str, int] = field(default_factory=dict)
    other_rows: int = 0
    least: int = 1

    @property
    def unseen(self) -> float:
        """Share of rows to expect in categories that are not named here, in more data of the same distribution.

        I. J. Good and A. M. Turing (Biometrika 40, 1953): of all that was seen fewer than r times about as much comes
        again as was seen up to r times, each counted once less, which for r = 1 is the share of those seen once.
        """
        return min((self.other_rows + self._rows_of(self.least)) / self.side.values, 1.0)

    @property
    def unseen_deviation(self) -> float:
        """Standard deviation of `unseen` from what is really not named (W. Esty, Annals of Statistics 11, 1983).

        For r = 1 it is that of the categories seen once and twice, sqrt(N1 + 2 N2) / n.
        """
        edge, next_to_it = self._rows_of(self.least), self._rows_of(self.least + 1)
        return math.sqrt(self.other_rows + edge + self.least * next_to_it) / self.side.values

    def _rows_of(self, count: int) -> int:
        return sum(rows for rows in self.counts.values() if rows == count)

    @property
    def slack(self) -> float:
        """How far the shares are from those to expect, as a chi-squared distance: small categories are not named."""
        if not self.other_rows:
            return 0.0
        return (self.unseen - self.other_rows / self.side.values) ** 2 / self.unseen


def numbers_of(values: Floats) -> Numbers:
    """Sort a column in place and return what is to be compared.

    Args:
        values: Shape (rows,), NaN when missing; it is the caller's no more.
    """
    values.sort()  # -inf first, then the finite ones, inf, and NaN last
    start = int(np.searchsorted(values, -np.inf, side="right"))
    end, present = (int(np.searchsorted(values, edge, side="left")) for edge in (np.inf, np.nan))
    side = Side(values.size, values.size - present, start + present - end)
    return Numbers(side, values[start:end])


def numbers_of_profile(found: NumberProfile) -> Numbers:
    """Return what a profile knows of a column of numbers."""
    side = Side(found.missing + found.infinite + found.finite, found.missing, found.infinite)
    return Numbers(side, np.array(found.quantiles, dtype=np.float64), (found.mean, found.std))


def texts_of_profile(found: CategoryProfile) -> Texts:
    """Return what a profile knows of a column of categories."""
    rows = found.missing + sum(found.counts.values()) + found.other_rows
    full = len(found.counts) == MOST_CATEGORIES
    least = min(found.counts.values()) if full else SMALLEST_GROUP
    return Texts(Side(rows, found.missing), found.counts, found.other_rows, least)
