"""A profile: what it says, how near it is, what it keeps to itself, and what is not one."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfp_custody.components._shared.documents import DocumentFault
from kfp_custody.components._shared.profiles import (
    MOST_CATEGORIES,
    MOST_QUANTILES,
    SMALLEST_GROUP,
    CategoryProfile,
    LabelProfile,
    NumberProfile,
    OtherProfile,
    Profile,
    ScoresProfile,
    profile_categories,
    profile_numbers,
    read_profile,
)


def distance(values: Any, quantiles: Any) -> float:
    """Return the largest distance of two empirical distribution functions."""
    at = np.concatenate((values, quantiles))
    one, other = (np.searchsorted(np.sort(side), at, side="right") / len(side) for side in (values, quantiles))
    return float(np.abs(one - other).max())


@pytest.mark.parametrize("rows", [5, 6, 49, 1000, 20_480, 100_003])
@pytest.mark.parametrize("kind", ["normal", "ties", "zero-inflated"])
def test_the_distribution_is_kept_within_half_a_quantile_and_a_row(rows: int, kind: str) -> None:
    rng = np.random.default_rng(rows)
    values = rng.normal(size=rows)
    if kind == "ties":
        values = np.round(values * 2)
    if kind == "zero-inflated":
        values[rng.random(rows) < 0.9] = 0.0
    found = profile_numbers(values)
    count = min(MOST_QUANTILES, rows // SMALLEST_GROUP)
    assert len(found.quantiles) == count
    assert distance(values, np.array(found.quantiles)) <= 0.5 / count + 1 / rows + 1e-12
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.std == pytest.approx(values.std(), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=80))
def test_any_numbers_are_counted_and_come_back(values: list[float]) -> None:
    found = profile_numbers(np.array(values, dtype=float))
    assert found.missing + found.infinite + found.finite == len(values)
    profile = Profile(len(values), {"x": found})
    assert read_profile(profile.json()) == profile


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=6), st.integers(1, 20), max_size=30), st.integers(0, 9))
def test_small_categories_are_counted_and_never_named(counts: dict[str, int], missing: int) -> None:
    found = profile_categories(counts, missing)
    profile = Profile(sum(counts.values()) + missing, {"x": found})
    assert read_profile(profile.json()) == profile
    assert dict(found.counts) == {name: rows for name, rows in counts.items() if rows >= SMALLEST_GROUP}
    assert found.other_categories == len(counts) - len(found.counts)
    assert found.other_rows == sum(rows for rows in counts.values() if rows < SMALLEST_GROUP)


def test_no_more_categories_than_a_reader_can_hold() -> None:
    found = profile_categories({str(number): 5 for number in range(MOST_CATEGORIES + 3)}, 0)
    assert (len(found.counts), found.other_categories, found.other_rows) == (MOST_CATEGORIES, 3, 15)


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_fewer_rows_than_a_group_say_nothing(rows: int) -> None:
    assert profile_numbers(np.arange(rows, dtype=float)) == NumberProfile(0, 0, rows, None, None, ())


def test_numbers_near_the_end_of_the_range_have_no_moments() -> None:
    found = profile_numbers(np.array([1.7e308, -1.7e308] * 10))
    assert (found.mean, found.std) == (None, None) or np.isfinite(found.std)
    assert found.quantiles


GENUINE = Profile(
    20,
    {
        "amount": profile_numbers(np.arange(20.0)),
        "channel": CategoryProfile(1, {"atm": 12, "pos": 5}, 1, 2),
        "at": OtherProfile(3, "time"),
    },
    ScoresProfile(profile_numbers(np.arange(18) / 20), 0.25, 2),
    LabelProfile("is_fraud", 19, 4),
)


def test_the_genuine_one_is_read() -> None:
    assert read_profile(GENUINE.json()) == GENUINE


def test_it_has_no_rows_in_it() -> None:
    document = json.loads(GENUINE.json())
    assert set(document) == {"version", "rows", "smallest_group", "columns", "scores", "label"}
    assert len(document["columns"]["amount"]["quantiles"]) == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(version=1),
        lambda d: d.update(smallest_group=1),
        lambda d: d.update(rows=21),
        lambda d: d.update(rows=-1),
        lambda d: d.update(rows=20.0),
        lambda d: d.update(more=1),
        lambda d: d.update(columns={}),
        lambda d: d.update(columns=[]),
        lambda d: d["columns"].update(amount=7),
        lambda d: d["columns"]["amount"].update(kind="numbers"),
        lambda d: d["columns"]["amount"].update(more=1),
        lambda d: d["columns"]["amount"].update(missing=1),
        lambda d: d["columns"]["amount"].update(mean="0"),
        lambda d: d["columns"]["amount"].update(mean=None),
        lambda d: d["columns"]["amount"]["quantiles"].pop(),
        lambda d: d["columns"]["amount"]["quantiles"].reverse(),
        lambda d: d["columns"]["amount"]["quantiles"].__setitem__(0, True),
        lambda d: d["columns"]["channel"].update(counts=[]),
        lambda d: d["columns"]["channel"]["counts"].update(atm=13),
        lambda d: d["columns"]["channel"].update(counts={"atm": 13, "pos": 4}),
        lambda d: d["columns"]["channel"].update(other_rows=True),
        lambda d: d["columns"]["at"].pop("missing"),
        lambda d: d["columns"]["at"].update(type="number"),
        lambda d: d["columns"]["amount"].update(boolean=0),
        lambda d: d["columns"]["amount"].pop("boolean"),
        lambda d: d.pop("scores"),
        lambda d: d.update(scores=[]),
        lambda d: d["scores"].update(not_scored=3),
        lambda d: d["scores"].update(not_scored=-1),
        lambda d: d["scores"].update(positive_share=1.5),
        lambda d: d["scores"].update(positive_share=1),
        lambda d: d["scores"]["scores"].update(missing=1),
        lambda d: d["scores"]["scores"]["quantiles"].__setitem__(-1, 1.5),
        lambda d: d.pop("label"),
        lambda d: d["label"].update(name=None),
        lambda d: d["label"].update(positives=20),
        lambda d: d["label"].update(rows=0),
        lambda d: d["label"].update(rows=21),
    ],
)
def test_what_is_no_profile_is_refused(spoil: Any) -> None:
    document = json.loads(GENUINE.json())
    spoil(document)
    with pytest.raises(DocumentFault):
        read_profile(json.dumps(document).encode())
