"""The contracts of deploy_model, and of the stages that roll a placed model out."""

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
    rollout: str = "direct",
) -> str:
    """Deploy a signed model that the gate let pass, on a model server that verifies it again before it loads it.

    The decision, the bytes and the model's signature are verified before anything is touched. A model that is refused,
    does not become ready or does not answer leaves in service what was there.

    Args:
        model: The signed model, in `model/` with `model.sig` beside it.
        decision: The gate's decision about it, of this run and at most 24 hours old.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        name: Name of the service, a DNS label; the decision must speak of models:/<name>.
        target: local (a model server on this machine), seldon-v2, seldon-v1 or kserve (through the Kubernetes API),
            git-seldon-v2, git-seldon-v1 or git-kserve (the same objects committed to a Git repository, for Argo CD or
            Flux to apply), or platform (whichever of them CUSTODY_DEPLOY_TARGET says).
        timeout_seconds: How long to wait until the model is ready, in seconds (1 to 3600).
        model_uri: In a cluster: where the signed model lies in an object store; without credentials.
        rollout: direct (the service switches over at once), or canary (the model is placed beside the stable version,
            without traffic, for analyse_canary and finish_rollout; not through a Git repository).

    Returns:
        evidence: Signed test result of the deployment, about the model's listing.
        report: What was deployed or committed, on whose word, and its first answer.
        endpoint: JSON with url, model, version, digest and the response to the smoke inference; of a git target also
            committed, with repository, branch, commit and the SHA-256 of each file.
        Output: The endpoint's address; of a git target where it will be once the commit is applied.
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
            rollout=rollout,
        )
        endpoint.metadata.update(done.metadata())
        evidence.metadata.update(done.metadata())
        return done.url


@dsl.component(base_image=image("seldon_deployment"), install_kfp_package=False)
def analyse_canary(
    model: Input[SignedModel],
    decision: Input[Decision],
    deployment: Input[TestResult],
    evidence: Output[TestResult],
    report: Output[HTML],
    run_id: str,
    name: str = "fraud-detection",
    target: str = "local",
    steps: str = "10,25,50,100",
    samples: int = 100,
    interval_seconds: int = 10,
    step_seconds: int = 600,
    error_ratio: float = 0.01,
    p99_seconds: float = 0.5,
    score_distance: float = 0.2,
    timeout_seconds: int = 120,
) -> str:
    """Give a placed model a growing share of the traffic, and judge it beside the stable version at each step.

    A step passes with enough samples, few errors, fast answers and scores distributed as the stable version's. The
    first failure, or a step that has not passed in time, takes all traffic from the model again. Without metrics or
    traffic no step passes.

    Args:
        model: The signed model that deploy_model placed.
        decision: The gate's decision about it; it is verified again.
        deployment: Evidence of deploy_model; verified, and what orders the two stages.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        name: Name of the service.
        target: Where it was placed, as for deploy_model: local, seldon-v2, seldon-v1, kserve or platform.
            git-seldon-v2, git-seldon-v1 and git-kserve are refused: nobody can shift traffic there.
        steps: Percents of the traffic, in ascending order, separated by commas; the last is 100.
        samples: Requests that the model must answer in each step (10 to 1000000).
        interval_seconds: Seconds between two looks.
        step_seconds: Seconds after which a step that has not passed is given up.
        error_ratio: The most that may fail for the server's fault (5xx), of all; at most the stable version's + 0.005.
        p99_seconds: The most that the 99th percentile may be, in seconds; at most 1.25 times the stable version's.
        score_distance: The most that Kolmogorov's distance of both versions' scores may be, 0 to 1.
        timeout_seconds: How long a change of the share may take.

    Returns:
        evidence: Signed test result of the canary, about the model's listing.
        report: Steps, counts and checks.
        Output: HEALTHY, UNHEALTHY or INCONCLUSIVE.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.seldon_deployment.rollout.stages import Inputs, Outputs, analyse, parse_limits

        done = analyse(
            Inputs(Path(model.path), Path(decision.path), Path(deployment.path)),
            Outputs(Path(evidence.path), Path(report.path)),
            load_settings(),
            parse_limits(steps, samples, interval_seconds, step_seconds, error_ratio, p99_seconds, score_distance),
            run_id=run_id,
            name=name,
            target=target,
            timeout_seconds=timeout_seconds,
        )
        evidence.metadata.update(done.facts)
        return done.verdict


@dsl.component(base_image=image("seldon_deployment"), install_kfp_package=False)
def finish_rollout(
    model: Input[SignedModel],
    decision: Input[Decision],
    analysis: Input[TestResult],
    evidence: Output[TestResult],
    report: Output[HTML],
    run_id: str,
    name: str = "fraud-detection",
    target: str = "local",
    timeout_seconds: int = 120,
) -> str:
    """Make a healthy canary the stable version, or roll back any other.

    What counts is the signed evidence of analyse_canary, not a parameter. Running it again changes nothing.

    Args:
        model: The signed model that deploy_model placed.
        decision: The gate's decision about it; it is verified again.
        analysis: Evidence of analyse_canary, of this run.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        name: Name of the service.
        target: Where it was placed, as for deploy_model: local, seldon-v2, seldon-v1, kserve or platform.
            git-seldon-v2, git-seldon-v1 and git-kserve are refused: nobody can shift traffic there.
        timeout_seconds: How long the change may take.

    Returns:
        evidence: Signed test result of the rollout, about the model's listing.
        report: What serves now, and on what grounds.
        Output: PROMOTED or ROLLED_BACK.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.seldon_deployment.rollout.stages import Inputs, Outputs, finish

        done = finish(
            Inputs(Path(model.path), Path(decision.path), Path(analysis.path)),
            Outputs(Path(evidence.path), Path(report.path)),
            load_settings(),
            run_id=run_id,
            name=name,
            target=target,
            timeout_seconds=timeout_seconds,
        )
        evidence.metadata.update(done.facts)
        return done.verdict


@dsl.component(base_image=image("seldon_deployment"), install_kfp_package=False)
def refuse_rollout(rollout: Input[TestResult], run_id: str) -> None:
    """Fail the run whose model was rolled back, with the reason.

    Args:
        rollout: Evidence of finish_rollout.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.seldon_deployment.rollout.stages import refuse

        refuse(Path(rollout.path), run_id, load_settings())


@dsl.component(base_image=image("seldon_deployment"), install_kfp_package=False)
def close_rollout(
    run_id: str,
    name: str = "fraud-detection",
    target: str = "local",
    timeout_seconds: int = 120,
) -> str:
    """Roll back what a run left unfinished: the exit task of a pipeline that deploys with a canary.

    It leaves alone what is finished, and what belongs to another run.

    Args:
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        name: Name of the service.
        target: Where it was placed, as for deploy_model: local, seldon-v2, seldon-v1, kserve or platform. Through
            git-seldon-v2, git-seldon-v1 and git-kserve nothing is placed, so there is nothing to do.
        timeout_seconds: How long the change may take.

    Returns:
        Output: ROLLED_BACK, or NOTHING when there was nothing to do.
    """
    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.seldon_deployment.rollout.stages import close

        return close(load_settings(), run_id=run_id, name=name, target=target, timeout_seconds=timeout_seconds)
