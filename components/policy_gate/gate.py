"""The gate: verify the chain, ask the policy, sign PASSED or FAILED, explain."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import Listing, list_tree, sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid
from kfp_custody.components._shared.evidence import now, resource, verification_summary, write_evidence
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.model_signature import MODEL_FOLDER
from kfp_custody.components._shared.report import Markup, Section, badge, page, paragraph, table, text
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers import load_signer
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components.policy_gate.chain_drawing import draw_chain
from kfp_custody.components.policy_gate.checks import Chain, Check, Findings, check_chain
from kfp_custody.components.policy_gate.policy import Policy, load_policy
from kfp_custody.components.policy_gate.rules import evaluate, facts, requirements

LEVEL = "KFP_CUSTODY_CHAIN_VERIFIED"


@dataclass(frozen=True)
class GateDecision:
    """The decision: its verdict, every check with its detail, the model and the policy it is about."""

    verdict: str
    checks: tuple[Check, ...]
    model_sha256: str
    policy: str
    policy_sha256: str

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if check.verdict != "PASSED")

    def metadata(self) -> dict[str, str | float]:
        """Return what the KFP UI shows."""
        return {
            "verdict": self.verdict,
            "model_sha256": self.model_sha256,
            "policy": self.policy,
            "policy_sha256": self.policy_sha256,
            "checks": float(len(self.checks)),
            "failed": float(len(self.failed)),
        }


def enforce(
    chain: Chain, decision: Path, report: Path, *, run_id: str, policy: str, model_name: str, settings: Settings
) -> GateDecision:
    """Decide whether a model may be deployed.

    The decision is signed and its report written whatever it is; nothing is raised because a check failed.

    Args:
        chain: The artifacts and their evidence.
        decision: The evidence directory to write.
        report: The HTML file to write.
        run_id: The pipeline run.
        policy: Name of a shipped policy, or path of a policy file.
        model_name: The name that the decision lets the model be deployed under.
        settings: Trust and signer.

    Raises:
        Misconfigured: trust file, signer, or a policy file that cannot be read.
        EvidenceInvalid: neither the model nor its provenance can be read, so there is nothing to decide about.
    """
    moment = now()
    trust = load_trust(settings.trust_file)
    signer = load_signer(settings.signer_uri("policy_gate"))
    rules = load_policy(policy)
    findings = check_chain(chain, trust, run_id, moment)
    checks = (*findings.checks, pin_check(rules, trust), *_judge(rules, findings, moment))
    subject = findings.model or _subject(chain, findings)
    passed = all(check.verdict == "PASSED" for check in checks)
    done = GateDecision("PASSED" if passed else "FAILED", checks, subject.sha256, rules.name, rules.sha256)
    explanation = canonical_json(_explanation(done, findings, trust, model_name))
    statement = verification_summary(
        subject,
        passed=passed,
        run_id=run_id,
        resource_uri=f"models:/{model_name}",
        policy_uri=rules.name,
        policy_sha256=rules.sha256,
        inputs=findings.shown,
        levels=[LEVEL],
        reports=[resource("report", sha256_bytes(explanation), media_type="application/json")],
    )
    write_evidence(decision, statement, signer, subject, report=explanation)
    write_atomic(report, _html(done, findings, rules, trust, run_id, model_name).encode())
    return done


def pin_check(policy: Policy, trust: Trust) -> Check:
    """Check that the trust file pins exactly this policy: whoever starts a run must not choose its rules."""
    pinned = trust.policies.get(policy.name)
    if pinned == policy.sha256:
        return Check("policy:pinned", "PASSED", f"policy {policy.name} sha256:{policy.sha256}")
    expected = f"sha256:{pinned}" if pinned else "no policy of this name"
    return Check(
        "policy:pinned",
        "FAILED",
        f"policy {policy.name}: the trust file expected {expected}, found sha256:{policy.sha256}",
    )


def _judge(policy: Policy, findings: Findings, moment: datetime) -> list[Check]:
    return [
        *requirements(policy, findings.verified, moment),
        *evaluate(policy, facts(findings.verified, moment)),
    ]


def _subject(chain: Chain, findings: Findings) -> Listing:
    """Return what a refusal is about: the model as it is, or as it was said to be when it cannot be listed."""
    try:
        return list_tree(chain.model / MODEL_FOLDER)
    except (CustodyError, OSError) as refusal:
        training = findings.verified.get("training")
        if training is None or training.listing is None:
            raise EvidenceInvalid(
                "There is no model to decide about.",
                evidence=f"model/: {refusal}",
                remedy="Wire the output of sign_model.",
            ) from refusal
        return training.listing


def _explanation(done: GateDecision, findings: Findings, trust: Trust, model_name: str) -> dict[str, Any]:
    return {
        "stage": "enforce_policy",
        "verdict": done.verdict,
        "model": {"name": model_name, "sha256": done.model_sha256},
        "policy": {"name": done.policy, "sha256": done.policy_sha256},
        "trust": {"sha256": trust.sha256},
        "inputs": dict(findings.shown),
        "checks": [{"id": check.id, "verdict": check.verdict, "detail": check.detail} for check in done.checks],
    }


def _html(done: GateDecision, findings: Findings, policy: Policy, trust: Trust, run_id: str, model_name: str) -> str:
    digests = {name: piece.subject_sha256 for name, piece in findings.verified.items()} | {"model": done.model_sha256}
    failed = "".join(
        f"<p>{badge('REFUSED')} <strong>{text(check.id)}</strong></p>{paragraph(check.detail)}" for check in done.failed
    )
    groups = {
        "Evidence: signatures, signers, run": ("evidence",),
        "Bytes: hashed again here": ("bytes",),
        "Links: each piece of evidence names the one before": ("link",),
        f"Policy {policy.name}: what it requires": ("policy", "requires"),
        f"Policy {policy.name}: its rules": ("rule",),
    }
    sections = [Section("Why it was refused", failed)] if failed else []
    sections.append(Section("The chain", draw_chain(done.checks, done.verdict, digests)))
    for title, prefixes in groups.items():
        rows = [
            (Markup(badge(check.verdict)), check.id.partition(":")[2], check.detail)
            for check in done.checks
            if check.id.partition(":")[0] in prefixes
        ]
        sections.append(Section(title, table(("verdict", "check", "what was seen"), rows)))
    about = (
        ("model", f"{model_name} sha256:{done.model_sha256}"),
        ("run", run_id),
        ("policy", f"{policy.name} sha256:{policy.sha256}: {policy.description}"),
        ("trust file", f"sha256:{trust.sha256}, {len(trust.signers)} signers"),
        *((f"evidence {name}", f"bundle sha256:{digest}") for name, digest in sorted(findings.shown.items())),
    )
    sections.append(Section("What was decided about", table(("", ""), about)))
    summary = f"{len(done.checks)} checks, {len(done.failed)} failed. A model is deployed only when every check passes."
    return page("Policy gate", done.verdict, sections, summary)
