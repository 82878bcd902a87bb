"""What rules see: the verified evidence as maps of plain values, and the gate itself.

`FIELDS` is the one list of what there is; the README, the lint and the facts follow it.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from kfp_custody.components._shared.evidence import descriptors
from kfp_custody.components._shared.kinds import ATTESTATION, DRIFT, FETCHING, MASKING, MODEL_SIGNATURE, TRAINING
from kfp_custody.components._shared.verification import Verified

# What rules may name, and the evidence behind it.
VARIABLES = {
    "source": "source",
    "masking": "masking",
    "dataset": "dataset",
    "training": "training",
    "model": "model",
    "drift": "drift",
    "current_source": "current-source",
    "current_masking": "current-masking",
}
GATE = "gate"

# The kind of evidence behind each variable: what a policy must require for a rule to mean anything.
KIND_OF = {
    "source": FETCHING,
    "masking": MASKING,
    "dataset": ATTESTATION,
    "training": TRAINING,
    "model": MODEL_SIGNATURE,
    "drift": DRIFT,
    "current_source": FETCHING,
    "current_masking": MASKING,
}

# Field -> CEL type. Every number in them is a double.
_ANY: Final = {"signer": "string", "subject": "string"}
_TIMED: Final = {**_ANY, "age_hours": "double", "metrics": "map<string, double>"}
_REFERS: Final = {"resources": "map<string, map<string, dyn>>"}
_TEST: Final = {
    **_TIMED,
    **_REFERS,
    "result": "string",
    "coverage": "map<string, double>",
    "passed": "list<string>",
    "warned": "list<string>",
    "failed": "list<string>",
}
_BUILD: Final = {**_TIMED, **_REFERS, "parameters": "map<string, dyn>", "internal": "map<string, dyn>"}

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "source": _BUILD,
    "masking": _TEST,
    "dataset": _BUILD,
    "training": _BUILD,
    "model": _ANY,
    "drift": _TEST,
    "current_source": _BUILD,
    "current_masking": _TEST,
    GATE: {"signer": "string", "deciders": "list<string>", "model_name": "string"},
}

# What the stages of this version put into the maps; a name that ends in `*` stands for all that begin like it.
_COVERAGE = ("checked", "skipped", "errors")
_MASKING = {
    "metrics": ("rows", "columns", "columns_masked", "texts", "texts_changed", "entities", "entities_*"),
    "coverage": _COVERAGE,
    "resources": ("input", "policy", "report", "masking-key", "detector", "source", "mask-shard-*", "attest-shard-*"),
}
REPORTED: Final[Mapping[str, Mapping[str, Collection[str]]]] = {
    "masking": _MASKING,
    "current_masking": _MASKING,
    "dataset": {
        "metrics": (),
        "parameters": (),
        "internal": ("files", "bytes", "rows", "columns", "dvc_pushed"),
        "resources": ("input", "masking", "masking-report", "source", "schema", "dataset", "dvc"),
    },
    "training": {
        "metrics": (
            *("roc_auc", "average_precision", "precision", "recall", "f1", "brier", "threshold"),
            *("rows_train", "rows_test", "positives_train", "positives_test"),
        ),
        "parameters": ("label", "time_column", "algorithm", "trainer", "seed", "test_share"),
        "internal": ("mlflow", "versions"),
        "resources": ("dataset", "attestation", "trainer", "image", "source", "metrics", "report", "html"),
    },
    "drift": {
        "metrics": (
            *("share_drifted", "columns_drifted", "columns_warned", "max_psi", "max_ks", "max_jensen_shannon"),
            *("prediction_psi", "label_rate_delta", "rows_reference", "rows_current"),
        ),
        "coverage": _COVERAGE,
        "resources": (*("reference", "attestation", "current_masking", "provenance", "model", "thresholds", "report"),),
    },
}

_EXACT = 2**53  # larger integers are not exact as doubles


def facts(
    verified: Mapping[str, Verified], at: datetime, gate: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Return what the rules see; evidence that did not verify is an empty map, so that its fields are absent.

    Args:
        verified: The evidence that verified, by its name in the chain.
        at: The moment that ages are counted to, timezone-aware.
        gate: What is known about the gate itself: `signer`, `deciders`, `model_name`; None when nothing is.
    """
    seen = {variable: _facts(verified[name], at) if name in verified else {} for variable, name in VARIABLES.items()}
    return {**seen, GATE: dict(gate or {})}


def age_hours(piece: Verified, at: datetime) -> float | None:
    """Return the age of evidence, None when it carries no time (a model signature)."""
    return None if piece.time is None else max((at - piece.time).total_seconds() / 3600, 0.0)


def _facts(piece: Verified, at: datetime) -> dict[str, Any]:
    predicate, age = piece.predicate, age_hours(piece, at)
    build = predicate.get("buildDefinition", {})
    known: dict[str, Any] = {
        "signer": piece.signer,
        **({} if age is None else {"age_hours": age}),  # absent, so that a rule about it denies
        "result": piece.result or "",
        # The same identity for all: a model signature's own subject is not the digest of a listing.
        "subject": piece.listing.sha256 if piece.listing else piece.subject_sha256,
        "metrics": piece.metrics,
        "coverage": predicate.get("custody_coverage", {}),
        "parameters": build.get("externalParameters", {}),
        "internal": build.get("internalParameters", {}),
        **_tests(predicate),
        "resources": _resources(piece),
    }
    return {name: _plain(value) for name, value in known.items()}


def _resources(piece: Verified) -> dict[str, dict[str, Any]]:
    """Return what the statement refers to: name -> sha256 and uri where it gives them, and annotations."""
    return {
        entry["name"]: {
            **({"sha256": entry["digest"]["sha256"]} if "sha256" in entry.get("digest", {}) else {}),
            **({"uri": entry["uri"]} if "uri" in entry else {}),
            "annotations": entry.get("annotations", {}),
        }
        for entry in descriptors(piece.statement)
    }


def _tests(predicate: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of the tests by outcome; what is no list of names is left out: a rule about it denies."""
    found = {name: predicate.get(f"{name}Tests") for name in ("passed", "warned", "failed")}
    return {
        name: tests
        for name, tests in found.items()
        if isinstance(tests, list) and all(isinstance(test, str) for test in tests)
    }


def _plain(value: Any) -> Any:
    """Return JSON as CEL takes it: numbers as doubles, and an integer that no double holds as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= _EXACT else str(value)
    return value
