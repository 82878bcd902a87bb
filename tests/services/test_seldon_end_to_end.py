"""Rollouts on Seldon Core v2 from end to end: our stages, and a stand-in of Seldon that moves real requests.

Real: signed models, MLServers that verify them, Envoy with certificates and tokens, requests, Prometheus, evidence.
Stand-ins: the Kubernetes API (`kube_api`) and Seldon itself (`seldon_controller`). No real cluster or Seldon has run.
"""

import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components._shared.evidence import CANARY, ROLLOUT
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.components.seldon_deployment import child, deployment, kubernetes_api
from kfp_custody.components.seldon_deployment.rollout import stages
from kfp_custody.components.seldon_deployment.rollout.analysis import Limits
from kfp_custody.components.seldon_deployment.rollout.open import open_target
from kfp_custody.components.seldon_deployment.rollout.stages import Inputs, Outputs
from kfp_custody.components.seldon_deployment.rollout.state import Rollout
from kfp_custody.components.seldon_deployment.serving.names import RUNTIME, SETTINGS
from kube_api import EXPERIMENT, MODEL, FakeApi, fake_api
from kube_schemas import SCHEMAS
from services.doors import Keys, OpenDoor, open_door
from services.prometheus_server import PrometheusServer
from services.seldon_controller import NOBODY, SeldonController
from services.test_cluster_rollouts import ACCOUNT, NAME, NAMESPACE, TOKEN, roles
from services.test_cluster_tests import run as make_test_cluster
from services.traffic import Traffic, flowing, inputs
from unit.seldon_deployment.signed_models import decide, sign, trust_text, write_model

pytestmark = [pytest.mark.services, pytest.mark.loops]
LIMITS = Limits(steps=(10, 25, 50, 100), samples=30, interval_seconds=0.5, step_seconds=60.0)
TARGET = "seldon-v2"
EVERY_REQUEST = {"requests_per_second": 100_000, "burst": 100_000}
ANSWERED = f'sum by (model_internal) (seldon_model_infer_total{{model=~"{NAME}-.*",code="200"}})'
UNANSWERED = f'sum(envoy_cluster_upstream_rq{{envoy_cluster_name=~"{NAME}-.*",envoy_response_code="502"}})'


@dataclass
class Mesh:
    """A cluster as far as it stands here, and everything to roll models out to it."""

    root: Path
    environment: dict[str, str]
    signer: Signer
    api: FakeApi
    door: OpenDoor
    controller: SeldonController
    prometheus: PrometheusServer
    runs: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def run(self, build: int) -> "Run":
        """A run with a model of its own; all of them score alike. Its files are in the store as the README says."""
        number = next(self.runs)
        root, run_id = self.root / f"run-{number}", f"run-{number}"
        model = write_model(root / "signed" / "model", 1, versions={"build": str(build)})
        sign(model, self.signer)
        shutil.copytree(root / "signed", root / "store")
        (root / "store" / SETTINGS).write_text(json.dumps({"name": NAME, "implementation": RUNTIME}))
        decide(root / "decision", model, self.signer, run_id)
        return Run(self, run_id, root)

    @property
    def state(self) -> Rollout:
        return open_target(TARGET, NAME, load_settings(self.environment), 60).state()

    @property
    def shares(self) -> dict[str, int]:
        """Where the traffic goes, as the Experiment says."""
        found = self.api.store.get(EXPERIMENT, NAMESPACE, NAME)
        return {f"{each['name']}_1": each["weight"] for each in found["spec"]["candidates"]} if found else {}

    def ask(self, client: httpx.Client, seed: int) -> httpx.Response:
        return client.post(f"/v2/models/{NAME}/infer", json={"inputs": inputs(seed)})

    def client(self) -> httpx.Client:
        client = self.door.client("scoring")
        client.headers["authorization"] = f"Bearer {self.door.keys.token()}"
        return client

    def traffic(self) -> AbstractContextManager[Traffic]:
        return flowing(self.client(), self.ask, "model_name")

    def counted(self, query: str, label: str = "") -> dict[str, float]:
        """What Prometheus counted until now."""
        self.prometheus.wait_scraped(time.time())
        return self.prometheus.values(query, label)


