"""What a dataset looks like without its rows: quantiles and counts, column by column.

A profile may leave the place where the data may not: it holds no row, and nothing that fewer than SMALLEST_GROUP rows
have in common: a quantile stands for at least that many, and a category that fewer hold is counted and not named.

Comparing with the quantiles in the place of the values moves a Kolmogorov-Smirnov distance by at most half a quantile's
share and that of one row: the empirical distribution of the mid-quantiles leaves that of the values by no more. Of a
column of very many rows that is 1 / (2 * 4096).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from kfp_custody.components._shared.documents import DocumentFault, canonical_json, parse_json, require_keys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "profile.json"
VERSION = 2
SMALLEST_GROUP = 5
MOST_QUANTILES = 4096
MOST_CATEGORIES = 50_000
OTHER_TYPES = ("time", "null", "other")
MAX_PROFILE = 64 * 1024 * 1024


@dataclass(frozen=True)
class NumberProfile:
    """A column of numbers: how many rows are missing or infinite, and of the rest the moments and mid-quantiles.

    `quantiles` are in ascending order and stand for equal shares of the finite rows; there are none where there are
    fewer rows than the smallest group, and then no moments either. A column of booleans counts true as 1.
    """

    missing: int
    infinite: int
    finite: int
    mean: float | None
    std: float | None
    quantiles: tuple[float, ...]
    boolean: bool = False


@dataclass(frozen=True)
class CategoryProfile:
    """A column of texts: rows by category, and how many other categories there are and how many rows they hold."""

    missing: int
    counts: Mapping[str, int]
    other_categories: int
    other_rows: int


@dataclass(frozen=True)
class OtherProfile:
    """A column of which only the missing rows are counted: a time, one without a type (null), or any other."""

    missing: int
    type: str = "other"


ColumnProfile = NumberProfile | CategoryProfile | OtherProfile
_KINDS: dict[str, type[ColumnProfile]] = {"number": NumberProfile, "category": CategoryProfile, "other": OtherProfile}


@dataclass(frozen=True)
class ScoresProfile:
    """A model's probabilities on a sample of the rows: how many it could not score, and the share that is positive."""

    scores: NumberProfile
    positive_share: float
    not_scored: int


@dataclass(frozen=True)
class LabelProfile:
    """The model's label: how many rows have it, and of how many it is 1."""

    name: str
    rows: int
    positives: int


@dataclass(frozen=True)
class Profile:
    """The columns of a dataset of `rows` rows, by name; scores and label when it was made for a model."""

    rows: int
    columns: Mapping[str, ColumnProfile]
    scores: ScoresProfile | None = None
    label: LabelProfile | None = None

    def json(self) -> bytes:
        """Return the profile as canonical JSON."""
        names = {kind: name for name, kind in _KINDS.items()}
        columns = {name: {"kind": names[type(found)], **_plain(found)} for name, found in self.columns.items()}
        scores = self.scores and {**vars(self.scores), "scores": _plain(self.scores.scores)}
        return canonical_json(
            {
                "version": VERSION,
                "rows": self.rows,
                "smallest_group": SMALLEST_GROUP,
                "columns": columns,
                "scores": scores,
                "label": self.label and dict(vars(self.label)),
            },
        )


def read_profile(data: bytes) -> Profile:
    """Read a profile strictly.

    Raises:
        DocumentFault: it is not of the documented form, or its counts do not add up to its rows.
    """
    document = require_keys(
        parse_json(data, MAX_PROFILE),
        "the profile",
        ("version", "rows", "smallest_group", "columns", "scores", "label"),
    )
    if document["version"] != VERSION or document["smallest_group"] != SMALLEST_GROUP:
        raise DocumentFault("it is of another version, or of another smallest group")
    rows = _count(document["rows"], "rows")
    if not isinstance(document["columns"], dict) or not document["columns"]:
        raise DocumentFault("its columns are no object")
    columns = {name: _column(name, found, rows) for name, found in document["columns"].items()}
    return Profile(rows, columns, _scores(document["scores"], rows), _label(document["label"], rows))


