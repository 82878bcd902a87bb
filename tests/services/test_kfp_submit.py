"""kfp-custody submit, against a stand-in of the KFP API (`kfp_api.py`)."""

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from kfp_api import Fault, KfpApi
from kfp_command import DATA, Command, FileMaker, refused

from kfp_custody.components._cli.kfp_api.package import load_package

COMMAND = [sys.executable, "-m", "kfp_custody.components._cli.main"]


def runs(api: KfpApi) -> list[dict[str, object]]:
    return list(api.state.runs.values())


# --- what is started --------------------------------------------------------------------------------------------------


def test_the_package_here_is_sent_along(api: KfpApi, custody: Command) -> None:
    done = custody("submit", "fraud_detection", *DATA, "--service-account", "trainer", "--experiment", "cards")
    assert done.exit_code == 0, done.stderr
    (run,), (experiment,) = runs(api), api.state.experiments.values()
    assert run["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "fraud-detection"  # type: ignore[index]
    assert run["runtime_config"] == {
        "parameters": {"data_uri": "s3://bucket/2026-01", "data_current_uri": "s3://bucket/2026-02"}
    }
    assert (run["service_account"], experiment["display_name"]) == ("trainer", "cards")
    assert f"run {run['run_id']} started\n{api.url}/#/runs/details/{run['run_id']}\n" == done.stdout


def test_an_uploaded_version_is_pinned_by_id(api: KfpApi, custody: Command) -> None:
    custody("upload", "fraud_detection", "--version", "v1")
    custody("upload", "promotion", "--name", "fraud-detection", "--version", "v2")
    for pipeline in ("fraud_detection", "fraud-detection"):
        assert custody("submit", pipeline, "--version", "v1", *DATA).exit_code == 0
    (v1,) = (entry for entry in api.state.versions.values() if entry["name"] == "v1")
    wanted = {"pipeline_id": v1["pipeline_id"], "pipeline_version_id": v1["pipeline_version_id"]}
    assert [run["pipeline_version_reference"] for run in runs(api)] == [wanted, wanted]
    assert not any("pipeline_spec" in run for run in runs(api))


def test_a_pipeline_that_only_the_server_has(api: KfpApi, custody: Command, pipeline_file: FileMaker) -> None:
    custody("upload", pipeline_file("theirs"), "--version", "v1")
    assert custody("submit", "theirs", "--version", "v1", "--param", "text=hello").exit_code == 0
    refused(custody("submit", "theirs", "--version", "v1", "--param", "txt=hello"), "CUS-E142")


@pytest.mark.parametrize("pipeline", ["fraud_detection", "unheard-of"])
def test_a_version_that_is_not_there(api: KfpApi, custody: Command, pipeline: str) -> None:
    custody("upload", "fraud_detection")
    said = refused(custody("submit", pipeline, "--version", "v9", *DATA), "CUS-E597")
    assert "kfp-custody upload" in said


def test_a_version_that_kfp_1_compiled(api: KfpApi, custody: Command, pipeline_file: FileMaker) -> None:
    custody("upload", pipeline_file("old"), "--version", "v1")
    for entry in api.state.versions.values():
        del entry["pipeline_spec"]
    assert "kfp 2" in refused(custody("submit", "old", "--version", "v1"), "CUS-E141")


def test_an_experiment_is_made_once(api: KfpApi, custody: Command) -> None:
    for _ in range(2):
        custody("submit", "fraud_detection", *DATA, "--experiment", "cards")
    assert len(api.state.experiments) == 1
    assert len(runs(api)) == 2


def test_no_cache_reaches_every_task(api: KfpApi, custody: Command, pipeline_file: FileMaker) -> None:
    custody("submit", pipeline_file(), "--no-cache")
    tasks = runs(api)[0]["pipeline_spec"]["root"]["dag"]["tasks"]  # type: ignore[index]
    assert [task["cachingOptions"] for task in tasks.values()] == [{}]  # false is proto's default and left out
    usage = custody("submit", "fraud_detection", *DATA, "--version", "v1", "--no-cache")
    assert usage.exit_code == 2
    assert len(runs(api)) == 1


def test_names_that_do_not_fit(api: KfpApi, custody: Command) -> None:
    refused(custody("submit", "fraud_detection", *DATA, "--run-name", "r" * 256), "CUS-E148")
    refused(custody("submit", "fraud_detection", *DATA, "--key", "k" * 255), "CUS-E148")
    refused(custody("submit", "fraud_detection", *DATA, "--experiment", "e" * 129), "CUS-E148")
    assert runs(api) == []


# --- parameters are checked before anything is sent -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--param", "data_ur=s3://x"), "CUS-E142", "Did you mean data_uri?"),
        (("--param", "data_uri=s3://x"), "CUS-E143", "data_current_uri"),
        ((*DATA, "--param", "data_uri=again"), "CUS-E144", "given twice"),
        ((*DATA, "--param", "nothing"), "CUS-E144", "NAME=VALUE"),
        ((*DATA, "--param", f"mask_policy={'p' * 10_000}"), "CUS-E147", "against 10000"),
    ],
)
def test_wrong_parameters_are_refused_and_nothing_is_asked(
    api: KfpApi, custody: Command, arguments: tuple[str, ...], code: str, said: str
) -> None:
    assert said in refused(custody("submit", "fraud_detection", *arguments), code)
    assert api.asked == []


