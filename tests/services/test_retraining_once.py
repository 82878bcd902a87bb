"""One run for what is due: claims in a folder and in Leases, a stand-in of KFP, and real processes that really die."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kfp_api import Fault, KfpApi
from kfp_command import Command, FileMaker

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, InputRefused, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import load_watch_settings
from kfp_custody.components.retraining.claims import STARTED, key_of
from kfp_custody.components.retraining.once import Done, Timing, start_once
from kfp_custody.components.retraining.opening import open_starter, open_store
from kfp_custody.components.retraining.orders import load_orders
from kfp_custody.components.retraining.windows import parse_time
from kube_api import FakeApi, Kind, fake_api
from kube_api import Fault as KubeFault

pytestmark = pytest.mark.services
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")
NAMESPACE = "team-a"
DUE = {"schedule": "nightly", "time": "2026-01-31T02:00:00Z"}
QUICK = Timing(lease=1.0, skew=1.0, poll=0.02, patience=8.0)
WORKER = Path(__file__).with_name("retraining_worker.py")


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with fake_api(kinds=[LEASE]) as served:
        monkeypatch.setenv("KUBECONFIG", str(served.kubeconfig(tmp_path / "kubeconfig")))
        yield served


@pytest.fixture(params=["folder", "leases"])
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where claims are kept, said by the environment."""
    if request.param == "leases":
        request.getfixturevalue("kube")
    monkeypatch.setenv(
        "CUSTODY_WATCH_STATE", str(tmp_path / "claims") if request.param == "folder" else f"kubernetes:{NAMESPACE}"
    )
    return str(request.param)


@pytest.fixture
def small(api: KfpApi, custody: Command, pipeline_file: FileMaker, tmp_path: Path, monkeypatch: Any) -> str:
    """An uploaded pipeline, and the retraining file that pins its version; returns the version's name."""
    assert custody("upload", pipeline_file(), "--version", "one").exit_code == 0
    write_orders(tmp_path, monkeypatch)
    monkeypatch.setenv("KFP_HOST", api.url)
    return "one"


def write_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    order = {
        "name": "small",
        "pipeline": "small",
        "version": "one",
        "parameters": {"text": "[[ScheduledTime.2006-01]]"},
    }
    path = tmp_path / "retraining.yaml"
    path.write_text(json.dumps({"version": 1, "orders": [{**order, **changes}]}))
    monkeypatch.setenv("CUSTODY_RETRAINING", str(path))


def start(due: dict[str, str] = DUE, holder: str = "a", timing: Timing = QUICK) -> Done:
    watch = load_watch_settings(Path("/nowhere/trust.yaml"))
    starter = open_starter(watch, load_orders(watch.orders_file).order("small"), parse_time(due["time"]))
    return start_once(open_store(watch), starter, key_of(due), due, holder=holder, timing=timing)


def claim() -> Any:
    standing = open_store(load_watch_settings(Path("/nowhere/trust.yaml"))).read(key_of(DUE))
    assert standing is not None
    return standing.claim


def worker(point: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WORKER), point, json.dumps(DUE)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    )


def said(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)  # type: ignore[no-any-return]


# --- one run ----------------------------------------------------------------------------------------------------------


def test_what_is_due_is_started_with_its_version_and_parameters(api: KfpApi, small: str, where: str) -> None:
    done = start()
    (body,) = api.sent("POST", "/runs")
    (run,) = api.state.runs.values()
    assert done == Done("STARTED", run["run_id"])
    assert key_of(DUE) in body["display_name"]
    assert key_of(DUE) in body["description"]
    assert body["runtime_config"]["parameters"] == {"text": "2026-01"}
    (version,) = [each for each in api.state.versions.values() if each["name"] == small]
    assert body["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert (claim().state, claim().run_id, claim().due) == (STARTED, done.run_id, DUE)


def test_a_late_or_doubled_firing_starts_nothing(api: KfpApi, small: str, where: str) -> None:
    first = start()
    assert start(holder="b") == Done("ALREADY", first.run_id)
    api.finish(first.run_id, "FAILED")
    assert start(holder="c") == Done("ALREADY", first.run_id), "one that failed was started all the same"
    assert len(api.state.runs) == 1
    assert start({**DUE, "time": "2026-01-30T02:00:00Z"}).how == "STARTED"
    assert start({**DUE, "schedule": "weekly"}).how == "STARTED"
    assert len(api.state.runs) == 3


def test_three_at_once_start_one(api: KfpApi, small: str, where: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda holder: start(holder=holder), "abc"))
    assert len(api.state.runs) == 1
    assert sorted(each.how for each in done) == ["ALREADY", "ALREADY", "STARTED"]
    assert {each.run_id for each in done} == set(api.state.runs)


