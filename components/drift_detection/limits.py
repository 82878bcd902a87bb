"""The thresholds file, read strictly: an unknown key, a missing one or a number out of range is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.named_files import above_zero, read_named, whole

COLUMN_MEASURES = (
    "ks",
    "psi",
    "wasserstein",
    "jensen_shannon",
    "null_share_delta",
    "infinite_share",
    "new_category_share",
)


@dataclass(frozen=True)
class Limit:
    """Effect sizes from which a measure warns and drifts."""

    warn: float
    drift: float


@dataclass(frozen=True)
class Thresholds:
    """A thresholds file that was read; the fields are those of the file."""

    source: str
    sha256: str
    document: Mapping[str, Any]
    bins: int
    alpha: float
    sample_rows: int
    column: Mapping[str, Limit]
    prediction_psi: Limit
    label_relative_change: float
    drifted_share: float


def load_thresholds(name_or_path: str) -> Thresholds:
    """Read thresholds that ship with the room by name, or a file by path (anything with a slash or a dot).

    Raises:
        Misconfigured: no such name or file, or the file is not exactly of the documented form.
    """
    try:
        data = read_named("kfp_custody.components.drift_detection.thresholds", name_or_path)
        return _thresholds(parse_yaml(data), name_or_path, sha256_bytes(data))
    except DocumentFault as error:
        raise _refused(name_or_path, str(error)) from error


def _thresholds(document: Any, source: str, sha256: str) -> Thresholds:
    root = require_keys(
        document,
        "the thresholds file",
        ("version", "bins", "alpha", "sample_rows", "column", "prediction", "label", "dataset"),
    )
    if root["version"] != 1:
        raise DocumentFault(f"version {root['version']!r} is not 1")
    column = require_keys(root["column"], "column", COLUMN_MEASURES)
    prediction = require_keys(root["prediction"], "prediction", ("psi",))
    label = require_keys(root["label"], "label", ("relative_change",))
    dataset = require_keys(root["dataset"], "dataset", ("drifted_share",))
    return Thresholds(
        source=source,
        sha256=sha256,
        document=root,
        bins=whole(root["bins"], "bins", 2, 100),
        alpha=above_zero(root["alpha"], "alpha", 0.5),
        sample_rows=whole(root["sample_rows"], "sample_rows", 1, 1_000_000),
        column={name: _limit(column[name], f"column.{name}") for name in COLUMN_MEASURES},
        prediction_psi=_limit(prediction["psi"], "prediction.psi"),
        label_relative_change=above_zero(label["relative_change"], "label.relative_change", 1e6),
        drifted_share=above_zero(dataset["drifted_share"], "dataset.drifted_share", 1.0),
    )


def _limit(value: Any, where: str) -> Limit:
    entry = require_keys(value, where, ("warn", "drift"))
    limit = Limit(above_zero(entry["warn"], f"{where}.warn", 1e6), above_zero(entry["drift"], f"{where}.drift", 1e6))
    if limit.warn > limit.drift:
        raise DocumentFault(f"{where} warns at {limit.warn:g}, above the {limit.drift:g} where it drifts")
    return limit


def _refused(source: str, why: str) -> Misconfigured:
    return Misconfigured(
        "The drift thresholds were not accepted.",
        evidence=f"{source}: {why}",
        remedy="Name shipped thresholds, or correct the file (components/drift_detection/thresholds/default.yaml).",
    )
