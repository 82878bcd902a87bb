"""The figures of a binary classifier: scalars, curves, calibration and the decision threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kfp_custody.components.model_training.dataset import Labels

Floats = npt.NDArray[np.float64]
MAX_POINTS = 200
_BINS = 10


@dataclass(frozen=True)
class Curve:
    """Points of a curve, at most `MAX_POINTS`, with the threshold of each."""

    xs: list[float]
    ys: list[float]
    thresholds: list[float]


@dataclass(frozen=True)
class Evaluation:
    """How a model does on one part of the data.

    `metrics` are scalars by name; `roc` is false against true positive rate, `pr` recall against precision;
    `calibration` is the mean probability against the share of class 1 in those of ten equally wide bins that have rows;
    `confusion` has a row for each true class and a column for each decision.
    """

    metrics: dict[str, float]
    roc: Curve
    pr: Curve
    calibration: list[tuple[float, float]]
    confusion: list[list[int]]


def best_threshold(labels: Labels, probabilities: Floats) -> float:
    """Return the probability at which deciding for class 1 has the greatest F1."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(labels, probabilities)
    both = precision[:-1] + recall[:-1]
    scores = 2 * precision[:-1] * recall[:-1] / np.where(both > 0, both, 1)
    return float(thresholds[int(np.argmax(scores))])


def evaluate(labels: Labels, probabilities: Floats, threshold: float) -> Evaluation:
    """Evaluate probabilities of class 1, of shape (rows,); both classes must occur in `labels`."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    decided = probabilities >= threshold
    true_positive = int(np.count_nonzero(decided & (labels == 1)))
    false_positive = int(np.count_nonzero(decided)) - true_positive
    false_negative = int(labels.sum()) - true_positive
    true_negative = len(labels) - true_positive - false_positive - false_negative
    metrics = {
        "roc_auc": float(roc_auc_score(labels, probabilities)),
        "average_precision": float(average_precision_score(labels, probabilities)),
        "precision": true_positive / max(true_positive + false_positive, 1),
        "recall": true_positive / (true_positive + false_negative),
        "f1": 2 * true_positive / (2 * true_positive + false_positive + false_negative),
        "brier": float(np.mean((probabilities - labels) ** 2)),
        "threshold": threshold,
    }
    false_rate, true_rate, cuts = roc_curve(labels, probabilities)
    precision, recall, marks = precision_recall_curve(labels, probabilities)
    return Evaluation(
        metrics=metrics,
        # scikit-learn puts an infinite threshold first (nothing is decided positive), which JSON cannot hold.
        roc=_curve(false_rate, true_rate, np.minimum(cuts, 1.0)),
        pr=_curve(recall, precision, np.append(marks, 1.0)),
        calibration=_calibration(labels, probabilities),
        confusion=[[true_negative, false_positive], [false_negative, true_positive]],
    )


def _curve(xs: Floats, ys: Floats, thresholds: Floats) -> Curve:
    """Thin a curve to `MAX_POINTS` that lie evenly along it, so that a steep start keeps its points."""
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(xs)) + np.abs(np.diff(ys)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0.0, length[-1], MAX_POINTS)).clip(0, len(xs) - 1))
    kept[-1] = len(xs) - 1
    return Curve(*(_floats(values[kept]) for values in (xs, ys, thresholds)))


def _calibration(labels: Labels, probabilities: Floats) -> list[tuple[float, float]]:
    bins = np.minimum((probabilities * _BINS).astype(np.int64), _BINS - 1)
    rows = [bins == number for number in np.unique(bins)]
    return [(float(probabilities[chosen].mean()), float(labels[chosen].mean())) for chosen in rows]


def _floats(values: Sequence[float] | Floats) -> list[float]:
    return [float(value) for value in values]
