"""The limits file, read strictly: an unknown key, a missing one or a number out of range is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.named_files import above_zero, read_named, whole

PASSED, WARNED, FAILED = "PASSED", "WARNED", "FAILED"
MEASURES = (
    *("unreadable", "latency_p99", "error_ratio", "refused_ratio"),
    *("prediction_psi", "feature_psi", "feature_null_share"),
)
CHECKS = (
    *("requests", "latency", "errors", "refused", "confidence", "prediction", "features"),
    *("near_duplicates", "budget", "out_of_distribution", "unauthorised", "probing"),
)
"""Everything that is checked, by the names that evidence has for it."""
_MOST = 1e6


@dataclass(frozen=True)
class Limit:
    """Values from which a measure warns and fails."""

    warn: float
    fail: float

    def verdict(self, value: float) -> str:
        """Return what a value comes to."""
        return FAILED if value >= self.fail else WARNED if value >= self.warn else PASSED


@dataclass(frozen=True)
class NearDuplicates:
    """See the file; all are limits for one client."""

    result: str
    history: int
    quantile: float
    alpha: float
    share: float
    queries: int


@dataclass(frozen=True)
class Outliers:
    """See the file; all are limits for one client."""

    result: str
    tail: float
    alpha: float
    share: float
    queries: int


@dataclass(frozen=True)
class Count:
    """How many of something one client may have, and what more is."""

    result: str
    most: int


@dataclass(frozen=True)
class Limits:
    """A limits file that was read; the fields are those of the file."""

    source: str
    sha256: str
    document: Mapping[str, Any]
    alpha: float
    must_judge: tuple[str, ...]
    measures: Mapping[str, Limit]
    drifted_share: float
    near_duplicates: NearDuplicates
    budget: Count
    out_of_distribution: Outliers
    unauthorised: Count
    probing: Count


def load_limits(name_or_path: str) -> Limits:
    """Read limits that ship with the room by name, or a file by path (anything with a slash or a dot).

    Raises:
        Misconfigured: no such name or file, or the file is not exactly of the documented form.
    """
    try:
        data = read_named("kfp_custody.components.inference_monitoring.thresholds", name_or_path)
        return _limits(parse_yaml(data), name_or_path, sha256_bytes(data))
    except DocumentFault as error:
        raise _refused(name_or_path, str(error)) from error


def _limits(document: Any, source: str, sha256: str) -> Limits:
    root = require_keys(
        document, "the limits file", ("version", "alpha", "must_judge", *MEASURES, "drifted_share", "clients")
    )
    if type(root["version"]) is not int or root["version"] != 1:
        raise DocumentFault("its version is not 1")
    names = root["must_judge"]
    if not isinstance(names, list) or any(name not in CHECKS for name in names):
        raise DocumentFault(f"must_judge is no list of {', '.join(CHECKS)}")
    clients = require_keys(root["clients"], "clients", CHECKS[7:])
    near = _entry(clients, "near_duplicates", ("history", "quantile", "alpha", "share", "queries"))
    far = _entry(clients, "out_of_distribution", ("tail", "alpha", "share", "queries"))
    return Limits(
        source=source,
        sha256=sha256,
        document=root,
        alpha=above_zero(root["alpha"], "alpha", 0.5),
        must_judge=tuple(names),
        measures={name: _limit(root[name], name) for name in MEASURES},
        drifted_share=above_zero(root["drifted_share"], "drifted_share", 1.0),
        near_duplicates=NearDuplicates(
            near["result"],
            whole(near["history"], "near_duplicates.history", 10, 5000),
            above_zero(near["quantile"], "near_duplicates.quantile", 0.1),
            above_zero(near["alpha"], "near_duplicates.alpha", 0.01),
            above_zero(near["share"], "near_duplicates.share", 1.0),
            whole(near["queries"], "near_duplicates.queries", 2),
        ),
        budget=_count(clients, "budget", "rows_per_hour"),
        out_of_distribution=Outliers(
            far["result"],
            above_zero(far["tail"], "out_of_distribution.tail", 0.1),
            above_zero(far["alpha"], "out_of_distribution.alpha", 0.01),
            above_zero(far["share"], "out_of_distribution.share", 1.0),
            whole(far["queries"], "out_of_distribution.queries", 2),
        ),
        unauthorised=_count(clients, "unauthorised", "attempts"),
        probing=_count(clients, "probing", "attempts"),
    )


def _entry(clients: Mapping[str, Any], name: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
    entry = require_keys(clients[name], f"clients.{name}", ("result", *keys))
    if entry["result"] not in (WARNED, FAILED):
        raise DocumentFault(f"clients.{name}.result is neither WARNED nor FAILED")
    return entry


def _count(clients: Mapping[str, Any], name: str, key: str) -> Count:
    entry = _entry(clients, name, (key,))
    return Count(entry["result"], whole(entry[key], f"{name}.{key}", 1))


def _limit(value: Any, where: str) -> Limit:
    entry = require_keys(value, where, ("warn", "fail"))
    limit = Limit(above_zero(entry["warn"], f"{where}.warn", _MOST), above_zero(entry["fail"], f"{where}.fail", _MOST))
    if limit.warn > limit.fail:
        raise DocumentFault(f"{where} warns at {limit.warn:g}, above the {limit.fail:g} where it fails")
    return limit


def _refused(source: str, why: str) -> Misconfigured:
    return Misconfigured(
        "The limits for monitoring were not accepted.",
        evidence=f"{source!a}: {why}",
        remedy="Name shipped limits, or correct the file (components/inference_monitoring/thresholds/default.yaml).",
    )
