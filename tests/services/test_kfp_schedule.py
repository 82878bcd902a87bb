"""kfp-custody schedule, against a stand-in of the KFP API (`kfp_api.py`)."""

from datetime import UTC, datetime

import pytest
from kfp_api import Fault, KfpApi
from kfp_command import DATA, Command, FileMaker, refused

SET = ("schedule", "set", "fraud_detection", "--name", "nightly", "--cron", "0 0 2 * * *", *DATA)


@pytest.fixture
def uploaded(custody: Command) -> None:
    assert custody("upload", "fraud_detection").exit_code == 0


def states(api: KfpApi) -> list[str]:
    return [str(entry["status"]) for entry in api.state.recurring.values()]


pytestmark = pytest.mark.usefixtures("uploaded")


def test_a_schedule_is_pinned_and_does_not_catch_up(api: KfpApi, custody: Command) -> None:
    window = ("--start", "2026-02-01T00:00:00Z", "--end", "2027-02-01T00:00:00+01:00", "--service-account", "trainer")
    done = custody(*SET, *window)
    assert done.exit_code == 0, done.stderr
    (made,), (version,) = api.state.recurring.values(), api.state.versions.values()
    assert made["trigger"] == {
        "cron_schedule": {
            "cron": "0 0 2 * * *",
            "start_time": "2026-02-01T00:00:00Z",
            "end_time": "2027-02-01T00:00:00+01:00",
        }
    }
    assert made["pipeline_version_reference"] == {
        "pipeline_id": version["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert (made["no_catchup"], made["max_concurrency"], made["status"]) == (True, "1", "ENABLED")
    assert made["service_account"] == "trainer"
    assert f"{api.url}/#/recurringrun/details/{made['recurring_run_id']}" in done.stdout


def test_the_same_again_changes_nothing(api: KfpApi, custody: Command) -> None:
    custody(*SET)
    api.asked.clear()
    assert "unchanged" in custody(*SET).stdout
    assert {method for method, *_ in api.asked} == {"GET"}


@pytest.mark.parametrize(
    "change",
    [
        ("--cron", "0 30 2 * * *"),
        ("--param", "deploy_name=other"),
        ("--experiment", "other"),
        ("--service-account", "other"),
        ("--end", "2027-01-01T00:00:00Z"),
        ("--version", "v2"),
    ],
    ids=lambda change: change[0],
)
def test_a_change_makes_a_new_one_and_disables_the_old(api: KfpApi, custody: Command, change: tuple[str, str]) -> None:
    custody("upload", "fraud_detection", "--version", "v2")
    custody(*SET)
    api.asked.clear()
    done = custody(*SET, *change)
    assert "created" in done.stdout
    assert states(api) == ["DISABLED", "ENABLED"]
    changes = [path.rpartition("/")[2] for method, path, *_ in api.asked if method == "POST" and "recurring" in path]
    assert changes == ["recurringruns", f"{list(api.state.recurring)[0]}:disable"], "new first, so that none is missed"


def test_a_new_version_is_taken_only_when_it_is_set(api: KfpApi, custody: Command, pipeline_file: FileMaker) -> None:
    nightly = ("--name", "small", "--cron", "0 0 2 * * *")
    custody("upload", pipeline_file())
    custody("schedule", "set", pipeline_file(), *nightly)
    custody("upload", pipeline_file(image="python:3.12"))
    first, second = list(api.state.versions)[-2:]
    fired = api.fire(list(api.state.recurring)[-1], datetime(2026, 1, 31, 2, tzinfo=UTC))
    assert api.state.runs[fired]["pipeline_version_reference"]["pipeline_version_id"] == first
    custody("schedule", "set", pipeline_file(image="python:3.12"), *nightly)
    assert states(api) == ["DISABLED", "ENABLED"]
    fired = api.fire(list(api.state.recurring)[-1], datetime(2026, 2, 1, 2, tzinfo=UTC))
    assert api.state.runs[fired]["pipeline_version_reference"]["pipeline_version_id"] == second


def test_pause_resume_and_list(api: KfpApi, custody: Command) -> None:
    custody(*SET, "--param", "deploy_name=old")
    custody(*SET)
    assert custody("schedule", "pause", "nightly").stdout == "schedule nightly paused\n"
    assert states(api) == ["DISABLED", "DISABLED"]
    assert custody("schedule", "pause", "nightly").stdout == "schedule nightly was paused already\n"
    assert custody("schedule", "resume", "nightly").stdout == "schedule nightly enabled again\n"
    assert states(api) == ["DISABLED", "ENABLED"], "as it was set last"
    assert custody("schedule", "resume", "nightly").stdout == "schedule nightly unchanged\n"
    lines = [line.split("\t") for line in custody("schedule", "list").stdout.splitlines()]
    assert [(name, state, cron) for name, state, cron, *_ in lines] == [
        ("nightly", "paused", "0 0 2 * * *"),
        ("nightly", "enabled", "0 0 2 * * *"),
    ]
    assert lines[0][3].startswith("fraud-detection, version 0.1.0-")


def test_setting_a_paused_schedule_enables_it(api: KfpApi, custody: Command) -> None:
    custody(*SET)
    custody("schedule", "pause", "nightly")
    assert "enabled again" in custody(*SET).stdout
    assert states(api) == ["ENABLED"]


def test_setting_back_is_a_change_like_any_other(api: KfpApi, custody: Command) -> None:
    for name in ("a", "b", "a"):
        custody(*SET, "--param", f"deploy_name={name}")
    assert states(api) == ["DISABLED", "DISABLED", "ENABLED"]
    custody("schedule", "pause", "nightly")
    custody("schedule", "resume", "nightly")
    assert states(api) == ["DISABLED", "DISABLED", "ENABLED"]


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_schedule_that_is_not_there(api: KfpApi, custody: Command, verb: str) -> None:
    custody(*SET)
    assert "kfp-custody schedule list" in refused(custody("schedule", verb, "nightl"), "CUS-E597")


def test_many_schedules_are_all_looked_at(api: KfpApi, custody: Command) -> None:
    api.page_size = 2
    for number in range(5):
        custody(*SET, "--param", f"deploy_name=v{number}")
    assert states(api) == ["DISABLED"] * 4 + ["ENABLED"]
    assert len(custody("schedule", "list").stdout.splitlines()) == 5


def test_an_old_one_that_cannot_be_disabled_takes_the_new_one_back(api: KfpApi, custody: Command) -> None:
    custody(*SET)
    api.faults.append(Fault("POST", f"/recurringruns/{list(api.state.recurring)[0]}:disable", 500))
    said = refused(custody(*SET, "--param", "deploy_name=other"), "CUS-E479")
    assert "the new one was disabled again, and the old one goes on" in said
    assert states(api) == ["ENABLED", "DISABLED"]
    assert custody(*SET, "--param", "deploy_name=other").exit_code == 0
    assert states(api) == ["DISABLED", "ENABLED"]


def test_when_neither_can_be_disabled_both_are_named(api: KfpApi, custody: Command) -> None:
    custody(*SET)
    api.faults.append(Fault("POST", "/recurringruns/.*:disable", 500, times=2))
    said = refused(custody(*SET, "--param", "deploy_name=other"), "CUS-E479")
    assert f"{list(api.state.recurring)[1]}, could not be disabled either: both fire" in said
    assert custody(*SET, "--param", "deploy_name=other").exit_code == 0
    assert states(api) == ["DISABLED", "ENABLED"]


def test_a_crash_between_the_two_is_finished_by_the_next(api: KfpApi, custody: Command) -> None:
    """The new one was made, and the command was killed before it disabled the old one."""
    custody(*SET)
    api.faults.append(Fault("POST", "/recurringruns", "lost"))
    refused(custody(*SET, "--param", "deploy_name=other"), "CUS-E471")
    assert states(api) == ["ENABLED", "ENABLED"]
    assert custody(*SET, "--param", "deploy_name=other").exit_code == 0
    assert states(api) == ["DISABLED", "ENABLED"]


def test_somebody_else_at_the_same_time(api: KfpApi, custody: Command) -> None:
    custody(*SET)

    def before(method: str, path: str) -> None:
        if path.endswith(":disable"):  # between our making and our last look, the other's appears
            theirs = dict(list(api.state.recurring.values())[-1], recurring_run_id="theirs")
            api.state.recurring["theirs"] = theirs

    api.before = before
    said = refused(custody(*SET, "--param", "deploy_name=mine"), "CUS-E476")
    assert "theirs" in said


def test_the_time_of_the_schedule_reaches_the_run(api: KfpApi, custody: Command) -> None:
    data = ("--param", "data_uri=s3://bucket/[[ScheduledTime.2006-01-02]]", "--param", "data_current_uri=s3://x")
    assert custody(*SET[:7], *data).exit_code == 0
    at = datetime(2026, 1, 31, 2, tzinfo=UTC)
    (schedule,) = api.state.recurring
    parameters = api.state.runs[api.fire(schedule, at)]["runtime_config"]["parameters"]
    assert parameters["data_uri"] == "s3://bucket/2026-01-31"
    # KFP may fire a time twice; what the second run gets is the same, so it does the same.
    assert api.state.runs[api.fire(schedule, at)]["runtime_config"]["parameters"] == parameters


@pytest.mark.parametrize("macro", ["[[Index]]", "[[ScheduleTime]]", "[[]]"])
def test_a_macro_that_nobody_replaces(api: KfpApi, custody: Command, macro: str) -> None:
    refused(custody(*SET, "--param", f"deploy_name={macro}"), "CUS-E146")
    assert api.state.recurring == {}


def test_five_fields_are_named_and_put_right(api: KfpApi, custody: Command) -> None:
    """KFP would take them, read the minutes as seconds, and fire every hour."""
    api.asked.clear()
    said = refused(custody(*SET[:6], "0 2 * * *", *DATA), "CUS-E598")
    assert "the seconds are missing" in said
    assert "'0 0 2 * * *'" in said
    assert api.asked == []


def test_the_version_must_be_uploaded_first(api: KfpApi, custody: Command, pipeline_file: FileMaker) -> None:
    said = refused(custody("schedule", "set", pipeline_file(), "--name", "n", "--cron", "0 0 2 * * *"), "CUS-E597")
    assert "kfp-custody upload" in said


def test_what_cannot_be_is_refused(api: KfpApi, custody: Command) -> None:
    refused(custody(*SET[:7], *DATA, "--name", "n" * 256), "CUS-E148")
    refused(custody(*SET[:7], *DATA[:2]), "CUS-E143")
    window = ("--start", "2027-01-01T00:00:00Z", "--end", "2026-01-01T00:00:00Z")
    assert custody(*SET, *window).exit_code == 2
    assert api.state.recurring == {}
