"""Run the reference pipeline on this machine, on real input, with embedded defaults: `make demo`.

Everything is real: the compiled pipeline through kfp.local, keys made on first use outside the repository, MLflow on
SQLite, a local DVC remote, a real model server. `--tamper` changes something behind the pipeline's back at the moment
an attacker would, to show that the run is refused.
"""

import argparse
import base64
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "build" / "demo"
TAMPER = ("none", "dataset", "masked", "model", "evidence", "policy")


@dataclass
class Stage:
    """A stage of the run, as summary.json records it."""

    name: str
    verdict: str = "RUNNING"
    seconds: float = 0.0
    evidence: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Month:
    """A raw month: where it is and what its listing's digest is."""

    path: Path
    sha256: str


def main() -> int:
    """Run the demo; returns 0 when the model is served, 1 when the run was refused."""
    arguments = _arguments()
    if arguments.stop:
        from kfp_custody.components.seldon_deployment.local_server import stop

        stop(DEMO / "serving")
        print("The demo's model server is stopped.")
        return 0
    say("kfp-custody demo: data", arguments.data, "tamper", arguments.tamper)
    set_up()
    training, current, parameters = make_input(arguments.data, arguments.tamper)
    if arguments.tamper == "policy":
        parameters["gate_policy"] = str(_edited_policy())
    run = Run(arguments.tamper, arguments.shards)
    finished = run.execute(
        {
            **months(training, current),
            "deploy_target": "local",
            **parameters,
        }
    )
    return conclude(run, finished)


