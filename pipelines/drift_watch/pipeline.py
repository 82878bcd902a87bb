"""The scheduled loop: a window's data and requests are checked, and a failed check starts a retraining, once."""

from typing import Any

from kfp import dsl

from kfp_custody.components import (
    check_profile_drift,
    collect_logs,
    date_window,
    fetch_dataset,
    mask_pii,
    monitor_inference,
    publish_metrics,
    start_retraining,
)
from kfp_custody.pipelines.platform import on_cluster


def drift_watch_at(scheduled_time: str) -> Any:
    """Return the pipeline for windows that end at a time.

    The time is a constant of the compiled pipeline and no parameter: KFP fills its placeholder in where it is all of a
    constant, and `kfp.local` knows no such time.

    Args:
        scheduled_time: KFP's placeholder, or a time in the past, RFC 3339 in UTC, for a run on this machine.
    """

    @dsl.pipeline(name="drift-watch")
    def drift_watch(
        data_current_uri: str,
        watch_training_run_id: str,
        watch_profile_uri: str,
        watch_profile_evidence_uri: str,
        watch_provenance_uri: str,
        watch_model_uri: str,
        watch_logs_uri: str,
        data_current_revision: str = "",
        mask_policy: str = "card-transactions",
        train_label: str = "is_fraud",
        deploy_name: str = "fraud-detection",
        watch_hours: int = 24,
        watch_schedule: str = "drift-watch",
        watch_action: str = "alert",
        watch_order: str = "fraud-detection",
        watch_max_age_hours: int = 24,
    ) -> None:
        """Check a window's data and requests against the model in service; a failed check starts a retraining, once.

        Every stage leaves signed evidence of this run. What the model was trained on is known from its signed profile,
        so neither the training data nor its bytes are needed. Give it to a schedule: the window ends at the time that
        a run is scheduled for, however late it starts.

        Args:
            data_current_uri: The window's raw data, such as s3://bucket/[[ScheduledTime.2006-01-02]]; the platform's
                sources file says what is allowed.
            watch_training_run_id: The run that made the model.
            watch_profile_uri: Its output profile of profile_dataset.
            watch_profile_evidence_uri: Its output evidence of profile_dataset.
            watch_provenance_uri: Its output provenance of train_model.
            watch_model_uri: Its output signed of sign_model.
            watch_logs_uri: Where the request logs of the model are; the sources file allows it.
            data_current_revision: Commit, branch or tag (git), or sha256:<hex> of the listing that the data must have.
            mask_policy: Masking policy: that of the training, by name or path.
            train_label: Column with 0 and 1, compared when the data has it.
            deploy_name: Name that the model is served under.
            watch_hours: Length of the window of requests, in hours.
            watch_schedule: Name of the schedule; two with one name share their retrainings.
            watch_action: alert (nothing is started; a person decides), run (a failed check starts the order), or
                backfill (also for a window older than watch_max_age_hours).
            watch_order: Entry of the platform's retraining file that is started.
            watch_max_age_hours: A window older than this is recorded as missed and starts nothing.
        """
        run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER

        def imported(uri: str, name: str) -> Any:
            # As in promotion: that the bytes are what the input's name says is for the checks to find out.
            task = dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact, reimport=True).set_display_name(name)
            return task.set_caching_options(False).output

        def edge(hours: Any, name: str) -> Any:
            task = date_window(scheduled_time=scheduled_time, hours_before=hours).set_display_name(name)
            return on_cluster(task, "retraining").output

        profile = {
            "profile": imported(watch_profile_uri, "profile"),
            "profile_evidence": imported(watch_profile_evidence_uri, "profile-evidence"),
            "training_run_id": watch_training_run_id,
        }
        fetched = fetch_dataset(run_id=run_id, uri=data_current_uri, revision=data_current_revision)
        on_cluster(fetched, "data_versioning")
        masked = mask_pii(
            data=fetched.outputs["data"], source=fetched.outputs["evidence"], run_id=run_id, policy=mask_policy
        )
        on_cluster(masked, "pii_masking")
        drift = check_profile_drift(
            current=masked.outputs["masked"],
            current_masking=masked.outputs["evidence"],
            provenance=imported(watch_provenance_uri, "provenance"),
            model=imported(watch_model_uri, "signed-model"),
            run_id=run_id,
            label=train_label,
            **profile,
        )
        on_cluster(drift, "drift_detection")
        logs = collect_logs(
            run_id=run_id,
            uri=watch_logs_uri,
            start=edge(watch_hours, "start-of-window"),
            end=edge(0, "end-of-window"),
        )
        on_cluster(logs, "data_versioning")
        monitored = monitor_inference(
            logs=logs.outputs["logs"],
            logs_evidence=logs.outputs["evidence"],
            run_id=run_id,
            model_name=deploy_name,
            **profile,
        )
        on_cluster(monitored, "inference_monitoring")
        findings = {"drift": drift.outputs["evidence"], "monitoring": monitored.outputs["evidence"]}
        on_cluster(publish_metrics(run_id=run_id, model_name=deploy_name, **findings), "metrics_publishing")
        # It reads the verdicts from the evidence: no condition of this pipeline decides, which is text in a graph.
        started = start_retraining(
            run_id=run_id,
            scheduled_time=scheduled_time,
            schedule_name=watch_schedule,
            action=watch_action,
            order=watch_order,
            max_age_hours=watch_max_age_hours,
            every_hours=watch_hours,
            **findings,
        )
        on_cluster(started, "retraining")

    return drift_watch


drift_watch = drift_watch_at(dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER)
