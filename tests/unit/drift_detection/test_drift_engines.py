"""Both engines, all values or a profile of them: known answers, no more false alarms than stated, nothing missed."""

import math
import time

import numpy as np
import pytest
from drift_inputs import texts
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, ks_2samp, norm, wasserstein_distance

from kfp_custody.components._shared import distances
from kfp_custody.components._shared.profiles import (
    MOST_CATEGORIES,
    CategoryProfile,
    profile_categories,
    profile_numbers,
)
from kfp_custody.components.drift_detection.comparing import (
    DRIFT,
    NONE,
    UNKNOWN,
    WARN,
    compare_categories,
    compare_numbers,
)
from kfp_custody.components.drift_detection.limits import COLUMN_MEASURES, Limit, load_thresholds
from kfp_custody.components.drift_detection.sides import numbers_of, numbers_of_profile, texts_of_profile

LIMITS = load_thresholds("default").column
FLOORS_ALONE = {measure: Limit(1e-12, 1e-12) for measure in COLUMN_MEASURES}  # whatever passes its floor is drift
ALPHA = 1e-3 / 20
NUMBERS = {
    "normal": lambda r, n: r.normal(size=n),
    "lognormal": lambda r, n: r.lognormal(3, 1.5, size=n),
    "cauchy": lambda r, n: r.standard_cauchy(n),
    "mostly zero": lambda r, n: r.exponential(size=n) * (r.random(n) < 0.05),
    "small integers": lambda r, n: r.poisson(1.5, n).astype(float),
    "integers": lambda r, n: r.integers(0, 100, n).astype(float),
    "rare ones": lambda r, n: (r.random(n) < 0.01).astype(float),
    "with gaps": lambda r, n: np.where(r.random(n) < 0.3, np.nan, r.normal(size=n)),
    "with infinities": lambda r, n: np.where(r.random(n) < 0.02, np.inf, r.normal(size=n)),
}
CATEGORIES = (2, 14, 200, 3_000)
engines = pytest.mark.parametrize("engine", ["exact", "profile"])


def known(engine, values):
    return numbers_of(values.copy()) if engine == "exact" else numbers_of_profile(profile_numbers(values))


def named(engine, values):
    full = texts(values)
    return full if engine == "exact" else texts_of_profile(profile_categories(full.counts, full.side.missing))


def numbers(engine, old, new, limits=LIMITS, alpha=ALPHA):
    return compare_numbers("x", known(engine, old), numbers_of(new.copy()), limits, 10, alpha)


def categories(engine, old, new, limits=LIMITS, alpha=ALPHA):
    return compare_categories("x", named(engine, old), texts(new), limits, alpha)


def drawn(rng, count, rows):
    weights = 1 / np.arange(1, count + 1)
    return rng.choice(count, rows, p=weights / weights.sum()).astype(str).tolist()


# --- known answers ----------------------------------------------------------------------------------------------------


@engines
def test_a_shift_of_half_a_deviation_has_its_known_distances(engine):
    rng = np.random.default_rng(1)
    found = numbers(engine, rng.normal(size=400_000), rng.normal(0.5, 1, size=400_000))
    assert found.value("ks") == pytest.approx(2 * norm.cdf(0.25) - 1, abs=0.003)
    assert found.value("wasserstein") == pytest.approx(0.5, abs=0.01)


def test_the_exact_engine_is_scipy():
    rng = np.random.default_rng(2)
    old, new = rng.lognormal(3, 1, 150_001), rng.lognormal(3.2, 1, 70_003)  # more than one block, and no common share
    found = numbers("exact", old, new)
    assert found.value("ks") == pytest.approx(ks_2samp(old, new, method="asymp").statistic, abs=1e-12)
    assert found.value("wasserstein") == pytest.approx(wasserstein_distance(old, new) / old.std(), rel=1e-12)


@pytest.mark.parametrize("order", [1, -1])
def test_distances_over_many_blocks_with_ties_are_scipys(order):
    rng = np.random.default_rng(3)
    pair = (np.sort(np.round(rng.normal(size=200_000), 2)), np.sort(np.round(rng.normal(0.1, 1, 90_000), 2)))[::order]
    assert distances.ks(*pair) == pytest.approx(ks_2samp(*pair, method="asymp").statistic, abs=1e-12)
    assert distances.wasserstein(*pair) == pytest.approx(wasserstein_distance(*pair), rel=1e-12, abs=1e-12)


