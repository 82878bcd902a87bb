"""The contracts of check_drift, check_profile_drift and profile_dataset."""

from kfp import dsl
from kfp.dsl import HTML, Input, Metrics, Output

from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    DatasetProfile,
    MaskedDataset,
    SignedModel,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("drift_detection"), install_kfp_package=False)
def check_drift(
    reference: Input[MaskedDataset],
    current: Input[MaskedDataset],
    attestation: Input[DatasetAttestation],
    current_masking: Input[TestResult],
    provenance: Input[TrainingProvenance],
    model: Input[SignedModel],
    evidence: Output[TestResult],
    report: Output[HTML],
    metrics: Output[Metrics],
    run_id: str,
    label: str = "is_fraud",
    thresholds: str = "default",
    history: Input[TestResult] = None,
) -> str:
    """Compare current data, and the scores it gets, with the data the model was trained on.

    Args:
        reference: The masked dataset that the model was trained on.
        current: The masked dataset to judge.
        attestation: Attestation of the reference dataset.
        current_masking: Masking evidence of the current dataset.
        provenance: Training provenance of the model.
        model: The signed model; its features are compared and it scores both sides.
        run_id: The pipeline run; all evidence must belong to it.
        label: Name of the label column, compared when both sides have it.
        thresholds: Name of thresholds that ship with the room, or the path of a thresholds file in the image.
        history: A directory of evidence directories of past checks; the report draws those of this model as a line.

    Returns:
        evidence: Signed test result about the current dataset, with report.json.
        report: Every feature with its measures and noise floors, worst first.
        metrics: Share of drifted features, largest distances, drift of scores and label.
        Output: PASSED, WARNED or FAILED.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.files import path_of
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.drift_detection.stage import Inputs, Outputs, run

        inputs = (Path(part.path) for part in (reference, current, attestation, current_masking, provenance, model))
        outputs = (Path(part.path) for part in (evidence, report))
        named = {"run_id": run_id, "label": label, "thresholds": thresholds}
        outcome = run(Inputs(*inputs), Outputs(*outputs), load_settings(), history=path_of(history), **named)
    metrics.metadata.update(outcome.metrics)
    evidence.metadata["verdict"] = outcome.verdict
    return outcome.verdict


@dsl.component(base_image=image("drift_detection"), install_kfp_package=False)
def check_profile_drift(
    current: Input[MaskedDataset],
    current_masking: Input[TestResult],
    profile: Input[DatasetProfile],
    profile_evidence: Input[TestResult],
    provenance: Input[TrainingProvenance],
    model: Input[SignedModel],
    evidence: Output[TestResult],
    report: Output[HTML],
    metrics: Output[Metrics],
    run_id: str,
    training_run_id: str = "",
    label: str = "is_fraud",
    thresholds: str = "default",
    history: Input[TestResult] = None,
) -> str:
    """Compare current data, and the scores it gets, with the signed profile of the data the model was trained on.

    Args:
        current: The masked dataset to judge.
        current_masking: Masking evidence of the current dataset, of this run.
        profile: The profile of the training dataset.
        profile_evidence: The evidence that profile_dataset left about it.
        provenance: Training provenance of the model.
        model: The signed model; its features are compared, and it scores the current dataset.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        training_run_id: The run that made model and profile; empty for this run.
        label: Name of the label column, compared when the profile and the current dataset have it.
        thresholds: Name of thresholds that ship with the room, or the path of a thresholds file in the image.
        history: A directory of evidence directories of past checks; the report draws those of this model as a line.

    Returns:
        evidence: Signed test result about the current dataset, with report.json.
        report: Every feature with its measures and noise floors, worst first.
        metrics: Share of drifted features, largest distances, drift of scores and label.
        Output: PASSED, WARNED or FAILED.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.files import path_of
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.drift_detection.stage import Outputs, ProfileInputs, run_with_profile

        given = (current, current_masking, profile, profile_evidence, provenance, model)
        inputs = ProfileInputs(*(Path(part.path) for part in given))
        outputs = Outputs(Path(evidence.path), Path(report.path))
        named = {"run_id": run_id, "training_run_id": training_run_id, "label": label, "thresholds": thresholds}
        outcome = run_with_profile(inputs, outputs, load_settings(), history=path_of(history), **named)
    metrics.metadata.update(outcome.metrics)
    evidence.metadata["verdict"] = outcome.verdict
    return outcome.verdict


@dsl.component(base_image=image("drift_detection"), install_kfp_package=False)
def profile_dataset(
    dataset: Input[MaskedDataset],
    attestation: Input[DatasetAttestation],
    profile: Output[DatasetProfile],
    evidence: Output[TestResult],
    run_id: str,
    model: Input[SignedModel] = None,
    provenance: Input[TrainingProvenance] = None,
) -> None:
    """Describe the columns of a dataset by quantiles and counts, without its rows, and sign what the profile is of.

    Args:
        dataset: The attested dataset.
        attestation: The evidence that attest_dataset left about it.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        model: The signed model that was trained on it; the profile then holds its scores and the share of positives.
        provenance: Training provenance of the model; given with it.

    Returns:
        profile: A directory with profile.json.
        evidence: Signed provenance of the profile; it names the dataset and its attestation.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.files import path_of
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.drift_detection import profiling

        given, made = (Path(dataset.path), Path(attestation.path)), (Path(profile.path), Path(evidence.path))
        trained = path_of(model), path_of(provenance)
        done = profiling.profile_dataset(*given, *made, run_id, load_settings(), *trained)
        profile.metadata.update(done.metadata())
