"""Compare one column of two datasets: measures with their noise floors, and the verdict that follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kfp_custody.components._shared import distances, noise
from kfp_custody.components._shared.distances import Floats
from kfp_custody.components.drift_detection.limits import Limit

if TYPE_CHECKING:
    import pyarrow as pa

NONE, WARN, DRIFT, UNKNOWN = "none", "warn", "drift", "unknown"
_PICTURE_BINS = 24
_PICTURE_CATEGORIES = 12
_SHAPE = ("ks", "psi", "wasserstein", "jensen_shannon")  # what tells whether the values themselves moved


@dataclass(frozen=True)
class Measure:
    """An effect size, the noise floor below which it says nothing, and its limits."""

    name: str
    value: float
    floor: float
    limit: Limit

    @property
    def verdict(self) -> str:
        """Drift or warn above limit and floor; unknown when the floor hides what would be drift; else none."""
        if self.value > self.floor and self.value >= self.limit.warn:
            return DRIFT if self.value >= self.limit.drift else WARN
        return UNKNOWN if self.floor >= self.limit.drift else NONE


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
class Picture:
    """Shares of both sides over the same cells, for a chart: labels are the model's categories or bin numbers."""

    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """What was found about one column."""

    name: str
    type: str
    verdict: str
    reason: str
    measures: tuple[Measure, ...] = ()
    reference: Side | None = None
    current: Side | None = None
    picture: Picture | None = None

    def value(self, measure: str) -> float | None:
        """Return the value of a measure, or None when it was not taken."""
        return next((entry.value for entry in self.measures if entry.name == measure), None)


def compare_numbers(
    name: str, reference: Floats, current: Floats, limits: Mapping[str, Limit], bins: int, alpha: float
) -> Comparison:
    """Compare a numeric column; distances are taken over finite values, the rest is counted.

    Args:
        name: The column.
        reference: Values, shape (rows,), NaN when missing.
        current: Values, shape (rows,), NaN when missing.
        limits: Limits of the measures to take, by name.
        bins: Bins of the PSI.
        alpha: Chance that noise alone passes the floor of a measure.
    """
    before, old = _finite(reference)
    after, new = _finite(current)
    n, m = old.size, new.size
    measures = _presence(before, after, limits, alpha)
    if n and m:
        cuts = distances.quantile_cuts(old, bins)
        p, q = distances.bin_counts(old, cuts), distances.bin_counts(new, cuts)
        cells = int(((p + q) > 0).sum())
        measures += _measure("ks", distances.ks(old, new), noise.ks_floor(n, m, alpha), limits)
        measures += _measure("psi", distances.psi(p, q), noise.psi_floor(n, m, cells, alpha), limits)
        with np.errstate(over="ignore", invalid="ignore"):  # numbers near the end of the range: no distance is taken
            scale = float(old.std())
        if "wasserstein" in limits and np.isfinite(scale) and scale > 0:  # a constant has no unit to measure in
            span = float(max(old[-1], new[-1]) - min(old[0], new[0]))
            floor = noise.wasserstein_floor(n, m, distances.spread(old, new), span, alpha) / scale
            distance = distances.wasserstein(old, new) / scale
            if np.isfinite(floor) and np.isfinite(distance):
                measures += _measure("wasserstein", distance, floor, limits)
    return _comparison(name, "number", measures, before, after, _number_picture(old, new))


def compare_categories(
    name: str,
    reference: "pa.ChunkedArray",
    current: "pa.ChunkedArray",
    limits: Mapping[str, Limit],
    alpha: float,
    known: Sequence[str] = (),
) -> Comparison:
    """Compare a categorical column, in time linear in rows and categories.

    Args:
        name: The column.
        reference: Text values, null when missing.
        current: Text values, null when missing.
        limits: Limits of the measures, by name.
        alpha: Chance that noise alone passes the floor of a measure.
        known: Categories that the model's signature names; only these are ever shown.
    """
    before, old = Side(len(reference), reference.null_count), _value_counts(reference)
    after, new = Side(len(current), current.null_count), _value_counts(current)
    names = list(old | new)
    p = np.array([old.get(text, 0) for text in names], dtype=np.int64)
    q = np.array([new.get(text, 0) for text in names], dtype=np.int64)
    n, m = before.values, after.values
    measures = _presence(before, after, limits, alpha)
    if n and m:
        cells = len(names)
        floor = noise.jensen_shannon_floor(n, m, cells, alpha)
        measures += _measure("jensen_shannon", distances.jensen_shannon(p, q), floor, limits)
        measures += _measure("psi", distances.psi(p, q), noise.psi_floor(n, m, cells, alpha), limits)
        # Good and Turing: the share of rows in categories not seen yet is about that of those seen once.
        unseen = float((p == 1).sum()) / n
        floor = unseen + noise.share_floor(n, m, unseen, alpha)
        measures += _measure("new_category_share", float(q[p == 0].sum()) / m, floor, limits)
    return _comparison(name, "category", measures, before, after, _category_picture(old, new, known))


