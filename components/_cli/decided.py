"""Checking what comes after the evidence: the gate's decision, the policy, the deployment."""

import functools
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from kfp_custody.components._cli.collecting import Collected
from kfp_custody.components._cli.discovery import LINKS, NOT_SHOWN
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.documents import DocumentFault, require_keys
from kfp_custody.components._shared.errors import EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.evidence import descriptors
from kfp_custody.components._shared.keys import is_sha256
from kfp_custody.components._shared.kinds import DECISION
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import Verified, require_digest
from kfp_custody.components.policy_gate.policy import Policy
from kfp_custody.components.policy_gate.rules import evaluate, facts, requirements

_SKEW = timedelta(minutes=5)  # clocks of two nodes may differ by this much
_AUDIT = "Do not rely on this decision. Find out who made or changed what lies here."


def check_decision(done: Collected, inputs: Mapping[str, str], trust: Trust, policy: Policy | None) -> None:
    """Check that the decision is PASSED, is about this model, these inputs and the policy that counts.

    Args:
        done: Where to; its `verified` holds the decision when it is genuine.
        inputs: The evidence that is there, by name in the chain: SHA-256 of each bundle.
        trust: Pins the policy, unless one is given.
        policy: The policy that the auditor says counts.
    """

    def verdict() -> str:
        decision = done.need("decision")
        if decision.result != "PASSED":
            raise PolicyRefused(
                "The gate did not let this model pass.",
                evidence=f"the decision of {decision.signer} is {decision.result}",
                remedy="See the gate's report.",
                code=codes.GATE_FAILED,
            )
        return f"PASSED for {decision.predicate['resourceUri']}"

    def model() -> str:
        decided, trained = done.need("decision").subject_sha256, done.need("training").subject_sha256
        require_digest(trained, decided, "the model that was decided about", "train-model")
        return f"sha256:{decided}"

    def listed() -> str:
        decided = _listed(done.need("decision"))
        wrong = [
            f"{name} expected {decided.get(name, 'nothing')}, found {inputs.get(name) or 'nothing'}"
            for name in sorted({*decided, *inputs})
            if decided.get(name) != inputs.get(name)
        ]
        if wrong:
            raise EvidenceInvalid(
                "The decision does not list exactly the evidence that is here.",
                evidence="; ".join(wrong),
                remedy=_AUDIT,
                code=codes.DECISION_INPUTS,
            )
        return f"{len(decided)} bundles, each by its digest"

    def last() -> str:
        decision = done.need("decision")
        late = [
            f"{name} {piece.time.isoformat()}"
            for name, piece in done.verified.items()
            if name in inputs and piece.time and decision.time and piece.time > decision.time + _SKEW
        ]
        if late:
            raise EvidenceInvalid(
                "The decision is older than evidence that it lists.",
                evidence=f"decided {decision.time and decision.time.isoformat()}; {', '.join(late)}",
                remedy=_AUDIT,
                code=codes.DECISION_ORDER,
            )
        return f"decided {decision.time and decision.time.isoformat()}"

    done.attempt("decision:verdict", verdict)
    done.attempt("decision:model", model)
    done.attempt("decision:inputs", listed)
    done.attempt("decision:time", last)
    done.attempt("decision:policy", lambda: _policy(done.need("decision"), trust, policy))


def check_policy(done: Collected, policy: Policy, trust: Trust, moment: datetime) -> None:
    """Evaluate a policy again, as of the decision: ages count to it and not to now."""
    decision = done.verified.get("decision")
    at = decision.time if decision and decision.time else moment
    gate: dict[str, Any] = {
        "deciders": sorted(entry.name for entry in trust.signers.values() if DECISION.name in entry.may_sign)
    }
    if decision:  # absent without one, so that a rule about it denies
        gate |= {
            "signer": decision.signer,
            "model_name": str(decision.predicate["resourceUri"]).removeprefix("models:/"),
        }
    inputs = {name: piece for name, piece in done.verified.items() if name not in ("decision", *NOT_SHOWN)}
    done.checks += requirements(policy, inputs, at)
    done.checks += evaluate(policy, facts(inputs, at, gate))
    if policy.opa is not None:
        done.notes.append(f"policy {policy.name} also names a policy server; an audit asks none")


def check_deployment(done: Collected, shown: Mapping[str, str]) -> None:
    """Check that what was deployed is this model, under this decision.

    Args:
        done: Where to; its `verified` holds the deployment when it is genuine.
        shown: Name in the chain -> SHA-256 of the bundle that is there.
    """

    def bundle(resource: str, target: str) -> str:
        named = done.need("deployment").dependency(resource)
        require_digest(named, shown.get(target, "(none shown)"), f"the evidence {target}", "deploy-model")
        return f"bundle sha256:{named}"

    def policy() -> str:
        named = done.need("deployment").dependency("policy")
        require_digest(named, _policy_digest(done.need("decision")), "the policy", "deploy-model")
        return f"sha256:{named}"

    def model() -> str:
        deployed, trained = done.need("deployment").subject_sha256, done.need("training").subject_sha256
        require_digest(trained, deployed, "the deployed model", "train-model")
        return f"sha256:{deployed}"

    done.attempt("link:deployment.decision->decision", lambda: bundle("decision", "decision"))
    done.attempt("link:deployment.signature->model", lambda: bundle("signature", "model"))
    done.attempt("link:deployment.policy->decision", policy)
    done.attempt("link:deployment.model->training", model)


