"""The page for people: small however wide the data, worst first, with a line through past checks."""

from datetime import UTC, datetime

import numpy as np
import pytest

from kfp_custody.components._shared.profiles import profile_numbers
from kfp_custody.components.drift_detection.checking import SCHEMA, Drift, Label, Prediction
from kfp_custody.components.drift_detection.comparing import DRIFT, Comparison, compare_numbers
from kfp_custody.components.drift_detection.history import Past, series
from kfp_custody.components.drift_detection.limits import load_thresholds
from kfp_custody.components.drift_detection.reporting import html
from kfp_custody.components.drift_detection.sides import numbers_of, numbers_of_profile

LIMITS = load_thresholds("default")


def drifted(name: str, engine: str) -> Comparison:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=2000), rng.normal(1, 1, 2000)
    old[:200], new[:20] = np.nan, np.inf  # every measure is taken
    known = numbers_of(old) if engine == "exact" else numbers_of_profile(profile_numbers(old))
    return compare_numbers(name, known, numbers_of(new), LIMITS.column, LIMITS.bins, 1e-6)


def found(columns: list[Comparison]) -> Drift:
    reason = f"columns that drifted: {', '.join(column.name for column in columns)}"
    prediction = Prediction(DRIFT, reason, columns[-1], 0.1, 0.2, 5)
    label = Label("is_fraud", "none", 0.1, 0.11, 0.02)
    return Drift("FAILED", (reason, reason), tuple(columns), prediction, label, 2000, 2000, 1e-6)


@pytest.mark.parametrize("engine", ["exact", "profile"])
@pytest.mark.parametrize(("count", "name"), [(400, "a_rather_long_name_of_a_column"), (3_000, "x"), (400, "<&é" * 300)])
def test_the_page_is_at_most_300_kb_however_wide_the_data(engine: str, count: int, name: str) -> None:
    one = drifted("", engine)
    columns = [Comparison(f"{name}_{n:04}", *list(vars(one).values())[1:]) for n in range(count)]
    page = html(found(columns), LIMITS)
    assert len(page.encode()) <= 300_000
    drawn = page.count("<svg") - 1  # the scores have one too
    if len(name) < 100:
        assert page.count("<tr>") > 300
        assert drawn > 15
    assert f"{count - drawn} features are not drawn" in page
    if count == 3_000:
        assert "features are not listed here" in page


def test_a_narrow_page_has_everything_worst_first() -> None:
    missing = Comparison("gone", "number", SCHEMA, "missing from the current dataset")
    page = html(found([missing, drifted("amount", "exact"), drifted("hour", "profile")]), LIMITS)
    places = [page.index(f"<td>{name}</td>") for name in ("gone", "amount", "hour")]
    assert places == sorted(places)
    assert page.count("<svg") == 3, "two columns and the scores"
    assert "1 features are not drawn" in page
    assert "not listed" not in page
    assert "http" not in page.replace("http://www.w3.org", ""), "nothing is fetched"
    assert "<script" not in page


def past(day: int, share: float | None, psi: float | None) -> Past:
    return Past(f"run-{day}", datetime(2026, 1, day, tzinfo=UTC), "PASSED", share, psi)


def test_past_checks_are_a_line() -> None:
    runs = [past(1, 0.0, 0.01), past(2, 0.1, None), past(3, 0.4, 0.3)]
    assert series(runs, "share_drifted") == ([1.0, 2.0, 3.0], [0.0, 0.1, 0.4])
    assert series(runs, "prediction_psi") == ([1.0, 3.0], [0.01, 0.3])
    page = html(found([drifted("amount", "exact")]), LIMITS, runs)
    assert "3 checks, this one last" in page
    assert page.count("<polyline") == 2
    assert "Past checks" not in html(found([drifted("amount", "exact")]), LIMITS, runs[-1:])
