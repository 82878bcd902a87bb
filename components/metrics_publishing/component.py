"""The contract of publish_metrics."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from kfp_custody.components._shared.artifacts import Decision, TestResult
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("metrics_publishing"), install_kfp_package=False)
def publish_metrics(
    text: Output[Artifact],
    run_id: str,
    drift: Input[TestResult] = None,
    monitoring: Input[TestResult] = None,
    decision: Input[Decision] = None,
    deployment: Input[TestResult] = None,
    canary: Input[TestResult] = None,
    rollout: Input[TestResult] = None,
    model_name: str = "fraud-detection",
) -> str:
    """Verify evidence of this run and publish its results and numbers as Prometheus metrics.

    Written as text, and pushed to the platform's Pushgateway where there is one. It attests nothing: what it says can
    be made again from the evidence.

    Args:
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        drift: The evidence of check_drift or check_profile_drift.
        monitoring: The evidence of monitor_inference.
        decision: The decision of enforce_policy; it must speak of this model.
        deployment: The evidence of deploy_model.
        canary: The evidence of analyse_canary.
        rollout: The evidence of finish_rollout.
        model_name: Name of the service, the label model of every metric.

    Returns:
        text: The metrics in Prometheus' text format, as node_exporter's textfile collector reads it.
        Output: SHA-256 of the text.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.files import path_of
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.metrics_publishing.publishing import publish
        from kfp_custody.components.metrics_publishing.series import ACCEPTED

        artifacts = drift, monitoring, decision, deployment, canary, rollout
        given = dict(zip(ACCEPTED, map(path_of, artifacts), strict=True))
        done = publish(given, Path(text.path), load_settings(), run_id=run_id, model_name=model_name)
        text.metadata.update(done.metadata())
        return done.sha256