def _finite(values: Floats) -> tuple[Side, Floats]:
    missing = np.isnan(values)
    infinite = np.isinf(values)
    side = Side(values.size, int(missing.sum()), int(infinite.sum()))
    return side, np.sort(values[~(missing | infinite)])


def _value_counts(column: "pa.ChunkedArray") -> dict[str, int]:
    counted = column.drop_null().value_counts()
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _presence(before: Side, after: Side, limits: Mapping[str, Limit], alpha: float) -> tuple[Measure, ...]:
    """Measure what value distributions cannot show: rows that went missing or infinite."""
    n, m = before.rows, after.rows
    delta = abs(after.missing / m - before.missing / n)
    pooled = (after.missing + before.missing) / (n + m)
    measures = _measure("null_share_delta", delta, noise.share_floor(n, m, pooled, alpha), limits)
    if before.infinite or after.infinite:
        more = max(after.infinite / m - before.infinite / n, 0.0)
        pooled = (after.infinite + before.infinite) / (n + m)
        measures += _measure("infinite_share", more, noise.share_floor(n, m, pooled, alpha), limits)
    return measures


def _measure(name: str, value: float, floor: float, limits: Mapping[str, Limit]) -> tuple[Measure, ...]:
    return (Measure(name, value, floor, limits[name]),) if name in limits else ()


def _comparison(
    name: str, kind: str, measures: tuple[Measure, ...], before: Side, after: Side, picture: Picture | None
) -> Comparison:
    verdicts = {measure.name: measure.verdict for measure in measures}
    shape = [verdict for measure, verdict in verdicts.items() if measure in _SHAPE]
    worst = next((verdict for verdict in (DRIFT, WARN) if verdict in verdicts.values()), NONE)
    reason = ", ".join(f"{measure} {verdict}" for measure, verdict in verdicts.items() if verdict in (DRIFT, WARN))
    if worst == NONE and all(verdict == UNKNOWN for verdict in shape):
        worst = UNKNOWN
        reason = "too few rows to tell drift from noise" if shape else "no value to compare on one side"
    return Comparison(name, kind, worst, reason, measures, before, after, picture)


def _number_picture(old: Floats, new: Floats) -> Picture | None:
    """Count in equal bins from the 1st to the 99th percentile of the reference; the outer bins take the tails."""
    if not old.size or not new.size:
        return None
    low, high = np.quantile(old, (0.01, 0.99))
    if not np.isfinite(float(high) - float(low)):
        return None
    if not low < high:
        low, high = min(low, new[0]), max(high, new[-1])
    cuts = np.linspace(low, high, _PICTURE_BINS + 1)[1:-1]
    p, q = distances.bin_counts(old, cuts), distances.bin_counts(new, cuts)
    labels = tuple(str(number) for number in range(1, _PICTURE_BINS + 1))
    return Picture(labels, tuple((p / old.size).tolist()), tuple((q / new.size).tolist()))


def _category_picture(old: Mapping[str, int], new: Mapping[str, int], known: Sequence[str]) -> Picture | None:
    n, m = sum(old.values()), sum(new.values())
    if not n or not m:
        return None
    shown = sorted(known, key=lambda text: (-old.get(text, 0), text))[:_PICTURE_CATEGORIES]
    p, q = [old.get(text, 0) for text in shown], [new.get(text, 0) for text in shown]
    labels = (*shown, "(all others)")
    p.append(n - sum(p))
    q.append(m - sum(q))
    return Picture(labels, tuple(count / n for count in p), tuple(count / m for count in q))