def test_three_processes_at_once_start_one(api: KfpApi, small: str, where: str) -> None:
    done = [said(process) for process in [worker("none") for _ in range(3)]]
    assert len(api.state.runs) == 1
    assert sorted(how for how, _ in done) == ["ALREADY", "ALREADY", "STARTED"]


@pytest.mark.parametrize("point", ["claimed", "looked", "renewed", "started", "settled", "recorded"])
def test_whoever_is_killed_leaves_one_run(api: KfpApi, small: str, where: str, point: str) -> None:
    dying = worker(point)
    dying.communicate(timeout=60)
    assert dying.returncode == -signal.SIGKILL
    left = len(api.state.runs)
    assert left == (1 if point in ("started", "settled", "recorded") else 0)
    how = start(holder="another").how
    assert how == {"recorded": "ALREADY"}.get(point, "ADOPTED" if left else "STARTED")
    assert len(api.state.runs) == 1
    assert claim().state == STARTED


def test_two_that_die_one_after_another_leave_one_run(api: KfpApi, small: str, where: str) -> None:
    for point in ("claimed", "renewed", "started", "looked"):
        worker(point).communicate(timeout=60)
    assert start(holder="another").how == "ADOPTED"
    assert len(api.state.runs) == 1


def test_one_that_is_frozen_before_its_request_ends_its_own_run(api: KfpApi, small: str, where: str) -> None:
    frozen = worker("frozen")
    try:
        os.waitpid(frozen.pid, os.WUNTRACED)
        first = start(holder="another")
        assert first.how == "STARTED"
        os.kill(frozen.pid, signal.SIGCONT)
        assert said(frozen) == ["ADOPTED", first.run_id]
    finally:
        frozen.kill()
    states = {run_id: run["state"] for run_id, run in api.state.runs.items()}
    assert states.pop(first.run_id) == "PENDING"
    assert list(states.values()) == ["CANCELED"]
    assert claim().run_id == first.run_id


def test_a_claim_that_is_held_is_waited_for_and_then_refused(api: KfpApi, small: str, where: str) -> None:
    worker("claimed").communicate(timeout=60)
    with pytest.raises(ServiceUnreachable) as refusal:
        start(holder="b", timing=Timing(lease=600, skew=600, poll=0.02, patience=0.1))
    assert refusal.value.code == codes.CLAIM_HELD
    assert key_of(DUE) in str(refusal.value)
    assert api.state.runs == {}


def test_a_run_is_found_on_the_last_page(api: KfpApi, small: str, where: str) -> None:
    worker("started").communicate(timeout=60)
    (ours,) = list(api.state.runs.values())
    with api.lock:
        copies = {f"copy-{n}": {**ours, "run_id": f"copy-{n}", "display_name": f"other {n}"} for n in range(250)}
        api.state.runs = {**copies, ours["run_id"]: ours}
    api.page_size = 7
    assert start(holder="b") == Done("ADOPTED", ours["run_id"])


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [500, 503, 429, 409, "drop", "lost", "text"])
def test_a_server_that_fails_at_the_start_is_asked_again_safely(
    api: KfpApi, small: str, where: str, how: int | str
) -> None:
    api.faults.append(Fault("POST", "/runs", how))
    with pytest.raises(CustodyError):
        start(holder="a")
    done = start(holder="b")
    assert done.how == ("ADOPTED" if how == "lost" else "STARTED")
    assert len(api.state.runs) == 1


@pytest.mark.parametrize("status", [500, 429])
@pytest.mark.parametrize(("verb", "nth"), [("create", 0), ("get", 1), ("update", 0), ("update", 1)])
def test_a_kubernetes_api_that_fails_anywhere_costs_no_second_run(
    api: KfpApi, small: str, kube: FakeApi, monkeypatch: pytest.MonkeyPatch, status: int, verb: str, nth: int
) -> None:
    monkeypatch.setenv("CUSTODY_WATCH_STATE", f"kubernetes:{NAMESPACE}")
    for number in range(nth):  # those before it are let through: a fault that does nothing
        kube.faults.add(KubeFault(verb=verb, plural="leases", delay=0.001 * number))
    kube.faults.add(KubeFault(verb=verb, plural="leases", status=status))
    refused = []
    for holder in "abc":
        try:
            start(holder=holder)
        except ServiceUnreachable as error:
            refused.append(error.code)
    assert refused == [codes.CLAIMS_SILENT]
    assert len(api.state.runs) == 1
    assert claim().state == STARTED


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("verb", ["create", "update"])
def test_an_answer_of_kubernetes_that_is_lost_costs_no_second_run(
    api: KfpApi, small: str, kube: FakeApi, monkeypatch: pytest.MonkeyPatch, verb: str, moment: str
) -> None:
    monkeypatch.setenv("CUSTODY_WATCH_STATE", f"kubernetes:{NAMESPACE}")
    kube.faults.add(KubeFault(verb=verb, plural="leases", drop=moment))
    for holder in "ab":
        try:
            start(holder=holder)
        except ServiceUnreachable:
            continue
    assert len(api.state.runs) == 1
    assert claim().state == STARTED


