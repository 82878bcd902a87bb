"""A whole genuine release with its decision, made once, and ways to ask the command about a copy of it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from genuine_chain import RUN, Site
from kfp_custody.components._cli.main import app
from kfp_custody.components._shared.digests import list_tree, sha256_bytes, sha256_file
from kfp_custody.components._shared.evidence import (
    CANARY,
    DEPLOYMENT,
    PROFILE,
    PROFILE_DRIFT,
    ROLLOUT,
    now,
    provenance,
    resource,
    test_result,
    write_evidence,
)
from kfp_custody.components.policy_gate.policy import load_policy


@dataclass(frozen=True)
class Release:
    """A folder with everything of a release, and the platform that made it."""

    root: Path
    site: Site

    def ask(self, *options: str, command: str = "verify") -> Result:
        return run(command, str(self.root), "--trust", str(self.site.trust_path), *options)

    def refusals(self, *options: str) -> dict[str, str]:
        """Ask, demand exit status 1, and return the checks that refuse: id -> code."""
        result = self.ask("--json", *options)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.output
        answer = json.loads(result.stdout)
        assert answer["verdict"] == "REFUSED"
        assert result.stderr.startswith("REFUSED ")
        assert len(result.stderr.rstrip().splitlines()) == 3
        return {check["id"]: check["code"] for check in answer["checks"] if check["verdict"] != "PASSED"}

    def accepted(self, *options: str) -> dict[str, Any]:
        """Ask, demand exit status 0, and return the answer."""
        result = self.ask("--json", *options)
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        answer: dict[str, Any] = json.loads(result.stdout)
        assert answer["verdict"] == "PASSED"
        return answer


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def build(site: Site, name: str = "release", run_id: str = RUN, **options: Any) -> Path:
    """Leave a chain with the gate's decision below `<site>/<name>`."""
    chain = site.chain(name, run_id=run_id, **options)
    _, decision, _ = site.gate(chain, run_id=run_id)
    shutil.move(decision, site.root / name / "decision")
    return site.root / name


def deploy(release: Release, **changes: str) -> None:
    """Leave the evidence that deploy_model leaves; `changes`: resource name -> another digest."""
    model = list_tree(release.root / "signed" / "model")
    named = {
        "decision": sha256_file(release.root / "decision" / "enforce-policy.sigstore.json"),
        "signature": sha256_file(release.root / "signed" / "model.sig"),
        "policy": load_policy("baseline").sha256,
        "endpoint": sha256_bytes(b"{}"),
    } | changes
    statement = test_result(
        DEPLOYMENT,
        model,
        result="PASSED",
        run_id=RUN,
        configuration=[resource(name, digest) for name, digest in named.items()],
        passed=["readiness"],
    )
    write_evidence(release.root / "deployment", statement, release.site.signer, model)


def roll_out(release: Release, analysis: dict[str, str] | None = None, rollout: dict[str, str] | None = None) -> None:
    """Leave the evidence that analyse_canary and finish_rollout leave; resource name -> another digest."""
    model = list_tree(release.root / "signed" / "model")
    decision = sha256_file(release.root / "decision" / "enforce-policy.sigstore.json")
    for kind, folder, changes in ((CANARY, "analysis", analysis), (ROLLOUT, "rollout", rollout)):
        named = {"decision": decision, "report": sha256_bytes(b"{}")}
        if kind is ROLLOUT:
            named["analysis"] = sha256_file(release.root / "analysis" / "analyse-canary.sigstore.json")
        configuration = [resource(name, digest) for name, digest in (named | (changes or {})).items()]
        statement = test_result(
            kind, model, result="PASSED", run_id=RUN, configuration=configuration, passed=["decision"]
        )
        write_evidence(release.root / folder, statement, release.site.signer, model)


def profile(
    release: Release,
    made: dict[str, str] | None = None,
    compared: dict[str, str] | None = None,
    run_then: str = RUN,
) -> None:
    """Leave the evidence that profile_dataset and check_profile_drift leave; resource name -> another digest."""
    root, signer = release.root, release.site.signer
    folder = root / "profile"
    folder.mkdir()
    (folder / "profile.json").write_text("{}")
    listing, model = list_tree(folder), list_tree(root / "signed" / "model").sha256
    trained = sha256_file(root / "provenance" / "train-model.sigstore.json")
    named = {
        "dataset": list_tree(root / "dataset").sha256,
        "attestation": sha256_file(root / "attestation" / "attest-dataset.sigstore.json"),
        "model": model,
        "provenance": trained,
    } | (made or {})
    statement = provenance(
        PROFILE,
        listing,
        run_id=RUN,
        started=now(),
        parameters={},
        internal={},
        dependencies=[resource(name, digest) for name, digest in named.items() if digest],
        byproducts=[],
    )
    write_evidence(root / "profile-evidence", statement, signer, listing)
    current = list_tree(root / "current")
    named = {
        "profile": listing.sha256,
        "profile_evidence": sha256_file(root / "profile-evidence" / "profile-dataset.sigstore.json"),
        "current_masking": sha256_file(root / "current-masking" / "mask-pii.sigstore.json"),
        "provenance": trained,
        "model": model,
    } | (compared or {})
    told = {"profile_evidence": {"run": run_then}}
    configuration = [resource(name, digest, annotations=told.get(name)) for name, digest in named.items()]
    statement = test_result(
        PROFILE_DRIFT, current, result="PASSED", run_id=RUN, configuration=configuration, passed=["prediction"]
    )
    write_evidence(root / "profile-drift", statement, signer, current)
