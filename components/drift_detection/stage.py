"""The stage: verify what comes in, check, and leave signed evidence."""

from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    DRIFT,
    MASKING,
    TRAINING,
    resource,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.scoring import load_scorer
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components._shared.verified_copies import verified_tree
from kfp_custody.components.drift_detection.checking import SCHEMA, Drift, check
from kfp_custody.components.drift_detection.columns import open_columns
from kfp_custody.components.drift_detection.comparing import DRIFT as DRIFTED
from kfp_custody.components.drift_detection.comparing import NONE, UNKNOWN, WARN
from kfp_custody.components.drift_detection.evidently_report import evidently_html
from kfp_custody.components.drift_detection.limits import load_thresholds
from kfp_custody.components.drift_detection.reporting import coverage, html, metrics, report_json

ROOM = "drift_detection"


@dataclass(frozen=True)
class Inputs:
    """Paths of the artifacts to verify and compare."""

    reference: Path
    current: Path
    attestation: Path
    current_masking: Path
    provenance: Path
    model: Path


@dataclass(frozen=True)
class Outputs:
    """Paths to write."""

    evidence: Path
    report: Path
    evidently_report: Path


@dataclass(frozen=True)
class Outcome:
    """The verdict, and the metrics that the evidence holds."""

    verdict: str
    metrics: dict[str, float]


def run(inputs: Inputs, outputs: Outputs, settings: Settings, *, run_id: str, label: str, thresholds: str) -> Outcome:
    """Verify the inputs, check for drift, write reports and signed evidence (the evidence last).

    Args:
        inputs: What to compare; nothing is read before its bytes were found to be those of its evidence.
        outputs: Where to write.
        settings: Trust file and signer.
        run_id: The pipeline run, which all evidence must belong to.
        label: Name of the label; "" compares none.
        thresholds: Name of shipped thresholds, or a path.

    Raises:
        EvidenceInvalid: evidence is missing, forged or of another run, or bytes are not those signed for.
        InputRefused: a dataset or the model is not of the form that can be compared.
        Misconfigured: thresholds, trust file, signer or run_id are wrong.
    """
    if not run_id:
        raise Misconfigured("No run is named.", evidence="run_id is empty", remedy="Pass the pipeline's run id.")
    limits = load_thresholds(thresholds)
    signer = load_signer(settings.signer_uri(ROOM))
    trust = load_trust(settings.trust_file)

    attested = read_evidence(inputs.attestation, ATTESTATION, trust, run_id=run_id)
    masked = read_evidence(inputs.current_masking, MASKING, trust, run_id=run_id)
    trained = read_evidence(inputs.provenance, TRAINING, trust, run_id=run_id)
    reference = require_subject(attested, inputs.reference, "reference dataset")
    current = require_subject(masked, inputs.current, "current dataset")
    model = require_subject(trained, inputs.model / "model", "model")

    place = outputs.evidence.parent
    place.mkdir(parents=True, exist_ok=True)
    with (
        verified_tree(inputs.reference, reference, "reference dataset", place) as old,
        verified_tree(inputs.current, current, "current dataset", place) as new,
        verified_tree(inputs.model / "model", model, "model", place) as scoring,
    ):
        drift = check(
            open_columns(old, [entry.name for entry in reference.entries], "reference"),
            open_columns(new, [entry.name for entry in current.entries], "current"),
            load_scorer(scoring),
            label,
            limits,
        )
    report = report_json(drift, limits)
    passed, warned, failed = _checks(drift)
    statement = test_result(
        DRIFT,
        current,
        result=drift.verdict,
        run_id=run_id,
        configuration=[
            resource("reference", reference.sha256),
            resource("attestation", attested.bundle_sha256),
            resource("current_masking", masked.bundle_sha256),
            resource("provenance", trained.bundle_sha256),
            resource("model", model.sha256),
            resource("thresholds", limits.sha256, uri=limits.source),
            resource("report", sha256_bytes(report), media_type="application/json"),
        ],
        passed=passed,
        warned=warned,
        failed=failed,
        metrics=metrics(drift),
        coverage=coverage(drift),
    )
    write_atomic(outputs.report, html(drift, limits).encode())
    write_atomic(outputs.evidently_report, evidently_html(drift, limits).encode())
    write_evidence(outputs.evidence, statement, signer, current, report)
    return Outcome(drift.verdict, metrics(drift))


def _checks(drift: Drift) -> tuple[list[str], list[str], list[str]]:
    """Return the names of the checks that passed, warned and failed."""
    named: list[tuple[str, str]] = [(f"column:{column.name}", column.verdict) for column in drift.columns]
    named.append(("prediction", drift.prediction.verdict))
    if drift.label and drift.label.verdict != UNKNOWN:
        named.append((f"label:{drift.label.name}", drift.label.verdict))
    passed, warned, failed = (
        [name for name, verdict in named if verdict in verdicts]
        for verdicts in ((NONE,), (WARN, UNKNOWN), (DRIFTED, SCHEMA))
    )
    return passed, warned, failed