@dataclass
class Run:
    """One pipeline run's stages."""

    mesh: Mesh
    id: str
    root: Path

    def place(self, timeout: int = 60) -> None:
        out = deployment.Outputs(*(self.root / name for name in ("deployment", "deployment.html", "endpoint.json")))
        placed = deployment.deploy(
            self.root / "signed", self.root / "decision", out, self.settings, rollout="canary",
            model_uri=f"file:{self.root / 'store'}", **self.where | {"timeout_seconds": timeout},
        )  # fmt: skip
        assert placed.placed

    def analyse(self, limits: Limits = LIMITS) -> str:
        outputs = Outputs(self.root / "analysis", self.root / "analysis.html")
        return stages.analyse(self._inputs("deployment"), outputs, self.settings, limits, **self.where).verdict

    def finish(self) -> str:
        outputs = Outputs(self.root / "rollout", self.root / "rollout.html")
        return stages.finish(self._inputs("analysis"), outputs, self.settings, **self.where).verdict

    def close(self) -> str:
        return stages.close(self.settings, **self.where)

    def evidence(self, name: str) -> Verified:
        kind = {"analysis": CANARY, "rollout": ROLLOUT}[name]
        return read_evidence(self.root / name, kind, load_trust(self.settings.trust_file), run_id=self.id)

    @property
    def told(self) -> str:
        """What explains a verdict that was not expected."""
        report = self.root / "analysis.html"
        return f"{self.mesh.prometheus.trouble()}; {report.read_text() if report.exists() else 'no report'}"

    @property
    def model(self) -> str:
        """Name of its Model."""
        return f"{NAME}-{list_tree(self.root / 'signed' / 'model').sha256[:8]}"

    @property
    def version(self) -> str:
        """What its model server calls it."""
        return f"{self.model}_1"

    @property
    def settings(self) -> Any:
        return load_settings(self.mesh.environment)

    @property
    def where(self) -> dict[str, Any]:
        return {"run_id": self.id, "name": NAME, "target": TARGET, "timeout_seconds": 60}

    def _inputs(self, before: str) -> Inputs:
        return Inputs(self.root / "signed", self.root / "decision", self.root / before)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    root = tmp_path_factory.mktemp("mesh")
    generate_key(root / "key.pem")
    signer = load_signer(f"file:{root}/key.pem")
    (root / "trust.yaml").write_text(trust_text(signer))
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        api = stack.enter_context(fake_api(schemas=[SCHEMAS], roles=roles(), tokens={TOKEN: ACCOUNT}))
        (root / "keys").mkdir()
        door = stack.enter_context(open_door(root / "door", Keys(root / "keys"), [NOBODY], {}, limits=EVERY_REQUEST))
        controller = SeldonController(api, door, root / "servers", root / "trust.yaml")
        stack.callback(controller.close)
        (port,) = child.free_ports(1)
        prometheus = PrometheusServer(root / "prometheus", port, [f"127.0.0.1:{controller.metrics_port}"], "1s")
        stack.callback(prometheus.stop)
        prometheus.start()
        environment = {
            "KUBECONFIG": str(api.kubeconfig(root / "kubeconfig", TOKEN)), "CUSTODY_NAMESPACE": NAMESPACE,
            "CUSTODY_SIGNER": f"file:{root}/key.pem", "CUSTODY_TRUST": str(root / "trust.yaml"),
            "CUSTODY_PROMETHEUS": prometheus.url,
        }  # fmt: skip
        patch.setenv("KUBECONFIG", environment["KUBECONFIG"])
        patch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        patch.setattr(kubernetes_api, "POLL_SECONDS", 0.1)
        yield Mesh(root, environment, signer, api, door, controller, prometheus)


@pytest.fixture
def served(mesh: Mesh) -> str:
    """The stable version before a test."""
    if not mesh.shares:
        first = mesh.run(1)
        first.place()
        with mesh.traffic():
            assert first.analyse() == "HEALTHY", first.told
        assert first.finish() == "PROMOTED"
        mesh.controller.settle()
    ((before, share),) = mesh.shares.items()
    assert share == 100
    return before


