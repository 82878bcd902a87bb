"""Write the evidence of this release to tests/corpus/<version>/, once, before the release is tagged.

    PYTHONPATH=tests .venv/bin/python tests/corpus/make_corpus.py

The layout is always the same, the signatures never are: their keys live in a temporary directory for as long as this
runs, and only public keys are kept. A folder that is there is never written again.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import yaml
from securesystemslib.signer import Signer

from genuine_chain import TRAINED, Site
from genuine_shards import Sharding
from kfp_custody.components._shared.digests import list_tree, sha256_bytes, sha256_file
from kfp_custody.components._shared.evidence import DECISION, DEPLOYMENT, now, resource, test_result, write_evidence
from kfp_custody.components._shared.images import VERSION
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.model_signature import MODEL_FOLDER, SIGNATURE_FILE
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components._shared.trust import add_signer
from kfp_custody.components.policy_gate.gate import enforce
from services.private_sigstore import ISSUER, TRAINING, PrivateSigstore

HERE = Path(__file__).resolve().parent
POLICY, SERVICE = "baseline", "fraud-detection"
VALID = timedelta(days=1)  # of every signer, before and after: a corpus is verified as of its own time


def main() -> None:
    """Make everything in a temporary directory, then put it in place."""
    target = HERE / VERSION
    if target.exists():
        raise SystemExit(f"{target} is there; the evidence of a release is made once")
    with tempfile.TemporaryDirectory() as scratch:
        Corpus(Path(scratch)).make(target)
    (HERE / f"{VERSION}.SHA256SUMS").write_bytes(list_tree(target).text)
    print(f"wrote {target}")


class Corpus:
    """Runs of one platform whose stages sign with one key and whose gate signs with another."""

    def __init__(self, scratch: Path) -> None:
        """Make the keys."""
        self.scratch, self.folder = scratch, scratch / "corpus"
        self.site = Site(scratch / "site")
        self.gate = self.site.key("gate")
        self.folder.mkdir()
        self.verdicts: dict[str, str] = {}

    def make(self, target: Path) -> None:
        """Make all runs, and the manifest last."""
        with PrivateSigstore(self.scratch / "sigstore") as sigstore:
            shutil.copy(sigstore.config, self.folder / "sigstore.json")
            self._write_trust()
            self._run("key")
            self._run("refused", training=TRAINED | {"average_precision": 0.31})
            self._run("stock-model-signature", stock=True)
            self._run("in-shards", shards=2)
            self._go_keyless(sigstore)
            self._run("keyless")
        manifest = {"version": VERSION, "at": now().isoformat(), "policy": f"{POLICY}.yaml", "runs": self.verdicts}
        (self.folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        shutil.copytree(self.folder, target)

    def _write_trust(self) -> None:
        policy = (files("kfp_custody.components.policy_gate") / f"policies/{POLICY}.yaml").read_bytes()
        (self.folder / f"{POLICY}.yaml").write_bytes(policy)
        stages = [name for name in KINDS if name != DECISION.name]
        text = yaml.safe_dump(
            {
                "version": 1,
                "sigstore_root": "sigstore.json",
                "signers": [],
                "policies": [{"name": POLICY, "sha256": sha256_bytes(policy)}],
            }
        )
        for name, credential, may_sign in (
            ("pipeline", {"key": self._publish("pipeline", self.site.signer)}, stages),
            ("gate", {"key": self._publish("gate", self.gate)}, [DECISION.name]),
            ("training", {"issuer": ISSUER, "identity": TRAINING}, list(KINDS)),
        ):
            text = add_signer(text, name, credential, may_sign, not_before=now() - VALID, not_after=now() + VALID)
        trust = self.folder / "trust.yaml"
        trust.write_text(text)
        self.site.trust_path = trust
        self.site.environment |= {
            "CUSTODY_TRUST": str(trust),
            "CUSTODY_SIGNER_POLICY_GATE": f"file:{self.site.root}/keys/gate.pem",
        }

    def _publish(self, name: str, signer: Signer) -> str:
        """Write the public key, for other tools, and return it."""
        pem = public_pem(public_key(signer)).decode()
        (self.folder / f"{name}.pub").write_text(pem)
        return pem

    def _go_keyless(self, sigstore: PrivateSigstore) -> None:
        """Let everybody sign as one identity from now on."""
        token = self.scratch / "token"
        token.touch(mode=0o600)
        token.write_text(sigstore.token())
        os.environ["CUSTODY_OIDC_TOKEN_FILE"] = str(token)
        uri = f"sigstore:?config={sigstore.config}"
        self.site.signer = load_signer(uri)
        self.site.environment |= {"CUSTODY_SIGNER": uri, "CUSTODY_SIGNER_POLICY_GATE": uri}

    def _run(self, name: str, *, stock: bool = False, shards: int = 0, **numbers: Mapping[str, float]) -> None:
        """Leave one run: its artifacts, its evidence, the gate's decision and, when it passed, the deployment's."""
        run_id, root = f"corpus-{VERSION}-{name}", self.site.root / name
        chain = self.site.chain(name, run_id, self._merged(root, run_id, shards) if shards else None, **numbers)
        if stock:
            _sign_with_the_stock_tool(chain.model, self.site.root / "keys" / "pipeline.pem")
        done = enforce(
            chain,
            root / "decision",
            self.scratch / "report.html",
            run_id=run_id,
            policy=POLICY,
            model_name=SERVICE,
            settings=self.site.settings,
        )
        self.verdicts[name] = done.verdict
        if done.verdict == "PASSED":
            self._deploy(root, run_id, done.policy_sha256)
        shutil.copytree(root, self.folder / name, ignore=shutil.ignore_patterns("trained"))

    def _merged(self, root: Path, run_id: str, count: int) -> Path:
        """Mask a dataset in shards, leave them with the run, and return where they were merged."""
        sharding = Sharding(self.site)
        places = sharding.shards(count, run_id=run_id)
        _, merged = sharding.merge(places, count, run_id)
        for place in places:
            shutil.copytree(place, root / place.name)
        return merged

    def _deploy(self, root: Path, run_id: str, policy: str) -> None:
        """Write the evidence that deploy_model leaves."""
        model = list_tree(root / "signed" / MODEL_FOLDER)
        statement = test_result(
            DEPLOYMENT,
            model,
            result="PASSED",
            run_id=run_id,
            configuration=[
                resource("decision", sha256_file(root / "decision" / f"{DECISION.name}.sigstore.json")),
                resource("signature", sha256_file(root / "signed" / SIGNATURE_FILE)),
                resource("policy", policy),
                resource("endpoint", sha256_bytes(b"{}"), uri="http://127.0.0.1:18080"),
                resource("report", sha256_bytes(b"<html>"), media_type="text/html"),
            ],
            passed=["decision", "model-signature", "readiness", "smoke-inference"],
        )
        write_evidence(root / "deployment", statement, self.site.signer, model)


def _sign_with_the_stock_tool(signed: Path, key: Path) -> None:
    tool, signature = str(Path(sys.executable).parent / "model_signing"), str(signed / SIGNATURE_FILE)
    how = ("--private_key", str(key), "--signature", signature, "--no-ignore-git-paths", str(signed / MODEL_FOLDER))
    subprocess.run([tool, "sign", "key", *how], check=True, capture_output=True)


if __name__ == "__main__":
    main()
