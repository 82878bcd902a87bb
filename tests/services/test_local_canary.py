"""Canaries on this machine, whole: real signed models, real MLServers, a real Envoy, real requests, real evidence."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from securesystemslib.signer import Signer

from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, InputRefused, PolicyRefused
from kfp_custody.components._shared.evidence import CANARY, ROLLOUT
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.components.seldon_deployment import child, deployment, process
from kfp_custody.components.seldon_deployment.door import identity, proxy
from kfp_custody.components.seldon_deployment.rollout import stages
from kfp_custody.components.seldon_deployment.rollout.analysis import Limits
from kfp_custody.components.seldon_deployment.rollout.local import LocalTarget
from kfp_custody.components.seldon_deployment.rollout.stages import Inputs, Outputs
from services.traffic import Traffic, flowing, inputs
from unit.seldon_deployment.signed_models import decide, sign, trust_text, write_model

pytestmark = pytest.mark.services
NAME = "fraud-detection"
LIMITS = Limits(steps=(10, 50, 100), samples=30, interval_seconds=0.5, step_seconds=60.0)


@dataclass
class Service:
    """A service on this machine, and everything to roll models out to it."""

    root: Path
    signer: Signer
    settings: Settings
    runs: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def model(self, build: int, seed: int = 1, **changes: Any) -> Path:
        """A model that scores as all of the same seed do, and is another one."""
        changes = {"versions": {"build": str(build)}} | changes
        return sign(write_model(self.root / f"signed-{next(self.runs)}" / "model", seed, **changes), self.signer)

    def run(self, signed: Path) -> "Run":
        number = next(self.runs)
        run_id, root = f"run-{number}", self.root / f"run-{number}"
        return Run(self, run_id, signed, decide(root / "decision", signed / "model", self.signer, run_id), root)

    @property
    def target(self) -> LocalTarget:
        return LocalTarget(NAME, self.settings, 60)

    @property
    def home(self) -> Path:
        return self.settings.serving_dir / "services" / NAME

    @property
    def stable(self) -> str:
        stable = self.target.state().stable
        return stable.digest if stable else ""

    def client(self) -> httpx.Client:
        context = identity.client_context(self.home / "identity")
        headers = {"authorization": f"Bearer {identity.token(self.home / 'identity')}"}
        return httpx.Client(verify=context, headers=headers, trust_env=False, timeout=20)

    def ask(self, client: httpx.Client, seed: int = 0) -> httpx.Response:
        return client.post(f"{self.target.url}/infer", json={"inputs": inputs(seed)})

    def traffic(self) -> AbstractContextManager[Traffic]:
        """Requests, one after the other, until the block ends."""
        return flowing(self.client(), self.ask, "model_version")

    def logged(self) -> Counter[tuple[int, str]]:
        """What the door's own log says, by status and backend."""
        import json

        lines = (self.home / "door" / "access.jsonl").read_text().splitlines()
        return Counter((entry["status"], entry["backend"]) for entry in map(json.loads, lines))


@dataclass
class Run:
    """One pipeline run's stages."""

    service: Service
    id: str
    model: Path
    decision: Path
    root: Path
    timeout: int = 60

    def place(self, **changes: Any) -> deployment.Deployment:
        out = deployment.Outputs(*(self.root / name for name in ("deployment", "deployment.html", "endpoint.json")))
        return deployment.deploy(
            self.model, self.decision, out, self.service.settings,
            **self.where | {"rollout": "canary"} | changes,
        )  # fmt: skip

    def analyse(self, limits: Limits = LIMITS) -> str:
        outputs = Outputs(self.root / "analysis", self.root / "analysis.html")
        done = stages.analyse(Inputs(self.model, self.decision, self.root / "deployment"), outputs,
                              self.service.settings, limits, **self.where)  # fmt: skip
        return done.verdict

    def finish(self) -> str:
        outputs = Outputs(self.root / "rollout", self.root / "rollout.html")
        inputs = Inputs(self.model, self.decision, self.root / "analysis")
        return stages.finish(inputs, outputs, self.service.settings, **self.where).verdict

    def close(self) -> str:
        return stages.close(self.service.settings, **self.where)

    def promote(self) -> None:
        """Everything that a healthy run does, with its own traffic."""
        self.place()
        with self.service.traffic():
            assert self.analyse() == "HEALTHY"
        assert self.finish() == "PROMOTED"

    def evidence(self, name: str) -> Verified:
        kind = {"analysis": CANARY, "rollout": ROLLOUT}[name]
        return read_evidence(self.root / name, kind, load_trust(self.service.settings.trust_file), run_id=self.id)

    @property
    def where(self) -> dict[str, Any]:
        return {"run_id": self.id, "name": NAME, "target": "local", "timeout_seconds": self.timeout}

    @property
    def digest(self) -> str:
        from kfp_custody.components._shared.digests import list_tree

        return list_tree(self.model / "model").sha256

    @property
    def server(self) -> process.Server:
        """The canary's own server."""
        canary = self.service.target.state().canary
        assert canary is not None
        server = process.running(self.service.home / "versions" / canary.name)
        assert server is not None
        return server


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    root = tmp_path_factory.mktemp("canary")
    generate_key(root / "key.pem")
    signer = load_signer(f"file:{root}/key.pem")
    (root / "trust.yaml").write_text(trust_text(signer))
    (port,) = child.free_ports(1)
    settings = load_settings({
        "CUSTODY_SIGNER": f"file:{root}/key.pem", "CUSTODY_TRUST": str(root / "trust.yaml"),
        "CUSTODY_SERVING_DIR": str(root / "serving"), "CUSTODY_DOOR_PORT": str(port),
        "CUSTODY_DOOR": str(root / "door.yaml"),
    })  # fmt: skip
    home = settings.serving_dir / "services" / NAME / "identity"
    text = (identity.ensure(home, [NAME]) / "door.yaml").read_text()
    # As fast as this machine can: the flood has a test of its own.
    (root / "door.yaml").write_text(text[:-2] + ', "limits": {"requests_per_second": 100000, "burst": 100000}}')
    settings = replace(settings, door_tls=home)
    service = Service(root, signer, settings)
    try:
        yield service
    finally:
        service.target.stop()


