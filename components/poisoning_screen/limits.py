"""The limits file, read strictly: an unknown key, a missing one or a number out of range is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.named_files import above_zero, read_named, whole

PASSED, WARNED, FAILED, UNKNOWN = "PASSED", "WARNED", "FAILED", "UNKNOWN"
_FIELDS = {
    "label_errors": ("engine", "folds", "confidence", "share"),
    "trusted_disagreement": ("result", "confidence", "alpha", "overconfidence"),
    "base_rate": ("result", "z"),
    "near_duplicates": ("result", "distance", "rows", "columns"),
    "repeated_values": ("result", "repeats", "lift", "alpha"),
    "rules": ("result", "rows", "excess", "alpha"),
}
ENGINES = ("own", "cleanlab")
CHECKS = tuple(_FIELDS)
"""Everything that is checked, by the names that evidence has for it."""


@dataclass(frozen=True)
class LabelErrors:
    """See the file; `warn` and `fail` are its `share`."""

    engine: str
    folds: int
    confidence: float
    warn: float
    fail: float


@dataclass(frozen=True)
class Disagreement:
    """See the file."""

    result: str
    confidence: float
    alpha: float
    overconfidence: float


@dataclass(frozen=True)
class BaseRate:
    """See the file."""

    result: str
    z: float


@dataclass(frozen=True)
class NearDuplicates:
    """See the file."""

    result: str
    distance: float
    rows: int
    columns: int


@dataclass(frozen=True)
class RepeatedValues:
    """See the file."""

    result: str
    repeats: int
    lift: float
    alpha: float


@dataclass(frozen=True)
class Rules:
    """See the file."""

    result: str
    rows: int
    excess: float
    alpha: float


@dataclass(frozen=True)
class Limits:
    """A limits file that was read; the fields are those of the file."""

    source: str
    sha256: str
    document: Mapping[str, Any]
    rows: int
    suspects: int
    must_judge: tuple[str, ...]
    label_errors: LabelErrors
    trusted_disagreement: Disagreement
    base_rate: BaseRate
    near_duplicates: NearDuplicates
    repeated_values: RepeatedValues
    rules: Rules


def load_limits(name_or_path: str) -> Limits:
    """Read limits that ship with the room by name, or a file by path (anything with a slash or a dot).

    Raises:
        Misconfigured: no such name or file, or the file is not exactly of the documented form.
    """
    try:
        data = read_named("kfp_custody.components.poisoning_screen.thresholds", name_or_path)
        return _limits(parse_yaml(data), name_or_path, sha256_bytes(data))
    except DocumentFault as error:
        raise _refused(name_or_path, str(error)) from error


def _limits(document: Any, source: str, sha256: str) -> Limits:
    root = require_keys(document, "the limits file", ("version", "rows", "suspects", "must_judge", *CHECKS))
    if type(root["version"]) is not int or root["version"] != 1:
        raise DocumentFault("its version is not 1")
    names = root["must_judge"]
    if not isinstance(names, list) or any(name not in CHECKS for name in names):
        raise DocumentFault(f"must_judge is no list of {', '.join(CHECKS)}")
    labels, trusted, rate, near, repeated, rules = (_entry(root, check) for check in CHECKS)
    if labels["engine"] not in ENGINES:
        raise DocumentFault(f"label_errors.engine is none of {', '.join(ENGINES)}")
    share = require_keys(labels["share"], "label_errors.share", ("warn", "fail"))
    warn, fail = (above_zero(share[name], f"label_errors.share.{name}", 1.0) for name in ("warn", "fail"))
    if warn > fail:
        raise DocumentFault(f"label_errors.share warns at {warn:g}, above the {fail:g} where it fails")
    return Limits(
        source=source,
        sha256=sha256,
        document=root,
        rows=whole(root["rows"], "rows", 1000, 5_000_000),
        suspects=whole(root["suspects"], "suspects", 1, 1_000_000),
        must_judge=tuple(names),
        label_errors=LabelErrors(
            labels["engine"],
            whole(labels["folds"], "label_errors.folds", 2, 20),
            above_zero(labels["confidence"], "label_errors.confidence", 1.0),
            warn,
            fail,
        ),
        trusted_disagreement=Disagreement(
            trusted["result"],
            above_zero(trusted["confidence"], "trusted_disagreement.confidence", 1.0),
            above_zero(trusted["alpha"], "trusted_disagreement.alpha", 0.05),
            above_zero(trusted["overconfidence"], "trusted_disagreement.overconfidence", 100.0),
        ),
        base_rate=BaseRate(rate["result"], above_zero(rate["z"], "base_rate.z", 1000.0)),
        near_duplicates=NearDuplicates(
            near["result"],
            above_zero(near["distance"], "near_duplicates.distance", 1.0),
            whole(near["rows"], "near_duplicates.rows", 2),
            whole(near["columns"], "near_duplicates.columns", 1, 1000),
        ),
        repeated_values=RepeatedValues(
            repeated["result"],
            whole(repeated["repeats"], "repeated_values.repeats", 2),
            above_zero(repeated["lift"], "repeated_values.lift", 1.0),
            above_zero(repeated["alpha"], "repeated_values.alpha", 0.05),
        ),
        rules=Rules(
            rules["result"],
            whole(rules["rows"], "rules.rows", 2),
            above_zero(rules["excess"], "rules.excess", 1.0),
            above_zero(rules["alpha"], "rules.alpha", 0.05),
        ),
    )


def _entry(root: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    entry = require_keys(root[name], name, _FIELDS[name])
    if "result" in entry and entry["result"] not in (WARNED, FAILED):
        raise DocumentFault(f"{name}.result is neither WARNED nor FAILED")
    return entry


def _refused(source: str, why: str) -> Misconfigured:
    return Misconfigured(
        "The limits for screening were not accepted.",
        evidence=f"{source!a}: {why}",
        remedy="Name shipped limits, or correct the file (components/poisoning_screen/thresholds/default.yaml).",
    )
