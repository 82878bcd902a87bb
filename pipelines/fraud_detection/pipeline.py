"""The reference pipeline: from raw card transactions to a served model, with a chain of custody all the way."""

from collections import namedtuple
from typing import Any, NamedTuple

from kfp import dsl

from kfp_custody.components import (
    attest_dataset,
    attest_shard,
    check_drift,
    deploy_model,
    enforce_policy,
    fetch_dataset,
    mask_pii,
    mask_shard,
    merge_shards,
    plan_shards,
    profile_dataset,
    refuse,
    sign_model,
    train_model,
)
from kfp_custody.components._shared.artifacts import MaskedDataset, SourceAttestation, TestResult
from kfp_custody.components._shared.shards import require_number
from kfp_custody.pipelines.platform import on_cluster

PLANNED = 0


def fraud_detection_in_shards(shards: int) -> Any:
    """Return the reference pipeline with the training month masked and attested in shards, side by side.

    The number is a constant of the compiled pipeline and no parameter of a run, so that the merge knows how many
    shards there must be. One shard is the plain pipeline.

    Args:
        shards: How many, 1 to 32; PLANNED for as many as the rows need, which plan_shards counts in the run.

    Raises:
        Misconfigured: another number.
    """
    if shards != PLANNED:
        require_number(0, shards)
    name = {1: "fraud-detection", PLANNED: "fraud-detection-in-shards"}.get(
        shards, f"fraud-detection-in-{shards}-shards"
    )

    @dsl.pipeline(name=name)
    def fraud_detection(
        data_uri: str,
        data_current_uri: str,
        data_revision: str = "",
        data_current_revision: str = "",
        mask_policy: str = "card-transactions",
        train_algorithm: str = "xgboost",
        train_label: str = "is_fraud",
        train_time_column: str = "timestamp",
        gate_policy: str = "baseline",
        deploy_name: str = "fraud-detection",
        deploy_target: str = "seldon-v2",
        deploy_model_uri: str = "",
    ) -> None:
        """Fetch, mask, attest, train, sign, profile, check drift, decide, deploy; every stage leaves signed evidence.

        A stage refuses what is not exactly what the evidence before it speaks of. The gate verifies all of it again,
        evaluates the policy and signs PASSED or FAILED; nothing is deployed unless it says PASSED, and the run fails
        otherwise with the reasons.

        Args:
            data_uri: The raw training month: git+https://host/repo.git//path (DVC, Git LFS), s3://, gs://, abfss:// or
                a folder; the platform's sources file says what is allowed.
            data_current_uri: The raw present month, for the drift check.
            data_revision: Commit, branch or tag (git), or sha256:<hex> of the listing that the data must have (all).
            data_current_revision: The same for the present month.
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

        def fetch_month(uri: str, revision: str, name: str) -> dsl.PipelineTask:
            month = fetch_dataset(run_id=run_id, uri=uri, revision=revision)
            return on_cluster(month.set_display_name(name), "data_versioning")

        training = fetch_month(data_uri, data_revision, "fetch-training-month")
        masked = mask_month(shards, training, run_id, mask_policy)
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
        on_cluster(
            profile_dataset(
                dataset=masked.outputs["masked"],
                attestation=attested.outputs["attestation"],
                run_id=run_id,
                model=signed.outputs["signed"],
                provenance=trained.outputs["provenance"],
            ),
            "drift_detection",
        )
        present = fetch_month(data_current_uri, data_current_revision, "fetch-present-month")
        current = mask_month(1, present, run_id, mask_policy).set_display_name("mask-present-month")
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
                source=training.outputs["evidence"],
                current_source=present.outputs["evidence"],
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


def mask_month(shards: int, fetched: dsl.PipelineTask, run_id: str, policy: Any) -> dsl.PipelineTask:
    """Mask a month whole, or fan out over its shards and merge them; both leave the same outputs."""
    given = {"data": fetched.outputs["data"], "source": fetched.outputs["evidence"], "run_id": run_id, "policy": policy}
    if shards == 1:
        return on_cluster(mask_pii(**given), "pii_masking")
    if shards != PLANNED:
        return mask_in_shards(numbers=list(range(shards)), shards=shards, **given).set_caching_options(False)
    plan = on_cluster(plan_shards(data=fetched.outputs["data"], policy=policy), "pii_masking")
    sharded = mask_in_shards(numbers=plan.outputs["numbers"], shards=plan.outputs["shards"], **given)
    return sharded.set_caching_options(False)


@dsl.pipeline(name="mask-in-shards")
def mask_in_shards(
    data: dsl.Input[dsl.Dataset],
    source: dsl.Input[SourceAttestation],
    run_id: str,
    numbers: list[int],
    shards: int,
    policy: str,
) -> NamedTuple("Merged", [("masked", MaskedDataset), ("evidence", TestResult)]):  # type: ignore[valid-type]
    """Mask and attest the shards of a dataset side by side, and put them together.

    A pipeline of its own, because kfp.local loops only over what comes from outside of a pipeline.

    Args:
        data: The raw data.
        source: The evidence that fetch_dataset left about it.
        run_id: The pipeline run.
        numbers: The numbers of the shards.
        shards: How many there are.
        policy: Masking policy.

    Returns:
        masked: The masked dataset.
        evidence: Signed test result about it.
    """
    given = {"data": data, "source": source, "run_id": run_id, "policy": policy}
    with dsl.ParallelFor(items=numbers, name="shards") as shard:
        part = on_cluster(mask_shard(shard=shard, shards=shards, **given), "pii_masking")
        attested = on_cluster(
            attest_shard(shard=part.outputs["masked"], masking=part.outputs["evidence"], run_id=run_id),
            "data_attestation",
        )
    merged = on_cluster(
        merge_shards(
            masked_shards=dsl.Collected(part.outputs["masked"]),
            maskings=dsl.Collected(part.outputs["evidence"]),
            attestations=dsl.Collected(attested.outputs["attestation"]),
            run_id=run_id,
            shards=shards,
        ),
        "pii_masking",
    )
    outputs = merged.outputs["masked"], merged.outputs["evidence"]
    return namedtuple("Merged", ("masked", "evidence"))(*outputs)  # type: ignore[call-arg]


fraud_detection = fraud_detection_in_shards(1)