@pytest.fixture
def service(opened: Service) -> Service:
    """The service with a stable version."""
    if not opened.stable:
        opened.run(opened.model(1)).promote()
    return opened


@pytest.fixture
def stable(service: Service) -> Iterator[str]:
    """The stable version before a test; it must be the only one after it, and answer every request."""
    before = service.stable
    yield before
    state = service.target.state()
    assert (state.stable and state.stable.digest, state.canary, state.weight) == (before, None, 0)
    assert [path.name for path in (service.home / "versions").iterdir()] == [state.stable and state.stable.name]
    with service.client() as client:
        answers = [service.ask(client, seed) for seed in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model_version"] for answer in answers} == {before}


def test_the_first_version_is_closed_until_it_is_analysed_and_then_serves(opened: Service) -> None:
    first = opened.run(opened.model(1))
    placed = first.place()
    assert placed.response is not None
    with opened.client() as client:
        assert opened.ask(client).status_code == 404, "nothing is answered before it was judged"
    with opened.traffic() as traffic:
        assert first.analyse() == "HEALTHY"
    assert first.finish() == "PROMOTED"
    assert opened.stable == first.digest
    assert set(traffic.count()) <= {"404", "200"}
    assert first.evidence("rollout").result == "PASSED"


def test_a_healthy_canary_is_promoted_and_nobody_sees_an_error(service: Service) -> None:
    before, run = service.stable, service.run(service.model(2))
    with service.traffic() as traffic:
        run.place()
        placed = len(traffic.answers)
        time.sleep(0.5)
        assert {version for _, version in traffic.answers[placed:]} == {before}, "no traffic before the analysis"
        assert run.analyse() == "HEALTHY"
        assert run.finish() == "PROMOTED"
        promoted = len(traffic.answers)
        time.sleep(0.5)
    assert set(traffic.count()) == {"200"}
    assert {version for _, version in traffic.answers[promoted:]} == {run.digest} == {service.stable}
    analysis, rollout = run.evidence("analysis"), run.evidence("rollout")
    assert (analysis.result, rollout.result) == ("PASSED", "PASSED")
    assert rollout.dependency("analysis") == analysis.bundle_sha256
    assert analysis.metrics["canary_errors"] == 0
    assert analysis.metrics["canary_requests"] >= 3 * LIMITS.samples
    assert len(list((service.home / "versions").iterdir())) == 1, "the old version's server has ended"


def test_what_the_analysis_counts_is_what_was_asked(service: Service, stable: str) -> None:
    """Exact counts: of the clients, of the door's metrics and of its log."""
    run = service.run(service.model(3))
    run.place()
    names = {version.digest: f"{NAME}-{version.name}" for version in service.target.state().versions}
    time.sleep(1.5)  # Envoy writes its log out twice a second
    begun, logged = service.target.counters(), service.logged()
    service.target.shift(25)
    with service.client() as client:
        answers = [service.ask(client, seed) for seed in range(200)]
    asked = Counter(answer.json()["model_version"] for answer in answers)
    deadline = time.monotonic() + 15
    while sum((service.logged() - logged).values()) < 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    counted = {name: each.since(begun[name]) for name, each in service.target.counters().items()}
    assert set(asked) == {stable, run.digest}
    for version in service.target.state().versions:
        assert counted[version.name].requests == asked[version.digest]
        assert counted[version.name].errors == 0
        assert max(counted[version.name].scores.values()) == asked[version.digest]
        assert (service.logged() - logged)[200, names[version.digest]] == asked[version.digest]
    assert 20 <= asked[run.digest] <= 80
    assert run.close() == "ROLLED_BACK"


def failing_at_once(run: Run) -> None:
    """Its server ends: every request to it is a 503 of the door."""
    os.kill(run.server.pid, signal.SIGKILL)


def hanging(run: Run) -> None:
    """Its server stops in the middle: requests to it end when the door gives up."""
    os.kill(run.server.pid, signal.SIGSTOP)


def during(run: Run, happen: Callable[[Run], None]) -> tuple[str, Traffic, int]:
    """Analyse while there is traffic; let something happen once the canary has some."""
    with run.service.traffic() as traffic:
        run.place()

        def later() -> None:
            while run.service.target.state().weight == 0:
                time.sleep(0.05)
            happen(run)

        thread = threading.Thread(target=later)
        thread.start()
        verdict = run.analyse()
        thread.join()
        at = len(traffic.answers) + 1  # but for the one that is under way
        time.sleep(1.0)
    return verdict, traffic, at


def test_a_canary_that_dies_is_rolled_back(service: Service, stable: str) -> None:
    run = service.run(service.model(4))
    began = time.monotonic()
    verdict, traffic, at = during(run, failing_at_once)
    assert verdict == "UNHEALTHY"
    assert set(traffic.count(at)) == {"200"}, "no request fails once the traffic is back"
    assert {version for _, version in traffic.answers[at:]} == {stable}
    assert traffic.count()["503"] >= 1
    assert run.finish() == "ROLLED_BACK"
    analysis = run.evidence("analysis")
    assert analysis.result == "FAILED"
    backend = f"{NAME}-{run.digest[:8]}-"
    deadline = time.monotonic() + 15

    def logged() -> int:
        return sum(count for (status, name), count in service.logged().items() if status == 503 and backend in name)

    while logged() < traffic.count()["503"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert 1 <= analysis.metrics["canary_errors"] <= traffic.count()["503"] == logged()
    assert "10-percent-errors" in analysis.predicate["failedTests"]
    assert time.monotonic() - began < 60
    with pytest.raises(PolicyRefused, match="rolled back"):
        stages.refuse(run.root / "rollout", run.id, service.settings)


def test_a_slow_canary_is_rolled_back(service: Service, stable: str) -> None:
    """A processor of its own that it has only a tenth of: slow, and right."""
    run = service.run(service.model(5))
    done = threading.Event()

    def slow(run: Run) -> None:
        pid = run.server.pid

        def brake() -> None:
            while not done.is_set():
                try:
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(0.15)
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    return
                time.sleep(0.02)

        threading.Thread(target=brake, daemon=True).start()

    try:
        verdict, traffic, at = during(run, slow)
    finally:
        done.set()
    assert verdict == "UNHEALTHY"
    assert set(traffic.count()) == {"200"}
    assert {version for _, version in traffic.answers[at:]} == {stable}
    failed = run.evidence("analysis").predicate["failedTests"]
    assert failed == ["10-percent-p99"]
    assert run.finish() == "ROLLED_BACK"


def test_a_canary_with_other_answers_is_rolled_back(service: Service, stable: str) -> None:
    """Every request is answered, at once, and the scores are those of another model."""
    run = service.run(service.model(40, seed=40))
    verdict, traffic, at = during(run, lambda run: None)
    assert verdict == "UNHEALTHY"
    assert set(traffic.count()) == {"200"}
    assert run.evidence("analysis").predicate["failedTests"] == ["10-percent-scores"]
    assert {version for _, version in traffic.answers[at:]} == {stable}
    assert run.finish() == "ROLLED_BACK"


def test_too_few_requests_promote_nothing(service: Service, stable: str) -> None:
    run = service.run(service.model(6))
    run.place()
    assert run.analyse(replace(LIMITS, step_seconds=2.0)) == "INCONCLUSIVE"
    assert service.target.state().weight == 0
    assert run.evidence("analysis").result == "WARNED"
    assert run.finish() == "ROLLED_BACK"


def test_without_metrics_nothing_is_promoted(service: Service, stable: str) -> None:
    """The socket that the door tells its counts on is gone; traffic flows as before."""
    run = service.run(service.model(7))
    run.place()
    run.timeout = 3
    admin = service.home / "door" / "admin.sock"
    service.target.shift(10)
    admin.rename(admin.with_name("hidden.sock"))
    try:
        with service.traffic() as traffic, pytest.raises(CustodyError, match="does not answer"):
            # Without administration the share cannot be confirmed either: the stage fails, the exit task rolls back.
            run.analyse(replace(LIMITS, step_seconds=2.0))
        assert set(traffic.count()) == {"200"}
    finally:
        admin.with_name("hidden.sock").rename(admin)
        run.timeout = 60
    assert run.close() == "ROLLED_BACK"


def killed_in_the_middle(run: Run, code: str) -> None:
    """Run a stage as a process of its own and kill it when the canary has a share."""
    environment = os.environ | {
        "CUSTODY_SIGNER": f"file:{run.service.root}/key.pem", "CUSTODY_TRUST": str(run.service.settings.trust_file),
        "CUSTODY_SERVING_DIR": str(run.service.settings.serving_dir),
        "CUSTODY_DOOR": str(run.service.settings.door_file),
        "CUSTODY_DOOR_TLS": str(run.service.settings.door_tls),
        "CUSTODY_DOOR_PORT": str(run.service.settings.door_port),
    }  # fmt: skip
    stage = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=run.root)
    try:
        deadline = time.monotonic() + 60
        while run.service.target.state().weight == 0:
            assert stage.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        stage.kill()
        stage.wait()


ANALYSE = """
from pathlib import Path
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components.seldon_deployment.rollout import stages
from kfp_custody.components.seldon_deployment.rollout.analysis import Limits
stages.analyse(
    stages.Inputs(Path({model!r}), Path("decision"), Path("deployment")),
    stages.Outputs(Path("lost"), Path("lost.html")),
    load_settings(), Limits(steps=(10, 50, 100), samples=30, interval_seconds=0.5, step_seconds=60.0),
    run_id={run!r}, name="fraud-detection", target="local", timeout_seconds=60,
)
"""


def test_an_analysis_that_was_killed_is_gone_on_with(service: Service) -> None:
    run = service.run(service.model(8))
    run.place()
    killed_in_the_middle(run, ANALYSE.format(model=str(run.model), run=run.id))
    assert not (run.root / "lost").exists()
    assert service.target.state().weight == 10
    with service.traffic() as traffic:
        assert run.analyse() == "HEALTHY"
        assert run.finish() == "PROMOTED"
    assert set(traffic.count()) == {"200"}
    assert service.stable == run.digest


def test_an_analysis_that_was_killed_is_rolled_back_by_the_exit_task(service: Service, stable: str) -> None:
    run = service.run(service.model(9))
    run.place()
    killed_in_the_middle(run, ANALYSE.format(model=str(run.model), run=run.id))
    with service.traffic() as traffic:
        assert run.close() == "ROLLED_BACK"
        assert run.close() == "NOTHING"
    assert set(traffic.count()) == {"200"}
    with pytest.raises(InputRefused, match="not there any more"):
        run.analyse()


def test_the_next_run_rolls_back_what_a_dead_one_left(service: Service) -> None:
    dead, following = service.run(service.model(10)), service.run(service.model(11))
    dead.place()
    service.target.shift(50)
    following.promote()
    assert service.stable == following.digest
    assert dead.close() == "NOTHING", "what belongs to another run is left alone"
    assert service.stable == following.digest


def test_a_server_that_is_gone_comes_back_with_the_next_change(service: Service, stable: str) -> None:
    """The machine was started again: nothing runs, everything is on disk."""
    service.target.stop()
    assert proxy.running(service.home / "door") is None
    run = service.run(service.model(12))
    run.place()
    with service.client() as client:
        assert service.ask(client).json()["model_version"] == stable
    assert run.close() == "ROLLED_BACK"


def test_a_repeated_run_changes_nothing(service: Service) -> None:
    run = service.run(service.model(13))
    run.promote()
    again = service.run(run.model)
    began = service.target.state()
    again.place()
    assert (again.analyse(), again.finish(), again.close()) == ("HEALTHY", "PROMOTED", "NOTHING")
    assert service.target.state() == began


def test_nothing_is_changed_on_forged_or_foreign_evidence(service: Service, stable: str) -> None:
    run, other = service.run(service.model(14)), service.run(service.model(15))
    run.place()
    with pytest.raises(EvidenceInvalid):
        Run(service, run.id, run.model, other.decision, run.root).analyse()
    (other.root / "analysis").mkdir(parents=True)
    (other.root / "analysis" / "analyse-canary.sigstore.json").write_text("{}")
    with pytest.raises(EvidenceInvalid):
        Run(service, run.id, run.model, run.decision, other.root).finish()
    assert service.target.state().weight == 0
    (run.model / "model" / "signature.json").write_text("{}")
    with pytest.raises(EvidenceInvalid):
        run.analyse()
    assert run.close() == "ROLLED_BACK"


def test_a_model_that_cannot_be_served_leaves_nothing(service: Service, stable: str) -> None:
    run = service.run(service.model(16, file="other.ubj"))
    with pytest.raises(CustodyError):
        run.place()
    assert run.close() == "NOTHING"
