"""Which rows are attacked, how far they had to be changed, and what that means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared.columns import Columns, as_arrow, unreadable
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.scoring import LARGEST, Scorer
from kfp_custody.components.robustness_audit.constraints import Constraints, Rule
from kfp_custody.components.robustness_audit.evasion import Donors, attack
from kfp_custody.components.robustness_audit.limits import Limits
from kfp_custody.components.robustness_audit.space import OWN, Bools, Choice, Floats, Ints, Number, Points, Space

_SCANNED = 20_000  # rows of each class that are scored to find detected ones and starting points
_DONORS = 2_000
_WORST = 10
_KINDS = {"number": ("number", "boolean", "null"), "category": ("text", "null")}


@dataclass(frozen=True)
class Check:
    """A check by name, its verdict, and the reason in a sentence."""

    name: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Example:
    """A row that was changed little: how far, which numbers by how much (standard deviations), what was switched."""

    distance: float
    shifts: tuple[tuple[str, float], ...]
    switched: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """Everything that was found.

    Attributes:
        verdict: PASSED, WARNED or FAILED.
        checks: Those that were made.
        distances: Of each attacked row, in ascending order; inf where no change was found.
        worst: The rows that were changed least.
        positives: Positive rows that were scored; `detected` of them are detected.
        detected: How many positives the model detects.
        left_out: Detected rows that were not attacked because they are more than the limit.
        unscorable: Rows that no model can score.
        queries: How often the model was asked for a row.
        fixed: Features that could not be moved, with the reason.
    """

    verdict: str
    checks: tuple[Check, ...]
    distances: Floats
    worst: tuple[Example, ...]
    positives: int
    detected: int
    left_out: int
    unscorable: int
    queries: int
    fixed: Mapping[str, str]

    def still_detected(self, far: float) -> float:
        """Return the share of the attacked rows that no found change within a distance hides."""
        return float((self.distances > far).mean())

    @property
    def median(self) -> float:
        """Median distance; inf when for half of the rows no change was found."""
        return float(np.median(self.distances))


def audit(columns: Columns, scorer: Scorer, label: str, constraints: Constraints, limits: Limits) -> Audit:
    """Attack the positives that the model detects.

    Args:
        columns: The dataset that the model was trained on; standard deviations and boxes are taken from it.
        scorer: The model.
        label: Name of the 0/1 label.
        constraints: What may be changed.
        limits: How many rows, how long, and what is enough.

    Raises:
        InputRefused: the dataset lacks the label or a feature, or has no positive row.
        Misconfigured: the label is not the model's; the constraints do not fit the model, or leave nothing to change.
    """
    if label != scorer.signature.label:
        raise Misconfigured(
            "The label is not the one that the model was trained to detect.",
            evidence=f"label {label!r}, the model's is {scorer.signature.label!r}",
            remedy="Name the model's label.",
        )
    rules = constraints.rules(scorer.features)
    random = np.random.default_rng(limits.seed)
    labels = _labels(columns, label)
    chosen = np.sort(np.concatenate([_sample(np.flatnonzero(labels == value), random) for value in (0.0, 1.0)]))
    held, numbers, fixed = _read(columns, scorer, rules, chosen)
    usable = _usable(held)
    held = {name: values[usable] for name, values in held.items()}
    positive = labels[chosen][usable] == 1.0
    detected = np.zeros(positive.size, dtype=bool)
    if positive.size:
        detected = scorer.score(held) >= scorer.threshold
    choices = _choices(scorer, rules, constraints)
    targets = np.flatnonzero(positive & detected)
    attacked = np.sort(random.permutation(targets)[: limits.rows])
    starts = np.sort(random.permutation(np.flatnonzero(~detected))[:_DONORS])
    counts = int(positive.sum()), targets.size, targets.size - attacked.size, int((~usable).sum())
    if not attacked.size or not starts.size or not (numbers or choices):
        return Audit("FAILED", (_not_judged(counts, starts, attacked),), np.empty(0), (), *counts, 0, fixed)
    space = Space(scorer, _rows(held, attacked), numbers, choices)
    given = _rows(held, starts)
    points, distances = attack(
        space, Donors(space.numbers_of(given), space.codes_of(given)), limits.iterations, limits.seed
    )
    worst = tuple(_example(space, points, distances, row) for row in np.argsort(distances, kind="stable")[:_WORST])
    worst = tuple(example for example in worst if np.isfinite(example.distance))
    found = np.sort(distances)
    checks = _checks(found, limits)
    verdicts = {check.verdict for check in checks}
    verdict = "FAILED" if "FAILED" in verdicts else "WARNED" if "WARNED" in verdicts else "PASSED"
    return Audit(verdict, checks, found, worst, *counts, space.queries, fixed)


def _labels(columns: Columns, label: str) -> Floats:
    kind = columns.kinds.get(label)
    if kind not in ("number", "boolean"):
        raise unreadable(columns.role, f"label {label!r} is {kind or 'missing'}, neither a number nor a boolean")
    labels = columns.numbers(label)
    if not np.isin(labels[~np.isnan(labels)], (0.0, 1.0)).all():
        raise unreadable(columns.role, f"label {label!r} holds something else than 0 and 1")
    if not (labels == 1.0).any():
        raise InputRefused(
            "There is no positive row to attack.",
            evidence=f"label {label!r}: 0 of {labels.size} rows are 1",
            remedy="Name the label that the model was trained to detect, or give a dataset with positive rows.",
        )
    return labels


def _sample(rows: Ints, random: np.random.Generator) -> Ints:
    return rows if rows.size <= _SCANNED else random.choice(rows, _SCANNED, replace=False)


def _read(
    columns: Columns, scorer: Scorer, rules: Mapping[str, Rule], chosen: Ints
) -> tuple[dict[str, NDArray[Any]], tuple[Number, ...], dict[str, str]]:
    """Return the chosen rows of every feature, the numbers that may change, and why the others may not."""
    held: dict[str, NDArray[Any]] = {}
    numbers: list[Number] = []
    fixed: dict[str, str] = {}
    for feature in scorer.features:
        name, kind = feature.name, columns.kinds.get(feature.name)
        if kind not in _KINDS[feature.type]:
            raise unreadable(columns.role, f"feature {name!r} of the model is {kind or 'missing'}, no {feature.type}")
        rule = rules.get(name)
        if rule and rule.change == "immutable":
            fixed[name] = "immutable"
        if feature.type == "category":
            held[name] = _texts(columns, name, chosen)
            continue
        values = columns.numbers(name)
        held[name] = values[chosen]
        if rule and rule.change == "free":
            number = _number(name, values, rule, boolean=kind == "boolean")
            if number:
                numbers.append(number)
            else:
                fixed[name] = "it does not vary in the training data, so no distance is known"
    return held, tuple(numbers), fixed


def _number(name: str, values: Floats, rule: Rule, *, boolean: bool) -> Number | None:
    values = values[np.abs(values) <= LARGEST]  # neither missing nor infinite
    deviation = float(values.std()) if values.size else 0.0
    if not deviation > 0.0:
        return None
    whole = bool((values == np.rint(values)).all()) if rule.integer is None else rule.integer
    low, high = (float(values.min()), float(values.max())) if rule.box is None else rule.box
    return Number(name, deviation, low, high, whole or boolean)


def _texts(columns: Columns, name: str, chosen: Ints) -> NDArray[Any]:
    texts: list[str | None] = []
    place = 0
    for column in columns.texts(name):
        start, end = np.searchsorted(chosen, (place, place + len(column)))
        texts += column.take(as_arrow(chosen[start:end] - place)).to_pylist()
        place += len(column)
    return np.array(texts, dtype=object)


def _usable(held: Mapping[str, NDArray[Any]]) -> Bools:
    """Say which rows a model can score: no number is infinite or beyond single precision."""
    usable = np.ones(len(next(iter(held.values()))), dtype=bool)
    for values in held.values():
        if values.dtype != object:
            usable &= ~(np.abs(values) > LARGEST)
    return usable


def _rows(held: Mapping[str, NDArray[Any]], rows: Ints) -> dict[str, NDArray[Any]]:
    return {name: values[rows] for name, values in held.items()}


def _choices(scorer: Scorer, rules: Mapping[str, Rule], constraints: Constraints) -> tuple[Choice, ...]:
    found: list[Choice] = []
    for feature in scorer.features:
        rule = rules.get(feature.name)
        if rule and rule.change == "switch":
            known = tuple((category,) for category in feature.categories)
            found.append(Choice(feature.name, (feature.name,), known, rule.cost))
    for group in constraints.one_hot:
        if group.rule.change == "switch":
            size = len(group.columns)
            options = tuple(tuple(float(place == one) for place in range(size)) for one in range(size))
            found.append(Choice(" / ".join(group.columns), group.columns, options, group.rule.cost))
    return tuple(found)


def _not_judged(counts: tuple[int, int, int, int], starts: Ints, attacked: Ints) -> Check:
    if not attacked.size:
        why = f"the model detects none of {counts[0]} positive rows, so there is nothing that an attack could hide"
    elif not starts.size:
        why = "the model detects every row that was scored, so there is nothing that a row could be made to look like"
    else:
        why = "no feature that may change varies in the training data"
    return Check("attackable", "FAILED", f"Robustness cannot be judged: {why}.")


def _checks(distances: Floats, limits: Limits) -> tuple[Check, ...]:
    count = distances.size
    enough = "PASSED" if count >= limits.least_rows else "WARNED"
    checks = [Check("rows", enough, f"{count} rows were attacked; {limits.least_rows} are enough")]
    for far, limit in sorted(limits.still_detected.items()):
        share = float((distances > far).mean())
        reason = f"{share:.1%} are still detected; warns below {limit.warn:.0%}, fails below {limit.fail:.0%}"
        checks.append(Check(f"still_detected:{far:g}", limit.verdict(share), reason))
    median, limit = float(np.median(distances)), limits.median_distance
    reason = f"{median:.3g} standard deviations; warns below {limit.warn:g}, fails below {limit.fail:g}"
    return (*checks, Check("median_distance", limit.verdict(median), reason))


def _example(space: Space, points: Points, distances: Floats, row: int) -> Example:
    shifts = space.shifts(points)[row]
    order = [place for place in np.argsort(-np.abs(shifts), kind="stable") if shifts[place] != 0.0]
    return Example(
        float(distances[row]),
        tuple((space.numbers[place].name, float(f"{shifts[place]:.2g}")) for place in order),
        tuple(choice.name for choice, code in zip(space.choices, points.codes[row], strict=True) if code != OWN),
    )