class Run:
    """One run of the pipeline: its stages as they end, and the artifacts that each made."""

    serving = "The model server keeps running; stop it with: make demo-stop"

    def __init__(self, tamper: str, shards: int) -> None:
        """Start an empty run directory; earlier ones are removed."""
        self.root = DEMO / "run"
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / "logs").mkdir(parents=True)
        self.stages: list[Stage] = []
        self.outputs: dict[str, dict[str, Path]] = {}
        self.values: dict[str, Any] = {}
        self.refusal = ""
        self.shards = shards
        # Who masks the training month, and how kfp.local names the tasks about the other one.
        self.masking, masking = ("mask_pii", "mask-pii-2") if shards == 1 else ("merge_shards", "mask-pii")
        self._present = {"fetch-dataset-2", masking}
        self._starting = threading.Lock()  # the shards of a loop run side by side
        self._line = "\r" if sys.__stdout__ and sys.__stdout__.isatty() else ""  # a terminal shows the seconds run
        self._tamper = {
            "masked": ("attest_dataset", self._flip_masked),
            "model": ("check_drift", self._flip_model),
            "evidence": ("check_drift", self._edit_attestation),
        }.get(tamper)

    def execute(self, arguments: dict[str, str]) -> bool:
        """Run the pipeline through kfp.local; returns whether every task ended well."""
        from kfp_custody.pipelines.fraud_detection.pipeline import fraud_detection_in_shards
        from kfp_custody.pipelines.platform import without_retries

        logging.disable(logging.WARNING)
        warnings.filterwarnings("ignore", message="You may be attemping to run a task", category=RuntimeWarning)
        warnings.filterwarnings("ignore", message="Task .* have no effect in the current local runner")
        try:
            with (
                (self.root / "logs" / "kfp.log").open("w") as chatter,
                contextlib.redirect_stdout(chatter),
                self.runner(),
            ):
                without_retries(fraud_detection_in_shards(self.shards))(**arguments)
        except RuntimeError:  # how kfp.local says that a task failed; the reason is in the task's log
            return False
        finally:
            logging.disable(logging.NOTSET)
        return True

    @contextlib.contextmanager
    def runner(self) -> Iterator[None]:
        """Let kfp.local run every task in a process of its own."""
        from kfp import local
        from kfp.local import subprocess_task_handler

        def run(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
            environment = {**os.environ, **(env_vars or {})}

            def start(log: IO[str]) -> int:
                return subprocess.run(
                    full_command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
                ).returncode

            return self.task(full_command, start)

        # The one seam of kfp.local where a task starts and ends: progress, times and the attacker's moment.
        subprocess_task_handler.run_local_subprocess = run
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(self.root / "artifacts"))
        yield

    def task(self, command: Sequence[str], start: Callable[[IO[str]], int]) -> int:
        """Start a task, show how long it takes, and keep what it left; returns its exit code."""
        name = command[command.index("--function_to_execute") + 1]
        executor = json.loads(command[command.index("--executor_input") + 1])
        task = Path(executor["outputs"]["outputFile"]).parent.name  # mask-pii, mask-pii-2, in any order
        stage = Stage(f"{name}_present" if task in self._present else name)
        with self._starting:
            self.stages.append(stage)
            label = f"{len(self.stages)}-{stage.name}"
        log = self.root / "logs" / f"{label}.log"
        begun = time.monotonic()
        with log.open("w") as output, ThreadPoolExecutor(1) as pool:
            running = pool.submit(start, output)
            while not wait([running], timeout=1).done:
                if self._line:
                    say(f"{self._line}  {stage.name:<22} {time.monotonic() - begun:>6.0f} s ", end="")
            code = running.result()
        stage.seconds = round(time.monotonic() - begun, 1)
        self._ended(stage, label, executor, code, log)
        say(f"{self._line}  {stage.name:<22} {stage.seconds:>6.1f} s  {stage.verdict}")
        if self._tamper and self._tamper[0] == stage.name and code == 0:
            say(f"  !! somebody changed {self._tamper[1]()}")
        return code

    def _ended(self, stage: Stage, label: str, executor: dict[str, Any], code: int, log: Path) -> None:
        outputs = executor["outputs"]
        artifacts = {key: Path(value["artifacts"][0]["uri"]) for key, value in outputs.get("artifacts", {}).items()}
        self.outputs[stage.name] = artifacts
        result = Path(outputs["outputFile"])
        if result.is_file():
            self.values[stage.name] = json.loads(result.read_text()).get("parameterValues", {}).get("Output")
        value = self.values.get(stage.name)
        stage.verdict = "REFUSED" if code else value if value in ("PASSED", "WARNED", "FAILED") else "PASSED"
        bundles = [found for path in artifacts.values() for found in sorted(path.glob("*.sigstore.json"))]
        bundles += [path / "model.sig" for path in artifacts.values() if (path / "model.sig").is_file()]
        for bundle in bundles:
            kept = DEMO / "evidence" / label
            shutil.copytree(bundle.parent, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model"))
            stage.evidence.append(str((kept / bundle.name).relative_to(ROOT)))
        if code:
            text = log.read_text(errors="replace")
            self.refusal = text[text.rfind("REFUSED ") :].strip() if "REFUSED " in text else f"see {log}"

    def endpoint(self) -> str:
        """Return the address of the model that was deployed."""
        return str(json.loads(self.outputs["deploy_model"]["endpoint"].read_text())["url"])

    def _flip_masked(self) -> str:
        return _flip(next(self.outputs[self.masking]["masked"].glob("*.parquet")))

    def _flip_model(self) -> str:
        tree = self.outputs["sign_model"]["signed"] / "model"
        return _flip(max(tree.iterdir(), key=lambda path: path.stat().st_size))

    def _edit_attestation(self) -> str:
        path = self.outputs["attest_dataset"]["attestation"] / "attest-dataset.sigstore.json"
        bundle = json.loads(path.read_bytes())
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        statement["predicate"]["buildDefinition"]["externalParameters"]["reviewed"] = "by nobody"
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
        path.write_text(json.dumps(bundle))
        return f"the payload in {path.name}"


def say(*words: object, end: str = "\n") -> None:
    """Print at once, so that progress is seen while the demo works (kfp.local's own chatter goes to a log)."""
    print(*words, flush=True, end=end, file=sys.__stdout__)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("sample", "ulb"), default="sample")
    parser.add_argument("--tamper", choices=TAMPER, default="none")
    parser.add_argument("--shards", type=int, default=1, help="mask the training month in so many shards")
    parser.add_argument("--stop", action="store_true", help="stop the model server that a demo left running")
    return parser.parse_args()


