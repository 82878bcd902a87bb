"""Judging a canary beside the stable version, from counts alone; the numbers come from `metrics.py`.

| check | passes when | source of the idea |
|---|---|---|
| samples | the canary answered at least `samples` requests in this step; otherwise wait | Argo Rollouts' inconclusive |
| errors | 5xx and the like: at most `error_ratio`, and the stable's ratio + 0.5 points | Flagger's success rate |
| p99 | its p99 is at most `p99_seconds`, and 1.25 times the stable's (or 20 ms more) | Flagger's request-duration |
| scores | Kolmogorov's distance of both versions' scores is at most `score_distance` | two-sample KS test |

The 99th percentile of a hundred requests is one request, and two samples of one distribution are never equal. So p99
and scores fail only when chance would explain it less than once in a thousand: slow requests by the binomial tail,
scores by the asymptotic bound of Smirnov (conservative for histograms). Errors need no such mercy. Requests that a
client got wrong (4xx) count as answered. Nothing passes without samples.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

ERROR_MARGIN = 0.005
P99_MARGIN, P99_FLOOR = 1.25, 0.02
CHANCE = 0.001
PASSED, FAILED, WAITING, SKIPPED = "PASSED", "FAILED", "WAITING", "SKIPPED"
Cumulative = Mapping[float, float]
"""A histogram as Prometheus has it: upper bound -> count at or below it, the last bound infinite."""


@dataclass(frozen=True)
class Counters:
    """What was counted of one version: requests, those that the server failed, seconds and scores."""

    requests: float = 0
    errors: float = 0
    seconds: Cumulative = field(default_factory=dict)
    scores: Cumulative = field(default_factory=dict)

    def since(self, earlier: "Counters") -> "Counters":
        """Return what was added since earlier; a counter that fell began anew, and all of it was added."""
        return Counters(
            _added(self.requests, earlier.requests),
            _added(self.errors, earlier.errors),
            _added_to(self.seconds, earlier.seconds),
            _added_to(self.scores, earlier.scores),
        )


@dataclass(frozen=True)
class Limits:
    """How a canary is judged; see the table above.

    `steps` are percents of the traffic, ascending to 100; `interval_seconds` between two looks; a step that has not
    passed after `step_seconds` is given up.
    """

    steps: tuple[int, ...] = (10, 25, 50, 100)
    samples: int = 100
    interval_seconds: float = 10.0
    step_seconds: float = 600.0
    error_ratio: float = 0.01
    p99_seconds: float = 0.5
    score_distance: float = 0.2


@dataclass(frozen=True)
class Check:
    """One check: its result, the value that was found and the limit that it was held against."""

    name: str
    result: str
    value: float
    limit: float


def judge(canary: Counters, stable: Counters | None, limits: Limits) -> tuple[Check, ...]:
    """Hold a canary's step against the stable version.

    Args:
        canary: what it did in this step.
        stable: what the stable version did since the rollout began; None where there is none.
        limits: the limits.

    Returns:
        The four checks. One FAILED ends the rollout, one WAITING means to look again.
    """
    return (
        _samples(canary, limits),
        _errors(canary, stable, limits),
        _p99(canary, stable, limits),
        _scores(canary, stable, limits),
    )


def verdict(checks: tuple[Check, ...]) -> str:
    """Return FAILED, WAITING or PASSED for all of them together."""
    found = {check.result for check in checks}
    return next((result for result in (FAILED, WAITING) if result in found), PASSED)


def quantile(histogram: Cumulative, q: float) -> float:
    """Return a quantile of a histogram, linear within its bucket, as Prometheus' histogram_quantile does; 0 of nothing.

    What lies beyond the last finite bound counts as that bound.
    """
    bounds = sorted(histogram)
    total = histogram[bounds[-1]] if bounds else 0
    if not total:
        return 0.0
    rank, below, start = q * total, 0.0, 0.0
    for bound in bounds:
        if histogram[bound] >= rank:
            if math.isinf(bound):
                return start
            inside = histogram[bound] - below
            return start + (bound - start) * ((rank - below) / inside if inside else 1.0)
        below, start = histogram[bound], bound
    return start


def at_most(histogram: Cumulative, value: float) -> float:
    """Return how many observations are at most a value, linear within its bucket."""
    below, start = 0.0, 0.0
    for bound in sorted(histogram):
        if value <= bound:
            share = 0.0 if math.isinf(bound) or bound == start else (value - start) / (bound - start)
            return below + share * (histogram[bound] - below)
        below, start = histogram[bound], bound
    return below


def distance(one: Cumulative, other: Cumulative) -> float:
    """Return Kolmogorov's distance of two histograms: the largest difference of their cumulative shares, 0 to 1."""
    totals = [max(histogram.values(), default=0.0) for histogram in (one, other)]
    if not all(totals):
        return 0.0
    bounds = set(one) & set(other)
    return max((abs(one[b] / totals[0] - other[b] / totals[1]) for b in bounds), default=0.0)


