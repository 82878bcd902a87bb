"""Where a side of the check comes from: a dataset that is read, or the profile that was made of one."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared.columns import Columns, as_arrow, count_texts, sample_rows, unreadable
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.profiles import CategoryProfile, NumberProfile, OtherProfile, Profile
from kfp_custody.components._shared.scoring import LARGEST, Feature, Scorer
from kfp_custody.components.drift_detection.sides import (
    Numbers,
    Side,
    Texts,
    numbers_of,
    numbers_of_profile,
    texts_of_profile,
)

KINDS = {"number": ("number", "boolean", "null"), "category": ("text", "null")}  # of columns that a feature may have


@dataclass(frozen=True)
class Scores:
    """A model's probabilities on rows of one side; without numbers, `fault` says why there are none."""

    numbers: Numbers | None = None
    positive_share: float | None = None
    not_scored: int = 0
    fault: str = ""


@dataclass(frozen=True)
class Positives:
    """Rows that have a 0/1 label, and those of them that are 1."""

    rows: int
    positives: int

    @property
    def share(self) -> float:
        """Share of positives."""
        return self.positives / self.rows


class Source(Protocol):
    """What can be compared."""

    @property
    def role(self) -> str:
        """What messages call it."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each column: number, boolean, text, time, null or other."""

    def numbers(self, name: str) -> Numbers:
        """Return a column of numbers."""

    def texts(self, name: str) -> Texts:
        """Return a column of categories."""

    @property
    def scored(self) -> bool:
        """Whether the model's scores can be known."""

    def scores(self, scorer: Scorer) -> Scores:
        """Return the model's scores."""

    def label(self, name: str) -> Positives | None:
        """Return the share of positives; None when there is no 0/1 column of that name."""


@dataclass(frozen=True)
class Dataset:
    """A dataset, read column by column; of each feature a sample stays in memory, for the model to score."""

    columns: Columns
    scored_rows: int
    scored: bool = True
    _sample: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def role(self) -> str:
        """What messages call it."""
        return self.columns.role

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.columns.rows

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each column."""
        return self.columns.kinds

    def numbers(self, name: str) -> Numbers:
        """Read a column of numbers."""
        values = self.columns.numbers(name)
        self._sample[name] = values[self._chosen]
        return numbers_of(values)

    def texts(self, name: str) -> Texts:
        """Read a column of categories."""
        counts: Counter[str] = Counter()
        sample: list[str | None] = []
        place = missing = 0
        for column in self.columns.texts(name):
            counts.update(count_texts(column))
            missing += column.null_count
            start, end = np.searchsorted(self._chosen, (place, place + len(column)))
            here = self._chosen[start:end] - place
            sample += column.take(as_arrow(here)).to_pylist()
            place += len(column)
        self._sample[name] = np.array(sample, dtype=object)
        return Texts(Side(place, missing), counts)

    @cached_property
    def _chosen(self) -> NDArray[np.int64]:
        return sample_rows(self.rows, self.scored_rows)

    def scores(self, scorer: Scorer) -> Scores:
        """Score a sample of the rows; those with a number that no model takes are left out and counted."""
        for feature in scorer.features:
            if feature.name not in self._sample:
                (self.numbers if feature.type == "number" else self.texts)(feature.name)
        sample = {feature.name: self._sample[feature.name] for feature in scorer.features}
        usable = np.ones(len(next(iter(sample.values()))), dtype=bool)
        for feature in scorer.features:
            if feature.type == "number":
                usable &= ~(np.abs(sample[feature.name]) > LARGEST)
        not_scored = int((~usable).sum())
        if not usable.any():
            return Scores(not_scored=not_scored, fault=f"no row of the {self.role} sample can be scored")
        try:
            scores = scorer.score({name: values[usable] for name, values in sample.items()})
        except InputRefused as refusal:
            return Scores(not_scored=not_scored, fault=f"the {self.role} sample: {refusal.evidence}")
        return Scores(numbers_of(scores.copy()), float((scores >= scorer.threshold).mean()), not_scored)

    def label(self, name: str) -> Positives | None:
        """Count the positives of a 0/1 column."""
        if self.kinds.get(name) not in ("number", "boolean"):
            return None
        values = self.columns.numbers(name)
        values = values[~np.isnan(values)]
        if not values.size or not np.isin(values, (0.0, 1.0)).all():
            return None
        return Positives(values.size, int(values.sum()))


@dataclass(frozen=True)
class Profiled:
    """The profile of the data that the model was trained on."""

    profile: Profile
    role: str = "reference"

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.profile.rows

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each column."""
        return {name: self._kind(name) for name in self.profile.columns}

    def numbers(self, name: str) -> Numbers:
        """Return the quantiles of a column of numbers."""
        found = self.profile.columns[name]
        if isinstance(found, NumberProfile):
            return numbers_of_profile(found)
        return Numbers(Side(self.rows, found.missing), np.empty(0), (None, None))  # a column without a type

    def texts(self, name: str) -> Texts:
        """Return the categories of a column that are named."""
        found = self.profile.columns[name]
        if isinstance(found, CategoryProfile):
            return texts_of_profile(found)
        return Texts(Side(self.rows, found.missing))

    @property
    def scored(self) -> bool:
        """Whether it was made for a model."""
        return self.profile.scores is not None

    def scores(self, scorer: Scorer) -> Scores:  # noqa: ARG002  (its evidence says which model scored)
        """Return the scores that the model gave when the profile was made."""
        found = self.profile.scores
        assert found is not None, "not scored"  # noqa: S101  (for mypy: a bug of ours)
        return Scores(numbers_of_profile(found.scores), found.positive_share, found.not_scored)

    def label(self, name: str) -> Positives | None:
        """Return what was counted of the model's label."""
        found = self.profile.label
        return Positives(found.rows, found.positives) if found and found.name == name else None

    def _kind(self, name: str) -> str:
        found = self.profile.columns[name]
        if isinstance(found, OtherProfile):
            return found.type
        return "text" if isinstance(found, CategoryProfile) else "boolean" if found.boolean else "number"


def require_feature(feature: Feature, reference: Source) -> None:
    """Refuse a reference that the model cannot have been trained on.

    Raises:
        InputRefused: it lacks the feature, or has it in another type.
    """
    kind = reference.kinds.get(feature.name)
    if kind not in KINDS[feature.type]:
        raise unreadable(
            reference.role, f"feature {feature.name!r} of the model is {kind or 'missing'}, not a {feature.type}"
        )
