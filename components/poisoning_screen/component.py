"""The contract of screen_poisoning."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    MaskedDataset,
    SignedModel,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("poisoning_screen"), install_kfp_package=False)
def screen_poisoning(
    dataset: Input[MaskedDataset],
    attestation: Input[DatasetAttestation],
    suspects: Output[Dataset],
    evidence: Output[TestResult],
    report: Output[HTML],
    metrics: Output[Metrics],
    run_id: str,
    trusted_model: Input[SignedModel] = None,
    trusted_provenance: Input[TrainingProvenance] = None,
    trusted_dataset: Input[MaskedDataset] = None,
    trusted_attestation: Input[DatasetAttestation] = None,
    trusted_run_id: str = "",
    label: str = "is_fraud",
    limits: str = "default",
) -> str:
    """Look for poison in a dataset before a model is trained on it: wrong labels, floods of copies, triggers.

    Args:
        dataset: The attested dataset to screen.
        attestation: The evidence that attest_dataset left about it, of this run.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        trusted_model: A signed model of an earlier window, which says what the labels should be.
        trusted_provenance: Training provenance of the trusted model; given with it.
        trusted_dataset: The dataset that the trusted model was trained on, which says how often such a model is wrong.
        trusted_attestation: Attestation of that dataset; given with it.
        trusted_run_id: The earlier run that left what is trusted.
        label: Name of the label column.
        limits: Name of limits that ship with the room, or the path of a limits file in the image.

    Returns:
        suspects: A Parquet file of the rows to look at, by number and check, without their values.
        evidence: Signed test result about the dataset, with report.json.
        report: What was found, and what cannot be.
        metrics: Rows, label errors, disagreements with the trusted model, copies, repeated values, rules.
        Output: PASSED, WARNED or FAILED.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.files import path_of
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.poisoning_screen import stage

        trusted = (path_of(part) for part in (trusted_model, trusted_provenance, trusted_dataset, trusted_attestation))
        inputs = stage.Inputs(Path(dataset.path), Path(attestation.path), *trusted)
        outputs = stage.Outputs(*(Path(part.path) for part in (suspects, evidence, report)))
        outcome = stage.run(inputs, outputs, load_settings(), stage.Asked(run_id, trusted_run_id, label, limits))
    metrics.metadata.update(outcome.metrics)
    evidence.metadata["verdict"] = outcome.verdict
    return outcome.verdict
