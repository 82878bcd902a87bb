"""What a model of an earlier window, which the poison of this one cannot have reached, says about the labels."""

import math

import numpy as np

from kfp_custody.components.poisoning_screen.chance import at_least
from kfp_custody.components.poisoning_screen.findings import Check, unknown
from kfp_custody.components.poisoning_screen.label_errors import Window
from kfp_custody.components.poisoning_screen.limits import PASSED, BaseRate, Disagreement
from kfp_custody.components.poisoning_screen.rows import Floats, Integers

NAME, RATE = "trusted_disagreement", "base_rate"
_SURE = 20  # rows; among fewer, what was flipped would not stand out


def disagreement(scores: Floats, labels: Integers, window: Window | None, limits: Disagreement) -> Check:
    """Judge how many rows the trusted model is sure are positive and their label says are not.

    With the earlier window, both counts come from one distribution when nothing is wrong: given their sum, this
    window's is binomial, and how exactly the expectation is known counts with it. Without it, the model's own
    probabilities announce how often it is wrong.

    Args:
        scores: The trusted model's, shape (rows,).
        labels: 0 or 1, shape (rows,).
        window: The earlier window, out of fold.
        limits: From the file.
    """
    sure = scores > limits.confidence
    against = sure & (labels == 0)
    count, trials = int(against.sum()), int(sure.sum())
    if window is None:
        expected = limits.overconfidence * float((1 - scores[sure]).sum())
        chance = at_least(count, trials, expected / trials) if trials else 1.0
    else:
        usual = window.probabilities > limits.confidence
        before, base = int((usual & (window.labels == 0)).sum()), int(usual.sum())
        expected = trials * before / base if base else 0.0
        chance = at_least(count, count + before, trials / (trials + base)) if trials else 1.0
    metrics = {"disagreements": float(count), "disagreements_expected": expected, "disagreement_p": chance}
    basis = "the model's own probabilities" if window is None else "the earlier window"
    reason = f"{count} of {trials} rows that the trusted model is sure of are labelled 0; {expected:.1f} by {basis}"
    ranked = np.flatnonzero(against)
    ranked = ranked[np.argsort(-scores[ranked], kind="stable")]
    found = chance < limits.alpha
    if not found and trials < _SURE:
        return unknown(NAME, f"the trusted model is sure of {trials} rows, too few to miss any")
    said = f"{reason}; by chance {chance:.1e}"
    return Check(NAME, limits.result if found else PASSED, said, metrics, ranked if found else ranked[:0])


def base_rate(scores: Floats, labels: Integers, window: Window | None, limits: BaseRate) -> Check:
    """Judge the share of positives against the earlier window's, or against what the trusted model announces.

    What a model announces is taken to be no better known than the share in as many rows.
    """
    share = float(labels.mean())
    if window is None:
        expected, rows = float(scores.mean()), labels.size
        both = expected
    else:
        expected, rows = float(window.labels.mean()), window.labels.size
        both = float(labels.sum() + window.labels.sum()) / (labels.size + rows)
    deviation = math.sqrt(both * (1 - both) * (1 / labels.size + 1 / rows))
    z = (share - expected) / max(deviation, 1 / labels.size)
    metrics = {"base_rate": share, "base_rate_expected": expected, "base_rate_z": z}
    reason = f"{share:.2%} of the rows are positive, {expected:.2%} are expected; z {z:.1f}"
    return Check(RATE, limits.result if abs(z) > limits.z else PASSED, reason, metrics)
