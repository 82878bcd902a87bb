"""The stage: verify the model against its provenance, scan it, and leave signed evidence."""

from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import SCAN, TRAINING, resource, test_result, write_evidence
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components._shared.verified_copies import verified_tree
from kfp_custody.components.model_scanning.allowing import load_allowed
from kfp_custody.components.model_scanning.formats import FAILED, PASSED, WARNED
from kfp_custody.components.model_scanning.reporting import coverage, html, metrics, report_json
from kfp_custody.components.model_scanning.scanning import scan_model_tree

ROOM = "model_scanning"


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
    model: Path, provenance: Path, outputs: Outputs, settings: Settings, *, run_id: str, allow_list: str
) -> Outcome:
    """Verify a model, scan a private copy of it, write the report and signed evidence (the evidence last).

    Args:
        model: The trained model, a directory.
        provenance: The evidence directory of train_model.
        outputs: Where to write.
        settings: Trust file and signer.
        run_id: The pipeline run, which the provenance must belong to.
        allow_list: Name of a shipped allow-list, or a path.

    Raises:
        EvidenceInvalid: the provenance is missing, forged or of another run, or speaks of other bytes.
        InputRefused: the model's tree cannot be listed.
        Misconfigured: allow-list, trust file, signer or run_id are wrong.
    """
    if not run_id:
        raise Misconfigured("No run is named.", evidence="run_id is empty", remedy="Pass the pipeline's run id.")
    allowed = load_allowed(allow_list)
    signer = load_signer(settings.signer_uri(ROOM))
    trained = read_evidence(provenance, TRAINING, load_trust(settings.trust_file), run_id=run_id)
    listing = require_subject(trained, model, "model")
    place = outputs.evidence.parent
    place.mkdir(parents=True, exist_ok=True)
    with verified_tree(model, listing, "model", place) as copy:
        scan = scan_model_tree(copy, listing, allowed, place)
    report = report_json(scan, allowed)
    statement = test_result(
        SCAN,
        listing,
        result=scan.verdict,
        run_id=run_id,
        configuration=[
            resource("provenance", trained.bundle_sha256),
            resource("allow-list", allowed.sha256, uri=allowed.source),
            resource("report", sha256_bytes(report), media_type="application/json"),
        ],
        passed=scan.named(PASSED),
        warned=scan.named(WARNED),
        failed=scan.named(FAILED),
        metrics=metrics(scan),
        coverage=coverage(scan),
    )
    write_atomic(outputs.report, html(scan, allowed).encode())
    write_evidence(outputs.evidence, statement, signer, listing, report)
    return Outcome(scan.verdict, metrics(scan))
