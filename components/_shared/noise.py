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
from statistics import NormalDist


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
    """Return the value that chi-squared passes with chance `alpha`, below 1/2; one filled cell may have had a second.

    Newton's method on the tail, from the cube-root approximation (E. B. Wilson, M. M. Hilferty, PNAS 17, 1931). scipy
    has it too, but takes longer to import than a million rows to compare.
    """
    degrees = max(degrees, 1)
    width = 2.0 / (9.0 * degrees)
    normal = NormalDist().inv_cdf(1.0 - alpha)
    half = degrees / 2.0 * max(1.0 - width + normal * math.sqrt(width), 0.1) ** 3
    for _ in range(50):
        tail, density = _gamma_tail(degrees / 2.0, half)
        step = tail * math.log(tail / alpha) / density  # on the logarithm, which is nearly straight
        half = max(half + step, half / 4.0)
        if abs(step) <= 1e-14 * half:
            break
    return 2.0 * half


def _gamma_tail(shape: float, x: float) -> tuple[float, float]:
    """Return the chance that a gamma variable of this shape passes x, and its density there.

    The power series below shape + 1, the continued fraction above (M. Abramowitz, I. Stegun, "Handbook of Mathematical
    Functions", 6.5.29 and 6.5.31).
    """
    density = math.exp((shape - 1.0) * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1.0:
        total = term = 1.0 / shape
        place = shape
        while term > 1e-17 * total:
            place += 1.0
            term *= x / place
            total += term
        return 1.0 - total * x * density, density
    last, ratio = math.inf, 1.0 / (x + 1.0 - shape)
    product, change, number = ratio, 0.0, 0
    while abs(change - 1.0) > 1e-15:  # Lentz's way: one more step of the fraction multiplies what was found
        number += 1
        weight = -number * (number - shape)
        place = x + 2.0 * number + 1.0 - shape
        ratio = 1.0 / (place + weight * ratio)
        last = place + weight / last
        change = ratio * last
        product *= change
    return product * x * density, density