@engines
def test_jensen_shannon_is_evidentlys_and_scipys(engine):
    import pandas as pd
    from evidently.legacy.calculations.stattests import jensenshannon as peer
    from evidently.legacy.core import ColumnType

    rng = np.random.default_rng(4)
    old, new = drawn(rng, 9, 5000), drawn(rng, 11, 3000)
    counts = [pd.Series(side).value_counts() for side in (old, new)]
    index = counts[0].index.union(counts[1].index)
    p, q = (count.reindex(index, fill_value=0).to_numpy() for count in counts)
    theirs = peer.jensenshannon_stat_test(pd.Series(old), pd.Series(new), ColumnType.Categorical, 0.1).drift_score
    ours = categories(engine, old, new).value("jensen_shannon")
    assert ours == pytest.approx(jensenshannon(p, q, base=2), abs=1e-12)
    assert ours * math.sqrt(math.log(2)) == pytest.approx(theirs, abs=1e-12)  # theirs is in nats


@pytest.mark.parametrize("shape", NUMBERS)
@pytest.mark.parametrize("rows", [60, 999, 30_000])
def test_a_profile_is_as_near_as_it_says(shape, rows):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        old, new = NUMBERS[shape](rng, rows), NUMBERS[shape](rng, 5000)
        full, short, current = numbers_of(old.copy()), known("profile", old), numbers_of(new)
        assert 0 < short.slack <= 0.5 / short.values.size + 1 / full.values.size
        ks, distance = (
            abs(measure(full.values, current.values) - measure(short.values, current.values))
            for measure in (distances.ks, distances.wasserstein)
        )
        assert ks <= short.slack + 1e-12
        assert distance <= short.distance_slack + 1e-12


# --- without drift ----------------------------------------------------------------------------------------------------


def verdicts(engine, seed, limits, alpha, sizes):
    """Return the verdicts of a table of which both months are drawn from one distribution."""
    rng = np.random.default_rng(seed)
    share = alpha / (len(NUMBERS) + len(CATEGORIES) + 2)
    for draw in NUMBERS.values():
        yield numbers(engine, *(draw(rng, rows) for rows in sizes), limits, share)
    for count in CATEGORIES:
        yield categories(engine, *(drawn(rng, count, rows) for rows in sizes), limits, share)


@engines
def test_floors_alone_raise_no_more_false_alarms_than_they_say(engine):
    """200 tables: as many may alarm as 200 throws of a coin of `alpha` have, but for once in a thousand times."""
    alpha, tables = 0.05, 200
    alarms = sum(
        any(measure.verdict == DRIFT for column in found for measure in column.measures)
        for found in (list(verdicts(engine, seed, FLOORS_ALONE, alpha, (2_000, 3_000))) for seed in range(tables))
    )
    assert alarms <= binom.isf(0.001, tables, alpha)


@engines
@pytest.mark.parametrize("sizes", [(5_000, 2_000), (400, 300), (40, 200)], ids=str)
def test_of_two_hundred_clean_tables_no_more_alarm_than_stated(engine, sizes):
    alpha, tables = load_thresholds("default").alpha, 200
    alarms = {
        seed: found.reason
        for seed in range(tables)
        for found in verdicts(engine, seed, LIMITS, alpha, sizes)
        if found.verdict not in (NONE, UNKNOWN)
    }
    assert len(alarms) <= binom.isf(0.001, tables, alpha), alarms


def test_categories_too_small_to_be_named_are_not_taken_for_new():
    rng = np.random.default_rng(5)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        old, new = (rng.integers(0, 900, rows).astype(str).tolist() for rows in (4_000, 4_000))  # about 4.4 rows each
        found = categories("profile", old, new)
        assert found.verdict in (NONE, UNKNOWN), (seed, found.reason, found.measures)


# --- with drift -------------------------------------------------------------------------------------------------------


def shifted(rng, kind, rows):
    """Return two columns, the second moved to a fifth beyond a threshold for drift."""
    old, new = rng.normal(size=rows), rng.normal(size=rows)
    if kind == "mean":
        return old, new + 0.62  # KS .243, the limit is .2; Wasserstein .62, the limit is .5
    if kind == "scale":
        return old, new * 2.2  # KS .22 at x = 1.4, Wasserstein .96
    if kind == "nulls":
        return old, np.where(rng.random(rows) < 0.24, np.nan, new)  # the limit is .2
    if kind == "infinite":
        return old, np.where(rng.random(rows) < 0.02, np.inf, new)  # the limit is .01
    return old, np.where(rng.random(rows) < 0.3, 0.0, new)  # a value that many rows come to have


