import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

from kfp_custody.components._shared import distances

PAIRS = {
    "normal": lambda r: (r.normal(size=5000), r.normal(0.3, 1.2, size=1700)),
    "heavy tails": lambda r: (r.lognormal(3, 2, size=3000), r.lognormal(3.2, 2, size=3000)),
    "ties": lambda r: (r.integers(0, 5, 4000).astype(float), r.integers(1, 7, 900).astype(float)),
    "mostly zero": lambda r: (r.exponential(size=2000) * (r.random(2000) < 0.1), r.exponential(size=2000)),
    "constants": lambda r: (np.full(10, 3.0), np.full(4, 3.5)),
    "one row": lambda r: (r.normal(size=100), r.normal(size=1)),
    "equal": lambda r: (np.arange(50.0), np.arange(50.0)),
}


@pytest.fixture(params=PAIRS, ids=str)
def pair(request):
    old, new = PAIRS[request.param](np.random.default_rng(5))
    return np.sort(old), np.sort(new)


def test_ks_is_scipys(pair):
    assert distances.ks(*pair) == pytest.approx(ks_2samp(*pair, method="asymp").statistic, abs=1e-12)


def test_wasserstein_is_scipys(pair):
    assert distances.wasserstein(*pair) == pytest.approx(wasserstein_distance(*pair), rel=1e-12, abs=1e-12)


def test_ks_of_a_half_deviation_shift_is_the_known_value():
    rng = np.random.default_rng(1)
    found = distances.ks(np.sort(rng.normal(size=400_000)), np.sort(rng.normal(0.5, 1, size=400_000)))
    assert found == pytest.approx(math.erf(0.25 / math.sqrt(2)), abs=0.003)  # 2 Phi(.25) - 1 = .1974


@pytest.mark.parametrize("seed", range(5))
def test_jensen_shannon_is_scipys(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.integers(0, 40, 30), rng.integers(0, 40, 30)
    assert distances.jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-12)


def test_jensen_shannon_of_disjoint_counts_is_one_and_of_equal_shares_zero():
    assert distances.jensen_shannon(np.array([5, 0]), np.array([0, 9])) == pytest.approx(1.0)
    assert distances.jensen_shannon(np.array([1, 2]), np.array([10, 20])) == pytest.approx(0.0, abs=1e-12)


def test_psi_by_hand():
    found = distances.psi(np.array([50, 30, 20]), np.array([30, 30, 40]))
    assert found == pytest.approx((0.5 - 0.3) * math.log(0.5 / 0.3) + (0.2 - 0.4) * math.log(0.2 / 0.4), abs=1e-15)


def test_psi_counts_an_empty_cell_as_half_a_row_and_skips_cells_empty_on_both_sides():
    found = distances.psi(np.array([100, 0, 0]), np.array([60, 40, 0]))
    by_hand = (1 - 0.6) * math.log(1 / 0.6) + (0.005 - 0.4) * math.log(0.005 / 0.4)
    assert found == pytest.approx(by_hand, abs=1e-15)


def test_cuts_are_reference_deciles():
    cuts = distances.quantile_cuts(np.arange(1.0, 101.0), 10)
    assert cuts.tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert distances.bin_counts(np.arange(1.0, 101.0), cuts).tolist() == [10] * 10


def test_an_outlier_does_not_move_the_cuts():
    values = np.arange(1.0, 101.0)
    assert (
        distances.quantile_cuts(np.append(values[:-1], 1e12), 10).tolist()
        == distances.quantile_cuts(values, 10).tolist()
    )


def test_few_values_get_a_bin_each():
    reference = np.sort(np.array([0.0] * 90 + [1.0] * 10))
    cuts = distances.quantile_cuts(reference, 10)
    counts = distances.bin_counts(np.array([-1.0, 0.0, 0.0, 0.5, 1.0, 2.0]), cuts)
    assert counts.tolist() == [1, 2, 1, 1, 1]


def test_a_constant_that_moves_either_way_is_seen():
    reference = np.full(100, 7.0)
    cuts = distances.quantile_cuts(reference, 10)
    for moved in (6.0, 8.0):
        p, q = distances.bin_counts(reference, cuts), distances.bin_counts(np.full(100, moved), cuts)
        assert distances.psi(p, q) > 1


def test_counts_add_up(pair):
    cuts = distances.quantile_cuts(pair[0], 10)
    for side in pair:
        assert distances.bin_counts(side, cuts).sum() == side.size