def set_up() -> None:
    """Make keys and the trust file, and point the stages to them, as mounts would on a cluster."""
    import secrets

    from kfp_custody.components._shared.files import write_atomic
    from kfp_custody.components._shared.keys import public_pem
    from kfp_custody.components._shared.kinds import DECISION, KINDS
    from kfp_custody.components._shared.signers.file import generate_key
    from kfp_custody.components._shared.signers.loading import load_signer, public_key
    from kfp_custody.components.policy_gate.policy import load_policy

    keys = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "kfp-custody" / "demo"
    masking = keys / "masking.key"
    if not masking.exists():
        keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(masking, secrets.token_hex(32).encode(), mode=0o600)
    roles = {"gate": [DECISION.name], "pipeline": [name for name in KINDS if name != DECISION.name]}
    trust = ["version: 1", "signers:"]
    for role, kinds in roles.items():
        path = keys / f"{role}.pem"
        if not path.exists():
            generate_key(path)
            say(f"made the demo's {role} key, {path}")
        pem = public_pem(public_key(load_signer(f"file:{path}")))
        write_atomic(DEMO / f"{role}.pub", pem)  # for stock tools: model_signing, cosign, openssl
        trust += [f"  - name: {role}", "    key: |", *(f"      {line}" for line in pem.decode().splitlines())]
        trust += [f"    may_sign: [{', '.join(kinds)}]"]
    baseline = load_policy("baseline")
    trust += ["policies:", f"  - name: {baseline.name}", f"    sha256: {baseline.sha256}", ""]
    write_atomic(DEMO / "trust.yaml", "\n".join(trust).encode())
    # Beside it: what fetch_dataset may fetch.
    sources = f"version: 1\nsources:\n  - {{prefix: 'file://{DEMO}/', engine: local}}\n"
    write_atomic(DEMO / "sources.yaml", sources.encode())
    shutil.rmtree(DEMO / "evidence", ignore_errors=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode every task would start several times slower
    environment = {
        "CUSTODY_SIGNER": f"file:{keys / 'pipeline.pem'}",
        "CUSTODY_SIGNER_POLICY_GATE": f"file:{keys / 'gate.pem'}",
        "CUSTODY_TRUST": str(DEMO / "trust.yaml"),
        "CUSTODY_MASKING_KEY": str(masking),
        "CUSTODY_DVC_REMOTE": str(DEMO / "dvc-remote"),
        "CUSTODY_SERVING_DIR": str(DEMO / "serving"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{DEMO / 'mlflow.db'}",
        "DO_NOT_TRACK": "1",
    }
    os.environ |= environment
    # For pipelines of the reader's own, as the README shows: set -a; . build/demo/env
    (DEMO / "env").write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))


def make_input(data: str, tamper: str) -> tuple[Month, Month, dict[str, str]]:
    """Return the training month, the present month, and the parameters that fit this data set."""
    folder = DEMO / "data" / data
    parameters: dict[str, str] = {}
    if data == "ulb":
        from kfp_custody.pipelines.fraud_detection.ulb import write_ulb

        make: Callable[[], object] = lambda: write_ulb(folder, DEMO / "downloads")  # noqa: E731
        parameters = {"mask_policy": "ulb-card-transactions", "train_label": "Class", "train_time_column": "Time"}
    else:
        from kfp_custody.pipelines.fraud_detection.sample_data import write_month

        def make() -> None:
            write_month(folder / "train", rows=120_000, seed=20260901, month="2026-09")
            write_month(folder / "current", rows=20_000, seed=20261001, month="2026-10", shifted=True)

    months = _recorded(folder)
    if months is None:
        say("making the input data ...")
        shutil.rmtree(folder, ignore_errors=True)
        make()
        months = _record(folder)
    training, current = months
    if tamper == "dataset":
        copy = DEMO / "tampered"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(training.path, copy)
        training = Month(copy, training.sha256)
        say(f"  !! somebody changed {_flip(next(copy.glob('*.parquet')))}")
    return training, current, parameters


def months(training: Month, current: Month) -> dict[str, str]:
    """Return the pipeline's parameters that name the months and pin their digests."""
    return {
        "data_uri": str(training.path),
        "data_revision": f"sha256:{training.sha256}",
        "data_current_uri": str(current.path),
        "data_current_revision": f"sha256:{current.sha256}",
    }


