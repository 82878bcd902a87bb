"""Quantiles of streams beside those of all values, and counts in cells."""

import numpy as np
import pytest
from log_lines import door, monitored, pair, verdicts

from kfp_custody.components._shared.distances import bin_counts, psi, quantile_cuts
from kfp_custody.components._shared.profiles import CategoryProfile, NumberProfile, Profile, profile_numbers
from kfp_custody.components.inference_monitoring.chance import at_least
from kfp_custody.components.inference_monitoring.drift import Features, reference_of
from kfp_custody.components.inference_monitoring.limits import load_limits
from kfp_custody.components.inference_monitoring.reporting import metrics
from kfp_custody.components.inference_monitoring.spool import code_of
from kfp_custody.components.inference_monitoring.tallies import Durations, Scores


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99])
def test_quantiles_of_durations(share: float) -> None:
    values = np.random.default_rng(1).lognormal(-4, 1.5, 200_001)
    durations = Durations((0.1,))
    for part in np.array_split(values, 7):
        durations.extend(part.tolist())
    assert durations.quantile(share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"), rel=0.0026)
    assert (durations.over[0.1], durations.total) == ((values > 0.1).sum(), values.size)


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e9])
def test_durations_beyond_the_bins(value: float) -> None:
    durations = Durations(())
    durations.extend([value])
    assert durations.quantile(0.5) == pytest.approx(min(max(value, 1e-6), 1e5), rel=0.01)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_quantiles_of_confidence(share: float) -> None:
    values = np.random.default_rng(2).beta(0.3, 2, 100_000)
    scores = Scores(None)
    scores.extend(values.tolist())
    exact = np.quantile(np.maximum(values, 1 - values), share)
    assert scores.confidence(share) == pytest.approx(exact, abs=1.5e-4)
    assert Scores(None).confidence(share) is None


def test_ends_of_probabilities() -> None:
    scores = Scores(None)
    scores.extend([0.0, 1.0, 0.5, 0.49999])
    assert scores.total == 4
    assert scores.confidence(1.0) == pytest.approx(1.0, abs=1e-4)
    assert scores.confidence(0.0001) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(("k", "n", "p"), [(0, 5, 0.1), (1, 5, 0.1), (5, 5, 0.1), (3, 4, 0.5)])
def test_tails_of_the_binomial(k: int, n: int, p: float) -> None:
    from math import comb

    exact = sum(comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1))
    assert at_least(k, n, p) == pytest.approx(exact, rel=1e-12)


def test_prediction_psi_by_hand() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.random(5000), rng.random(3000) ** 1.5
    profile = profile_numbers(before)
    found = monitored([pair(score=float(score)) for score in after], scores=profile)
    quantiles = np.array(profile.quantiles)
    cuts = quantile_cuts(quantiles, 10)
    counts = bin_counts(quantiles, cuts) * 5, bin_counts(np.sort(after), cuts)
    shares = [count / count.sum() for count in counts]
    by_hand = sum((p - q) * np.log(p / q) for p, q in zip(*shares, strict=True))
    assert metrics(found)["prediction_psi"] == pytest.approx(by_hand, rel=1e-9) == pytest.approx(psi(*counts))
    assert verdicts(found)["prediction"] == ("WARNED" if by_hand < 0.25 else "FAILED")


def test_the_same_scores_do_not_drift_and_few_tell_nothing() -> None:
    rng = np.random.default_rng(4)
    profile = profile_numbers(rng.beta(0.2, 4, 20_000))
    same = [pair(score=float(score)) for score in rng.beta(0.2, 4, 4000)]
    assert verdicts(monitored(same, scores=profile))["prediction"] == "PASSED"
    assert verdicts(monitored(same[:30], scores=profile))["prediction"] == "UNKNOWN"
    assert verdicts(monitored(same))["prediction"] == "UNKNOWN"
    assert reference_of(NumberProfile(0, 0, 3, None, None, ())) is None


def columns(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    return {"a": rng.normal(size=rows), "b": rng.integers(0, 2, rows).astype(float), "gone": rng.random(rows)}


def test_features_by_hand() -> None:
    rng = np.random.default_rng(5)
    before, after = columns(rng, 8000), columns(rng, 4000)
    after["a"] = after["a"] + 0.4
    after["gone"][:2000] = np.nan
    known = {name: profile_numbers(values) for name, values in before.items()}
    known["shop"] = CategoryProfile(0, {"food": 4000, "fuel": 3000}, 1, 1000)
    features = Features(Profile(8000, known))
    texts = rng.choice(["food", "fuel", "other"], 4000, p=[0.5, 0.375, 0.125])
    values = np.column_stack([*after.values(), [code_of(text) for text in texts]])
    for block in np.array_split(values, 3):
        features.add((*after, "shop"), block)
    found = {one.name: one for one in features.measured(load_limits("default"))}
    quantiles = np.array(known["a"].quantiles)  # type: ignore[union-attr]
    cuts = quantile_cuts(quantiles, 10)
    assert found["a"].psi == pytest.approx(psi(bin_counts(quantiles, cuts) * 5, bin_counts(np.sort(after["a"]), cuts)))
    assert {name: one.verdict for name, one in found.items()} == {
        "a": "WARNED",
        "b": "PASSED",
        "gone": "FAILED",
        "shop": "PASSED",
    }
    assert found["gone"].null_share == pytest.approx(0.5)
    counts = [int((texts == text).sum()) for text in ("food", "fuel", "other")]
    assert found["shop"].psi == pytest.approx(psi(np.array([4000, 3000, 1000]), np.array(counts)))


def test_no_drift_no_alarm() -> None:
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(100):
        before, after = columns(rng, 3000), columns(rng, 300)
        features = Features(Profile(3000, {name: profile_numbers(values) for name, values in before.items()}))
        features.add(tuple(after), np.column_stack(list(after.values())))
        alarms += any(one.verdict in ("WARNED", "FAILED") for one in features.measured(load_limits("default")))
    assert alarms == 0


def test_ratios_need_more_than_chance() -> None:
    errors = [door(status=500)]
    assert verdicts(monitored([*errors, *[door()] * 9]))["errors"] == "PASSED", "one of ten may be chance"
    assert verdicts(monitored([*errors * 30, *[door()] * 970]))["errors"] == "WARNED"
    assert verdicts(monitored([*errors * 100, *[door()] * 900]))["errors"] == "FAILED"
    assert verdicts(monitored([door(status=422)] * 400 + [door()] * 600))["refused"] == "FAILED"


def test_a_slow_hundredth() -> None:
    slow, quick = door(milliseconds=3000), door(milliseconds=20)
    assert verdicts(monitored([slow] * 40 + [quick] * 960))["latency"] == "FAILED"
    assert verdicts(monitored([door(milliseconds=700)] * 40 + [quick] * 960))["latency"] == "WARNED"
    assert verdicts(monitored([slow] * 5 + [quick] * 995))["latency"] == "PASSED"
