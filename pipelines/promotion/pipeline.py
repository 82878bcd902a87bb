"""Promotion: a finished training run is verified, decided about and deployed by an identity that training never had."""

from typing import Any

from kfp import dsl

from kfp_custody.components import deploy_model, enforce_policy, refuse
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
    """

    def imported(uri: str, name: str) -> Any:
        # A type would only be claimed here: that the bytes are what the input's name says is for the gate to find out.
        # (And under kfp.local an importer knows only the types that come with KFP; a plain Artifact fits every input.)
        task = dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact, reimport=True).set_display_name(name)
        return task.set_caching_options(False).output

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
        on_cluster(
            deploy_model(
                model=model,
                decision=gate.outputs["decision"],
                run_id=promote_run_id,
                name=deploy_name,
                target="platform",
                model_uri=deploy_model_uri,
            ),
            "seldon_deployment",
        )
    with dsl.Else(name="refused"):
        on_cluster(refuse(decision=gate.outputs["decision"], run_id=promote_run_id), "policy_gate")
