import time

import numpy as np
import pytest
from drift_inputs import texts

from kfp_custody.components.drift_detection.comparing import (
    DRIFT,
    NONE,
    UNKNOWN,
    WARN,
    Limit,
    Measure,
    compare_categories,
    compare_numbers,
)
from kfp_custody.components.drift_detection.limits import load_thresholds
from kfp_custody.components.drift_detection.sides import numbers_of

LIMITS = load_thresholds("default").column


def numbers(old, new):
    return compare_numbers("x", *(numbers_of(np.array(side, float)) for side in (old, new)), LIMITS, 10, 1e-4)


def categories(old, new, known=()):
    return compare_categories("x", texts(old), texts(new), LIMITS, 1e-4, known)


@pytest.mark.parametrize(
    ("value", "floor", "verdict"),
    [
        (0.05, 0.01, NONE),
        (0.1, 0.01, WARN),
        (0.2, 0.01, DRIFT),
        (0.2, 0.2, UNKNOWN),
        (0.15, 0.16, NONE),
        (0.1, 0.3, UNKNOWN),
    ],
)
def test_a_measure_counts_only_above_limit_and_floor(value, floor, verdict):
    assert Measure("ks", value, floor, Limit(0.1, 0.2)).verdict == verdict


def test_a_large_sample_raises_no_alarm_about_a_tiny_change():
    rng = np.random.default_rng(0)
    found = numbers(rng.normal(size=300_000), rng.normal(0, 1.03, size=300_000))
    assert found.value("ks") > 0.003
    assert found.verdict == NONE


def test_a_shift_of_half_a_deviation_drifts():
    rng = np.random.default_rng(0)
    found = numbers(rng.normal(size=20_000), rng.normal(0.6, 1, size=20_000))
    assert found.verdict == DRIFT
    assert found.value("wasserstein") == pytest.approx(0.6, abs=0.03)


def test_values_that_go_missing_drift_though_the_others_are_the_same():
    rng = np.random.default_rng(0)
    old = rng.normal(size=10_000)
    found = numbers(old, np.where(rng.random(10_000) < 0.6, np.nan, old))
    assert (found.verdict, found.value("null_share_delta")) == (DRIFT, pytest.approx(0.6, abs=0.02))
    assert found.value("ks") < 0.05


def test_infinities_are_counted_and_kept_out_of_the_distances():
    rng = np.random.default_rng(0)
    old = rng.normal(size=10_000)
    new = old.copy()
    new[:3000:2], new[1:3000:2] = np.inf, -np.inf
    found = numbers(old, new)
    assert found.verdict == DRIFT
    assert found.current.infinite == 3000
    assert found.value("infinite_share") == pytest.approx(0.3)
    assert all(np.isfinite(measure.value) for measure in found.measures)


def test_one_outlier_neither_hides_a_shift_nor_makes_one():
    rng = np.random.default_rng(0)
    old, same, moved = rng.normal(size=10_000), rng.normal(size=10_000), rng.normal(0.7, 1, size=10_000)
    assert numbers(np.append(old, 1e9), moved).verdict == DRIFT
    assert numbers(old, np.append(same, 1e9)).verdict == NONE


@pytest.mark.parametrize("rows", [1, 2, 20])
def test_few_rows_are_unknown_not_passed(rows):
    rng = np.random.default_rng(0)
    found = numbers(rng.normal(size=10_000), rng.normal(size=rows))
    assert found.verdict == UNKNOWN
    assert "too few rows" in found.reason


@pytest.mark.parametrize(("old", "new"), [([np.nan] * 500, [np.nan] * 500), ([np.inf] * 500, [np.inf] * 500)])
def test_nothing_to_compare_is_unknown(old, new):
    assert numbers(old, new).verdict == UNKNOWN


def test_a_column_that_became_all_null_or_filled_up_drifts():
    some, none = np.arange(500.0), np.full(500, np.nan)
    assert numbers(some, none).verdict == DRIFT
    assert numbers(none, some).verdict == DRIFT


def test_constants():
    assert numbers([5.0] * 1000, [5.0] * 1000).verdict == NONE
    assert numbers([5.0] * 1000, [5.1] * 1000).verdict == DRIFT
    assert numbers([5.0] * 1000, [5.0] * 1000).value("wasserstein") is None


def test_numbers_at_the_end_of_the_range_do_not_overflow():
    found = numbers([-1.7e308, 1.7e308] * 500, [-1.7e308, 1.7e308] * 500)
    assert found.verdict == NONE


def test_categories_that_move_and_those_that_are_new():
    assert categories(["a"] * 500 + ["b"] * 500, ["a"] * 500 + ["b"] * 500).verdict == NONE
    moved = categories(["a"] * 500 + ["b"] * 500, ["a"] * 900 + ["b"] * 100)
    assert moved.verdict == DRIFT
    new = categories(["a"] * 5000 + ["b"] * 5000, ["a"] * 4700 + ["b"] * 4700 + ["c"] * 600)
    assert new.value("new_category_share") == pytest.approx(0.06)
    assert "new_category_share drift" in new.reason


def test_missing_categories():
    assert categories(["a"] * 500, [None] * 500).verdict == DRIFT
    assert categories([None] * 500, [None] * 500).verdict == UNKNOWN
    assert categories(["a"] * 500, ["a"]).verdict == UNKNOWN


def test_fifty_thousand_disjoint_categories_are_fast():
    old = [f"a{n}" for n in range(50_000)]
    new = [f"b{n}" for n in range(50_000)]
    started = time.perf_counter()
    found = categories(old, new)
    assert time.perf_counter() - started < 2
    assert found.value("jensen_shannon") == pytest.approx(1.0)


def test_only_categories_of_the_signed_model_are_shown():
    found = categories(
        ["pos"] * 300 + ["someone@example.org"] * 10, ["pos"] * 300 + ["4111111111111111"], known=["pos"]
    )
    assert found.picture.labels == ("pos", "(all others)")
    assert found.picture.reference[1] == pytest.approx(10 / 310)
