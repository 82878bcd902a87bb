"""The contracts of start_retraining and date_window."""

from kfp import dsl
from kfp.dsl import HTML, Input, Output

from kfp_custody.components._shared.artifacts import TestResult
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("retraining"), install_kfp_package=False)
def start_retraining(
    drift: Input[TestResult],
    monitoring: Input[TestResult],
    evidence: Output[TestResult],
    report: Output[HTML],
    run_id: str,
    scheduled_time: str,
    schedule_name: str = "drift-watch",
    action: str = "alert",
    order: str = "fraud-detection",
    max_age_hours: int = 24,
    every_hours: int = 0,
) -> str:
    """Start the retraining of a window whose checks failed, exactly once per schedule and scheduled time.

    A claim is made before anything is started. Fired late, twice, three times at once, or again after a crash, one run
    of the pipeline version that the platform pinned is left.

    Args:
        drift: Evidence of a drift check of this run.
        monitoring: Evidence of monitor_inference of this run; without one, that of the drift check again.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER; all evidence must belong to it.
        scheduled_time: Of the window: dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER, given as a constant.
        schedule_name: The schedule; two schedules with one name share their retrainings.
        action: alert (nothing is started; a person decides), run (the order is started), or backfill (it is started
            also for a window older than max_age_hours).
        order: Which entry of the platform's retraining file is started.
        max_age_hours: A window older than this is recorded as missed and starts nothing.
        every_hours: Hours between two windows, to count those that were missed; 0 counts none.

    Returns:
        evidence: Signed test result: what was decided and why, the claim and the run.
        report: The same for people.
        Output: STARTED, ADOPTED, ALREADY, NOT_NEEDED, ALERT_ONLY or TOO_LATE.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.retraining.stage import Wish, run

        wish = Wish(schedule_name, scheduled_time, action, order, max_age_hours, every_hours)
        findings, made = [Path(drift.path), Path(monitoring.path)], (Path(evidence.path), Path(report.path))
        done = run(findings, *made, load_settings(), wish, run_id=run_id)
    evidence.metadata.update(done.facts)
    return done.decision


@dsl.component(base_image=image("retraining"), install_kfp_package=False)
def date_window(scheduled_time: str, hours_before: int = 0) -> str:
    """Return an edge of a window: the time that a run is scheduled for, or some hours before it.

    Args:
        scheduled_time: Of the window: dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER, given as a constant.
        hours_before: How many hours before it (0 to 8784).

    Returns:
        Output: The time, RFC 3339 in UTC to the second.
    """
    from kfp_custody.components._shared.errors import boundary

    with boundary():
        from kfp_custody.components.retraining.windows import edge

        return edge(scheduled_time, hours_before)
