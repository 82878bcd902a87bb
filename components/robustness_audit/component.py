"""The contract of audit_robustness."""

from kfp import dsl
from kfp.dsl import HTML, Input, Metrics, Output

from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    MaskedDataset,
    SignedModel,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("robustness_audit"), install_kfp_package=False)
def audit_robustness(
    model: Input[SignedModel],
    provenance: Input[TrainingProvenance],
    dataset: Input[MaskedDataset],
    attestation: Input[DatasetAttestation],
    evidence: Output[TestResult],
    report: Output[HTML],
    metrics: Output[Metrics],
    run_id: str,
    label: str = "is_fraud",
    constraints: str = "default",
    limits: str = "default",
) -> str:
    """Find how little the rows that a model detects must be changed to get past it.

    Args:
        model: The signed model.
        provenance: Training provenance of the model.
        dataset: The masked dataset that the model was trained on.
        attestation: Attestation of that dataset.
        run_id: The pipeline run; all evidence must belong to it.
        label: Name of the label column.
        constraints: Name of constraints that ship with the room, or the path of a constraints file in the image.
        limits: Name of limits that ship with the room, or the path of a limits file in the image.

    Returns:
        evidence: Signed test result about the model, with report.json.
        report: Shares still detected by the size of the change, and the rows that were changed least.
        metrics: Shares still detected, distances, how many rows were attacked.
        Output: PASSED, WARNED or FAILED.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.robustness_audit.stage import Inputs, Outputs, run

        inputs = Inputs(*(Path(part.path) for part in (model, provenance, dataset, attestation)))
        outputs = Outputs(Path(evidence.path), Path(report.path))
        named = {"run_id": run_id, "label": label, "constraints": constraints, "limits": limits}
        outcome = run(inputs, outputs, load_settings(), **named)
    metrics.metadata.update(outcome.metrics)
    evidence.metadata["verdict"] = outcome.verdict
    return outcome.verdict
