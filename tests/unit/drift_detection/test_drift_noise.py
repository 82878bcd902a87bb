"""The floors hold on data without drift, and do not hide what has drifted."""

import numpy as np
import pytest
from drift_inputs import texts
from scipy.stats import chi2

from kfp_custody.components._shared import distances, noise
from kfp_custody.components.drift_detection.comparing import NONE, UNKNOWN, compare_categories, compare_numbers
from kfp_custody.components.drift_detection.limits import load_thresholds
from kfp_custody.components.drift_detection.sides import numbers_of

LIMITS = load_thresholds("default").column
ALPHA = 1e-3 / 20
SHAPES = {
    "normal": lambda r, n: r.normal(size=n),
    "lognormal": lambda r, n: r.lognormal(3, 1.5, size=n),
    "cauchy": lambda r, n: r.standard_cauchy(n),
    "mostly zero": lambda r, n: r.exponential(size=n) * (r.random(n) < 0.05),
    "small integers": lambda r, n: r.poisson(1.5, n).astype(float),
    "with gaps": lambda r, n: np.where(r.random(n) < 0.3, np.nan, r.normal(size=n)),
    "with infinities": lambda r, n: np.where(r.random(n) < 0.02, np.inf, r.normal(size=n)),
}


@pytest.mark.parametrize("sizes", [(30_000, 6_000), (5_000, 400), (300, 300), (50, 50), (20, 3)], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_false_alarm_on_clean_numbers(shape, sizes):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        old, new = SHAPES[shape](rng, sizes[0]), SHAPES[shape](rng, sizes[1])
        found = compare_numbers("x", numbers_of(old), numbers_of(new), LIMITS, 10, ALPHA)
        assert found.verdict in (NONE, UNKNOWN), (seed, found.reason, found.measures)


@pytest.mark.parametrize("categories", [2, 14, 200, 5_000])
@pytest.mark.parametrize("sizes", [(20_000, 5_000), (1_000, 1_000), (2_000, 60)], ids=str)
def test_no_false_alarm_on_clean_categories(categories, sizes):
    weights = 1 / np.arange(1, categories + 1)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        old, new = (_draw(rng, weights, n) for n in sizes)
        found = compare_categories("x", old, new, LIMITS, ALPHA)
        assert found.verdict in (NONE, UNKNOWN), (seed, found.reason, found.measures)


def _draw(rng, weights, n):
    return texts(rng.choice(weights.size, n, p=weights / weights.sum()).astype(str).tolist())


def test_psi_of_clean_data_has_the_mean_that_its_floor_assumes():
    values = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        old, new = np.sort(rng.normal(size=3000)), np.sort(rng.normal(size=2000))
        cuts = distances.quantile_cuts(old, 10)
        values.append(distances.psi(distances.bin_counts(old, cuts), distances.bin_counts(new, cuts)))
    assert np.mean(values) == pytest.approx(9 * noise.harmonic(3000, 2000), rel=0.15)


def test_floors_by_formula():
    assert noise.ks_floor(5000, 5000, 1e-3 / 35) == pytest.approx(np.sqrt(np.log(70_000) / 2 * 4e-4))
    assert noise.psi_floor(100, 300, 10, 0.01) == pytest.approx(chi2.isf(0.01, 9) * (1 / 100 + 1 / 300) * 1.05)
    floor = noise.jensen_shannon_floor(100, 300, 5, 0.01)
    assert floor == pytest.approx(np.sqrt(chi2.isf(0.01, 4) * (1 / 100 + 1 / 300) / 4))
    assert noise.psi_floor(10, 10, 1, 0.01) > chi2.isf(0.01, 1) * 0.2


@pytest.mark.parametrize("cells", [1, 2, 3, 4, 11, 14, 101, 1_000, 50_001])
@pytest.mark.parametrize("alpha", [0.4, 0.05, 1e-3, 2.7e-5, 1e-9])
def test_the_chi_squared_in_the_floors_is_scipys(cells, alpha):
    floor = noise.jensen_shannon_floor(2, 2, cells, alpha) ** 2 * 4  # e = 1: nothing else is in it
    assert floor == pytest.approx(chi2.isf(alpha, max(cells - 1, 1)), rel=1e-11)


def test_an_unlikely_share_is_beyond_its_floor_no_more_often_than_alpha():
    rng = np.random.default_rng(0)
    p, n, m, alpha = 0.006, 20_000, 5_000, 0.05
    before, after = rng.binomial(n, p, 4000) / n, rng.binomial(m, p, 4000) / m
    pooled = (before * n + after * m) / (n + m)
    beyond = [abs(b - a) > noise.share_floor(n, m, q, alpha) for b, a, q in zip(before, after, pooled, strict=True)]
    assert np.mean(beyond) <= alpha
