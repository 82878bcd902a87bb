"""The contracts of enforce_policy and refuse."""

from kfp import dsl
from kfp.dsl import HTML, Input, Output

from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    Decision,
    MaskedDataset,
    SignedModel,
    SourceAttestation,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("policy_gate"), install_kfp_package=False)
def enforce_policy(
    dataset: Input[MaskedDataset],
    masking: Input[TestResult],
    attestation: Input[DatasetAttestation],
    provenance: Input[TrainingProvenance],
    model: Input[SignedModel],
    current: Input[MaskedDataset],
    current_masking: Input[TestResult],
    drift: Input[TestResult],
    decision: Output[Decision],
    report: Output[HTML],
    run_id: str,
    source: Input[SourceAttestation] = None,
    current_source: Input[SourceAttestation] = None,
    policy: str = "baseline",
    model_name: str = "fraud-detection",
) -> str:
    """Verify every signature, link and byte, evaluate the policy, and sign the decision.

    The task succeeds whatever it decides, so that its report is kept: deploy only when its output is PASSED, and let
    `refuse` fail the run otherwise. The trust file of the platform must pin the policy by digest.

    Args:
        dataset: The masked dataset that the model was trained on.
        masking: The evidence that mask_pii left about it.
        attestation: The evidence that attest_dataset left about it.
        provenance: The training provenance.
        model: The signed model.
        current: The masked present data that drift was checked on.
        current_masking: The evidence that mask_pii left about it.
        drift: The evidence that check_drift left.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        source: The evidence that fetch_dataset left about the raw data; needed when the masking names it.
        current_source: The same about the raw present data.
        policy: Name of a shipped policy, or path of a policy file in the image or on a mount.
        model_name: The name that the decision lets the model be deployed under.

    Returns:
        decision: The signed decision (SLSA verification summary), PASSED or FAILED.
        report: Every check and rule with its verdict, and a drawing of the chain.
        Output: PASSED or FAILED.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.files import path_of
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.policy_gate.checks import Chain
        from kfp_custody.components.policy_gate.gate import enforce

        artifacts = (dataset, masking, attestation, provenance, model, current, current_masking, drift)
        sources = (path_of(each) for each in (source, current_source))
        done = enforce(
            Chain(*(Path(each.path) for each in artifacts), *sources),
            Path(decision.path),
            Path(report.path),
            run_id=run_id,
            policy=policy,
            model_name=model_name,
            settings=load_settings(),
        )
        decision.metadata.update(done.metadata())
        return done.verdict


@dsl.component(base_image=image("policy_gate"), install_kfp_package=False)
def refuse(decision: Input[Decision], run_id: str) -> None:
    """Fail the run with the reasons of a decision that is not PASSED.

    Args:
        decision: The decision that enforce_policy signed.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.policy_gate.refusal import refuse_run

        refuse_run(Path(decision.path), run_id, load_settings())
