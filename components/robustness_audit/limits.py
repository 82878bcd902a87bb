"""The limits file, read strictly: an unknown key, a missing one or a number out of range is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.named_files import read_named, whole

DISTANCES = (0.25, 0.5, 1.0, 2.0)  # standard deviations at which the curve is told


@dataclass(frozen=True)
class Limit:
    """Values below which a measure warns and fails."""

    warn: float
    fail: float

    def verdict(self, value: float) -> str:
        """Return PASSED, WARNED or FAILED."""
        return "FAILED" if value < self.fail else "WARNED" if value < self.warn else "PASSED"


@dataclass(frozen=True)
class Limits:
    """A limits file that was read; the fields are those of the file."""

    source: str
    sha256: str
    seed: int
    rows: int
    least_rows: int
    iterations: int
    still_detected: Mapping[float, Limit]
    median_distance: Limit


def load_limits(name_or_path: str) -> Limits:
    """Read limits that ship with the room by name, or a file by path (anything with a slash or a dot).

    Raises:
        Misconfigured: no such name or file, or the file is not exactly of the documented form.
    """
    try:
        data = read_named("kfp_custody.components.robustness_audit.thresholds", name_or_path)
        return _limits(parse_yaml(data), name_or_path, sha256_bytes(data))
    except DocumentFault as error:
        raise _refused(name_or_path, str(error)) from error


def _limits(document: Any, source: str, sha256: str) -> Limits:
    keys = ("version", "seed", "rows", "least_rows", "iterations", "still_detected", "median_distance")
    root = require_keys(document, "the limits file", keys)
    if root["version"] != 1 or isinstance(root["version"], bool):
        raise DocumentFault(f"version {root['version']!r} is not 1")
    shares = root["still_detected"]
    if not isinstance(shares, dict) or set(shares) != set(DISTANCES):
        raise DocumentFault(f"still_detected has other keys than {', '.join(f'{far:g}' for far in DISTANCES)}")
    return Limits(
        source=source,
        sha256=sha256,
        seed=whole(root["seed"], "seed", 0, 2**63 - 1),
        rows=whole(root["rows"], "rows", 1, 5_000),
        least_rows=whole(root["least_rows"], "least_rows", 1, 5_000),
        iterations=whole(root["iterations"], "iterations", 1, 200),
        still_detected={float(far): _limit(entry, f"still_detected.{far:g}", 1.0) for far, entry in shares.items()},
        median_distance=_limit(root["median_distance"], "median_distance", 100.0),
    )


def _limit(value: Any, where: str, most: float) -> Limit:
    entry = require_keys(value, where, ("warn", "fail"))
    warn, fail = (_number(entry[name], f"{where}.{name}", most) for name in ("warn", "fail"))
    if fail > warn:
        raise DocumentFault(f"{where} fails below {fail:g}, above the {warn:g} where it warns")
    return Limit(warn, fail)


def _number(value: Any, where: str, most: float) -> float:
    """Return a number in [0, most]; NaN fails both comparisons."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise DocumentFault(f"{where} is no number from 0 to {most:g}")
    return float(value)


def _refused(source: str, why: str) -> Misconfigured:
    return Misconfigured(
        "The limits of the audit were not accepted.",
        evidence=f"{source}: {why}",
        remedy="Name shipped limits, or correct the file (components/robustness_audit/thresholds/default.yaml).",
    )
