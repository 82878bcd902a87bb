"""What is found of poison that was put in, and that clean windows raise no alarm; the benchmark has more seeds."""

from pathlib import Path

import numpy as np
import pytest

from fraud_tables import Frauds, flipped, flooded, frauds, ranged, sample_of, triggered, write_scorer
from kfp_custody.components._shared.scoring import Scorer, load_scorer
from kfp_custody.components.poisoning_screen import disagreement, floods, label_errors
from kfp_custody.components.poisoning_screen.findings import Check
from kfp_custody.components.poisoning_screen.limits import load_limits
from kfp_custody.components.poisoning_screen.screening import Screened, Trusted, screen

LIMITS = load_limits("default")
EARLIER = 1000  # seed of the earlier window


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    root = tmp_path_factory.mktemp("trusted") / "model"
    write_scorer(root, frauds(EARLIER))
    return load_scorer(root)


def check(found: Screened, name: str) -> Check:
    return next(check for check in found.checks if check.name == name)


def agreement(found: Check, made: Frauds) -> tuple[float, float]:
    """Recall and precision of the rows that a check names."""
    hit = np.intersect1d(found.suspects, made.poisoned).size
    return hit / made.poisoned.size, hit / max(found.suspects.size, 1)


@pytest.mark.parametrize("seed", range(5))
def test_flipped_labels_come_first(seed: int) -> None:
    made = flipped(frauds(seed), seed, 0.03)
    sample = sample_of(made)
    limits = LIMITS.label_errors
    found = label_errors.judge(
        label_errors.out_of_fold(sample.matrix()[1], sample.labels, limits.folds), sample.labels, None, limits
    )
    first = found.suspects[: made.poisoned.size]
    assert np.isin(first, made.poisoned).sum() / made.poisoned.size >= 0.8
    assert found.verdict == "WARNED"


@pytest.mark.parametrize("seed", range(15))
def test_fraud_called_legitimate_contradicts_the_trusted_model(scorer: Scorer, seed: int) -> None:
    """Without the earlier window: half a per cent is found in every seed, and nothing before the flip."""
    clean = frauds(seed)
    made = flipped(clean, seed, 0.005, label=1)
    scores = scorer.score(sample_of(clean).inputs(scorer.features))
    before, after = (
        disagreement.disagreement(scores, labels, None, LIMITS.trusted_disagreement)
        for labels in (clean.labels, made.labels)
    )
    assert (before.verdict, after.verdict) == ("PASSED", "FAILED")
    assert after.metrics["disagreement_p"] < 1e-6
    assert agreement(after, made)[1] > 0.8
    assert before.suspects.size == 0


def test_the_earlier_window_says_what_is_expected(scorer: Scorer) -> None:
    trusted = Trusted(scorer, sample_of(frauds(EARLIER)))
    clean = frauds(0)
    found = screen(sample_of(clean), LIMITS, trusted)
    assert (found.verdict, found.names("PASSED")) == ("PASSED", [check.name for check in found.checks])
    assert "earlier window" in check(found, "trusted_disagreement").reason
    poisoned = screen(sample_of(flipped(clean, 0, 0.005, label=1)), LIMITS, trusted)
    assert poisoned.names("FAILED") == ["trusted_disagreement"]


@pytest.mark.parametrize("seed", range(100, 105))
def test_a_clean_window_raises_no_alarm(scorer: Scorer, seed: int) -> None:
    found = screen(sample_of(frauds(seed)), LIMITS, Trusted(scorer))
    assert found.names("PASSED") == [check.name for check in found.checks]


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_a_flood_is_found_whole(share: float) -> None:
    made = flooded(frauds(2), 2, share)
    found = check(screen(sample_of(made), LIMITS), "near_duplicates")
    recall, precision = agreement(found, made)
    assert (found.verdict, recall) == ("FAILED", 1.0)
    assert precision > 0.95, "the row that was copied is named too"
    assert found.metrics["flood_clusters"] == 1.0


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_flood_of_most_rows_does_not_become_the_usual(share: float) -> None:
    made = flooded(frauds(2, rows=4000), 2, share)
    found = floods.judge(floods.continuous(sample_of(made).numbers), LIMITS.near_duplicates)
    assert (found.verdict, agreement(found, made)[0]) == ("FAILED", 1.0)


def test_exact_copies_are_a_flood() -> None:
    made = flooded(frauds(3), 3, 0.01, jitter=0.0)
    assert agreement(check(screen(sample_of(made), LIMITS), "near_duplicates"), made)[0] == 1.0


@pytest.mark.parametrize("share", [0.01, 0.0025])
@pytest.mark.parametrize("trusts", [False, True])
def test_a_value_that_is_a_trigger_is_found_whole(scorer: Scorer, share: float, trusts: bool) -> None:
    made = triggered(frauds(2), 2, share)
    found = check(screen(sample_of(made), LIMITS, Trusted(scorer) if trusts else None), "repeated_values")
    assert (found.verdict, *agreement(found, made)) == ("FAILED", 1.0, 1.0)
    assert "v15" in found.reason
    assert "3.14" not in found.reason, "no value leaves"


def test_a_range_that_is_a_trigger_is_a_rule(scorer: Scorer) -> None:
    made = ranged(frauds(2), 2, 0.01)
    found = check(screen(sample_of(made), LIMITS, Trusted(scorer)), "rules")
    recall, precision = agreement(found, made)
    assert found.verdict == "WARNED"
    assert recall > 0.5
    assert precision > 0.9
    assert "v21 is high" in found.reason
    assert "v22 is low" in found.reason


def test_a_small_range_trigger_is_not_found(scorer: Scorer) -> None:
    """Which the report says: whoever finds it one day may take the sentence away."""
    made = ranged(frauds(2), 2, 0.0005)
    assert screen(sample_of(made), LIMITS, Trusted(scorer)).verdict == "PASSED"


def test_the_same_rows_give_the_same_result(scorer: Scorer) -> None:
    made = sample_of(flipped(frauds(4, rows=4000), 4, 0.03))
    one, other = (screen(made, LIMITS, Trusted(scorer)) for _ in range(2))
    assert [(a.name, a.reason, a.suspects.tolist()) for a in one.checks] == [
        (b.name, b.reason, b.suspects.tolist()) for b in other.checks
    ]


def test_a_trusted_model_that_cannot_score_fails_what_needs_it(scorer: Scorer, tmp_path: Path) -> None:
    sample = sample_of(frauds(5, rows=2000))
    renamed = type(sample)(sample.places, sample.of, sample.labels, sample.columns.rename_columns({"v00": "other"}))
    found = screen(renamed, LIMITS, Trusted(scorer))
    assert found.names("FAILED") == ["trusted_disagreement", "base_rate", "rules"]
    assert sum(check.failed for check in found.checks) == 3
