"""The custody work of each stage of the last `make demo`, done again in this process on the artifacts it left."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import yaml
from _table import ROOT, Result

from kfp_custody.components._shared.digests import Listing, list_tree
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    DECISION,
    DEPLOYMENT,
    DRIFT,
    MASKING,
    PROFILE,
    TRAINING,
    write_evidence,
)
from kfp_custody.components._shared.kinds import KINDS, Kind
from kfp_custody.components._shared.model_signature import MODEL_FOLDER, SIGNATURE_FILE, verify_model_signature
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence, require_subject
from kfp_custody.components.artifact_signing.signing import sign
from kfp_custody.components.data_attestation.attestation import attest
from kfp_custody.components.policy_gate.checks import Chain
from kfp_custody.components.policy_gate.gate import enforce

SUMMARY = ROOT / "build" / "demo" / "summary.json"
DATA = ROOT / "build" / "demo" / "data"
SHARE = 0.05
TURNS = 5


def custody_of_the_demo(scratch: Path, key: Path) -> Iterator[Result]:
    """Yield the custody work of each stage beside the stage's own time, and the sum of both."""
    if not SUMMARY.is_file():
        print("no demo run yet: run `make demo` for what custody costs in it")
        return
    summary = json.loads(SUMMARY.read_text())
    if not summary["model_dir"]:
        print("the last demo was refused before it signed a model: run `make demo` for what custody costs in it")
        return
    with tempfile.TemporaryDirectory(dir=scratch) as outputs:
        demo = Demo(summary, Path(outputs), key)
        work = {
            "mask_pii": lambda: demo.mask("mask-pii", "train"),
            "attest_dataset": demo.attest,
            "mask_pii_present": lambda: demo.mask("mask-pii-2", "current"),
            "train_model": demo.train,
            "sign_model": demo.sign,
            "profile_dataset": demo.profile,
            "check_drift": demo.compare,
            "enforce_policy": demo.decide,
            "deploy_model": demo.admit,
        }
        took = {stage["name"]: stage["seconds"] for stage in summary["stages"]}
        ours = {name: _seconds(work[name]) for name in took if name in work}
    for name, seconds in ours.items():
        yield Result(f"custody in {name}", seconds, took[name], "s wall", peer_name="stage of the demo")
    yield Result(
        "custody in all stages",
        sum(ours.values()),
        sum(took.values()),
        "s wall",
        goal=SHARE,
        most=True,
        relative=True,
        peer_name="stage of the demo",
    )


def _seconds(work: Callable[[], object]) -> float:
    """Return the median of some turns; the first one, which imports, is left out."""
    work()
    turns = []
    for _ in range(TURNS):
        started = perf_counter()
        work()
        turns.append(perf_counter() - started)
    return median(turns)


