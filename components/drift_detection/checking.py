"""Check a current dataset against its reference: every feature of the model, its scores, and the label."""

from dataclasses import dataclass

from kfp_custody.components._shared import noise
from kfp_custody.components._shared.scoring import Feature, Model, load_scorer, read_signature
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
from kfp_custody.components.drift_detection.sources import KINDS, Scores, Source, require_feature

SCHEMA = "schema"  # verdict of a column that is missing or has another type


@dataclass(frozen=True)
class Prediction:
    """How the model's scores moved. `scores` is None when there are none to compare, and `reason` says why."""

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

    def named(self, *verdicts: str) -> list[str]:
        """Return the names of the columns with one of these verdicts."""
        return [column.name for column in self.columns if column.verdict in verdicts]

    @property
    def share_drifted(self) -> float:
        """Share of the features that drifted or changed their type."""
        return len(self.named(DRIFT, SCHEMA)) / len(self.columns)


def check(reference: Source, current: Source, model: Model, label: str, thresholds: Thresholds) -> Drift:
    """Compare two datasets.

    Args:
        reference: The data that the model was trained on, or its profile.
        current: The data to judge.
        model: The model, verified; its features are what is compared. It is loaded only where both sides can be scored.
        label: Name of the label, compared when both sides have it.
        thresholds: Limits.

    Raises:
        InputRefused: the reference is not of the form that the model takes, or the model is malformed.
    """
    features = read_signature(model).features
    alpha = thresholds.alpha / (len(features) + 2)  # the features, the scores and the label share it
    columns = [_column(feature, reference, current, thresholds, alpha) for feature in features]
    if any(column.verdict == SCHEMA for column in columns):
        why = "not scored: the current dataset does not have the columns that the model takes"
        prediction = Prediction(SCHEMA, why)
    elif not reference.scored:
        prediction = Prediction(UNKNOWN, "the profile was made without the model, so it holds no scores")
    else:
        scorer = load_scorer(model)
        prediction = _prediction(reference.scores(scorer), current.scores(scorer), thresholds, alpha)
    found = _label(reference, current, label, thresholds, alpha)
    verdict, reasons = _verdict(columns, prediction, found, thresholds)
    columns.sort(key=_badness)
    return Drift(verdict, reasons, tuple(columns), prediction, found, reference.rows, current.rows, alpha)


def _column(feature: Feature, reference: Source, current: Source, thresholds: Thresholds, alpha: float) -> Comparison:
    name = feature.name
    fault = _schema_fault(feature, reference, current)
    if fault:
        return Comparison(name, feature.type, SCHEMA, fault)
    if feature.type == "number":
        numbers = reference.numbers(name), current.numbers(name)
        return compare_numbers(name, *numbers, thresholds.column, thresholds.bins, alpha)
    texts = reference.texts(name), current.texts(name)
    return compare_categories(name, *texts, thresholds.column, alpha, feature.categories)


def _schema_fault(feature: Feature, reference: Source, current: Source) -> str | None:
    """Say what is wrong with a column of the current dataset; refuse a reference that the model cannot have seen."""
    require_feature(feature, reference)
    before, after = reference.kinds[feature.name], current.kinds.get(feature.name)
    if after is None:
        return "missing from the current dataset"
    if after not in KINDS[feature.type] or (before != after and "null" not in (before, after)):
        return f"type changed from {before} to {after}"
    return None


def _prediction(before: Scores, after: Scores, thresholds: Thresholds, alpha: float) -> Prediction:
    unscored = before.not_scored + after.not_scored
    if before.numbers is None or after.numbers is None:
        return Prediction(SCHEMA, before.fault or after.fault, unscored=unscored)
    limits = {"psi": thresholds.prediction_psi}
    found = compare_numbers("score", before.numbers, after.numbers, limits, thresholds.bins, alpha)
    shares = before.positive_share, after.positive_share
    return Prediction(found.verdict, found.reason, found, *shares, unscored)


def _label(reference: Source, current: Source, label: str, thresholds: Thresholds, alpha: float) -> Label | None:
    """Compare the share of positives where both sides have a 0/1 label; a label that arrives later is no fault."""
    old, new = reference.label(label), current.label(label)
    if old is None or new is None:
        return None
    pooled = (old.positives + new.positives) / (old.rows + new.rows)
    floor = noise.share_floor(old.rows, new.rows, pooled, alpha)
    least = thresholds.label_relative_change * old.share
    delta = abs(new.share - old.share)
    verdict = WARN if delta > floor and delta >= least else UNKNOWN if floor >= max(least, 1e-12) else NONE
    return Label(label, verdict, old.share, new.share, floor)


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