def test_parameters_arrive_in_their_types(
    api: KfpApi, custody: Command, pipeline_file: FileMaker, tmp_path: Path
) -> None:
    kinds = {
        "n": "NUMBER_INTEGER",
        "x": "NUMBER_DOUBLE",
        "b": "BOOLEAN",
        "items": "LIST",
        "more": "STRUCT",
        "t": "STRING",
    }
    path = pipeline_file(**{name: {"parameterType": kind} for name, kind in kinds.items()})
    (tmp_path / "params.yaml").write_text("n: 1\nitems: [1, two]\nmore: {a: b}\nt: '007'\nb: true\n")
    given = ("--params-file", tmp_path / "params.yaml", "--param", "n=-3", "--param", "x=1e-3", "--param", "b=False")
    assert custody("submit", path, *given).exit_code == 0
    assert runs(api)[0]["runtime_config"] == {
        "parameters": {"n": -3, "x": 0.001, "b": False, "items": [1, "two"], "more": {"a": "b"}, "t": "007"}
    }


def test_the_largest_parameters_are_taken(api: KfpApi, custody: Command, pipeline_file: FileMaker) -> None:
    text = "x" * (10_000 - len('{"text": ""}'))  # the server counts a blank after the colon
    assert custody("submit", pipeline_file(), "--param", f"text={text}").exit_code == 0


# --- following a run --------------------------------------------------------------------------------------------------


def test_waiting_for_success(api: KfpApi, custody: Command) -> None:
    api.progress = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    done = custody("submit", "fraud_detection", *DATA, "--wait")
    assert done.exit_code == 0
    assert [line.split()[-1] for line in done.stdout.splitlines()[2:]] == ["PENDING", "RUNNING", "SUCCEEDED"]


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "SKIPPED"])
def test_waiting_for_a_run_that_does_not_succeed(api: KfpApi, custody: Command, state: str) -> None:
    api.progress, api.error = ["RUNNING", state], "task deploy-model: the gate says FAILED"
    done = custody("submit", "fraud_detection", *DATA, "--wait")
    said = refused(done, "CUS-E149")
    assert done.exit_code == 1
    assert state in said
    assert ("the gate says FAILED" in said) is (state == "FAILED")


def test_waiting_ends(api: KfpApi, custody: Command) -> None:
    done = custody("submit", "fraud_detection", *DATA, "--wait", "--timeout", "1")
    assert "it goes on" in refused(done, "CUS-E478")
    assert runs(api)[0]["state"] == "PENDING"


def test_waiting_outlasts_a_short_outage_and_no_long_one(api: KfpApi, custody: Command) -> None:
    api.progress = ["RUNNING", "SUCCEEDED"]
    api.faults.append(Fault("GET", "/runs/.*", 500, times=2))
    assert custody("submit", "fraud_detection", *DATA, "--wait").exit_code == 0
    api.faults.append(Fault("GET", "/runs/.*", 500, times=99))
    refused(custody("submit", "fraud_detection", *DATA, "--wait"), "CUS-E474")


# --- started once -----------------------------------------------------------------------------------------------------


KEY = ("--key", "2026-01-31T02:00:00Z")