def _recorded(folder: Path) -> tuple[Month, Month] | None:
    """Return the months of an earlier demo when their bytes are still those that were recorded."""
    from kfp_custody.components._shared.errors import InputRefused

    try:
        months, recorded = _months(folder), json.loads((folder / "digests.json").read_text())
    except (InputRefused, OSError, ValueError):
        return None  # no earlier demo, or an interrupted one: made anew
    return months if {month.path.name: month.sha256 for month in months} == recorded else None


def _record(folder: Path) -> tuple[Month, Month]:
    months = _months(folder)
    (folder / "digests.json").write_text(json.dumps({month.path.name: month.sha256 for month in months}))
    return months


def _months(folder: Path) -> tuple[Month, Month]:
    from kfp_custody.components._shared.digests import list_tree

    training, present = folder / "train", folder / "current"
    return Month(training, list_tree(training).sha256), Month(present, list_tree(present).sha256)


def _edited_policy() -> Path:
    from importlib.resources import files

    text = (files("kfp_custody.components.policy_gate") / "policies/baseline.yaml").read_text()
    path = DEMO / "edited-baseline.yaml"
    path.write_text(text.replace("average_precision >= 0.5", "average_precision >= 0.0"))
    say("  !! somebody lowered a threshold in the policy file")
    return path


def _flip(path: Path) -> str:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return f"one bit of {path.name}"


def score_one(run: Run) -> dict[str, Any]:
    """Send one real transaction of the present month to the served model."""
    import pyarrow.parquet as pq

    from kfp_custody.components.seldon_deployment.v2_client import score

    url = run.endpoint()
    table = pq.read_table(next(run.outputs["mask_pii_present"]["masked"].glob("*.parquet")))
    return {"url": url, "response": score(url, table.slice(0, 1).to_pylist())}


def conclude(run: Run, finished: bool) -> int:
    """Write the summary, score one transaction, and print it all; returns the exit code."""
    gate = run.values.get("enforce_policy")
    verdict = "PASSED" if finished and gate == "PASSED" else "FAILED" if gate == "FAILED" else "REFUSED"
    endpoint = score_one(run) if verdict == "PASSED" else {"url": None, "response": None}
    report = run.outputs.get("enforce_policy", {}).get("report")
    summary = {
        "verdict": verdict,
        "stages": [asdict(stage) for stage in run.stages],
        "report": str(report.relative_to(ROOT)) if report and report.is_file() else None,
        "endpoint": endpoint,
        "evidence_dir": str((DEMO / "evidence").relative_to(ROOT)),
        "trust": str((DEMO / "trust.yaml").relative_to(ROOT)),
        "model_dir": _relative(run.outputs.get("sign_model", {}).get("signed")),
        "dataset_dir": _relative(run.outputs.get(run.masking, {}).get("masked")),
        "refusal": run.refusal or None,
    }
    (DEMO / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    say(f"\n  {'stage':<22} {'verdict':<8} {'seconds':>7}  evidence")
    for stage in run.stages:
        say(f"  {stage.name:<22} {stage.verdict:<8} {stage.seconds:>7.1f}  {' '.join(stage.evidence)}")
    if verdict == "PASSED":
        say(f"\n  one transaction scored by {endpoint['url']}:\n  {json.dumps(endpoint['response'])}")
        say(f"  {run.serving}")
    else:
        say(f"\n{run.refusal}")
    say(f"\n  report:  {summary['report'] or 'none: the run ended before the gate'}")
    say(f"  summary: {(DEMO / 'summary.json').relative_to(ROOT)}")
    say(f"\nVERDICT {verdict}")
    return 0 if verdict == "PASSED" else 1


def _relative(path: Path | None) -> str | None:
    return str(path.relative_to(ROOT)) if path and path.exists() else None


def _refusable_main() -> int:
    from kfp_custody.components._shared.errors import CustodyError

    try:
        return main()
    except CustodyError as refusal:  # before or after the pipeline: no data, no port, no key
        say(f"\nREFUSED {type(refusal).__name__}: {refusal}")
        return 1


if __name__ == "__main__":
    sys.exit(_refusable_main())
