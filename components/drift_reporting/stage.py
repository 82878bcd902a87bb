"""The stage: verify what comes in, take a sample of it, and draw."""

from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import ATTESTATION, MASKING, TRAINING
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.model_signature import MODEL_FOLDER
from kfp_custody.components._shared.scoring import read_signature
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components._shared.verified_copies import verified_tree
from kfp_custody.components.drift_reporting.evidently_report import evidently_html
from kfp_custody.components.drift_reporting.sampling import sample

MOST_ROWS = 100_000


@dataclass(frozen=True)
class Inputs:
    """Paths of the artifacts to verify and show."""

    reference: Path
    current: Path
    attestation: Path
    current_masking: Path
    provenance: Path
    model: Path


def run(inputs: Inputs, report: Path, settings: Settings, *, run_id: str, sample_rows: int) -> None:
    """Verify the inputs and write the report; it is signed by nobody, and nothing may rest on it.

    Args:
        inputs: What to show; nothing is read before its bytes were found to be those of its evidence.
        report: The HTML file to write.
        settings: Trust file.
        run_id: The pipeline run, which all evidence must belong to.
        sample_rows: Most rows of a side.

    Raises:
        EvidenceInvalid: evidence is missing, forged or of another run, or bytes are not those signed for.
        InputRefused: a dataset or the model is not of the form that can be shown.
        Misconfigured: trust file, run_id or sample_rows are wrong.
    """
    if not run_id or not 1 <= sample_rows <= MOST_ROWS:
        raise Misconfigured(
            "The report cannot be made as it was asked for.",
            evidence=f"run_id {run_id!r}, sample_rows {sample_rows}",
            remedy=f"Pass the pipeline's run id, and 1 to {MOST_ROWS} sample_rows.",
        )
    trust = load_trust(settings.trust_file)
    attested = read_evidence(inputs.attestation, ATTESTATION, trust, run_id=run_id)
    masked = read_evidence(inputs.current_masking, MASKING, trust, run_id=run_id)
    trained = read_evidence(inputs.provenance, TRAINING, trust, run_id=run_id)
    reference = require_subject(attested, inputs.reference, "reference dataset")
    current = require_subject(masked, inputs.current, "current dataset")
    files = inputs.model / MODEL_FOLDER
    model = require_subject(trained, files, "model")

    place = report.parent
    place.mkdir(parents=True, exist_ok=True)
    with (
        verified_tree(inputs.reference, reference, "reference dataset", place) as old,
        verified_tree(inputs.current, current, "current dataset", place) as new,
        verified_tree(files, model, "model", place) as described,
    ):
        features = read_signature(described).features
        sides = [
            sample(root, [entry.name for entry in listing.entries], features, sample_rows, role)
            for root, listing, role in ((old, reference, "reference"), (new, current, "current"))
        ]
    write_atomic(report, evidently_html(features, *sides).encode())
