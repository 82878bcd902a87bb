"""Check a current dataset against its reference: every feature of the model, its scores, and the label."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared import noise
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import LARGEST, Feature, Scorer
from kfp_custody.components.drift_detection.columns import Columns, sample_rows, unreadable
from kfp_custody.components.drift_detection.comparing import (
    DRIFT,
    NONE,
    UNKNOWN,
    WARN,
    Comparison,
    compare_categories,
    compare_numbers,
)
from kfp_custody.components.drift_detection.limits import Thresholds

Sample = Mapping[str, NDArray[Any]]
SCHEMA = "schema"  # verdict of a column that is missing or has another type
_KINDS = {"number": ("number", "boolean", "null"), "category": ("text", "null")}


@dataclass(frozen=True)
class Prediction:
    """How the model's scores moved. `scores` is None when the model could not score, and `reason` says why."""

    verdict: str
    reason: str
    scores: Comparison | None = None
    positive_reference: float | None = None
    positive_current: float | None = None
    unscored: int = 0


@dataclass(frozen=True)
class Label:
    """How the share of positives moved, beside its noise floor."""

    name: str
    verdict: str
    reference: float
    current: float
    floor: float

    @property
    def delta(self) -> float:
        """Current share less reference share."""
        return self.current - self.reference


@dataclass(frozen=True)
class Drift:
    """Everything that was found, the columns worst first."""

    verdict: str
    reasons: tuple[str, ...]
    columns: tuple[Comparison, ...]
    prediction: Prediction
    label: Label | None
    rows_reference: int
    rows_current: int
    alpha: float
    samples: tuple[Sample, Sample]

    def named(self, *verdicts: str) -> list[str]:
        """Return the names of the columns with one of these verdicts."""
        return [column.name for column in self.columns if column.verdict in verdicts]

    @property
    def share_drifted(self) -> float:
        """Share of the features that drifted or changed their type."""
        return len(self.named(DRIFT, SCHEMA)) / len(self.columns)


def check(reference: Columns, current: Columns, scorer: Scorer, label: str, thresholds: Thresholds) -> Drift:
    """Compare two datasets.

    Args:
        reference: The data that the model was trained on.
        current: The data to judge.
        scorer: The model; its features are what is compared.
        label: Name of the label, compared when both sides have it.
        thresholds: Limits.

    Raises:
        InputRefused: the reference is not of the form that the model takes.
    """
    alpha = thresholds.alpha / (len(scorer.features) + 2)  # the features, the scores and the label share it
    rows = [sample_rows(side.rows, thresholds.sample_rows) for side in (reference, current)]
    samples: tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]] = ({}, {})
    columns = []
    for feature in scorer.features:
        fault = _schema_fault(feature, reference, current)
        if fault:
            columns.append(Comparison(feature.name, feature.type, SCHEMA, fault))
        elif feature.type == "number":
            old, new = reference.numbers(feature.name), current.numbers(feature.name)
            columns.append(compare_numbers(feature.name, old, new, thresholds.column, thresholds.bins, alpha))
            for sample, values, chosen in zip(samples, (old, new), rows, strict=True):
                sample[feature.name] = values[chosen]
        else:
            before, after = reference.texts(feature.name), current.texts(feature.name)
            columns.append(
                compare_categories(feature.name, before, after, thresholds.column, alpha, feature.categories)
            )
            for sample, texts, chosen in zip(samples, (before, after), rows, strict=True):
                sample[feature.name] = np.array(texts.take(chosen).to_pylist(), dtype=object)
    complete = not any(column.verdict == SCHEMA for column in columns)
    prediction = (
        _prediction(scorer, samples, thresholds, alpha)
        if complete
        else Prediction(SCHEMA, "not scored: the current dataset does not have the columns that the model takes")
    )
    found = _label(reference, current, label, thresholds, alpha)
    verdict, reasons = _verdict(columns, prediction, found, thresholds)
    columns.sort(key=_badness)
    return Drift(verdict, reasons, tuple(columns), prediction, found, reference.rows, current.rows, alpha, samples)


def _schema_fault(feature: Feature, reference: Columns, current: Columns) -> str | None:
    """Say what is wrong with a column of the current dataset; refuse a reference that the model cannot have seen."""
    before, after = (side.kinds.get(feature.name) for side in (reference, current))
    if before not in _KINDS[feature.type]:
        raise unreadable(
            reference.role, f"feature {feature.name!r} of the model is {before or 'missing'}, not a {feature.type}"
        )
    if after is None:
        return "missing from the current dataset"
    if after not in _KINDS[feature.type] or (before != after and "null" not in (before, after)):
        return f"type changed from {before} to {after}"
    return None