def test_what_cannot_be_started_claims_nothing(
    api: KfpApi, small: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for changes, kind, code in (
        ({"version": "two"}, Misconfigured, codes.KFP_NOT_FOUND),
        ({"pipeline": "other"}, Misconfigured, codes.KFP_NOT_FOUND),
        ({"parameters": {"texts": "x"}}, InputRefused, codes.PARAMETER_UNKNOWN),
        ({"parameters": {"text": 1}}, InputRefused, codes.PARAMETER_TYPE),
    ):
        write_orders(tmp_path, monkeypatch, **changes)
        with pytest.raises(kind) as refusal:
            start()
        assert refusal.value.code == code
    assert open_store(load_watch_settings(Path("/nowhere/trust.yaml"))).read(key_of(DUE)) is None
    assert api.state.runs == {}


def test_what_is_no_claim_is_never_written_over(
    api: KfpApi, small: str, where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if where == "folder":
        start({**DUE, "schedule": "other"})
        (tmp_path / "claims" / f"{key_of(DUE)}.json").write_text('{"mine": 1}')
    else:
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"holderIdentity": "somebody"}}
        request.getfixturevalue("kube").api_client().call_api(
            f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases", "POST", auth_settings=["BearerToken"],
            body={**body, "metadata": {"name": f"custody-retraining-{key_of(DUE)}"}},
        )  # fmt: skip
    before = len(api.state.runs)
    with pytest.raises(Misconfigured) as refusal:
        start()
    assert refusal.value.code == codes.CLAIM
    assert len(api.state.runs) == before


# --- Leases and rights ------------------------------------------------------------------------------------------------

BASE = Path(__file__).resolve().parents[2] / "manifests" / "base"
ROLE = (BASE / "runs" / "claims.yaml", BASE / "watch" / "rolebinding.yaml")
TOKEN, ACCOUNT = "watch-token", f"system:serviceaccount:{NAMESPACE}:custody-watch"


def roles(without: str = "") -> list[dict[str, Any]]:
    """The Role of the manifests and its binding; all of its verbs, or without one."""
    import yaml

    found = [yaml.safe_load(path.read_text()) for path in ROLE]
    for document in found:
        document["metadata"]["namespace"] = NAMESPACE
        for rule in document.get("rules", ()):
            if "leases" in rule["resources"]:
                rule["verbs"] = [verb for verb in rule["verbs"] if verb != without]
        for subject in document.get("subjects", ()):
            subject["namespace"] = NAMESPACE
    return found


def as_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: FakeApi) -> None:
    monkeypatch.setenv("KUBECONFIG", str(served.kubeconfig(tmp_path / "kubeconfig", TOKEN)))
    monkeypatch.setenv("CUSTODY_WATCH_STATE", f"kubernetes:{NAMESPACE}")


def everything(holder: str) -> None:
    """Every call on Leases: claim, renew, record; another's claim is read and taken over."""
    start(holder=holder)
    start(holder=f"{holder} again")


