"""Compare one column of two datasets: measures with their noise floors, and the verdict that follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kfp_custody.components._shared import distances, noise
from kfp_custody.components._shared.distances import Counts, Floats
from kfp_custody.components.drift_detection.limits import Limit
from kfp_custody.components.drift_detection.sides import Numbers, Side, Texts

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
    name: str, reference: Numbers, current: Numbers, limits: Mapping[str, Limit], bins: int, alpha: float
) -> Comparison:
    """Compare a numeric column; distances are taken over finite values, the rest is counted.

    Args:
        name: The column.
        reference: What is known of the reference, in full or as a profile.
        current: The values to judge.
        limits: Limits of the measures to take, by name.
        bins: Bins of the PSI.
        alpha: Chance that noise alone passes the floor of a measure.
    """
    old, new = reference.values, current.values
    n, m = reference.side.values, current.side.values
    measures = _presence(reference.side, current.side, limits, alpha)
    if old.size and new.size:
        slack = reference.slack + current.slack
        measures += _measure("ks", distances.ks(old, new), noise.ks_floor(n, m, alpha) + slack, limits)
        cuts = distances.quantile_cuts(old, bins)
        p, q = distances.bin_counts(old, cuts), distances.bin_counts(new, cuts)
        cells = int(((p + q) > 0).sum())
        floor = noise.psi_floor(n, m, cells, alpha, _slack_of_shares(p, q, slack))
        measures += _measure("psi", distances.psi(p, q), floor, limits)
        if "wasserstein" in limits and reference.std:  # a constant has no unit to measure in
            measures += _wasserstein(reference, current, reference.std, limits, alpha)
    return _comparison(name, "number", measures, reference.side, current.side, _number_picture(old, new))


def compare_categories(
    name: str, reference: Texts, current: Texts, limits: Mapping[str, Limit], alpha: float, known: Sequence[str] = ()
) -> Comparison:
    """Compare a categorical column, in time linear in categories.

    What the reference does not name is one cell on both sides, so nothing is taken for new that a profile has only
    counted.

    Args:
        name: The column.
        reference: What is known of the reference, in full or as a profile.
        current: The categories to judge, all of them named.
        limits: Limits of the measures, by name.
        alpha: Chance that noise alone passes the floor of a measure.
        known: Categories that the model's signature names; only these are ever shown.
    """
    old, new = reference.counts, current.counts
    names = list(old) if reference.other_rows else list({**old, **new})
    p = np.array([old.get(text, 0) for text in names], dtype=np.int64)
    q = np.array([new.get(text, 0) for text in names], dtype=np.int64)
    n, m = reference.side.values, current.side.values
    measures = _presence(reference.side, current.side, limits, alpha)
    if n and m:
        if reference.other_rows:
            p, q = np.append(p, reference.other_rows), np.append(q, m - q.sum())
        cells = int(((p + q) > 0).sum())
        floor = noise.jensen_shannon_floor(n, m, cells, alpha, reference.slack)
        measures += _measure("jensen_shannon", distances.jensen_shannon(p, q), floor, limits)
        floor = noise.psi_floor(n, m, cells, alpha, reference.slack)
        measures += _measure("psi", distances.psi(p, q), floor, limits)
        unnamed = sum(rows for text, rows in new.items() if text not in old) / m
        floor = noise.new_share_floor(n, m, reference.unseen, reference.unseen_deviation, alpha)
        measures += _measure("new_category_share", max(unnamed - reference.other_rows / n, 0.0), floor, limits)
    picture = _category_picture(old, new, known, n, m)
    return _comparison(name, "category", measures, reference.side, current.side, picture)


def _wasserstein(
    reference: Numbers, current: Numbers, scale: float, limits: Mapping[str, Limit], alpha: float
) -> tuple[Measure, ...]:
    """Measure in standard deviations of the reference; numbers near the end of the range have no distance."""
    old, new = reference.values, current.values
    n, m = reference.side.values, current.side.values
    with np.errstate(over="ignore", invalid="ignore"):
        span = float(max(old[-1], new[-1])) - float(min(old[0], new[0]))
        spread = (n * distances.spread(old) + m * distances.spread(new)) / (n + m)
        floor = noise.wasserstein_floor(n, m, spread, span, alpha)
        floor = (floor + reference.distance_slack + current.distance_slack) / scale
        distance = distances.wasserstein(old, new) / scale
    known = np.isfinite(floor) and np.isfinite(distance)
    return _measure("wasserstein", distance, floor, limits) if known else ()


def _slack_of_shares(p: Counts, q: Counts, slack: float) -> float:
    """Return by how much shares may be off, as a chi-squared distance: a cell has two ends, each off by `slack`."""
    if not slack:
        return 0.0
    share = p[(p + q) > 0] / p.sum()
    return float(((2.0 * slack) ** 2 / np.maximum(share, 0.5 / p.sum())).sum())


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
    low, high = (float(old[round(share * (old.size - 1))]) for share in (0.01, 0.99))
    if not low < high:
        low, high = min(low, float(new[0])), max(high, float(new[-1]))
    if not np.isfinite(high - low):
        return None
    cuts = np.linspace(low, high, _PICTURE_BINS + 1)[1:-1]
    p, q = distances.bin_counts(old, cuts), distances.bin_counts(new, cuts)
    labels = tuple(str(number) for number in range(1, _PICTURE_BINS + 1))
    return Picture(labels, tuple((p / old.size).tolist()), tuple((q / new.size).tolist()))


def _category_picture(
    old: Mapping[str, int], new: Mapping[str, int], known: Sequence[str], n: int, m: int
) -> Picture | None:
    if not n or not m:
        return None
    shown = sorted(known, key=lambda text: (-old.get(text, 0), text))[:_PICTURE_CATEGORIES]
    p, q = [old.get(text, 0) for text in shown], [new.get(text, 0) for text in shown]
    labels = (*shown, "(all others)")
    p.append(n - sum(p))
    q.append(m - sum(q))
    return Picture(labels, tuple(count / n for count in p), tuple(count / m for count in q))
