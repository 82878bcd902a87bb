"""The stage: verify what comes in, attack, and leave signed evidence about the model."""

from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.columns import open_columns
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    ROBUSTNESS,
    TRAINING,
    resource,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.model_signature import MODEL_FOLDER
from kfp_custody.components._shared.scoring import load_scorer
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_digest, require_subject
from kfp_custody.components._shared.verified_copies import verified_tree
from kfp_custody.components.robustness_audit.auditing import audit
from kfp_custody.components.robustness_audit.constraints import load_constraints
from kfp_custody.components.robustness_audit.limits import load_limits
from kfp_custody.components.robustness_audit.reporting import coverage, html, metrics, report_json

ROOM = "robustness_audit"


@dataclass(frozen=True)
class Inputs:
    """Paths of the artifacts to verify and to audit."""

    model: Path
    provenance: Path
    dataset: Path
    attestation: Path


@dataclass(frozen=True)
class Outputs:
    """Paths to write."""

    evidence: Path
    report: Path


@dataclass(frozen=True)
class Outcome:
    """The verdict, and the metrics that the evidence holds."""

    verdict: str
    metrics: dict[str, float]


def run(
    inputs: Inputs, outputs: Outputs, settings: Settings, *, run_id: str, label: str, constraints: str, limits: str
) -> Outcome:
    """Verify the inputs, attack the model, write the report and signed evidence (the evidence last).

    Args:
        inputs: What to audit; nothing is read before its bytes were found to be those of its evidence. The dataset must
            be the one that the model was trained on: its standard deviations are the unit of every distance.
        outputs: Where to write.
        settings: Trust file and signer.
        run_id: The pipeline run, which all evidence must belong to.
        label: Name of the label.
        constraints: Name of shipped constraints, or a path.
        limits: Name of shipped limits, or a path.

    Raises:
        EvidenceInvalid: evidence is missing, forged or of another run, bytes are not those signed for, or the model was
            trained on another dataset.
        InputRefused: the dataset or the model is not of the form that can be audited.
        Misconfigured: constraints, limits, trust file, signer or run_id are wrong.
    """
    if not run_id:
        raise Misconfigured("No run is named.", evidence="run_id is empty", remedy="Pass the pipeline's run id.")
    allowed, enough = load_constraints(constraints), load_limits(limits)
    signer = load_signer(settings.signer_uri(ROOM))
    trust = load_trust(settings.trust_file)

    attested = read_evidence(inputs.attestation, ATTESTATION, trust, run_id=run_id)
    trained = read_evidence(inputs.provenance, TRAINING, trust, run_id=run_id)
    dataset = require_subject(attested, inputs.dataset, "dataset")
    files = inputs.model / MODEL_FOLDER
    model = require_subject(trained, files, "model")
    require_digest(trained.dependency("dataset"), dataset.sha256, "the dataset of the model", TRAINING.name)
    require_digest(trained.dependency("attestation"), attested.bundle_sha256, "the attestation of it", TRAINING.name)

    place = outputs.evidence.parent
    place.mkdir(parents=True, exist_ok=True)
    with (
        verified_tree(inputs.dataset, dataset, "dataset", place) as rows,
        verified_tree(files, model, "model", place) as scoring,
    ):
        columns = open_columns(rows, [entry.name for entry in dataset.entries], "training")
        found = audit(columns, load_scorer(scoring), label, allowed, enough)
    report = report_json(found, allowed, enough)
    named = {verdict: [check.name for check in found.checks if check.verdict == verdict] for verdict in _VERDICTS}
    statement = test_result(
        ROBUSTNESS,
        model,
        result=found.verdict,
        run_id=run_id,
        configuration=[
            resource("dataset", dataset.sha256),
            resource("attestation", attested.bundle_sha256),
            resource("provenance", trained.bundle_sha256),
            resource("constraints", allowed.sha256, uri=allowed.source),
            resource("limits", enough.sha256, uri=enough.source),
            resource("report", sha256_bytes(report), media_type="application/json"),
        ],
        passed=named["PASSED"],
        warned=named["WARNED"],
        failed=named["FAILED"],
        metrics=metrics(found),
        coverage=coverage(found),
    )
    write_atomic(outputs.report, html(found, allowed, enough).encode())
    write_evidence(outputs.evidence, statement, signer, model, report)
    return Outcome(found.verdict, metrics(found))


_VERDICTS = ("PASSED", "WARNED", "FAILED")