@engines
@pytest.mark.parametrize("kind", ["mean", "scale", "nulls", "infinite", "spike"])
def test_no_shift_beyond_a_threshold_is_missed(engine, kind):
    for seed in range(50):
        old, new = shifted(np.random.default_rng(seed), kind, 8_000)
        found = numbers(engine, old, new)
        assert found.verdict in ((DRIFT, WARN) if kind == "spike" else (DRIFT,)), (seed, found.measures)


@engines
@pytest.mark.parametrize("kind", ["order", "new", "gone"])
def test_no_shift_of_categories_beyond_a_threshold_is_missed(engine, kind):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        old, new = drawn(rng, 8, 8_000), drawn(rng, 8, 8_000)
        if kind == "order":
            new = [str(7 - int(name)) for name in new]
        if kind == "new":
            new[: 8_000 * 6 // 100] = [f"new {number % 7}" for number in range(480)]  # the limit is .05
        if kind == "gone":
            new = [name for name in new if name != "0"]
        assert categories(engine, old, new).verdict == DRIFT, seed


# --- bad days ---------------------------------------------------------------------------------------------------------

NAN, INF = np.full(500, np.nan), np.full(500, np.inf)
SOME = np.arange(500.0)


@engines
@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (NAN, NAN, UNKNOWN),
        (SOME, NAN, DRIFT),
        (NAN, SOME, DRIFT),
        (INF, INF, UNKNOWN),
        (SOME, INF, DRIFT),
        (SOME, SOME[:1], UNKNOWN),
        (SOME[:1], SOME, UNKNOWN),
        (SOME[:1], SOME[:1], UNKNOWN),
        (np.full(500, 5.0), np.full(500, 5.0), NONE),
        (np.full(500, 5.0), np.full(500, 5.1), DRIFT),
        (np.tile([-1.7e308, 1.7e308], 500), np.tile([-1.7e308, 1.7e308], 500), NONE),
        (SOME, np.tile([-1.7e308, 1.7e308], 500), DRIFT),
        (np.full(5, 1e-310), np.full(5, 1e-310), UNKNOWN),
    ],
)
def test_numbers_of_bad_days(engine, old, new, verdict):
    found = numbers(engine, old, new)
    assert found.verdict == verdict, found.measures
    assert all(np.isfinite(measure.value) and np.isfinite(measure.floor) for measure in found.measures)


@engines
@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([None] * 500, [None] * 500, UNKNOWN),
        (["a"] * 500, [None] * 500, DRIFT),
        ([None] * 500, ["a"] * 500, DRIFT),
        (["a"] * 500, ["a"], UNKNOWN),
        (["a"], ["a"] * 500, UNKNOWN),
        (["a"] * 500, ["b"] * 500, DRIFT),
        ([""] * 500, [""] * 500, NONE),
    ],
)
def test_categories_of_bad_days(engine, old, new, verdict):
    found = categories(engine, old, new)
    assert found.verdict == verdict, found.measures
    assert all(np.isfinite(measure.value) and np.isfinite(measure.floor) for measure in found.measures)


@engines
def test_fifty_thousand_categories_are_judged_in_no_time(engine):
    old = [f"a{number}" for number in range(50_000)] * 5
    new = [f"b{number}" for number in range(50_000)] * 5
    sides = named(engine, old), texts(new)
    started = time.perf_counter()
    found = compare_categories("x", *sides, LIMITS, ALPHA)
    assert time.perf_counter() - started < 2
    assert found.value("jensen_shannon") == pytest.approx(1.0)
    same = compare_categories("x", sides[0], texts(old), LIMITS, ALPHA)
    assert same.value("jensen_shannon") == 0.0


def test_of_more_categories_than_a_profile_names_the_rest_is_one_cell():
    counts = {f"{number:06}": 7 for number in range(MOST_CATEGORIES + 100)}
    profile = profile_categories(counts, 0)
    assert profile == CategoryProfile(0, profile.counts, 100, 700)
    reference = texts_of_profile(profile)
    assert reference.least == 7
    rows = [name for name, count in counts.items() for _ in range(count)]
    found = compare_categories("x", reference, texts(rows), LIMITS, ALPHA)
    assert found.value("new_category_share") == 0.0
    assert found.value("jensen_shannon") == 0.0
