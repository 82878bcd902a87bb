"""Counts and quantiles of a stream, in memory that does not grow with it.

Values are counted in bins: of durations each a half percent wider than the one before, of probabilities of equal width.
A quantile is then off by at most half a bin: a quarter percent of a duration, 0.00005 of a probability.
"""

import math
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared.distances import Counts, Floats
from kfp_custody.components.inference_monitoring.reading import Call

_SHORTEST, _LONGEST, _STEP = 1e-6, 1e5, math.log(1.005)  # seconds
_DURATIONS = int(math.log(_LONGEST / _SHORTEST) / _STEP) + 2
PROBABILITIES = 10_000
_BUFFER = 1 << 16


class Histogram(ABC):
    """Counts of values in bins."""

    def __init__(self, bins: int) -> None:
        """Begin with empty bins."""
        self.counts: Counts = np.zeros(bins, dtype=np.int64)
        self._buffer = array("d")

    def extend(self, values: Sequence[float]) -> None:
        """Count values."""
        self._buffer.extend(values)
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Count what is still to be counted."""
        if self._buffer:
            self._count(np.array(self._buffer))
            self._buffer = array("d")

    def quantile(self, share: float) -> float | None:
        """Return the value that this share of the values is not above; None when there are none."""
        self.flush()
        below = self.counts.cumsum()
        return None if not below[-1] else self._value(int(np.searchsorted(below, share * below[-1], side="left")))

    @property
    def total(self) -> int:
        """How many values there are."""
        self.flush()
        return int(self.counts.sum())

    def _count(self, values: Floats) -> None:
        self.counts += np.bincount(self._bins(values), minlength=self.counts.size)

    @abstractmethod
    def _bins(self, values: Floats) -> NDArray[np.int64]:
        """Return the bin of each value."""

    @abstractmethod
    def _value(self, place: int) -> float:
        """Return the middle of a bin."""


class Durations(Histogram):
    """Seconds; `over` counts those above each of some limits, exactly."""

    def __init__(self, limits: Iterable[float]) -> None:
        """Begin with nothing, and some limits in seconds."""
        super().__init__(_DURATIONS)
        self.over = dict.fromkeys(limits, 0)

    def _count(self, values: Floats) -> None:
        super()._count(values)
        for limit in self.over:
            self.over[limit] += int((values > limit).sum())

    def _bins(self, values: Floats) -> NDArray[np.int64]:
        return (np.log(np.clip(values, _SHORTEST, _LONGEST) / _SHORTEST) / _STEP).astype(np.int64)

    def _value(self, place: int) -> float:
        return _SHORTEST * math.exp((place + 0.5) * _STEP)


class Scores(Histogram):
    """Probabilities of class 1; `cells` counts them between the cuts of a reference as well."""

    def __init__(self, cuts: Floats | None) -> None:
        """Begin with nothing, and the upper ends of a reference's bins."""
        super().__init__(PROBABILITIES)
        self._cuts = cuts
        self.cells: Counts = np.zeros(0 if cuts is None else cuts.size + 1, dtype=np.int64)

    def _count(self, values: Floats) -> None:
        super()._count(values)
        if self._cuts is not None:
            self.cells += np.bincount(np.searchsorted(self._cuts, values), minlength=self.cells.size)

    def confidence(self, share: float) -> float | None:
        """Return a quantile of the greater of both classes' probabilities."""
        folded = Scores(None)
        self.flush()
        half = PROBABILITIES // 2
        folded.counts[half:] = self.counts[half:] + self.counts[half - 1 :: -1]
        return folded.quantile(share)

    def _bins(self, values: Floats) -> NDArray[np.int64]:
        return np.minimum((values * PROBABILITIES).astype(np.int64), PROBABILITIES - 1)

    def _value(self, place: int) -> float:
        return (place + 0.5) / PROBABILITIES


class View:
    """What one kind of log tells of the requests of the model."""

    def __init__(self, latency_limits: Iterable[float], cuts: Floats | None) -> None:
        """Begin with nothing."""
        self.requests = self.rows = self.errors = self.refused = self.known = 0
        self.seconds, self.scores = Durations(latency_limits), Scores(cuts)

    def add(self, call: Call) -> None:
        """Count a request."""
        self.requests += 1
        self.rows += call.rows
        if call.status is not None:
            self.known += 1
            self.errors += call.status >= 500
            self.refused += 400 <= call.status < 500
        if call.seconds is not None:
            self.seconds.extend((call.seconds,))
        if call.scores:
            self.scores.extend(call.scores)
