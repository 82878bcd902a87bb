"""How likely counts are by chance."""


def at_least(count: int, trials: int, share: float) -> float:
    """Return the chance that at least `count` of `trials` hit, each with the chance `share`."""
    from scipy.stats import binom

    return float(binom.sf(count - 1, trials, min(max(share, 0.0), 1.0)))


def as_far(count: int, trials: int, share: float) -> float:
    """Return the chance of a count as far from what is expected, on the side where it lies; twice, for both sides."""
    from scipy.stats import binom

    share = min(max(share, 0.0), 1.0)
    tail = binom.sf(count - 1, trials, share) if count > trials * share else binom.cdf(count, trials, share)
    return min(2.0 * float(tail), 1.0)
