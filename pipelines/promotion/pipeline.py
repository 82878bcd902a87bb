"""Promotion: a finished training run is verified, decided about and deployed by an identity that training never had."""

from typing import Any

from kfp import dsl

from kfp_custody.components import (
    analyse_canary,
    close_rollout,
    deploy_model,
    enforce_policy,
    finish_rollout,
    refuse,
    refuse_rollout,
)
from kfp_custody.pipelines.platform import on_cluster


@dsl.pipeline(name="promotion")
def promotion(
    promote_run_id: str,
    promote_dataset_uri: str,
    promote_masking_uri: str,
    promote_attestation_uri: str,
    promote_provenance_uri: str,
    promote_model_uri: str,
    promote_current_uri: str,
    promote_current_masking_uri: str,
    promote_drift_uri: str,
    promote_source_uri: str,
    promote_current_source_uri: str,
    gate_policy: str = "baseline",
    deploy_name: str = "fraud-detection",
    deploy_model_uri: str = "",
    deploy_rollout: str = "direct",
    canary_steps: str = "10,25,50,100",
    canary_samples: int = 100,
    canary_step_seconds: int = 600,
) -> None:
    """Verify the whole chain of a finished run again, decide, and deploy only what was decided to pass.

    Start it under a ServiceAccount of its own, in a namespace of its own. Its signer is the only one that the trust
    file believes about decisions, so that nothing the training run did, or could do, admits a model. Where it is
    deployed to is the platform's to say (CUSTODY_DEPLOY_TARGET), not that of whoever starts the run.

    Args:
        promote_run_id: The run that made the model; all evidence must be of it, and the decision is about it.
        promote_dataset_uri: That run's masked training month: output masked of mask_pii.
        promote_masking_uri: Its evidence: output evidence of the same mask_pii.
        promote_attestation_uri: Output attestation of attest_dataset.
        promote_provenance_uri: Output provenance of train_model.
        promote_model_uri: Output signed of sign_model.
        promote_current_uri: The masked present month: output masked of the other mask_pii.
        promote_current_masking_uri: Its evidence: output evidence of the same mask_pii.
        promote_drift_uri: Output evidence of check_drift.
        promote_source_uri: Output evidence of the fetch_dataset that brought the raw training month.
        promote_current_source_uri: Output evidence of the other fetch_dataset.
        gate_policy: Gate policy: the name of a shipped one or the path of a file; the trust file must pin it.
        deploy_name: Name that the model is served under.
        deploy_model_uri: Where the serving system reads the signed model from (seldon-v2 only).
        deploy_rollout: direct (the service switches over at once), or canary (by a growing share of the traffic, and
            back at the first failure).
        canary_steps: Percents of the traffic, in ascending order, separated by commas; the last is 100.
        canary_samples: Requests that the new version must answer in each step.
        canary_step_seconds: Seconds after which a step that has not passed is given up.
    """

    def imported(uri: str, name: str) -> Any:
        # A type would only be claimed here: that the bytes are what the input's name says is for the gate to find out.
        # (And under kfp.local an importer knows only the types that come with KFP; a plain Artifact fits every input.)
        task = dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact, reimport=True).set_display_name(name)
        return task.set_caching_options(False).output

    where = {"run_id": promote_run_id, "name": deploy_name, "target": "platform"}
    # Whatever happens in between: a canary that is left half-way goes back.
    with dsl.ExitHandler(on_cluster(close_rollout(**where), "seldon_deployment"), name="rollout"):
        model = imported(promote_model_uri, "signed-model")
        gate = on_cluster(
            enforce_policy(
                dataset=imported(promote_dataset_uri, "training-month"),
                masking=imported(promote_masking_uri, "masking"),
                attestation=imported(promote_attestation_uri, "attestation"),
                provenance=imported(promote_provenance_uri, "provenance"),
                model=model,
                current=imported(promote_current_uri, "present-month"),
                current_masking=imported(promote_current_masking_uri, "masking-present-month"),
                drift=imported(promote_drift_uri, "drift"),
                source=imported(promote_source_uri, "source"),
                current_source=imported(promote_current_source_uri, "source-present-month"),
                run_id=promote_run_id,
                policy=gate_policy,
                model_name=deploy_name,
            ),
            "policy_gate",
        )
        with dsl.If(gate.outputs["Output"] == "PASSED", name="admitted"):
            with dsl.If(deploy_rollout == "direct", name="at-once"):
                direct = deploy_model(
                    model=model, decision=gate.outputs["decision"], model_uri=deploy_model_uri, **where
                )
                on_cluster(direct, "seldon_deployment")
            with dsl.Else(name="by-canary"):
                common = {"model": model, "decision": gate.outputs["decision"], **where}
                placed = deploy_model(**common, model_uri=deploy_model_uri, rollout=deploy_rollout)
                on_cluster(placed, "seldon_deployment")
                analysed = analyse_canary(
                    **common,
                    deployment=placed.outputs["evidence"],
                    steps=canary_steps,
                    samples=canary_samples,
                    step_seconds=canary_step_seconds,
                )
                on_cluster(analysed, "seldon_deployment")
                finished = finish_rollout(**common, analysis=analysed.outputs["evidence"])
                on_cluster(finished, "seldon_deployment")
                with dsl.If(finished.outputs["Output"] == "ROLLED_BACK", name="rolled-back"):
                    again = refuse_rollout(rollout=finished.outputs["evidence"], run_id=promote_run_id)
                    on_cluster(again, "seldon_deployment")
        with dsl.Else(name="refused"):
            on_cluster(refuse(decision=gate.outputs["decision"], run_id=promote_run_id), "policy_gate")
