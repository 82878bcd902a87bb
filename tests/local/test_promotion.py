"""Promotion of a finished run, by an identity that the run never had: other key, other trust file, other server."""

import base64
import json
import os
import shutil
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from kfp import local
from local_runs import LocalRun, Platform

from forging import bundle_of, payload_of, sign_payload
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import CANARY, DECISION, DEPLOYMENT, KINDS, ROLLOUT, TRAINING
from kfp_custody.components._shared.scoring import read_signature
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components.policy_gate.checks import Chain
from kfp_custody.components.policy_gate.gate import GateDecision, enforce
from kfp_custody.components.policy_gate.policy import load_policy
from kfp_custody.components.seldon_deployment import child
from kfp_custody.components.seldon_deployment.deployment import Outputs, deploy
from kfp_custody.components.seldon_deployment.door import identity
from kfp_custody.components.seldon_deployment.local_server import stop
from kfp_custody.components.seldon_deployment.rollout.local import LocalTarget
from kfp_custody.components.seldon_deployment.smoke import smoke_request
from kfp_custody.pipelines.platform import without_retries
from kfp_custody.pipelines.promotion.pipeline import promotion

PARTS = {
    "dataset": "mask-pii/masked",
    "masking": "mask-pii/evidence",
    "attestation": "attest-dataset/attestation",
    "provenance": "train-model/provenance",
    "model": "sign-model/signed",
    "current": "mask-pii-2/masked",
    "current_masking": "mask-pii-2/evidence",
    "drift": "check-drift/evidence",
    "source": "fetch-dataset/evidence",
    "current_source": "fetch-dataset-2/evidence",
}
OF_A_RELEASE = (DECISION.name, DEPLOYMENT.name, CANARY.name, ROLLOUT.name)


@dataclass(frozen=True)
class Release:
    """The promotion environment: its own key, trust file and model server. It has no key of the training run."""

    root: Path
    environment: dict[str, str]

    @property
    def settings(self) -> Settings:
        return load_settings(self.environment)


