"""The reference pipeline: from raw card transactions to a served model, with a chain of custody all the way."""

from typing import Any

from kfp import dsl

from kfp_custody.components import (
    attest_dataset,
    attest_shard,
    check_drift,
    deploy_model,
    enforce_policy,
    mask_pii,
    mask_shard,
    merge_shards,
    refuse,
    sign_model,
    train_model,
)
from kfp_custody.components._shared.shards import require_number
from kfp_custody.pipelines.platform import on_cluster


def fraud_detection_in_shards(shards: int) -> Any:
    """Return the reference pipeline with the training month masked and attested in shards, side by side.

    The number is a constant of the compiled pipeline and no parameter of a run, so that the merge knows how many
    shards there must be. One shard is the plain pipeline.

    Args:
        shards: How many, 1 to 32.

    Raises:
        Misconfigured: another number.
    """
    require_number(0, shards)
    name = "fraud-detection" if shards == 1 else f"fraud-detection-in-{shards}-shards"

    @dsl.pipeline(name=name)
    def fraud_detection(
        data_uri: str,
        data_current_uri: str,
        data_sha256: str = "",
        data_current_sha256: str = "",
        mask_policy: str = "card-transactions",
        train_algorithm: str = "xgboost",
        train_label: str = "is_fraud",
        train_time_column: str = "timestamp",
        gate_policy: str = "baseline",
        deploy_name: str = "fraud-detection",
        deploy_target: str = "seldon-v2",
        deploy_model_uri: str = "",
    ) -> None:
        """Mask, attest, train, sign, check drift, decide and deploy; every stage leaves signed evidence.

        A stage refuses what is not exactly what the evidence before it speaks of. The gate verifies all of it again,
        evaluates the policy and signs PASSED or FAILED; nothing is deployed unless it says PASSED, and the run fails
        otherwise with the reasons.

        Args:
            data_uri: The raw training month: a Parquet or CSV file or a folder of them.
            data_current_uri: The raw present month, for the drift check.
            data_sha256: Digest that the listing of the training month must have; empty only records it.
            data_current_sha256: Digest that the listing of the present month must have; empty only records it.
            mask_policy: Masking policy: the name of a shipped one or the path of a file.
            train_algorithm: xgboost, hist_gradient_boosting, random_forest or logistic_regression.
            train_label: Column with 0 and 1.
            train_time_column: Column to split training from test by; empty splits at random.
            gate_policy: Gate policy: the name of a shipped one or the path of a file; the trust file must pin it.
            deploy_name: Name that the model is served under.
            deploy_target: seldon-v2, or local for a model server on this machine.
            deploy_model_uri: Where the serving system reads the signed model from (seldon-v2 only).
        """
        run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER

        def import_month(uri: str, name: str) -> dsl.PipelineTask:
            month = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, reimport=True).set_display_name(name)
            return month.set_caching_options(False)

        masked = mask_month(
            shards=shards,
            data=import_month(data_uri, "training-month").output,
            run_id=run_id,
            policy=mask_policy,
            expected_sha256=data_sha256,
        )
        attested = on_cluster(
            attest_dataset(dataset=masked.outputs["masked"], masking=masked.outputs["evidence"], run_id=run_id),
            "data_attestation",
        )
        trained = on_cluster(
            train_model(
                dataset=masked.outputs["masked"],
                attestation=attested.outputs["attestation"],
                run_id=run_id,
                label=train_label,
                time_column=train_time_column,
                algorithm=train_algorithm,
            ),
            "model_training",
        )
        signed = on_cluster(
            sign_model(model=trained.outputs["model"], provenance=trained.outputs["provenance"], run_id=run_id),
            "artifact_signing",
        )
        current = on_cluster(
            mask_pii(
                data=import_month(data_current_uri, "present-month").output,
                run_id=run_id,
                policy=mask_policy,
                expected_sha256=data_current_sha256,
            ).set_display_name("mask-present-month"),
            "pii_masking",
        )
        drift = on_cluster(
            check_drift(
                reference=masked.outputs["masked"],
                current=current.outputs["masked"],
                attestation=attested.outputs["attestation"],
                current_masking=current.outputs["evidence"],
                provenance=trained.outputs["provenance"],
                model=signed.outputs["signed"],
                run_id=run_id,
                label=train_label,
            ),
            "drift_detection",
        )
        gate = on_cluster(
            enforce_policy(
                dataset=masked.outputs["masked"],
                masking=masked.outputs["evidence"],
                attestation=attested.outputs["attestation"],
                provenance=trained.outputs["provenance"],
                model=signed.outputs["signed"],
                current=current.outputs["masked"],
                current_masking=current.outputs["evidence"],
                drift=drift.outputs["evidence"],
                run_id=run_id,
                policy=gate_policy,
                model_name=deploy_name,
            ),
            "policy_gate",
        )
        with dsl.If(gate.outputs["Output"] == "PASSED", name="admitted"):
            on_cluster(
                deploy_model(
                    model=signed.outputs["signed"],
                    decision=gate.outputs["decision"],
                    run_id=run_id,
                    name=deploy_name,
                    target=deploy_target,
                    model_uri=deploy_model_uri,
                ),
                "seldon_deployment",
            )
        with dsl.Else(name="refused"):
            on_cluster(refuse(decision=gate.outputs["decision"], run_id=run_id), "policy_gate")

    return fraud_detection


def mask_month(shards: int, data: Any, run_id: str, **parameters: Any) -> dsl.PipelineTask:
    """Mask a month whole, or fan out over its shards and merge them; both leave the same outputs."""
    if shards == 1:
        return on_cluster(mask_pii(data=data, run_id=run_id, **parameters), "pii_masking")
    with dsl.ParallelFor(items=list(range(shards)), name="shards") as shard:
        part = on_cluster(mask_shard(data=data, run_id=run_id, shard=shard, shards=shards, **parameters), "pii_masking")
        attested = on_cluster(
            attest_shard(shard=part.outputs["masked"], masking=part.outputs["evidence"], run_id=run_id),
            "data_attestation",
        )
    return on_cluster(
        merge_shards(
            masked_shards=dsl.Collected(part.outputs["masked"]),
            maskings=dsl.Collected(part.outputs["evidence"]),
            attestations=dsl.Collected(attested.outputs["attestation"]),
            run_id=run_id,
            shards=shards,
        ),
        "pii_masking",
    )


fraud_detection = fraud_detection_in_shards(1)
