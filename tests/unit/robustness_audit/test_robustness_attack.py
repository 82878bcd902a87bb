"""The attack on models whose nearest boundary is known, and its constraints on whatever comes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robustness_inputs import boosted, by_formula, logistic, normal_rows

from kfp_custody.components._shared.scoring import Feature
from kfp_custody.components.robustness_audit.evasion import Donors, attack
from kfp_custody.components.robustness_audit.space import OWN, Choice, Number, Space

WIDE = 1e30


def everything_free(scorer, columns, names, rows):
    numbers = tuple(Number(name, float(np.std(columns[name])), -WIDE, WIDE, False) for name in names)
    return Space(scorer, {name: columns[name][rows] for name in names}, numbers, ())


def attacked(scorer, columns, names, most=60, iterations=16, seed=3):
    scores = scorer.score({name: columns[name] for name in names})
    hit, passing = np.flatnonzero(scores >= scorer.threshold)[:most], np.flatnonzero(scores < scorer.threshold)
    space = everything_free(scorer, columns, names, hit)
    given = np.column_stack([columns[name][passing] for name in names])
    points, distances = attack(space, Donors(given, np.empty((len(given), 0), dtype=np.int64)), iterations, seed)
    return space, points, distances, hit


@pytest.mark.parametrize("features", [2, 6, 30])
def test_a_logistic_regression_is_passed_where_geometry_says_and_never_nearer(features):
    columns = normal_rows(features=features) if features < 30 else wide_rows()
    names = [name for name in columns if name != "y"]
    scorer, fitted, deviations = logistic(columns, names)
    space, points, distances, hit = attacked(scorer, columns, names)
    matrix = np.column_stack([columns[name] for name in names])[hit]
    margin = matrix @ fitted.coef_[0] + fitted.intercept_[0]
    exact = np.abs(margin) / np.linalg.norm(fitted.coef_[0] * deviations)
    assert (distances >= exact * (1 - 1e-9)).all()
    assert np.median(distances) <= 1.05 * np.median(exact)
    assert (distances <= 1.2 * exact).all()
    assert space.passes(points).all()


def wide_rows():
    random = np.random.default_rng(5)
    plain = random.standard_normal((4000, 30))
    told = plain @ random.standard_normal(30) + random.standard_normal(4000)
    return {f"x{place}": plain[:, place] for place in range(30)} | {"y": (told > 3).astype(np.int64)}


def test_a_stump_is_passed_at_its_threshold_and_by_its_one_feature():
    columns = normal_rows(features=4)
    names = [name for name in columns if name != "y"]
    matrix = np.column_stack([columns[name] for name in names])
    stump = boosted(matrix, matrix[:, 2] > 60.0, names, n_estimators=1, max_depth=1, learning_rate=1.0)
    scores = stump.score({name: columns[name] for name in names})
    threshold = (matrix[scores < 0.5, 2].max(), matrix[scores >= 0.5, 2].min())  # it lies between these two
    _, points, distances, hit = attacked(stump, columns, names)
    moved = points.values != matrix[hit]
    assert (moved == np.array([False, False, True, False])).all()
    deviation = columns["x2"].std()
    least, most = ((matrix[hit, 2] - edge) / deviation for edge in (threshold[1], threshold[0]))
    assert (distances >= least - 1e-9).all()
    assert (distances <= most + 1e-9).all()
    assert np.ptp(points.values[:, 2]) < 1e-5 * deviation  # all at the one threshold


def test_the_same_seed_finds_the_same_and_more_steps_find_nothing_farther():
    columns = wide_rows()
    names = [name for name in columns if name != "y"]
    matrix = np.column_stack([columns[name] for name in names])
    trees = boosted(matrix, columns["y"], names, n_estimators=20, max_depth=3)
    first, again, other = (attacked(trees, columns, names, most=20, seed=seed) for seed in (1, 1, 2))
    assert (first[1].values == again[1].values).all()
    assert (first[2] == again[2]).all()
    assert (first[2] != other[2]).any()
    few = attacked(trees, columns, names, most=20, iterations=2, seed=1)
    assert first[2].mean() < few[2].mean()


def test_a_category_is_switched_where_that_is_nearer_and_costs_what_it_was_said_to():
    features = (Feature("x", "number"), Feature("c", "category", ("a", "b", "z")))

    def formula(held):
        return np.where((held["x"] > 2.0) & (held["c"] != "z"), 1.0, 0.0)

    scorer = by_formula(features, formula)
    held = {"x": np.array([2.5, 6.0, 6.0]), "c": np.array(["a", "b", None], dtype=object)}
    number, choice = Number("x", 1.0, -WIDE, WIDE, False), Choice("c", ("c",), (("a",), ("b",), ("z",)), 1.5)
    space = Space(scorer, held, (number,), (choice,))
    donors = {"x": np.array([0.0, 9.0]), "c": np.array(["b", "z"], dtype=object)}
    points, distances = attack(space, Donors(space.numbers_of(donors), space.codes_of(donors)), 10, 0)
    assert distances == pytest.approx([0.5, 1.5, 1.5], abs=1e-3)
    assert points.codes.ravel().tolist() == [OWN, 2, 2]
    assert points.values[1:, 0].tolist() == [6.0, 6.0]
    assert points.values[0, 0] <= 2.0


def test_where_no_allowed_change_passes_a_row_is_as_it_was_and_infinitely_far():
    scorer = by_formula((Feature("x", "number"),), lambda held: (held["x"] > 2.0).astype(float))
    space = Space(scorer, {"x": np.array([5.0, 2.5])}, (Number("x", 1.0, 2.2, 9.0, False),), ())
    points, distances = attack(space, Donors(np.array([[0.0]]), np.empty((1, 0), dtype=np.int64)), 5, 0)
    assert distances.tolist() == [np.inf, np.inf]
    assert points.values.ravel().tolist() == [5.0, 2.5]


FEATURES = (
    *(Feature(name, "number") for name in ("free", "whole", "boxed", "fixed", "one", "two", "three")),
    Feature("kind", "category", ("a", "b", "c")),
)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), missing=st.floats(0, 0.5), outside=st.booleans())
def test_constraints_hold_whatever_the_rows_and_the_model(seed, missing, outside):
    random = np.random.default_rng(seed)
    held = any_rows(random, 40, missing, outside)
    weights = random.standard_normal(7)
    kinds = {"a": 0.0, "b": 1.0, "c": -1.0, None: 0.3}

    def formula(columns):
        known = np.nan_to_num(np.column_stack([columns[f.name] for f in FEATURES[:7]]))
        known[:, 1] /= 20.0
        total = known @ weights + np.array([kinds[kind] for kind in columns["kind"]]) * weights[0] - 0.3
        return 1 / (1 + np.exp(-np.clip(total + np.sin(3 * known[:, 0]), -50, 50)))

    scorer = by_formula(FEATURES, formula)
    hit = scorer.score(held) >= 0.5
    numbers = (
        Number("free", 1.0, -WIDE, WIDE, False),
        Number("whole", 20.0, -5.5, 100.5, True),
        Number("boxed", 0.5, -0.5, 0.5, False),
    )
    choices = (
        Choice("group", ("one", "two", "three"), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 0.7),
        Choice("kind", ("kind",), (("a",), ("b",), ("c",)), 1.1),
    )
    own = {name: values[hit] for name, values in held.items()}
    space = Space(scorer, own, numbers, choices)
    given = {name: values[~hit] for name, values in held.items()}
    donors = Donors(space.numbers_of(given), space.codes_of(given))
    points, distances = attack(space, donors, 4, 0)
    found = np.isfinite(distances)
    made = {name: values[found] for name, values in space.columns_of(points).items()}
    before = {name: values[found] for name, values in own.items()}
    assert (scorer.score(made) < 0.5).all()
    assert same(made["fixed"], before["fixed"]).all()
    for name in ("free", "whole", "boxed"):
        assert (np.isnan(made[name]) == np.isnan(before[name])).all()
    held_still = same(made["whole"], before["whole"])
    assert (held_still | (made["whole"] == np.rint(made["whole"]))).all()
    assert (held_still | ((made["whole"] >= -5) & (made["whole"] <= 100)) | beyond(made, before, "whole")).all()
    assert (same(made["boxed"], before["boxed"]) | (np.abs(made["boxed"]) <= 0.5) | beyond(made, before, "boxed")).all()
    ones = np.column_stack([made[name] for name in ("one", "two", "three")])
    assert ((ones == 1.0).sum(axis=1) == 1).all()
    assert ((ones == 0.0).sum(axis=1) == 2).all()
    assert all(now in ("a", "b", "c") or now is then for now, then in zip(made["kind"], before["kind"], strict=True))
    squares = sum(
        np.nan_to_num((made[number.name] - before[number.name]) / number.deviation) ** 2 for number in numbers
    )
    group = (ones != np.column_stack([before[name] for name in ("one", "two", "three")])).any(axis=1)
    kind = np.array([now != then for now, then in zip(made["kind"], before["kind"], strict=True)], dtype=bool)
    assert distances[found] == pytest.approx(np.sqrt(squares + 0.49 * group + 1.21 * kind))


def any_rows(random, rows, missing, outside):
    """Return rows with numbers of every sort, some missing, some outside of their box."""
    held = {name: random.standard_normal(rows) for name in ("free", "fixed")}
    held["whole"] = np.rint(20 * random.standard_normal(rows)) + (0.25 if outside else 0.0)
    held["boxed"] = random.uniform(-0.5, 0.5, rows) * (3 if outside else 1)
    for values in held.values():
        values[random.random(rows) < missing] = np.nan
    which = random.integers(0, 3, rows)
    held |= {name: (which == place).astype(float) for place, name in enumerate(("one", "two", "three"))}
    return held | {"kind": random.choice(np.array(["a", "b", "c", None], dtype=object), rows)}


def same(now, then):
    return (now == then) | (np.isnan(now) & np.isnan(then))


def beyond(made, before, name):
    """Say where a value that lay outside of its box moved no farther out."""
    low, high = {"whole": (-5, 100), "boxed": (-0.5, 0.5)}[name]
    return ((made[name] >= before[name]) & (before[name] < low)) | (
        (made[name] <= before[name]) & (before[name] > high)
    )
