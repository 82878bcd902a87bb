"""Noise floors: how large a distance two samples of the SAME distribution reach by chance.

A distance counts only above its floor, so small samples raise no false alarm; and only above a fixed effect size, so
large samples raise none either (with a million rows every p-value is small). `alpha` is the chance that one column's
floor is passed without drift; `rows` is e = 1/n + 1/m.

Sources: KS, the Dvoretzky-Kiefer-Wolfowitz bound in its two-sample (Smirnov) form; PSI and 8 JS, both to second order
chi-squared with cells - 1 degrees of freedom times e (B. Yurdakul, "Statistical properties of the population
stability index", 2018; J. Lin, IEEE Trans. Inf. Theory 37(1), 1991, for JS); shares and Wasserstein, Bernstein's
inequality (for Wasserstein under the integral over F, by Jensen's inequality on the moment generating function).

Where a side is a profile its shares are off by what the profile does not keep. `slack` is that as a chi-squared
distance, sum d^2 / p over the cells; it adds to the square root of PSI, which to second order is such a distance too.
"""

import math


def harmonic(n: int, m: int) -> float:
    """Return e = 1/n + 1/m of two row counts."""
    return 1.0 / n + 1.0 / m


def ks_floor(n: int, m: int, alpha: float) -> float:
    """Return the floor of the Kolmogorov-Smirnov statistic."""
    return math.sqrt(-math.log(alpha / 2.0) / 2.0 * harmonic(n, m))


def psi_floor(n: int, m: int, cells: int, alpha: float, slack: float = 0.0) -> float:
    """Return the floor of the PSI over `cells` cells that hold a row on either side.

    The last factor is the next term of the expansion for cells of k rows, E[PSI] (1 + 1 / 2k): 1 unless there are
    nearly as many cells as rows.
    """
    floor = _chi_squared(cells - 1, alpha) * harmonic(n, m) * (1.0 + cells / (2.0 * min(n, m)))
    return floor if not slack else (math.sqrt(floor) + math.sqrt(slack)) ** 2


def jensen_shannon_floor(n: int, m: int, cells: int, alpha: float, slack: float = 0.0) -> float:
    """Return the floor of the Jensen-Shannon distance (base 2).

    Where cells hold few rows JS exceeds its second-order form, by a factor of 2 ln 2 at most (F. Topsoe, IEEE Trans.
    Inf. Theory 46(4), 2000); the floor always allows for it.
    """
    second_order = _chi_squared(cells - 1, alpha) * harmonic(n, m) / 8.0
    return math.sqrt(2.0 * math.log(2.0) * second_order / math.log(2.0)) + math.sqrt(slack / 4.0)


def wasserstein_floor(n: int, m: int, spread: float, span: float, alpha: float) -> float:
    """Return the floor of the Wasserstein distance, in the column's units.

    Args:
        n: Rows of one side.
        m: Rows of the other side.
        spread: Integral of sqrt(F (1 - F)), of both sides by their rows.
        span: Largest less smallest pooled value: what one single row can move.
        alpha: Chance of passing the floor without drift.
    """
    log = math.log(2.0 / alpha)
    return math.sqrt(2.0 * log * harmonic(n, m)) * spread + log * span / (3.0 * min(n, m))


def share_floor(n: int, m: int, pooled: float, alpha: float) -> float:
    """Return the floor of the difference of two shares whose pooled share is `pooled`."""
    log = math.log(2.0 / alpha)
    return math.sqrt(2.0 * log * harmonic(n, m) * pooled * (1.0 - pooled)) + log / (3.0 * min(n, m))


def new_share_floor(n: int, m: int, unseen: float, deviation: float, alpha: float) -> float:
    """Return the floor of the share of rows whose category the other side does not name.

    Args:
        n: Rows of the side that names categories.
        m: Rows of the other side.
        unseen: Share to expect; `deviation`, how exactly it is known.
        deviation: Its standard deviation.
        alpha: Chance of passing the floor without drift.
    """
    expected = min(unseen + math.sqrt(2.0 * math.log(2.0 / alpha)) * deviation, 1.0)
    return expected + share_floor(n, m, expected, alpha)


def _chi_squared(degrees: int, alpha: float) -> float:
    """Return the value that chi-squared passes with chance `alpha`; a single filled cell may have had a second."""
    from scipy.special import chdtri

    return float(chdtri(max(degrees, 1), alpha))
