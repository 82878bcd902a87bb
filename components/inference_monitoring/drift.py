"""Drift of what is asked and answered, against the profile of what the model was trained on, from counts in bins."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kfp_custody.components._shared import distances, noise
from kfp_custody.components._shared.distances import Counts, Floats
from kfp_custody.components._shared.profiles import CategoryProfile, NumberProfile, Profile
from kfp_custody.components.inference_monitoring.limits import FAILED, PASSED, WARNED, Limits
from kfp_custody.components.inference_monitoring.spool import code_of

BINS = 10
UNKNOWN = "UNKNOWN"
_LEAST_QUANTILES = 100  # fewer are too coarse for deciles


@dataclass(frozen=True)
class Reference:
    """A profile's numbers in bins: the bins' upper ends, and how many rows of the profile each one has."""

    cuts: Floats
    counts: Counts

    @property
    def rows(self) -> int:
        """Rows of the profile."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class Measured:
    """A population stability index, the noise below which it says nothing, and what it comes to."""

    name: str
    verdict: str
    psi: float | None = None
    floor: float | None = None
    null_share: float | None = None


def reference_of(profile: NumberProfile) -> Reference | None:
    """Return the bins of a column; None when the profile is of too few rows."""
    if len(profile.quantiles) < _LEAST_QUANTILES:
        return None
    values = np.array(profile.quantiles)
    cuts = distances.quantile_cuts(values, BINS)
    counts = distances.bin_counts(values, cuts) * (profile.finite / values.size)
    return Reference(cuts, np.rint(counts).astype(np.int64))


def measure(name: str, before: Counts, after: Counts, limits: Limits, alpha: float, limit: str) -> Measured:
    """Compare counts over the same cells.

    Args:
        name: Of what is compared.
        before: The profile's.
        after: The window's.
        limits: Limits.
        alpha: Chance that noise alone passes the floor.
        limit: Name of the limit.
    """
    n, m = int(before.sum()), int(after.sum())
    if not n or not m:
        return Measured(name, UNKNOWN)
    rule = limits.measures[limit]
    cells = int(((before + after) > 0).sum())
    psi, floor = distances.psi(before, after), noise.psi_floor(n, m, cells, alpha)
    verdict = rule.verdict(psi) if psi > floor else PASSED
    return Measured(name, UNKNOWN if verdict == PASSED and floor >= rule.fail else verdict, psi, floor)


class Features:
    """Counts the values of the columns that a profile knows, block by block."""

    def __init__(self, profile: Profile | None) -> None:
        """Begin with nothing."""
        columns = profile.columns if profile else {}
        self._rows = profile.rows if profile else 0
        self._columns: dict[str, _Numbers | _Categories] = {}
        for name, column in columns.items():
            if isinstance(column, NumberProfile) and (reference := reference_of(column)):
                self._columns[name] = _Numbers(reference, column)
            elif isinstance(column, CategoryProfile) and column.counts:
                self._columns[name] = _Categories(column)

    def add(self, names: tuple[str, ...], values: Floats) -> None:
        """Count rows, shape (n, columns)."""
        for place, name in enumerate(names):
            if name in self._columns:
                self._columns[name].add(values[:, place])

    def measured(self, limits: Limits) -> list[Measured]:
        """Return every column that came at least once, worst first."""
        seen = {name: column for name, column in self._columns.items() if column.rows}
        alpha = limits.alpha / max(2 * len(seen), 1)
        found = [self._measured(name, column, limits, alpha) for name, column in seen.items()]
        order = (FAILED, WARNED, UNKNOWN, PASSED)
        return sorted(found, key=lambda one: (order.index(one.verdict), -(one.psi or 0.0), one.name))

    def _measured(self, name: str, column: "_Numbers | _Categories", limits: Limits, alpha: float) -> Measured:
        shape = measure(name, column.before, column.after, limits, alpha, "feature_psi")
        before, after = column.missing_before / self._rows, column.missing / column.rows
        pooled = (column.missing_before + column.missing) / (self._rows + column.rows)
        floor = noise.share_floor(self._rows, column.rows, pooled, alpha)
        moved = abs(after - before)
        missing = limits.measures["feature_null_share"].verdict(moved) if moved > floor else PASSED
        verdict = next((each for each in (FAILED, WARNED) if each in (missing, shape.verdict)), shape.verdict)
        return Measured(name, verdict, shape.psi, shape.floor, moved)


class _Numbers:
    def __init__(self, reference: Reference, profile: NumberProfile) -> None:
        self._cuts, self.before = reference.cuts, reference.counts
        self.after: Counts = np.zeros_like(self.before)
        self.missing_before, self.missing, self.rows = profile.missing, 0, 0

    def add(self, values: Floats) -> None:
        self.rows += values.size
        self.missing += int(np.isnan(values).sum())
        finite = values[np.isfinite(values)]
        self.after += np.bincount(np.searchsorted(self._cuts, finite), minlength=self.after.size)


class _Categories:
    def __init__(self, profile: CategoryProfile) -> None:
        codes = {code_of(name): rows for name, rows in profile.counts.items()}
        self._codes = np.array(sorted(codes))
        self.before: Counts = np.array([*(codes[code] for code in sorted(codes)), profile.other_rows], dtype=np.int64)
        self.after: Counts = np.zeros_like(self.before)
        self.missing_before, self.missing, self.rows = profile.missing, 0, 0

    def add(self, values: Floats) -> None:
        self.rows += values.size
        present = values[~np.isnan(values)]
        self.missing += values.size - present.size
        places = np.minimum(np.searchsorted(self._codes, present), self._codes.size - 1)
        places[self._codes[places] != present] = self._codes.size
        self.after += np.bincount(places, minlength=self.after.size)


def quartiles_of(profile: Profile | None) -> Mapping[str, Floats]:
    """Return the quartiles of the numbers of a profile, by name; shape (3,)."""
    columns = profile.columns if profile else {}
    return {
        name: np.quantile(np.array(column.quantiles), (0.25, 0.5, 0.75))
        for name, column in columns.items()
        if isinstance(column, NumberProfile) and len(column.quantiles) >= _LEAST_QUANTILES
    }
