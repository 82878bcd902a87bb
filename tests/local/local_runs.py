"""A whole run of the reference pipeline through kfp.local, on a small month, with keys and servers of its own."""

import base64
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kfp import local

from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import DECISION, KINDS
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components.policy_gate.policy import load_policy
from kfp_custody.components.seldon_deployment.local_server import stop
from kfp_custody.pipelines.fraud_detection.pipeline import fraud_detection_in_shards
from kfp_custody.pipelines.fraud_detection.sample_data import write_month
from kfp_custody.pipelines.platform import without_retries


@dataclass(frozen=True)
class Platform:
    """Keys, trust file and raw months; `arguments` start the pipeline on them."""

    root: Path
    environment: dict[str, str]
    arguments: dict[str, str]


@dataclass(frozen=True)
class LocalRun:
    """The tasks of a run: task name -> its folder; and whether the run succeeded."""

    tasks: dict[str, Path]
    succeeded: bool

    @property
    def id(self) -> str:
        """The run's id, as its decision says it."""
        decision = json.loads((self.tasks["enforce-policy"] / "decision" / "enforce-policy.sigstore.json").read_text())
        statement = json.loads(base64.b64decode(decision["dsseEnvelope"]["payload"]))
        return str(statement["predicate"]["custody_runId"])


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Two keys with separate roles, a trust file that pins the baseline policy, two months of transactions."""
    root = tmp_path_factory.mktemp("platform")
    trust = ["version: 1", "signers:"]
    for role, kinds in {"gate": [DECISION.name], "pipeline": [k for k in KINDS if k != DECISION.name]}.items():
        pem = public_pem(generate_key(root / f"{role}.pem")).decode().splitlines()
        trust += [f"  - name: {role}", "    key: |", *(f"      {line}" for line in pem)]
        trust += [f"    may_sign: [{', '.join(kinds)}]"]
    trust += ["policies:", "  - name: baseline", f"    sha256: {load_policy('baseline').sha256}"]
    (root / "trust.yaml").write_text("\n".join(trust))
    (root / "sources.yaml").write_text(f"version: 1\nsources: [{{prefix: 'file://{root}/', engine: local}}]\n")
    (root / "masking.key").write_text("ab" * 32)
    (root / "masking.key").chmod(0o600)
    write_month(root / "train", rows=24_000, seed=1, month="2026-09")
    write_month(root / "current", rows=6_000, seed=2, month="2026-10", shifted=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "CUSTODY_SIGNER": f"file:{root / 'pipeline.pem'}",
        "CUSTODY_SIGNER_POLICY_GATE": f"file:{root / 'gate.pem'}",
        "CUSTODY_TRUST": str(root / "trust.yaml"),
        "CUSTODY_MASKING_KEY": str(root / "masking.key"),
        "CUSTODY_DVC_REMOTE": str(root / "dvc-remote"),
        "CUSTODY_SERVING_DIR": str(root / "serving"),
        "CUSTODY_SERVING_PORT": str(port),
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
    }
    arguments = {
        "data_uri": str(root / "train"),
        "data_current_uri": str(root / "current"),
        "deploy_target": "local",
        "train_algorithm": "xgboost",
    }
    yield Platform(root, environment, arguments)
    stop(root / "serving")


def run_pipeline(platform: Platform, name: str, shards: int = 1, **arguments: str) -> LocalRun:
    """Run fraud_detection in subprocesses and return its task folders."""
    pipeline = fraud_detection_in_shards(shards)
    root = platform.root / "runs" / name
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in platform.environment.items():
            patch.setenv(variable, value)
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
        try:
            without_retries(pipeline)(**(platform.arguments | arguments))
            succeeded = True
        except RuntimeError:
            succeeded = False
    run = next(root.iterdir())
    return LocalRun({task.name: task for task in run.iterdir() if task.is_dir()}, succeeded)


@pytest.fixture(scope="package")
def admitted(platform: Platform) -> LocalRun:
    """A run that everything passes in."""
    return run_pipeline(platform, "admitted")


@pytest.fixture(scope="package")
def refused(platform: Platform, admitted: LocalRun) -> LocalRun:
    """A run with a policy that the trust file does not pin, after `admitted` put a model into service."""
    policy = platform.root / "lenient.yaml"
    shipped = Path(os.path.dirname(load_policy.__code__.co_filename)) / "policies" / "baseline.yaml"
    policy.write_text(shipped.read_text().replace(">= 0.9", ">= 0.1"))
    return run_pipeline(platform, "refused", gate_policy=str(policy))
