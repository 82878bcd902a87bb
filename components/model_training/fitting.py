"""Fit a model on the training part, set its threshold there, and see how it does on the test part."""

from dataclasses import dataclass
from typing import Any

from kfp_custody.components.model_training.dataset import Labels, Split, stratified
from kfp_custody.components.model_training.features import Selection, describe
from kfp_custody.components.model_training.metrics import Evaluation, best_threshold, evaluate
from kfp_custody.components.model_training.trainers import Probabilities, Trainer, rounds, score

_HELD_SHARE = 0.25  # of the training part, held back while the threshold is set
_FALLBACK = 0.5  # the threshold when there is one row of class 1, too few to hold one back


@dataclass(frozen=True)
class Data:
    """All rows, ready to train on: a frame of shape (rows, features), labels of shape (rows,), the parts."""

    frame: Any
    labels: Labels
    split: Split
    selection: Selection


@dataclass(frozen=True)
class Fit:
    """A fitted estimator and how it does on the test part.

    `metrics` adds the sizes of the parts to those of `evaluation`; `probabilities` are of class 1, shape (test rows,);
    `rounds` are scalars of each boosting round by name.
    """

    estimator: Any
    evaluation: Evaluation
    metrics: dict[str, float]
    rounds: dict[str, list[float]]
    probabilities: Probabilities


def fit_model(trainer: Trainer, data: Data, seed: int) -> Fit:
    """Set the threshold, fit on the whole training part, evaluate on the test part.

    Raises:
        Misconfigured: the user's trainer fails or returns no binary classifier.
    """
    train, test = data.split.train, data.split.test
    frame, labels = data.frame.iloc[train], data.labels[train]
    test_frame, test_labels = data.frame.iloc[test], data.labels[test]
    threshold = _threshold(trainer, frame, labels, seed)
    estimator = trainer.fit(frame, labels, seed, watch=(test_frame, test_labels))
    probabilities = score(estimator, test_frame, data.selection.features)
    evaluation = evaluate(test_labels, probabilities, threshold)
    sizes = {
        "rows_train": float(len(train)),
        "rows_test": float(len(test)),
        "positives_train": float(labels.sum()),
        "positives_test": float(test_labels.sum()),
    }
    return Fit(estimator, evaluation, evaluation.metrics | sizes, rounds(estimator), probabilities)


def _threshold(trainer: Trainer, frame: Any, labels: Labels, seed: int) -> float:
    """Return the best threshold on a part of the training rows that the model was not fitted on.

    The latest rows are held back when they, and the rest, hold both classes (the frame is in time order); else a
    stratified share.
    """
    if min(int(labels.sum()), int((1 - labels).sum())) < 2:
        return _FALLBACK
    cut = round(len(labels) * (1 - _HELD_SHARE))
    ones = int(labels[cut:].sum())
    if 0 < ones < min(int(labels.sum()), len(labels) - cut) and 0 in labels[:cut]:
        earlier, held = frame.iloc[:cut], frame.iloc[cut:]
        known, truth = labels[:cut], labels[cut:]
    else:
        parts = stratified(labels, _HELD_SHARE, seed)
        earlier, held = frame.iloc[parts.train], frame.iloc[parts.test]
        known, truth = labels[parts.train], labels[parts.test]
    estimator = trainer.fit(earlier, known, seed)
    return best_threshold(truth, score(estimator, held, describe(earlier)))
