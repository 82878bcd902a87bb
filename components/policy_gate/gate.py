"""The gate: verify the chain, ask the policy, sign PASSED or FAILED, explain."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Listing, list_tree, sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.evidence import DECISION, now, resource, verification_summary, write_evidence
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.keys import key_hint
from kfp_custody.components._shared.model_signature import MODEL_FOLDER
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components.policy_gate.checks import Chain, Check, Findings, check_chain
from kfp_custody.components.policy_gate.opa import ask, not_asked
from kfp_custody.components.policy_gate.policy import Policy, load_policy
from kfp_custody.components.policy_gate.reporting import explanation, html
from kfp_custody.components.policy_gate.rules import evaluate, facts, requirements

LEVEL = "KFP_CUSTODY_CHAIN_VERIFIED"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123: what Kubernetes can name a service


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
        model_name: The name that the decision lets the model be deployed under, a DNS label.
        settings: Trust and signer, and the token for a policy server.

    Raises:
        Misconfigured: trust file, signer, a policy file that cannot be read, or a name that is no DNS label.
        EvidenceInvalid: neither the model nor its provenance can be read, so there is nothing to decide about.
    """
    _require_label(model_name)
    moment = now()
    trust = load_trust(settings.trust_file)
    signer = load_signer(settings.signer_uri("policy_gate"))
    rules = load_policy(policy)
    findings = check_chain(chain, trust, run_id, moment)
    seen = facts(findings.verified, moment, gate_facts(trust, signer, model_name))
    pin = pin_check(rules, trust)
    asked = requirements(rules, findings.verified, moment)
    checks = (*findings.checks, pin, *asked, *evaluate(rules, seen), *_ask(rules, pin, seen, settings))
    subject = findings.model or _subject(chain, findings)
    passed = all(check.verdict == "PASSED" for check in checks)
    done = GateDecision("PASSED" if passed else "FAILED", checks, subject.sha256, rules.name, rules.sha256)
    told = (checks, done.verdict, (model_name, subject.sha256), rules, findings, trust)
    explained = canonical_json(explanation(*told))
    statement = verification_summary(
        subject,
        passed=passed,
        run_id=run_id,
        resource_uri=f"models:/{model_name}",
        policy_uri=rules.name,
        policy_sha256=rules.sha256,
        inputs=findings.shown,
        levels=[LEVEL],
        reports=[resource("report", sha256_bytes(explained), media_type="application/json")],
    )
    write_evidence(decision, statement, signer, subject, report=explained)
    write_atomic(report, html(*told, run_id).encode())
    return done


def gate_facts(trust: Trust, signer: object, model_name: str) -> dict[str, Any]:
    """Return what rules may know about the gate.

    Args:
        trust: The trust file.
        signer: Who will sign the decision. Only a key has a name before it has signed; `signer` is absent for others,
            so that a rule about it denies, while `deciders` says who may sign decisions at all.
        model_name: What the model is to be deployed as.
    """
    known: dict[str, Any] = {
        "deciders": sorted(entry.name for entry in trust.signers.values() if DECISION.name in entry.may_sign),
        "model_name": model_name,
    }
    if isinstance(signer, Signer):
        try:
            entry = trust.signers.get(key_hint(public_key(signer)))
        except Misconfigured:
            return known  # an HMAC key, which has no public half
        return known | ({"signer": entry.name} if entry else {})
    return known


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
        codes.POLICY_NOT_PINNED,
    )


def _ask(policy: Policy, pin: Check, seen: Mapping[str, Any], settings: Settings) -> list[Check]:
    """Ask the policy's server, if it names one and the policy counts."""
    if policy.opa is None:
        return []
    return [ask(policy.opa, seen, settings.opa_token_file) if pin.verdict == "PASSED" else not_asked(policy.opa)]


def _require_label(name: str) -> None:
    if not _LABEL.fullmatch(name):
        raise Misconfigured(
            "The model's name cannot be the name of a service.",
            evidence=f"model_name {ascii(name[:80])} is no DNS label",
            remedy="Use lower-case letters, digits and dashes, at most 63, with a letter or digit at either end.",
            code=codes.MODEL_NAME,
        )


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
                code=codes.NO_EVIDENCE,
            ) from refusal
        return training.listing