def _prediction(scorer: Scorer, samples: tuple[Sample, Sample], thresholds: Thresholds, alpha: float) -> Prediction:
    unscored, scores = 0, []
    for role, sample in zip(("reference", "current"), samples, strict=True):
        usable = _scorable(scorer, sample)
        unscored += int((~usable).sum())
        if not usable.any():
            return Prediction(SCHEMA, f"no row of the {role} sample can be scored", unscored=unscored)
        try:
            scores.append(scorer.score({name: values[usable] for name, values in sample.items()}))
        except InputRefused as refusal:
            return Prediction(SCHEMA, f"the {role} sample: {refusal.evidence}", unscored=unscored)
    old, new = scores
    found = compare_numbers("score", old, new, {"psi": thresholds.prediction_psi}, thresholds.bins, alpha)
    positive = [float((side >= scorer.threshold).mean()) for side in scores]
    return Prediction(found.verdict, found.reason, found, positive[0], positive[1], unscored)


def _scorable(scorer: Scorer, sample: Sample) -> NDArray[np.bool_]:
    """Return the rows without a number that no model takes; those are counted, and measured column by column."""
    usable = np.ones(len(sample[scorer.features[0].name]), dtype=bool)
    for feature in scorer.features:
        if feature.type == "number":
            usable &= ~(np.abs(sample[feature.name]) > LARGEST)
    return usable


def _label(reference: Columns, current: Columns, label: str, thresholds: Thresholds, alpha: float) -> Label | None:
    """Compare the share of positives where both sides have a 0/1 label; a label that arrives later is no fault."""
    sides = []
    for side in (reference, current):
        if side.kinds.get(label) not in ("number", "boolean"):
            return None
        values = side.numbers(label)
        values = values[~np.isnan(values)]
        if not values.size or not np.isin(values, (0.0, 1.0)).all():
            return None
        sides.append(values)
    (n, m), (before, after) = [side.size for side in sides], [float(side.mean()) for side in sides]
    pooled = (before * n + after * m) / (n + m)
    floor = noise.share_floor(n, m, pooled, alpha)
    least = thresholds.label_relative_change * before
    delta = abs(after - before)
    verdict = WARN if delta > floor and delta >= least else UNKNOWN if floor >= max(least, 1e-12) else NONE
    return Label(label, verdict, before, after, floor)


def _verdict(
    columns: list[Comparison], prediction: Prediction, label: Label | None, thresholds: Thresholds
) -> tuple[str, tuple[str, ...]]:
    """Return the verdict of the dataset and the reasons for it, failures first."""
    by = {verdict: [c.name for c in columns if c.verdict == verdict] for verdict in (SCHEMA, DRIFT, WARN, UNKNOWN)}
    share = (len(by[DRIFT]) + len(by[SCHEMA])) / len(columns)
    failed, warned = [], []
    if by[SCHEMA]:
        failed.append(f"columns missing or of another type: {', '.join(by[SCHEMA])}")
    if share >= thresholds.drifted_share:
        failed.append(f"{share:.0%} of the features drifted (limit {thresholds.drifted_share:.0%})")
    if prediction.verdict in (DRIFT, SCHEMA):
        failed.append(f"prediction: {prediction.reason}")
    if by[DRIFT]:
        warned.append(f"columns that drifted: {', '.join(by[DRIFT])}")
    if by[WARN]:
        warned.append(f"columns past their warning threshold: {', '.join(by[WARN])}")
    if by[UNKNOWN]:
        warned.append(f"columns that could not be judged: {', '.join(by[UNKNOWN])}")
    if prediction.verdict in (WARN, UNKNOWN):
        warned.append(f"prediction: {prediction.reason}")
    if label and label.verdict == WARN:
        warned.append(f"label {label.name}: share of positives {label.reference:.4g} -> {label.current:.4g}")
    verdict = "FAILED" if failed else "WARNED" if warned else "PASSED"
    return verdict, tuple(failed + warned)


def _badness(column: Comparison) -> tuple[int, float]:
    """Order columns worst first: by verdict, then by how far the worst measure is beyond its limit."""
    rank = (SCHEMA, DRIFT, WARN, UNKNOWN, NONE).index(column.verdict)
    return rank, -max((measure.value / measure.limit.drift for measure in column.measures), default=0.0)