class Demo:
    """The artifacts of a demo run, and each stage's custody work on them."""

    def __init__(self, summary: Mapping[str, Any], scratch: Path, key: Path) -> None:
        """Find the artifacts; trust a throw-away key beside those of the demo.

        Args:
            summary: The demo's summary.json.
            scratch: Where outputs are written.
            key: The throw-away key.
        """
        self.scratch, self.key = scratch, key
        self._artifacts = (ROOT / summary["model_dir"]).parents[1]
        self._numbers = count()
        self._statements: dict[str, Mapping[str, Any]] = {}
        self.signer = load_signer(f"file:{self.key}")
        trust = yaml.safe_load((ROOT / summary["trust"]).read_text())
        pem = self.signer.public_key.keyval["public"]
        trust["signers"].append({"name": "benchmark", "key": pem, "may_sign": list(KINDS)})
        (self.scratch / "trust.yaml").write_text(yaml.safe_dump(trust))

    @property
    def settings(self) -> Settings:
        """The stages' environment, without a DVC remote: pushing a dataset is no custody work."""
        trust = str(self.scratch / "trust.yaml")
        return load_settings({"CUSTODY_SIGNER": f"file:{self.key}", "CUSTODY_TRUST": trust})

    @property
    def trust(self) -> Trust:
        """The trust file, read anew as each stage does."""
        return load_trust(self.scratch / "trust.yaml")

    @cached_property
    def run_id(self) -> str:
        """The run that the demo was."""
        found = read_evidence(self.at("mask-pii", "evidence"), MASKING, self.trust, run_id=None)
        return str(found.run_id)

    def at(self, task: str, artifact: str) -> Path:
        """Return where an artifact is."""
        return self._artifacts / task / artifact

    def read(self, task: str, artifact: str, kind: Kind) -> Verified:
        """Read evidence as a stage does."""
        return read_evidence(self.at(task, artifact), kind, self.trust, run_id=self.run_id)

    def output(self) -> Path:
        """Name a new output."""
        return self.scratch / f"output-{next(self._numbers)}"

    @cache  # noqa: B019  (one demo lives as long as the measurement)
    def raw(self, task: str, month: str) -> Path:
        """Return the raw month that a masking read."""
        wanted = self.read(task, "evidence", MASKING).dependency("input")
        return next(path for path in DATA.glob(f"*/{month}") if list_tree(path).sha256 == wanted)

    def mask(self, task: str, month: str) -> None:
        """The raw month before and after it is read, the masked one, and the evidence."""
        raw = self.raw(task, month)
        list_tree(raw)
        list_tree(raw)
        self._write(task, "evidence", MASKING, list_tree(self.at(task, "masked")))

    def attest(self) -> None:
        """The stage as it is."""
        masked, evidence = self.at("mask-pii", "masked"), self.at("mask-pii", "evidence")
        attest(masked, evidence, self.output(), self.run_id, self.settings)

    def train(self) -> None:
        """The dataset against its attestation, the new model, the provenance."""
        require_subject(self.read("attest-dataset", "attestation", ATTESTATION), self.at("mask-pii", "masked"), "data")
        self._write("train-model", "provenance", TRAINING, list_tree(self.at("train-model", "model")))

    def sign(self) -> None:
        """The stage as it is."""
        model, provenance = self.at("train-model", "model"), self.at("train-model", "provenance")
        sign(model, provenance, self.output(), self.run_id, self.settings)

    def profile(self) -> None:
        """The dataset and the model against their evidence, the new profile, its provenance."""
        attested = self.read("attest-dataset", "attestation", ATTESTATION)
        trained = self.read("train-model", "provenance", TRAINING)
        require_subject(attested, self.at("mask-pii", "masked"), "dataset")
        require_subject(trained, self.at("sign-model", "signed") / MODEL_FOLDER, "model")
        self._write("profile-dataset", "evidence", PROFILE, list_tree(self.at("profile-dataset", "profile")))

    def compare(self) -> None:
        """Both datasets and the model against their evidence, and the stage's own."""
        attested = self.read("attest-dataset", "attestation", ATTESTATION)
        masked = self.read("mask-pii-2", "evidence", MASKING)
        trained = self.read("train-model", "provenance", TRAINING)
        require_subject(attested, self.at("mask-pii", "masked"), "reference")
        current = require_subject(masked, self.at("mask-pii-2", "masked"), "current")
        require_subject(trained, self.at("sign-model", "signed") / MODEL_FOLDER, "model")
        self._write("check-drift", "evidence", DRIFT, current)

    def decide(self) -> None:
        """The stage as it is, its policy and HTML report included."""
        chain = Chain(
            dataset=self.at("mask-pii", "masked"),
            masking=self.at("mask-pii", "evidence"),
            attestation=self.at("attest-dataset", "attestation"),
            provenance=self.at("train-model", "provenance"),
            model=self.at("sign-model", "signed"),
            current=self.at("mask-pii-2", "masked"),
            current_masking=self.at("mask-pii-2", "evidence"),
            drift=self.at("check-drift", "evidence"),
            source=self.at("fetch-dataset", "evidence"),
            current_source=self.at("fetch-dataset-2", "evidence"),
        )
        place = self.output()
        enforce(
            chain,
            place,
            place.with_suffix(".html"),
            run_id=self.run_id,
            policy="baseline",
            model_name="fraud-detection",
            settings=self.settings,
        )

    def admit(self) -> None:
        """The decision, the model and its signature, the served copy, and the evidence."""
        signed = self.at("sign-model", "signed")
        model = require_subject(self.read("enforce-policy", "decision", DECISION), signed / MODEL_FOLDER, "model")
        verify_model_signature(signed / MODEL_FOLDER, signed / SIGNATURE_FILE, self.trust)
        list_tree(signed / MODEL_FOLDER)
        self._write("deploy-model", "evidence", DEPLOYMENT, model)

    def _write(self, task: str, artifact: str, kind: Kind, subject: Listing) -> None:
        statement = self._statements.get(task) or self.read(task, artifact, kind).statement
        self._statements[task] = statement
        write_evidence(self.output(), statement, self.signer, subject)
