"""drift_watch on a schedule, against a stand-in of the KFP API: what is set is what its runs start with."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest
import yaml
from kfp_api import KfpApi
from kfp_command import Command, refused

pytestmark = pytest.mark.services
PLACEHOLDER = "{{$.pipeline_job_schedule_time_utc}}"
ADDRESSES = [f"watch_{part}_uri" for part in ("profile", "profile_evidence", "provenance", "model", "logs")]
SET = (
    *("schedule", "set", "drift_watch", "--name", "nightly", "--cron", "0 0 2 * * *"),
    *("--service-account", "custody-watch"),
    *("--param", "watch_action=run", "--param", "watch_schedule=nightly", "--param", "watch_training_run_id=run-1"),
    *("--param", "data_current_uri=s3://bucket/[[ScheduledTime.2006-01-02]]"),
    *(text for name in ADDRESSES for text in ("--param", f"{name}=s3://pipelines/{name}")),
)


def compiled() -> dict[str, Any]:
    path = files("kfp_custody.pipelines") / "drift_watch/pipeline.yaml"
    return next(yaml.safe_load_all(path.read_text()))  # type: ignore[no-any-return]


def constants(task: str) -> dict[str, Any]:
    inputs = compiled()["root"]["dag"]["tasks"][task]["inputs"]["parameters"]
    return {name: value.get("runtimeValue", {}).get("constant") for name, value in inputs.items()}


def test_each_run_of_the_schedule_has_its_own_window(api: KfpApi, custody: Command) -> None:
    assert custody("upload", "drift_watch").exit_code == 0
    done = custody(*SET)
    assert done.exit_code == 0, done.stderr
    assert "unchanged" in custody(*SET).stdout
    ((recurring_id, made),) = api.state.recurring.items()
    assert (made["no_catchup"], made["max_concurrency"], made["status"]) == (True, "1", "ENABLED")
    assert made["service_account"] == "custody-watch"
    times = [datetime(2026, 1, day, 2, tzinfo=UTC) for day in (30, 31, 31)]  # KFP may fire one time twice
    runs = [api.state.runs[api.fire(recurring_id, moment)] for moment in times]
    given = [run["runtime_config"]["parameters"]["data_current_uri"] for run in runs]
    assert given == ["s3://bucket/2026-01-30", "s3://bucket/2026-01-31", "s3://bucket/2026-01-31"]
    assert {run["pipeline_version_reference"]["pipeline_version_id"] for run in runs} == set(api.state.versions)


@pytest.mark.parametrize("task", ["start-retraining", "date-window", "date-window-2"])
def test_the_scheduled_time_is_all_of_a_constant(task: str) -> None:
    """KFP fills the placeholder in only there: not in a parameter's default, and not within a longer text."""
    assert constants(task)["scheduled_time"] == PLACEHOLDER
    assert PLACEHOLDER not in json.dumps(compiled()["root"]["inputDefinitions"])


def test_a_missing_address_and_an_unknown_parameter_are_refused(api: KfpApi, custody: Command) -> None:
    assert custody("upload", "drift_watch").exit_code == 0
    at = SET.index("watch_model_uri=s3://pipelines/watch_model_uri")
    refused(custody(*SET[: at - 1], *SET[at + 1 :]), "CUS-E143")
    refused(custody(*SET, "--param", "watch_start=x"), "CUS-E142")
    assert api.state.recurring == {}


def test_it_starts_retrainings_without_asking_a_condition() -> None:
    """What decides is the signed evidence; a condition would be text in a graph that whoever uploads may change."""
    task = compiled()["root"]["dag"]["tasks"]["start-retraining"]
    assert "triggerPolicy" not in task
    artifacts = task["inputs"]["artifacts"]
    assert {each["taskOutputArtifact"]["producerTask"] for each in artifacts.values()} == {
        "check-profile-drift",
        "monitor-inference",
    }
