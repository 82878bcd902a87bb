"""Labels that a model which never saw the row is sure are wrong."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.poisoning_screen.findings import Check, unknown
from kfp_custody.components.poisoning_screen.limits import FAILED, PASSED, UNKNOWN, WARNED, LabelErrors
from kfp_custody.components.poisoning_screen.rows import Floats, Integers

NAME = "label_errors"
_RECOGNISED = 0.25  # of the positives, by models that did not see them


@dataclass(frozen=True)
class Window:
    """The earlier window: its labels, and their probabilities by models that never saw the row."""

    labels: Integers
    probabilities: Floats


def out_of_fold(matrix: NDArray[np.float32], labels: Integers, folds: int) -> Floats | None:
    """Return the probability of label 1 by models that were fitted without the row; None when there are too few rows.

    Args:
        matrix: Shape (rows, columns); NaN where a value is missing.
        labels: 0 or 1, shape (rows,).
        folds: How many models; both labels must occur at least as often.
    """
    import xgboost

    if min(int(labels.sum()), int((1 - labels).sum())) < folds or not matrix.shape[1]:
        return None
    fold, rng = np.empty(labels.size, dtype=np.int64), np.random.default_rng(0)
    for label in (0, 1):
        those = rng.permutation(np.flatnonzero(labels == label))
        fold[those] = np.arange(those.size) % folds
    probabilities = np.empty(labels.size)
    for number in range(folds):
        held = fold == number
        model = xgboost.XGBClassifier(
            n_estimators=100,
            max_depth=4,
            learning_rate=0.1,
            min_child_weight=5,  # or a tree learns the single rows that were poisoned
            max_bin=64,
            tree_method="hist",
            n_jobs=1,
            random_state=0,
        ).fit(matrix[~held], labels[~held])
        probabilities[held] = model.predict_proba(matrix[held])[:, 1]
    return probabilities


def judge(probabilities: Floats | None, labels: Integers, window: Window | None, limits: LabelErrors) -> Check:
    """Rank the rows by their loss, and judge how many labels are most probably wrong.

    Args:
        probabilities: Of label 1, out of fold, shape (rows,); None when there are none.
        labels: 0 or 1, shape (rows,).
        window: The earlier window, whose share of such labels is usual; none is without it.
        limits: From the file.

    Raises:
        Misconfigured: the limits name cleanlab, and it is not installed.
    """
    if probabilities is None:
        return unknown(NAME, f"there is no column, or a label has fewer than {limits.folds} rows")
    ranked, count = _doubted(probabilities, labels, limits)
    share = count / labels.size
    usual = _doubted(window.probabilities, window.labels, limits)[1] / window.labels.size if window else 0.0
    excess = share - usual
    verdict = FAILED if excess >= limits.fail else WARNED if excess >= limits.warn else PASSED
    metrics = {"label_errors": float(count), "label_error_share": share, "label_error_excess": excess}
    known = float((probabilities[labels == 1] >= 0.5).mean())
    if verdict != FAILED and known < _RECOGNISED:
        # Where no column tells the labels, every rare positive looks wrong.
        return Check(
            NAME, UNKNOWN, f"models recognise {known:.0%} of the positives, too few to doubt others", {}, ranked
        )
    reason = f"{count} of {labels.size} labels are doubted out of fold ({share:.2%}, {usual:.2%} is usual)"
    return Check(NAME, verdict, reason, metrics, ranked)


def _doubted(probabilities: Floats, labels: Integers, limits: LabelErrors) -> tuple[Integers, int]:
    """Return the rows whose label is doubted, the surest first, and how many of them count."""
    if limits.engine == "cleanlab":
        issues = _cleanlab(probabilities, labels)
        return issues, issues.size
    own = np.where(labels == 1, probabilities, 1 - probabilities)
    # All that are more likely wrong than not are named, whatever the verdict.
    ranked = np.argsort(own, kind="stable")[: int(np.count_nonzero(own < 0.5))]
    return ranked, int(np.count_nonzero(own <= 1 - limits.confidence))


def _cleanlab(probabilities: Floats, labels: Integers) -> Integers:
    """Return the rows whose label cleanlab doubts, the surest first."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise Misconfigured(
            "cleanlab is not installed.",
            evidence=f"label_errors.engine: cleanlab; {type(error).__name__}",
            remedy="Install it in the image of poisoning_screen, or name the engine own.",
        ) from error
    both = np.column_stack([1 - probabilities, probabilities])
    ranked = find_label_issues(labels, both, return_indices_ranked_by="self_confidence", n_jobs=1)
    return np.asarray(ranked, dtype=np.int64)