@pytest.fixture
def keyed(pipeline_file: FileMaker) -> tuple[str, ...]:
    """The command line of a scheduler, with the time that it fires for."""
    return ("submit", str(pipeline_file()), *KEY)


def test_the_same_schedule_time_fired_again_starts_nothing(
    api: KfpApi, custody: Command, keyed: tuple[str, ...]
) -> None:
    first, second = custody(*keyed), custody(*keyed)
    (run,) = runs(api)
    assert run["display_name"] == "small [2026-01-31T02:00:00Z]"
    assert f"run {run['run_id']} started" in first.stdout
    assert f"run {run['run_id']} has this key (PENDING); nothing was started" in second.stdout
    assert (first.exit_code, second.exit_code) == (0, 0)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "SKIPPED", "RUNTIME_STATE_UNSPECIFIED"])
def test_a_run_counts_while_it_may_still_do_the_work_or_has_done_it(
    api: KfpApi, custody: Command, keyed: tuple[str, ...], state: str
) -> None:
    custody(*keyed)
    api.finish(str(runs(api)[0]["run_id"]), state)
    custody(*keyed)
    assert len(runs(api)) == 1


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "CANCELING"])
def test_a_run_that_did_not_do_the_work_does_not_count(
    api: KfpApi, custody: Command, keyed: tuple[str, ...], state: str
) -> None:
    custody(*keyed)
    api.finish(str(runs(api)[0]["run_id"]), state)
    custody(*keyed)
    custody(*keyed)
    assert [run["state"] for run in runs(api)] == [state, "PENDING"]


def test_another_key_pipeline_or_experiment_is_another_run(
    api: KfpApi, custody: Command, keyed: tuple[str, ...]
) -> None:
    custody(*keyed)
    custody(*keyed[:-1], "2026-02-01T02:00:00Z")
    custody(*keyed, "--experiment", "other")
    names = [run["display_name"] for run in runs(api)]
    assert len(names) == 3
    assert "small [2026-02-01T02:00:00Z]" in names


def test_a_keyed_run_of_a_version_and_of_the_package_are_the_same(
    api: KfpApi, custody: Command, keyed: tuple[str, ...]
) -> None:
    custody("upload", keyed[1])
    custody(*keyed, "--version", load_package(keyed[1]).version)
    custody(*keyed)
    assert len(runs(api)) == 1


def test_fired_again_after_a_crash(api: KfpApi, custody: Command, keyed: tuple[str, ...]) -> None:
    """The run was started, and the answer never came: nobody knows, until the key is looked up."""
    api.faults.append(Fault("POST", "/runs", "lost"))
    refused(custody(*keyed), "CUS-E471")
    assert len(runs(api)) == 1
    assert "nothing was started" in custody(*keyed).stdout
    assert len(runs(api)) == 1


@pytest.mark.parametrize("same_second", [True, False])
def test_three_at_once_leave_one_run(api: KfpApi, keyed: tuple[str, ...], same_second: bool) -> None:
    """All three find nothing, all three start; then all three look again, and the two younger ones end their own."""
    together, seen = threading.Barrier(3), {"/experiments": itertools.count(), "/runs": itertools.count()}
    if same_second:
        api.now = lambda: 1_800_000_000.0

    def before(method: str, path: str) -> None:
        # The first look at the experiments, which are none; the first and the second look at the runs.
        if method == "GET" and path in seen and next(seen[path]) < {"/experiments": 3, "/runs": 6}[path]:
            together.wait(60)

    api.before = before
    processes = [
        subprocess.Popen([*COMMAND, *keyed, "--host", api.url], env=os.environ, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    first = min(runs(api), key=lambda run: (run["created_at"], run["run_id"]))
    assert {run["run_id"]: run["state"] for run in runs(api)} == {
        run["run_id"]: "PENDING" if run is first else "CANCELED" for run in runs(api)
    }
    assert len(runs(api)) == 3
    assert sorted("nothing was started" in text for text in said) == [False, True, True]
    assert all(str(first["run_id"]) in text for text in said)


def test_a_key_and_a_name_exclude_each_other(api: KfpApi, custody: Command, keyed: tuple[str, ...]) -> None:
    assert custody(*keyed, "--run-name", "mine").exit_code == 2
    assert api.asked == []