@pytest.fixture
def stable(mesh: Mesh, served: str) -> Iterator[str]:
    """The stable version before a test; it must be the only one after it, and answer every request."""
    yield served
    mesh.controller.settle()
    assert (mesh.shares, mesh.state.canary) == ({served: 100}, None)
    with mesh.client() as client:
        answers = [mesh.ask(client, seed) for seed in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model_name"] for answer in answers} == {served}


def during(run: Run, limits: Limits, happen: Callable[[], object]) -> tuple[str, Traffic, int]:
    """Analyse while there is traffic, and let something happen once the canary has a share.

    Returns:
        The verdict, the traffic, and how much of it was answered before everything went back.
    """
    mesh = run.mesh
    with mesh.traffic() as traffic:
        run.place()

        def later() -> None:
            while run.version not in traffic.versions():
                time.sleep(0.05)
            happen()

        thread = threading.Thread(target=later)
        thread.start()
        verdict = run.analyse(limits)
        thread.join()
        mesh.controller.settle()
        back = len(traffic.answers) + 1  # but for the one that is under way
        time.sleep(1.0)
    return verdict, traffic, back


def test_a_healthy_version_takes_over_and_every_request_is_counted(mesh: Mesh, served: str) -> None:
    run, counted = mesh.run(2), mesh.counted(ANSWERED, "model_internal")
    with mesh.traffic() as traffic:
        run.place()
        assert set(traffic.versions()) == {served}, "no traffic before the analysis"
        assert run.analyse() == "HEALTHY", run.told
        assert run.finish() == "PROMOTED"
        mesh.controller.settle()
        promoted = len(traffic.answers) + 1
        time.sleep(0.5)
    assert set(traffic.count()) == {"200"}
    assert mesh.shares == {run.version: 100}
    assert set(traffic.versions(promoted)) == {run.version}
    now = mesh.counted(ANSWERED, "model_internal")
    assert {name: now[name] - counted.get(name, 0) for name in now} == traffic.versions()
    analysis, rollout = run.evidence("analysis"), run.evidence("rollout")
    assert (analysis.result, rollout.result) == ("PASSED", "PASSED")
    assert rollout.dependency("analysis") == analysis.bundle_sha256
    assert analysis.metrics["canary_errors"] == 0
    assert 4 * LIMITS.samples <= analysis.metrics["canary_requests"] <= traffic.versions()[run.version]
    # What was stable at the beginning is kept, without traffic, and the next test begins with the new one.
    assert {each["metadata"]["name"] for each in mesh.api.store.list(MODEL)} == {served[:-2], run.model}


SEND = """
import ssl, sys, httpx
url, token, authority, *own = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.load_cert_chain(*own)
row = [("amount", "FP64", 0.5), ("channel", "BYTES", "pos"), ("is_foreign", "FP64", 1.0)]
body = {"inputs": [{"name": name, "datatype": kind, "shape": [1, 1], "data": [value]} for name, kind, value in row]}
with httpx.Client(verify=context, headers={"authorization": "Bearer " + token}, timeout=20, trust_env=False) as client:
    while True:
        client.post(url, json=body).raise_for_status()
"""


def test_the_rollout_of_make_test_cluster_is_promoted_here(mesh: Mesh, served: str, tmp_path: Path) -> None:
    """`tests/cluster/test_rollouts.py` with its settings, as on any cluster; one failed request would end it."""
    run, keys = mesh.run(7), mesh.door.keys
    (tmp_path / "send.py").write_text(SEND)
    url = f"https://localhost:{mesh.door.port}/v2/models/{NAME}/infer"
    files = [str(keys.root / name) for name in ("ca.pem", "scoring.pem", "scoring.key")]
    environment = mesh.environment | {
        "CUSTODY_DEPLOY_TARGET": TARGET, "CUSTODY_TEST_MODEL_URI": f"file:{run.root / 'store'}",
        "CUSTODY_TEST_MODEL": str(run.root / "signed"), "CUSTODY_TEST_DECISION": str(run.root / "decision"),
        "CUSTODY_TEST_RUN_ID": run.id, "CUSTODY_TEST_SERVICE": NAME,
        "CUSTODY_TEST_TRAFFIC": shlex.join([sys.executable, str(tmp_path / "send.py"), url, keys.token(), *files]),
    }  # fmt: skip
    code, said = make_test_cluster("promoted", tmp_path, **environment)
    assert code == 0, said
    mesh.controller.settle()
    assert mesh.shares == {run.version: 100}
    code, said = make_test_cluster("promoted", tmp_path, **environment)
    assert code == 1
    assert "this very model is served" in said


def test_a_version_whose_server_dies_is_rolled_back(mesh: Mesh, stable: str) -> None:
    """Nobody answers for it any more: Seldon's agent counts nothing then, but Envoy does."""
    run = mesh.run(3)
    unanswered = sum(mesh.counted(UNANSWERED).values())
    verdict, traffic, back = during(run, LIMITS, lambda: os.kill(mesh.controller.server(run.model).pid, signal.SIGKILL))
    assert verdict == "UNHEALTHY", run.told
    assert set(traffic.count(back)) == {"200"}, "no request fails once the traffic is back"
    assert set(traffic.versions(back)) == {stable}
    assert set(traffic.count()) == {"200", "502"}
    assert sum(mesh.counted(UNANSWERED).values()) - unanswered == traffic.count()["502"]
    analysis = run.evidence("analysis")
    assert analysis.result == "FAILED"
    assert analysis.predicate["failedTests"][0].endswith("-percent-errors")
    assert 1 <= analysis.metrics["canary_errors"] <= traffic.count()["502"]
    assert run.finish() == "ROLLED_BACK"


ANALYSE = """
from pathlib import Path
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components.seldon_deployment.rollout import stages
from kfp_custody.components.seldon_deployment.rollout.analysis import Limits
stages.analyse(
    stages.Inputs(Path("signed"), Path("decision"), Path("deployment")),
    stages.Outputs(Path("lost"), Path("lost.html")),
    load_settings(), Limits(steps=(10, 50, 100), samples=1_000_000, interval_seconds=0.5, step_seconds=600.0),
    run_id={run!r}, name="fraud-detection", target="seldon-v2", timeout_seconds=60,
)
"""


def test_an_analysis_that_was_killed_is_rolled_back_by_the_exit_task(mesh: Mesh, stable: str) -> None:
    run = mesh.run(4)
    with mesh.traffic() as traffic:
        run.place()
        code = ANALYSE.format(run=run.id)
        stage = subprocess.Popen([sys.executable, "-c", code], env=os.environ | mesh.environment, cwd=run.root)
        try:
            deadline = time.monotonic() + 60
            while run.version not in traffic.versions():
                assert stage.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            stage.kill()
            stage.wait()
        assert not (run.root / "lost").exists()
        assert mesh.shares == {stable: 90, run.version: 10}, "it stays as it was left"
        assert run.close() == "ROLLED_BACK"
        assert run.close() == "NOTHING"
        mesh.controller.settle()
        back = len(traffic.answers) + 1
        time.sleep(0.5)
    assert set(traffic.count()) == {"200"}
    assert set(traffic.versions(back)) == {stable}


def test_without_prometheus_nothing_is_promoted(mesh: Mesh, stable: str) -> None:
    """It ends in the middle; traffic flows as before, and nobody knows how the new version does."""
    run, limits = mesh.run(5), replace(LIMITS, steps=(50, 100), step_seconds=5.0)
    try:
        verdict, traffic, back = during(run, limits, mesh.prometheus.stop)
    finally:
        mesh.prometheus.start()
    assert verdict == "INCONCLUSIVE", run.told
    assert set(traffic.count()) == {"200"}
    assert traffic.versions()[run.version] >= limits.samples, "counted, they would have been enough"
    assert set(traffic.versions(back)) == {stable}
    assert run.evidence("analysis").result == "WARNED"
    assert run.finish() == "ROLLED_BACK"


def test_changed_bytes_in_the_store_are_never_served(mesh: Mesh, stable: str) -> None:
    """The model server verifies what Seldon brought against the pins of the Model, which is never ready then."""
    run = mesh.run(6)
    with (run.root / "store" / "model" / "model.ubj").open("ab") as file:
        file.write(b"\0")
    with mesh.traffic() as traffic, pytest.raises(ServiceUnreachable, match="not Ready"):
        run.place(timeout=5)
    mesh.controller.settle()
    reply = mesh.controller.replies[run.model]
    assert (reply.status, "not verified" in reply.reason) == (422, True)
    assert set(traffic.count()) == {"200"}
    assert set(traffic.versions()) == {stable}
    assert run.close() == "NOTHING"
