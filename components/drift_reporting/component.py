"""The contract of report_drift."""

from kfp import dsl
from kfp.dsl import HTML, Input, Output

from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    MaskedDataset,
    SignedModel,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("drift_reporting"), install_kfp_package=False)
def report_drift(
    reference: Input[MaskedDataset],
    current: Input[MaskedDataset],
    attestation: Input[DatasetAttestation],
    current_masking: Input[TestResult],
    provenance: Input[TrainingProvenance],
    model: Input[SignedModel],
    report: Output[HTML],
    run_id: str,
    sample_rows: int = 10_000,
) -> None:
    """Draw Evidently's own report over a sample of the data that check_drift compares; it decides nothing.

    Args:
        reference: The masked dataset that the model was trained on.
        current: The masked dataset to look at.
        attestation: Attestation of the reference dataset.
        current_masking: Masking evidence of the current dataset.
        provenance: Training provenance of the model.
        model: The signed model; its features are shown.
        run_id: The pipeline run; all evidence must belong to it.
        sample_rows: Most rows of a side, 1 to 100,000.

    Returns:
        report: Evidently's report, with a notice of what it is made from.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.drift_reporting.stage import Inputs, run

        inputs = (Path(part.path) for part in (reference, current, attestation, current_masking, provenance, model))
        run(Inputs(*inputs), Path(report.path), load_settings(), run_id=run_id, sample_rows=sample_rows)
