"""Distances between two samples: exact, from sorted values and counts, with numpy alone.

Definitions are those of `scipy.stats.ks_2samp`, `scipy.stats.wasserstein_distance` and
`scipy.spatial.distance.jensenshannon`, and the tests hold them to 1e-12. They cost one sort a side and are taken in
blocks, so that beside the samples they need little memory.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_BLOCK = 1 << 16  # values; a few arrays of as many fit into a processor's cache


def ks(reference: Floats, current: Floats) -> float:
    """Return the two-sample Kolmogorov-Smirnov statistic of two sorted, finite, non-empty samples, in [0, 1].

    Between two values of one sample its distribution function is constant and the other's only rises: the largest
    difference is at a value of the smaller sample, or just below it.
    """
    few, many = (reference, current) if reference.size <= current.size else (current, reference)
    starts = np.concatenate(([0], np.flatnonzero(few[1:] != few[:-1]) + 1))
    largest = 0.0
    for first in range(0, starts.size, _BLOCK):
        start = starts[first : first + _BLOCK + 1]
        end = start[1:] if start.size > _BLOCK else np.append(start[1:], few.size)
        start = start[:_BLOCK]
        below = start / few.size - np.searchsorted(many, few[start], side="left") / many.size
        upto = end / few.size - np.searchsorted(many, few[start], side="right") / many.size
        largest = max(largest, float(np.abs(below).max()), float(np.abs(upto).max()))
    return largest


def wasserstein(reference: Floats, current: Floats) -> float:
    """Return the first Wasserstein distance of two sorted, finite, non-empty samples, in the units of the column.

    It is the mean difference of the quantile functions. In units of 1 / (n m) a value of the larger sample (m) has n
    shares and one of the smaller m: each of the larger is compared with that of the smaller in which its shares begin,
    and what it has beyond the end of it with the next.
    """
    few, many = (reference, current) if reference.size <= current.size else (current, reference)
    n, m = few.size, many.size
    step = max(_BLOCK * n // m, 1)
    total = 0.0
    for first in range(0, n, step):
        cells = np.arange(first, min(first + step, n) + 1, dtype=np.int64)
        starts = (cells * m + n - 1) // n
        values, own = many[starts[0] : starts[-1]], few[cells[:-1]]
        total += n * float(np.abs(values - np.repeat(own, np.diff(starts))).sum())
        last, following = many[starts[1:] - 1], few[np.minimum(cells[1:], n - 1)]
        over = starts[1:] * n - cells[1:] * m
        total += float((over * (np.abs(last - following) - np.abs(last - own))).sum())
    return total / n / m


def spread(sample: Floats) -> float:
    """Return the integral of sqrt(F (1 - F)) over a sorted sample F, which scales the noise of `wasserstein`.

    A very large sample is taken in steps of several rows: a floor needs no more.
    """
    steps = min(sample.size - 1, _BLOCK)
    places = np.arange(steps + 1, dtype=np.int64) * (sample.size - 1) // max(steps, 1)
    share = (places[1:] + places[:-1] + 1) / (2.0 * sample.size)
    return float((np.sqrt(share * (1.0 - share)) * np.diff(sample[places])).sum())


def quantile_cuts(reference: Floats, bins: int) -> Floats:
    """Return the upper ends (inclusive) of the PSI bins of a sorted reference sample; the last bin is open.

    The cuts are reference quantiles, so one outlier cannot stretch them. A value that holds more than one quantile,
    and every value of a column with no more than `bins` distinct ones, gets a bin of its own: zero-inflated columns,
    small integers and constants are compared value by value.
    """
    ranks = (np.arange(1, bins) * reference.size + bins - 1) // bins - 1
    quantiles, repeats = np.unique(reference[ranks], return_counts=True)
    distinct = _distinct(reference, bins + 1)
    atoms = distinct if distinct.size <= bins else quantiles[repeats > 1]
    return np.unique(np.concatenate((quantiles, atoms, np.nextafter(atoms, -np.inf))))


def bin_counts(sample: Floats, cuts: Floats) -> Counts:
    """Count a sorted sample in the bins that end (inclusive) at `cuts`; one bin more than there are cuts."""
    below = np.searchsorted(sample, cuts, side="right")
    return np.diff(below, prepend=0, append=sample.size).astype(np.int64)


def psi(reference: Counts, current: Counts) -> float:
    """Return the population stability index of two count vectors over the same cells.

    PSI = sum (p - q) ln(p / q). It is infinite for a cell that is empty on one side; such a cell counts as half a row
    there, and never as more than the other side's share.
    """
    filled = (reference + current) > 0
    p = reference[filled] / reference.sum()
    q = current[filled] / current.sum()
    p_safe = np.where(p > 0, p, np.minimum(0.5 / reference.sum(), q))
    q_safe = np.where(q > 0, q, np.minimum(0.5 / current.sum(), p))
    return float(((p_safe - q_safe) * np.log(p_safe / q_safe)).sum())


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Return the Jensen-Shannon distance (base 2) of two count vectors over the same cells, in [0, 1]."""
    p = reference / reference.sum()
    q = current / current.sum()
    middle = (p + q) / 2.0
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2.0
    return math.sqrt(max(divergence, 0.0) / math.log(2.0))


def _distinct(sample: Floats, most: int) -> Floats:
    """Return the smallest distinct values of a sorted sample, at most so many."""
    found: list[float] = []
    place = 0
    while place < sample.size and len(found) < most:
        found.append(float(sample[place]))
        place = int(np.searchsorted(sample, sample[place], side="right"))
    return np.array(found, dtype=np.float64)


def _relative_entropy(p: Floats, q: Floats) -> float:
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())