def test_the_role_is_enough_and_reaches_leases_alone(
    api: KfpApi, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_api(kinds=[LEASE], roles=roles(), tokens={TOKEN: ACCOUNT}) as served:
        as_watch(tmp_path, monkeypatch, served)
        worker("claimed").communicate(timeout=60)
        everything("a")
        verbs = {(each.verb, each.plural) for each in served.requests}
    assert verbs == {("create", "leases"), ("get", "leases"), ("update", "leases")}
    assert len(api.state.runs) == 1


@pytest.mark.parametrize("verb", ["get", "create", "update"])
def test_a_verb_that_is_dropped_is_named(
    api: KfpApi, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    with fake_api(kinds=[LEASE], roles=roles(without=verb), tokens={TOKEN: ACCOUNT}) as served:
        as_watch(tmp_path, monkeypatch, served)
        with pytest.raises(Misconfigured) as refusal:
            everything("a")
    text = str(refusal.value)
    assert refusal.value.code == codes.CLAIMS_DENIED
    assert f"HTTP 403: {verb} leases.coordination.k8s.io" in text
    assert f"verbs: [{verb}]" in text
    assert len(api.state.runs) == (1 if verb == "get" else 0), "get is asked only when there is a claim already"


def test_without_access_and_without_an_answer_nothing_is_started(
    api: KfpApi, small: str, kube: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTODY_WATCH_STATE", f"kubernetes:{NAMESPACE}")
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace(kube.url, "http://127.0.0.1:9"))
    with pytest.raises(ServiceUnreachable) as silent:
        start()
    assert silent.value.code == codes.CLAIMS_SILENT
    kube.kubeconfig(config, "wrong-token")
    with pytest.raises(Misconfigured, match="does not know who asks"):
        start()
    config.unlink()
    with pytest.raises(Misconfigured, match="no access"):
        start()
    assert api.state.runs == {}


def test_a_claim_is_a_lease_that_a_person_can_read(api: KfpApi, small: str, kube: FakeApi, monkeypatch: Any) -> None:
    monkeypatch.setenv("CUSTODY_WATCH_STATE", f"kubernetes:{NAMESPACE}")
    done = start(holder="run-1/abc")
    (lease,) = kube.store.list(LEASE, NAMESPACE)
    assert lease["metadata"]["name"] == f"custody-retraining-{key_of(DUE)}"
    assert lease["spec"]["holderIdentity"] == "run-1/abc"
    assert lease["spec"]["leaseDurationSeconds"] >= 1
    assert json.loads(lease["metadata"]["annotations"]["custody.kubeflow.org/claim"])["run_id"] == done.run_id


# --- on this machine --------------------------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command that notes each of its starts; returns its notes."""
    write_orders(tmp_path, monkeypatch)
    notes, script = tmp_path / "notes", tmp_path / "retrain.py"
    script.write_text(
        "import sys, json\n"
        f"open({str(notes)!r}, 'a').write(open(sys.argv[1]).read() + '\\n')\n"
        "print('trained into', sys.argv[2])\n"
    )
    monkeypatch.setenv("CUSTODY_WATCH_STATE", str(tmp_path / "claims"))
    monkeypatch.setenv("CUSTODY_RETRAIN", "local")
    monkeypatch.setenv("CUSTODY_RETRAIN_COMMAND", f"{sys.executable} {script}")
    return notes


def finished(tmp_path: Path) -> str:
    state = tmp_path / "claims" / "runs" / key_of(DUE) / "state"
    for _ in range(500):
        if state.exists() and state.read_text() != "RUNNING":
            return state.read_text()
        time.sleep(0.02)
    raise AssertionError("the local retraining does not end")


def test_a_local_retraining_runs_once(local: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda holder: start(holder=holder), "abc"))
    assert sorted(each.how for each in done) == ["ALREADY", "ALREADY", "STARTED"]
    assert finished(tmp_path) == "SUCCEEDED"
    (line,) = local.read_text().splitlines()
    assert json.loads(line) == {"pipeline": "small", "version": "one", "parameters": {"text": "2026-01"}}
    assert "trained into" in (tmp_path / "claims" / "runs" / key_of(DUE) / "log").read_text()


@pytest.mark.parametrize("point", ["claimed", "renewed", "started", "recorded"])
def test_a_local_retraining_outlives_whoever_started_it(local: Path, tmp_path: Path, point: str) -> None:
    worker(point).communicate(timeout=60)
    start(holder="another")
    assert finished(tmp_path) == "SUCCEEDED"
    assert len(local.read_text().splitlines()) == 1


def test_a_local_process_that_is_not_the_first_runs_nothing(local: Path, tmp_path: Path) -> None:
    start()
    finished(tmp_path)
    again = [sys.executable, "-m", "kfp_custody.components.retraining.local_starter", str(tmp_path / "claims" / "runs")]
    done = subprocess.run([*again, key_of(DUE), "{}", sys.executable, "-c", "pass"], check=False)
    assert done.returncode == 3
    assert len(local.read_text().splitlines()) == 1


def test_a_local_retraining_that_cannot_begin_is_refused(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "runs").write_text("no folder")
    with pytest.raises(OSError, match="exists"):
        start()
    monkeypatch.setenv("CUSTODY_WATCH_STATE", f"kubernetes:{NAMESPACE}")
    with pytest.raises(Misconfigured) as refusal:
        start()
    assert refusal.value.code == codes.WATCH_SETTINGS
