"""The figures, against answers that can be worked out by hand."""

import numpy as np
import pytest

from kfp_custody.components.model_training.metrics import MAX_POINTS, best_threshold, evaluate

LABELS = np.array([0, 0, 0, 1, 1])


def test_perfect_model() -> None:
    found = evaluate(LABELS, np.array([0.1, 0.2, 0.3, 0.8, 0.9]), 0.5)
    assert found.metrics["roc_auc"] == found.metrics["average_precision"] == found.metrics["f1"] == 1.0
    assert found.confusion == [[3, 0], [0, 2]]
    assert found.metrics["brier"] == pytest.approx((0.01 + 0.04 + 0.09 + 0.04 + 0.01) / 5)


def test_known_mistakes() -> None:
    found = evaluate(LABELS, np.array([0.1, 0.6, 0.7, 0.4, 0.9]), 0.5)
    assert found.confusion == [[1, 2], [1, 1]]
    assert found.metrics["precision"] == pytest.approx(1 / 3)
    assert found.metrics["recall"] == pytest.approx(1 / 2)
    assert found.metrics["f1"] == pytest.approx(2 / 5)
    assert found.metrics["roc_auc"] == pytest.approx(4 / 6)


def test_threshold_itself_decides_for_class_one() -> None:
    assert evaluate(LABELS, np.array([0.1, 0.2, 0.3, 0.5, 0.9]), 0.5).confusion == [[3, 0], [0, 2]]


def test_nothing_decided_positive_gives_zero_not_a_crash() -> None:
    found = evaluate(LABELS, np.full(5, 0.1), 0.9)
    assert (found.metrics["precision"], found.metrics["recall"], found.metrics["f1"]) == (0.0, 0.0, 0.0)
    assert found.metrics["roc_auc"] == 0.5


def test_every_figure_is_finite_and_curves_have_their_ends() -> None:
    random = np.random.default_rng(1)
    labels = (random.random(5000) < 0.02).astype(np.int64)
    found = evaluate(labels, random.random(5000), 0.5)
    for curve in (found.roc, found.pr):
        assert len(curve.xs) == len(curve.ys) == len(curve.thresholds) <= MAX_POINTS
        assert np.isfinite([*curve.xs, *curve.ys, *curve.thresholds]).all()
        assert all(0 <= value <= 1 for value in [*curve.xs, *curve.ys, *curve.thresholds])
    assert (found.roc.xs[0], found.roc.ys[0], found.roc.xs[-1], found.roc.ys[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert found.pr.xs[-1] == 0.0
    assert np.isfinite(list(found.metrics.values())).all()


def test_thinned_curve_keeps_the_area() -> None:
    random = np.random.default_rng(1)
    labels = (random.random(20000) < 0.05).astype(np.int64)
    scores = np.clip(random.normal(0.3 + 0.3 * labels, 0.15), 0, 1)
    found = evaluate(labels, scores, 0.5)
    assert np.trapezoid(found.roc.ys, found.roc.xs) == pytest.approx(found.metrics["roc_auc"], abs=0.002)


def test_calibration_bins_are_equally_wide() -> None:
    scores = np.linspace(0, 1, 1000)
    labels = (np.random.default_rng(3).random(1000) < scores).astype(np.int64)
    bins = evaluate(labels, scores, 0.5).calibration
    assert len(bins) == 10
    assert len(evaluate(labels, scores * 0.15, 0.5).calibration) == 2
    assert bins[0][0] == pytest.approx(0.05, abs=0.01)
    assert all(abs(mean - share) < 0.15 for mean, share in bins)


def test_best_threshold_has_the_greatest_f1() -> None:
    random = np.random.default_rng(5)
    labels = (random.random(400) < 0.2).astype(np.int64)
    scores = np.clip(random.normal(0.3 + 0.3 * labels, 0.2), 0, 1)
    best = evaluate(labels, scores, best_threshold(labels, scores)).metrics["f1"]
    assert best == max(evaluate(labels, scores, float(cut)).metrics["f1"] for cut in np.unique(scores))
