"""The contract of monitor_inference."""

from kfp import dsl
from kfp.dsl import HTML, Input, Metrics, Output

from kfp_custody.components._shared.artifacts import DatasetProfile, InferenceLogs, TestResult
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("inference_monitoring"), install_kfp_package=False)
def monitor_inference(
    logs: Input[InferenceLogs],
    logs_evidence: Input[TestResult],
    evidence: Output[TestResult],
    report: Output[HTML],
    metrics: Output[Metrics],
    run_id: str,
    model_name: str,
    profile: Input[DatasetProfile] = None,
    profile_evidence: Input[TestResult] = None,
    training_run_id: str = "",
    limits: str = "default",
) -> str:
    """Read a window of request logs for latency, errors, confidence, drift, and clients that misuse the model.

    Args:
        logs: The logs that collect_logs brought.
        logs_evidence: The evidence that collect_logs left about them.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        model_name: Name of the model, as the logs have it.
        profile: Profile of the data that the model was trained on.
        profile_evidence: The evidence that profile_dataset left about the profile.
        training_run_id: The run that made the profile.
        limits: Name of limits that ship with the room, or the path of a limits file in the image.

    Returns:
        evidence: Signed test result about the logs, with report.json.
        report: What was found, worst first.
        metrics: Requests, latency, errors, confidence, drift, and how many clients did what.
        Output: PASSED, WARNED or FAILED.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.files import path_of
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.inference_monitoring import stage

        given = (Path(logs.path), Path(logs_evidence.path), path_of(profile), path_of(profile_evidence))
        made = stage.Outputs(Path(evidence.path), Path(report.path))
        asked = stage.Asked(run_id, training_run_id, model_name, limits)
        outcome = stage.run(stage.Inputs(*given), made, load_settings(), asked)
    metrics.metadata.update(outcome.metrics)
    evidence.metadata["verdict"] = outcome.verdict
    return outcome.verdict
