"""The contract of deploy_model."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Output

from kfp_custody.components._shared.artifacts import Decision, SignedModel, TestResult
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("seldon_deployment"), install_kfp_package=False)
def deploy_model(
    model: Input[SignedModel],
    decision: Input[Decision],
    evidence: Output[TestResult],
    report: Output[HTML],
    endpoint: Output[Artifact],
    run_id: str,
    name: str = "fraud-detection",
    target: str = "local",
    timeout_seconds: int = 120,
    model_uri: str = "",
) -> str:
    """Deploy a signed model that the gate let pass, on a model server that verifies it again before it loads it.

    The decision, the bytes and the model's signature are verified before anything is touched. A model that is refused,
    does not become ready or does not answer leaves in service what was there.

    Args:
        model: The signed model, in `model/` with `model.sig` beside it.
        decision: The gate's decision about it, of this run and at most 24 hours old.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        name: Name of the service, a DNS label; the decision must speak of models:/<name>.
        target: local (a model server on this machine), seldon-v2 (Seldon Core v2 through the Kubernetes API), or
            platform (whichever of the two CUSTODY_DEPLOY_TARGET says).
        timeout_seconds: How long to wait until the model is ready, in seconds (1 to 3600).
        model_uri: For seldon-v2: where the signed model lies in an object store; without credentials.

    Returns:
        evidence: Signed test result of the deployment, about the model's listing.
        report: What was deployed, on whose word, and its first answer.
        endpoint: JSON with url, model, version, digest and the response to the smoke inference.
        Output: The endpoint's address.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.seldon_deployment.deployment import Outputs, deploy

        done = deploy(
            Path(model.path),
            Path(decision.path),
            Outputs(Path(evidence.path), Path(report.path), Path(endpoint.path)),
            load_settings(),
            run_id=run_id,
            name=name,
            target=target,
            timeout_seconds=timeout_seconds,
            model_uri=model_uri,
        )
        endpoint.metadata.update(done.metadata())
        evidence.metadata.update(done.metadata())
        return done.url