def _samples(canary: Counters, limits: Limits) -> Check:
    result = PASSED if canary.requests >= limits.samples else WAITING
    return Check("samples", result, canary.requests, limits.samples)


def _errors(canary: Counters, stable: Counters | None, limits: Limits) -> Check:
    limit = limits.error_ratio
    if stable is not None and stable.requests >= limits.samples:
        limit = min(limit, stable.errors / stable.requests + ERROR_MARGIN)
    # With fewer requests than are needed, those to come are taken for good: what fails now cannot be mended by waiting.
    least = canary.errors / max(canary.requests, limits.samples)
    ratio = canary.errors / canary.requests if canary.requests else 0.0
    if least > limit:
        return Check("errors", FAILED, ratio, limit)
    return Check("errors", _when_enough(canary.requests, limits), ratio, limit)


def _p99(canary: Counters, stable: Counters | None, limits: Limits) -> Check:
    timed = max(canary.seconds.values(), default=0.0)
    limit = limits.p99_seconds
    if stable is not None and max(stable.seconds.values(), default=0.0) >= limits.samples:
        usual = quantile(stable.seconds, 0.99)
        limit = min(limit, max(P99_MARGIN * usual, usual + P99_FLOOR))
    found = quantile(canary.seconds, 0.99)
    slow = timed - at_most(canary.seconds, limit)
    if found > limit and _tail(math.floor(slow), round(timed), 0.01) < CHANCE:
        return Check("p99", FAILED, found, limit)
    # Requests that were refused or cut off have no time; the check of errors has them.
    return Check("p99", _when_enough(canary.requests, limits), found, limit)


def _scores(canary: Counters, stable: Counters | None, limits: Limits) -> Check:
    if stable is None:
        return Check("scores", SKIPPED, 0.0, limits.score_distance)
    counts = [max(each.scores.values(), default=0.0) for each in (canary, stable)]
    found = distance(canary.scores, stable.scores)
    if min(counts) < limits.samples:
        return Check("scores", WAITING, found, limits.score_distance)
    chance = math.sqrt(-math.log(CHANCE / 2) / 2 * sum(counts) / math.prod(counts))
    limit = max(limits.score_distance, chance)
    return Check("scores", FAILED if found > limit else PASSED, found, limit)


def _when_enough(requests: float, limits: Limits) -> str:
    return PASSED if requests >= limits.samples else WAITING


def _tail(least: int, trials: int, chance: float) -> float:
    """Return the probability of at least so many successes in so many trials."""
    if least <= 0:
        return 1.0
    below, term = 0.0, (1 - chance) ** trials
    for successes in range(min(least, trials + 1)):
        below += term
        term *= (trials - successes) / (successes + 1) * chance / (1 - chance)
    return max(1.0 - below, 0.0)


def _added(now: float, earlier: float) -> float:
    return now - earlier if now >= earlier else now


def _added_to(now: Cumulative, earlier: Cumulative) -> dict[float, float]:
    if max(now.values(), default=0.0) < max(earlier.values(), default=0.0):
        return dict(now)
    return {bound: count - earlier.get(bound, 0.0) for bound, count in now.items()}