@pytest.fixture(scope="module")
def release(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Trusts the training signer for what a run says about itself, and its own for decisions and deployments."""
    root = tmp_path_factory.mktemp("release")
    training = public_pem(public_key(load_signer(platform.environment["CUSTODY_SIGNER"])))
    own = public_pem(generate_key(root / "promotion.pem"))
    trust = ["version: 1", "signers:"]
    for name, pem, kinds in (
        ("training", training, [kind for kind in KINDS if kind not in OF_A_RELEASE]),
        ("promotion", own, OF_A_RELEASE),
    ):
        trust += [f"  - name: {name}", "    key: |", *(f"      {line}" for line in pem.decode().splitlines())]
        trust += [f"    may_sign: [{', '.join(kinds)}]"]
    trust += ["policies:", "  - name: baseline", f"    sha256: {load_policy('baseline').sha256}"]
    (root / "trust.yaml").write_text("\n".join(trust))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "CUSTODY_SIGNER": f"file:{root / 'promotion.pem'}",
        "CUSTODY_TRUST": str(root / "trust.yaml"),
        "CUSTODY_SERVING_DIR": str(root / "serving"),
        "CUSTODY_SERVING_PORT": str(port),
        "CUSTODY_DEPLOY_TARGET": "local",
    }
    yield Release(root, environment)
    stop(root / "serving")


def parts_of(run: LocalRun) -> dict[str, Path]:
    home = run.tasks["sign-model"].parent
    return {name: home / where for name, where in PARTS.items()}


def promote(
    release: Release,
    name: str,
    parts: dict[str, Path],
    run_id: str,
    parameters: dict[str, object] | None = None,
    **environment: str,
) -> LocalRun:
    """Run the promotion pipeline with nothing of the training environment in reach."""
    root = release.root / "runs" / name
    with pytest.MonkeyPatch.context() as patch:
        for variable in [variable for variable in os.environ if variable.startswith(("CUSTODY_", "MLFLOW_"))]:
            patch.delenv(variable)
        for variable, value in (release.environment | environment).items():
            patch.setenv(variable, value)
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
        addresses = {f"promote_{part}_uri": str(path) for part, path in parts.items()}
        try:
            without_retries(promotion)(promote_run_id=run_id, **addresses, **(parameters or {}))
            succeeded = True
        except RuntimeError:
            succeeded = False
    run = next(root.iterdir())
    return LocalRun({task.name: task for task in run.iterdir() if task.is_dir()}, succeeded)


@pytest.fixture(scope="module")
def promoted(release: Release, admitted: LocalRun) -> LocalRun:
    return promote(release, "promoted", parts_of(admitted), admitted.id)


def served(release: Release) -> str:
    document = json.loads((release.root / "serving" / "served.json").read_text())
    return str(document["models"]["fraud-detection"]["digest"])


def test_a_finished_run_is_verified_decided_about_and_deployed_by_the_promotion_signer(
    release: Release, admitted: LocalRun, promoted: LocalRun
) -> None:
    assert promoted.succeeded
    assert set(promoted.tasks) >= {"enforce-policy", "deploy-model"}
    assert not set(promoted.tasks) & {"mask-pii", "train-model", "sign-model"}
    trust = load_trust(release.root / "trust.yaml")
    decision = read_evidence(promoted.tasks["enforce-policy"] / "decision", DECISION, trust, run_id=admitted.id)
    assert (decision.signer, decision.result) == ("promotion", "PASSED")
    deployed = read_evidence(promoted.tasks["deploy-model"] / "evidence", DEPLOYMENT, trust, run_id=admitted.id)
    assert deployed.signer == "promotion"
    provenance = read_evidence(parts_of(admitted)["provenance"], TRAINING, trust, run_id=admitted.id)
    assert provenance.signer == "training"
    digest = list_tree(parts_of(admitted)["model"] / "model").sha256
    assert digest == decision.subject_sha256 == deployed.subject_sha256 == served(release)
    endpoint = json.loads((promoted.tasks["deploy-model"] / "endpoint").read_text())
    with urllib.request.urlopen(f"{endpoint['url']}/ready", timeout=10) as answer:
        assert answer.status == 200


def test_the_promotion_environment_holds_no_key_of_the_training_run(platform: Platform, release: Release) -> None:
    training = {value for value in platform.environment.values() if value.startswith("file:")}
    assert not training & set(release.environment.values())
    assert "CUSTODY_MASKING_KEY" not in release.environment


# --- the training run's signers cannot admit a model ------------------------------------------------------------------


@pytest.fixture
def decision(promoted: LocalRun, tmp_path: Path) -> Path:
    """A copy of the genuine decision."""
    return shutil.copytree(promoted.tasks["enforce-policy"] / "decision", tmp_path / "decision")


def deploy_on(decision: Path, run: LocalRun, release: Release, folder: Path) -> str:
    outputs = Outputs(folder / "evidence", folder / "report", folder / "endpoint")
    done = deploy(
        parts_of(run)["model"],
        decision,
        outputs,
        release.settings,
        run_id=run.id,
        name="fraud-detection",
        target="local",
        timeout_seconds=60,
    )
    return done.digest


def test_the_genuine_decision_deploys(decision: Path, admitted: LocalRun, release: Release, tmp_path: Path) -> None:
    assert deploy_on(decision, admitted, release, tmp_path / "out") == served(release)


def test_the_decision_of_the_training_runs_own_gate_is_refused(
    promoted: LocalRun, admitted: LocalRun, release: Release, tmp_path: Path
) -> None:
    """It is genuine, says PASSED, is about this model and this run; its signer is nobody here."""
    own = admitted.tasks["enforce-policy"] / "decision"
    with pytest.raises(EvidenceInvalid, match="trust file"):
        deploy_on(own, admitted, release, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_decision_signed_with_the_training_key_is_refused(
    platform: Platform, decision: Path, admitted: LocalRun, release: Release, tmp_path: Path
) -> None:
    """Word for word what promotion decided, by a signer that is trusted, for something else."""
    training = load_signer(platform.environment["CUSTODY_SIGNER"])
    sign_payload(bundle_of(decision), payload_of(bundle_of(decision)), training)
    with pytest.raises(EvidenceInvalid, match=r"signer 'training' may sign .*, not enforce-policy"):
        deploy_on(decision, admitted, release, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_promotion_started_with_the_training_identity_deploys_nothing(
    platform: Platform, release: Release, admitted: LocalRun, promoted: LocalRun, tmp_path: Path
) -> None:
    """All checks pass in its gate, and the deployer does not believe it."""
    elsewhere = {"CUSTODY_SIGNER": platform.environment["CUSTODY_SIGNER"], "CUSTODY_SERVING_DIR": str(tmp_path / "s")}
    run = promote(release, "training-identity", parts_of(admitted), admitted.id, **elsewhere)
    assert not run.succeeded
    bundle = json.loads((run.tasks["enforce-policy"] / "decision" / "enforce-policy.sigstore.json").read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert statement["predicate"]["verificationResult"] == "PASSED"
    assert not (run.tasks["deploy-model"] / "endpoint").exists()
    assert not (tmp_path / "s" / "served.json").exists()


# --- by canary --------------------------------------------------------------------------------------------------------


@contextmanager
def asking(release: Release, model: Path) -> Iterator[list[int]]:
    """Requests to the service through its door, as soon as it has one, until the block ends; their statuses."""
    service = LocalTarget("fraud-detection", release.settings, 60)
    keys = release.settings.serving_dir / "services" / "fraud-detection" / "identity"
    request, statuses, done = smoke_request(read_signature(model)), list[int](), threading.Event()

    def go() -> None:
        while not done.wait(0.02):
            if not (keys / "door.yaml").is_file():
                continue
            headers = {"authorization": f"Bearer {identity.token(keys)}"}
            try:
                answer = httpx.post(
                    f"{service.url}/infer", json=request, headers=headers, verify=identity.client_context(keys)
                )
            except httpx.TransportError:
                continue  # the door opens
            statuses.append(answer.status_code)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield statuses
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def by_canary(release: Release, admitted: LocalRun) -> Iterator[LocalRun]:
    (port,) = child.free_ports(1)
    release.environment["CUSTODY_DOOR_PORT"] = str(port)
    parts = parts_of(admitted)
    wanted = {"deploy_rollout": "canary", "canary_samples": 20}
    try:
        with asking(release, parts["model"] / "model") as statuses:
            run = promote(release, "by-canary", parts, admitted.id, wanted)
        assert statuses.count(200) >= 20
        yield run
    finally:
        LocalTarget("fraud-detection", release.settings, 60).stop()


def test_a_promotion_by_canary_shifts_the_traffic_by_evidence(
    release: Release, admitted: LocalRun, by_canary: LocalRun
) -> None:
    assert by_canary.succeeded
    trust = load_trust(release.root / "trust.yaml")
    analysis = read_evidence(by_canary.tasks["analyse-canary"] / "evidence", CANARY, trust, run_id=admitted.id)
    rollout = read_evidence(by_canary.tasks["finish-rollout"] / "evidence", ROLLOUT, trust, run_id=admitted.id)
    assert (analysis.result, rollout.result) == ("PASSED", "PASSED")
    assert analysis.subject_sha256 == list_tree(parts_of(admitted)["model"] / "model").sha256
    stable = LocalTarget("fraud-detection", release.settings, 60).state().stable
    assert stable is not None
    assert stable.digest == rollout.subject_sha256


def test_a_canary_without_traffic_is_rolled_back_and_fails_the_run(
    release: Release, admitted: LocalRun, by_canary: LocalRun, tmp_path: Path
) -> None:
    """A place of its own, where nobody asks anything."""
    parts = parts_of(admitted)
    service = LocalTarget("fraud-detection", release.settings, 60)
    before = service.state()
    elsewhere = {"CUSTODY_SERVING_DIR": str(tmp_path / "serving"), "CUSTODY_DOOR_PORT": str(child.free_ports(1)[0])}
    wanted = {"deploy_rollout": "canary", "canary_step_seconds": 10}
    silent = LocalTarget("fraud-detection", load_settings(release.environment | elsewhere), 60)
    try:
        run = promote(release, "silent", parts, admitted.id, wanted, **elsewhere)
        assert silent.state().versions == ()
    finally:
        silent.stop()
    assert not run.succeeded
    trust = load_trust(release.root / "trust.yaml")
    for task, kind, result in (("analyse-canary", CANARY, "WARNED"), ("finish-rollout", ROLLOUT, "FAILED")):
        assert read_evidence(run.tasks[task] / "evidence", kind, trust, run_id=admitted.id).result == result
    assert "close-rollout" in run.tasks
    assert service.state() == before


def test_a_rollout_of_a_kind_that_there_is_not_deploys_nothing(
    release: Release, admitted: LocalRun, by_canary: LocalRun
) -> None:
    run = promote(release, "sideways", parts_of(admitted), admitted.id, {"deploy_rollout": "sideways"})
    assert not run.succeeded
    assert not any((task / "endpoint").exists() for name, task in run.tasks.items() if name.startswith("deploy"))


# --- what is not that run is refused ----------------------------------------------------------------------------------


def test_a_tampered_model_fails_the_run_and_the_old_one_serves_on(
    release: Release, admitted: LocalRun, promoted: LocalRun, tmp_path: Path
) -> None:
    parts = copied(admitted, "model", tmp_path)
    flip(max((parts["model"] / "model").iterdir(), key=lambda path: path.stat().st_size))
    before = served(release)
    run = promote(release, "tampered", parts, admitted.id)
    assert not run.succeeded
    assert "deploy-model" not in run.tasks
    trust = load_trust(release.root / "trust.yaml")
    decided = read_evidence(run.tasks["enforce-policy"] / "decision", DECISION, trust, run_id=admitted.id)
    assert (decided.signer, decided.result) == ("promotion", "FAILED")
    assert "bytes:model=training" in (run.tasks["enforce-policy"] / "report").read_text()
    assert served(release) == before


def copied(run: LocalRun, part: str, folder: Path) -> dict[str, Path]:
    parts = parts_of(run)
    return parts | {part: shutil.copytree(parts[part], folder / part)}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def other_bytes(name: str) -> Callable[[dict[str, Path]], None]:
    def tamper(parts: dict[str, Path]) -> None:
        flip(next(parts[name].glob("*.parquet")))

    return tamper


def no_evidence_of(name: str) -> Callable[[dict[str, Path]], None]:
    def tamper(parts: dict[str, Path]) -> None:
        next(parts[name].glob("*.sigstore.json")).unlink()

    return tamper


def months_swapped(parts: dict[str, Path]) -> None:
    parts["dataset"], parts["current"] = parts["current"], parts["dataset"]


def maskings_swapped(parts: dict[str, Path]) -> None:
    parts["masking"], parts["current_masking"] = parts["current_masking"], parts["masking"]


def training_month_as_present_month(parts: dict[str, Path]) -> None:
    parts["current"], parts["current_masking"] = parts["dataset"], parts["masking"]


@pytest.mark.parametrize(
    ("tamper", "check"),
    [
        (other_bytes("dataset"), "bytes:dataset=dataset"),
        (other_bytes("current"), "bytes:current-dataset=current-masking"),
        (no_evidence_of("masking"), "evidence:masking"),
        (no_evidence_of("attestation"), "evidence:dataset"),
        (no_evidence_of("provenance"), "evidence:training"),
        (no_evidence_of("drift"), "evidence:drift"),
        (months_swapped, "bytes:dataset=dataset"),
        (maskings_swapped, "bytes:dataset=masking"),
        (training_month_as_present_month, "bytes:current-dataset=drift"),
    ],
)
def test_what_was_changed_since_the_run_is_refused(
    release: Release, admitted: LocalRun, tmp_path: Path, tamper: Callable[[dict[str, Path]], None], check: str
) -> None:
    parts = {part: shutil.copytree(path, tmp_path / part) for part, path in parts_of(admitted).items()}
    tamper(parts)
    done = decide(release, parts, admitted.id, tmp_path)
    assert done.verdict == "FAILED"
    assert check in {failed.id for failed in done.failed}


def test_a_run_id_that_the_evidence_is_not_of_is_refused(release: Release, admitted: LocalRun, tmp_path: Path) -> None:
    done = decide(release, parts_of(admitted), "another-run", tmp_path)
    assert done.verdict == "FAILED"
    assert any("belongs to run" in failed.detail for failed in done.failed)


def test_the_training_environments_policy_does_not_count(
    platform: Platform, release: Release, admitted: LocalRun, tmp_path: Path
) -> None:
    """Whatever the training run was let pass by, promotion counts only what its own trust file pins."""
    lenient = tmp_path / "baseline.yaml"
    shipped = (files("kfp_custody.components.policy_gate") / "policies" / "baseline.yaml").read_text()
    lenient.write_text(shipped.replace(">= 0.9", ">= 0.1"))
    done = decide(release, parts_of(admitted), admitted.id, tmp_path, policy=str(lenient))
    assert "policy:pinned" in {failed.id for failed in done.failed}


def decide(
    release: Release, parts: dict[str, Path], run_id: str, folder: Path, policy: str = "baseline"
) -> GateDecision:
    """Ask the gate as the promotion run does."""
    return enforce(
        Chain(**parts),
        folder / "decision",
        folder / "report.html",
        run_id=run_id,
        policy=policy,
        model_name="fraud-detection",
        settings=release.settings,
    )
