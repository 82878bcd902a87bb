"""Verifying the gate's decision again, with the bytes at hand, before anything is touched."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import Listing, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.evidence import DECISION
from kfp_custody.components._shared.keys import is_sha256
from kfp_custody.components._shared.model_signature import verify_model_signature
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject

MAX_AGE = timedelta(hours=24)
MAX_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Admitted:
    """A signed model that may be deployed, and what says so; digests are SHA-256 in hex."""

    directory: Path
    listing: Listing
    decision_sha256: str
    signature_sha256: str
    policy_sha256: str
    decided_by: str
    signed_by: str
    decided: datetime

    @property
    def digest(self) -> str:
        """Identity of the model: digest of the listing of `model/`."""
        return self.listing.sha256

    @property
    def version(self) -> str:
        """Short name of these bytes: the digest's first eight digits."""
        return self.digest[:8]


def require_admitted(
    signed_model: Path, decision: Path, trust: Trust, *, run_id: str, name: str, now: datetime | None = None
) -> Admitted:
    """Verify decision, bytes and signature of a model.

    Args:
        signed_model: directory with `model/` and `model.sig`.
        decision: evidence directory with the gate's decision (SLSA verification summary).
        trust: who may decide and sign, and which policies count.
        run_id: the run that the decision must belong to.
        name: the service that the decision must speak of, as `models:/<name>`.
        now: the moment to judge ages at; the present when None.

    Raises:
        EvidenceInvalid: the decision or the signature is missing, forged or of another run, or bytes changed.
        PolicyRefused: the decision is FAILED, too old, of a policy that is not pinned, or speaks of another service.
    """
    verified = read_evidence(decision, DECISION, trust, run_id=run_id, at=now)
    _require_layout(signed_model)
    listing = require_subject(verified, signed_model / "model", "model")
    predicate = verified.predicate
    policy = _policy_digest(predicate)
    if predicate.get("verificationResult") != "PASSED":
        raise _denied("The gate did not let this model pass.", f"result {predicate.get('verificationResult')!r}")
    if policy not in trust.policies.values():
        raise _denied("The decision rests on a policy that is not pinned.", f"policy sha256:{policy}, {trust.source}")
    _require_service(predicate.get("resourceUri"), name)
    moment = now or datetime.now(UTC)
    decided = verified.time or datetime.min.replace(tzinfo=UTC)  # a decision always has a time; without: too old
    _require_fresh(decided, moment)
    signature = signed_model / "model.sig"
    return Admitted(
        directory=signed_model,
        listing=listing,
        decision_sha256=verified.bundle_sha256,
        signature_sha256=sha256_file(signature),
        policy_sha256=policy,
        decided_by=verified.signer,
        signed_by=verify_model_signature(signed_model / "model", signature, trust, at=now).signer,
        decided=decided,
    )


def _require_layout(signed_model: Path) -> None:
    found = sorted(entry.name for entry in signed_model.iterdir()) if signed_model.is_dir() else []
    model, signature = signed_model / "model", signed_model / "model.sig"
    if found != ["model", "model.sig"] or model.is_symlink() or signature.is_symlink() or not signature.is_file():
        raise EvidenceInvalid(
            "The signed model does not consist of model/ and model.sig alone.",
            evidence=f"found {found[:10]!a}",
            remedy="Deploy the output of sign_model as it is; add nothing to it.",
        )


def _policy_digest(predicate: Mapping[str, Any]) -> str:
    match predicate.get("policy"):
        case {"digest": {"sha256": str() as digest}} if is_sha256(digest):
            return digest
    raise EvidenceInvalid(
        "The decision does not say which policy it rests on.",
        evidence="predicate.policy.digest.sha256 is missing or malformed",
        remedy="Run the gate again; do not deploy on this decision.",
    )


def _require_service(uri: object, name: str) -> None:
    expected = f"models:/{name}"
    if not isinstance(uri, str) or (uri != expected and not uri.startswith(f"{expected}/")):
        raise _denied("The decision speaks of another service.", f"expected {expected!r}, found {str(uri)[:200]!r}")


def _require_fresh(decided: datetime, now: datetime) -> None:
    age = now - decided
    if age > MAX_AGE or age < -MAX_SKEW:
        raise _denied(
            "The decision is too old, or from the future.",
            f"decided {decided.isoformat()}, now {now.isoformat()}, at most {MAX_AGE.total_seconds() / 3600:.0f} h",
        )


def _denied(what: str, evidence: str) -> PolicyRefused:
    return PolicyRefused(
        what, evidence=evidence, remedy="Read the gate's report, correct what it names, and run the pipeline again."
    )