def check_rollout(done: Collected, shown: Mapping[str, str]) -> None:
    """Check that what was analysed and rolled out is this model, under this decision, and on that analysis.

    Args:
        done: Where to; its `verified` holds what is genuine.
        shown: Name in the chain -> SHA-256 of the bundle that is there.
    """

    def bundle(name: str, resource: str) -> str:
        named = done.need(name).dependency(resource)
        require_digest(named, shown.get(resource, "(none shown)"), f"the evidence {resource}", LINKS[name].name)
        return f"bundle sha256:{named}"

    def model(name: str) -> str:
        tried, trained = done.need(name).subject_sha256, done.need("training").subject_sha256
        require_digest(trained, tried, f"the model of {name}", "train-model")
        return f"sha256:{tried}"

    for name, resources in (("analysis", ("decision",)), ("rollout", ("decision", "analysis"))):
        if name in shown:
            for resource in resources:
                look = functools.partial(bundle, name, resource)
                done.attempt(f"link:{name}.{resource}->{resource}", look)
            done.attempt(f"link:{name}.model->training", functools.partial(model, name))


def check_profile(done: Collected, shown: Mapping[str, str]) -> None:
    """Check that a profile is of the data that the model was trained on, and what was compared with it.

    A check against the profile of another run names that run; its evidence is verified where it lies.

    Args:
        done: Where to; its `verified` holds what is genuine.
        shown: Name in the chain -> SHA-256 of the bundle that is there.
    """

    def bundle(name: str, resource: str, target: str) -> str:
        named = done.need(name).dependency(resource)
        require_digest(named, shown.get(target, "(none shown)"), f"the evidence {target}", LINKS[name].name)
        return f"bundle sha256:{named}"

    def subject(name: str, resource: str, target: str) -> str:
        named = done.need(name).dependency(resource) if resource else done.need(name).subject_sha256
        require_digest(done.need(target).subject_sha256, named, f"the {target} of {name}", LINKS[target].name)
        return f"sha256:{named}"

    def look(check: Callable[[str, str, str], str], name: str, resource: str, target: str) -> None:
        label = f"{name}.{resource}" if resource else name
        done.attempt(f"link:{label}->{target}", functools.partial(check, name, resource, target))

    if "profile" in shown:
        look(bundle, "profile", "attestation", "dataset")
        look(subject, "profile", "dataset", "dataset")
        if _names_model(done.verified.get("profile")):
            look(bundle, "profile", "provenance", "training")
            look(subject, "profile", "model", "training")
    if "profile-drift" in shown:
        look(bundle, "profile-drift", "current_masking", "current-masking")
        look(subject, "profile-drift", "", "current-masking")
        run = _profiled_in(done.verified.get("profile-drift"))
        if run is not None:
            done.notes.append(f"profile-drift: compared with the profile of run {run!r}; verify that run as well")
        else:
            look(bundle, "profile-drift", "profile_evidence", "profile")
            look(subject, "profile-drift", "profile", "profile")
            look(bundle, "profile-drift", "provenance", "training")
            look(subject, "profile-drift", "model", "training")


def _names_model(profile: Verified | None) -> bool:
    return profile is not None and any(entry["name"] == "model" for entry in descriptors(profile.statement))


def _profiled_in(compared: Verified | None) -> str | None:
    """Return the run of the profile that was compared with, where it is another one."""
    found = descriptors(compared.statement) if compared else ()
    runs = [entry.get("annotations", {}).get("run") for entry in found if entry["name"] == "profile_evidence"]
    return str(runs[0]) if compared and runs and runs[0] not in (None, compared.run_id) else None


def _policy(decision: Verified, trust: Trust, policy: Policy | None) -> str:
    found, name = _policy_digest(decision), str(decision.predicate["policy"].get("uri"))
    if policy is not None:
        counts, code, where = policy.sha256, codes.DECISION_POLICY, f"the given policy {policy.name}"
    else:
        counts, code, where = trust.policies.get(name, "(none)"), codes.POLICY_NOT_PINNED, "what the trust file pins"
    if counts != found:
        raise PolicyRefused(
            "The decision rests on another policy than the one that counts.",
            evidence=f"policy {name}: {where} has sha256:{counts}, the decision sha256:{found}",
            remedy="Give the policy file of that time with --policy if it counted then.",
            code=code,
        )
    return f"{name} sha256:{found}, {where}"


def _policy_digest(decision: Verified) -> str:
    digest: Any = decision.predicate["policy"]
    try:
        digest = require_keys(digest, "policy", ("uri", "digest"))["digest"]
        digest = require_keys(digest, "policy.digest", ("sha256",))["sha256"]
    except DocumentFault as fault:
        raise _malformed(str(fault)) from fault
    if not is_sha256(digest):
        raise _malformed("policy.digest is no SHA-256 in lower-case hex")
    return str(digest)


def _listed(decision: Verified) -> Mapping[str, str]:
    """Return name -> digest of what a decision says it rests on."""
    listed: dict[str, str] = {}
    entries: Any = decision.predicate["inputAttestations"]
    try:
        if not isinstance(entries, list):
            raise DocumentFault("inputAttestations is no list")
        for entry in entries:
            require_keys(entry, "an input", ("uri", "digest"))
            name, digest = entry["uri"], require_keys(entry["digest"], "its digest", ("sha256",))["sha256"]
            if not isinstance(name, str) or name in listed or not is_sha256(digest):
                raise DocumentFault("an input has no name or digest, or stands in it twice")
            listed[name] = digest
    except DocumentFault as fault:
        raise _malformed(str(fault)) from fault
    return listed


def _malformed(why: str) -> EvidenceInvalid:
    return EvidenceInvalid("The decision is malformed.", evidence=why, remedy=_AUDIT, code=codes.VALUE)