def profile_numbers(values: "NDArray[np.float64]", *, boolean: bool = False) -> NumberProfile:
    """Profile a column of numbers.

    Args:
        values: Shape (rows,), NaN when missing.
        boolean: Whether they are booleans.
    """
    import numpy as np

    missing, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    finite = np.sort(values[np.isfinite(values)])
    count = min(MOST_QUANTILES, finite.size // SMALLEST_GROUP)
    if not count:
        return NumberProfile(missing, infinite, finite.size, None, None, (), boolean)
    ranks = ((2 * np.arange(count, dtype=np.int64) + 1) * finite.size) // (2 * count)
    with np.errstate(over="ignore", invalid="ignore"):  # near the end of the range there are no moments
        mean, std = float(finite.mean()), float(finite.std())
    known = bool(np.isfinite(mean) and np.isfinite(std))
    quantiles = tuple(finite[ranks].tolist())
    if not known:
        return NumberProfile(missing, infinite, finite.size, None, None, quantiles, boolean)
    return NumberProfile(missing, infinite, finite.size, mean, std, quantiles, boolean)


def profile_categories(counts: Mapping[str, int], missing: int) -> CategoryProfile:
    """Profile a column of texts.

    Args:
        counts: Rows by category, of all categories.
        missing: Rows without a value.
    """
    large = sorted((name for name, rows in counts.items() if rows >= SMALLEST_GROUP), key=lambda n: (-counts[n], n))
    named = {name: counts[name] for name in large[:MOST_CATEGORIES]}
    return CategoryProfile(missing, named, len(counts) - len(named), sum(counts.values()) - sum(named.values()))


def _plain(found: ColumnProfile) -> dict[str, Any]:
    fields: dict[str, Any] = dict(vars(found))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _column(name: str, found: Any, rows: int) -> ColumnProfile:
    kind = found.get("kind") if isinstance(found, dict) else None
    if kind not in _KINDS:
        raise DocumentFault(f"the column {name!a} is of no known kind")
    fields = [field for field in _KINDS[kind].__dataclass_fields__]
    require_keys(found, f"the column {name!a}", ("kind", *fields))
    missing = _count(found["missing"], name)
    if kind == "other":
        if found["type"] not in OTHER_TYPES:
            raise DocumentFault(f"the column {name!a} is of no known type")
        return OtherProfile(missing, found["type"])
    column: NumberProfile | CategoryProfile = (
        _numbers(name, found, missing) if kind == "number" else _categories(name, found, missing)
    )
    held = (
        column.infinite + column.finite
        if isinstance(column, NumberProfile)
        else sum(column.counts.values()) + column.other_rows
    )
    if missing + held != rows:
        raise DocumentFault(f"the rows of the column {name!a} are not those of the dataset")
    return column


def _numbers(name: str, found: Mapping[str, Any], missing: int) -> NumberProfile:
    finite, quantiles = _count(found["finite"], name), found["quantiles"]
    moments = found["mean"], found["std"]
    if not isinstance(quantiles, list) or not all(type(value) is float for value in quantiles):
        raise DocumentFault(f"the quantiles of the column {name!a} are no list of numbers")
    if len(quantiles) != min(MOST_QUANTILES, finite // SMALLEST_GROUP):
        raise DocumentFault(f"the column {name!a} has {len(quantiles)} quantiles for {finite} rows")
    if any(a > b for a, b in zip(quantiles, quantiles[1:], strict=False)):
        raise DocumentFault(f"the quantiles of the column {name!a} are not in order")
    if not (all(type(value) is float for value in moments) or moments == (None, None)):
        raise DocumentFault(f"the moments of the column {name!a} are no numbers")
    if type(found["boolean"]) is not bool:
        raise DocumentFault(f"the column {name!a} does not say whether it is boolean")
    mean, std = cast("tuple[float | None, float | None]", moments)
    infinite = _count(found["infinite"], name)
    return NumberProfile(missing, infinite, finite, mean, std, tuple(quantiles), found["boolean"])


def _categories(name: str, found: Mapping[str, Any], missing: int) -> CategoryProfile:
    counts = found["counts"]
    if not isinstance(counts, dict):
        raise DocumentFault(f"the counts of the column {name!a} are no object")
    if any(_count(rows, name) < SMALLEST_GROUP for rows in counts.values()):
        raise DocumentFault(f"the column {name!a} names a category of fewer than {SMALLEST_GROUP} rows")
    return CategoryProfile(missing, counts, _count(found["other_categories"], name), _count(found["other_rows"], name))


def _scores(found: Any, rows: int) -> ScoresProfile | None:
    if found is None:
        return None
    require_keys(found, "scores", ("scores", "positive_share", "not_scored"))
    fields = NumberProfile.__dataclass_fields__
    inner = require_keys(found["scores"], "scores.scores", tuple(fields))
    scores = _numbers("scores", inner, _count(inner["missing"], "scores"))
    share, not_scored = found["positive_share"], _count(found["not_scored"], "scores")
    if scores.missing or scores.infinite or not 0 < scores.finite <= rows - not_scored:
        raise DocumentFault("the rows of the scores are not those of the dataset")
    if type(share) is not float or not 0 <= share <= 1 or any(not 0 <= value <= 1 for value in scores.quantiles):
        raise DocumentFault("the scores are no probabilities")
    return ScoresProfile(scores, share, not_scored)


def _label(found: Any, rows: int) -> LabelProfile | None:
    if found is None:
        return None
    require_keys(found, "label", ("name", "rows", "positives"))
    label = LabelProfile(found["name"], _count(found["rows"], "label"), _count(found["positives"], "label"))
    if not isinstance(label.name, str) or not 0 < label.rows <= rows or label.positives > label.rows:
        raise DocumentFault("the label has no name, or its counts do not add up")
    return label


def _count(value: Any, name: str) -> int:
    if type(value) is not int or value < 0:
        raise DocumentFault(f"a count of {name!a} is no whole number")
    return value
