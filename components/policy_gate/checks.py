"""Everything the gate verifies before a policy is asked: signatures, links between evidence, and the bytes.

All checks are made even when one fails, so that a report names everything that is wrong at once; a check that could not
be made because another failed counts as failed.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Listing, sha256_file
from kfp_custody.components._shared.documents import MAX_JSON
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, from_os_error
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    DRIFT,
    FETCHING,
    MASKING,
    MODEL_SIGNATURE,
    TRAINING,
    descriptors,
)
from kfp_custody.components._shared.kinds import Kind
from kfp_custody.components._shared.model_signature import MODEL_FOLDER, SIGNATURE_FILE, verify_model_signature
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import Verified, read_evidence, require_digest, require_subject


@dataclass(frozen=True)
class Chain:
    """Where everything is that belongs to one release; the sources are there when the raw data was fetched."""

    dataset: Path
    masking: Path
    attestation: Path
    provenance: Path
    model: Path
    current: Path
    current_masking: Path
    drift: Path
    source: Path | None = None
    current_source: Path | None = None


@dataclass(frozen=True)
class Term:
    """A part of a rule: whether it holds, the values it was decided on, and what it needs (empty when it holds)."""

    expression: str
    holds: bool
    found: str
    needs: str


@dataclass(frozen=True)
class Tried:
    """How a rule was tried: its text, whether its condition let it apply, and each of its parts."""

    message: str
    expr: str
    when: str
    applies: bool
    terms: tuple[Term, ...] = ()

    @property
    def needs(self) -> str:
        """What would make the rule hold; empty when it does."""
        return "; ".join(term.needs for term in self.terms if term.needs)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: PASSED or FAILED, and what was seen.

    `code` is the refusal's (see `codes.py`), empty when the check passed; `tried` is there for rules of the policy.
    """

    id: str
    verdict: str
    detail: str
    code: str = ""
    tried: Tried | None = None


@dataclass(frozen=True)
class Findings:
    """All checks, the evidence that verified (by name in the chain) and the digest of every bundle that was shown.

    `model` is the listing of the model as it was hashed and found to be what its provenance speaks of; None when not.
    """

    checks: tuple[Check, ...]
    verified: Mapping[str, Verified]
    shown: Mapping[str, str]
    model: Listing | None = None


def check_chain(chain: Chain, trust: Trust, run_id: str, at: datetime) -> Findings:
    """Verify every signature, every link and every byte of a chain.

    Args:
        chain: The artifacts and their evidence.
        trust: Who is trusted for what.
        run_id: The run that all of it must belong to.
        at: The moment to judge by, timezone-aware.
    """
    found = _Findings()

    def evidence(name: str, directory: Path, kind: Kind) -> None:
        found.show(name, directory / f"{kind.name}.sigstore.json")

        def read() -> str:
            verified = read_evidence(directory, kind, trust, run_id=run_id, at=at)
            found.accept(name, verified)
            return f"signed by {verified.signer}, bundle sha256:{verified.bundle_sha256}"

        found.attempt(f"evidence:{name}", read)

    if chain.source is not None:
        evidence("source", chain.source, FETCHING)
    evidence("masking", chain.masking, MASKING)
    evidence("dataset", chain.attestation, ATTESTATION)
    evidence("training", chain.provenance, TRAINING)
    if chain.current_source is not None:
        evidence("current-source", chain.current_source, FETCHING)
    evidence("current-masking", chain.current_masking, MASKING)
    evidence("drift", chain.drift, DRIFT)
    found.show("model", chain.model / SIGNATURE_FILE)

    def signature() -> str:
        model = verify_model_signature(chain.model / MODEL_FOLDER, chain.model / SIGNATURE_FILE, trust, at=at)
        found.accept("model", model)
        return f"signed by {model.signer}; every file of the model and no other ({MODEL_SIGNATURE.predicate_type})"

    found.attempt("evidence:model", signature)

    for artifact, root, according_to in (
        ("dataset", chain.dataset, "dataset"),
        ("dataset", chain.dataset, "masking"),
        ("model", chain.model / MODEL_FOLDER, "training"),
        ("current dataset", chain.current, "current-masking"),
        ("current dataset", chain.current, "drift"),
    ):
        found.attempt(f"bytes:{artifact.replace(' ', '-')}={according_to}", found.bytes(artifact, root, according_to))

    for holder, resource, target in (
        ("dataset", "masking", "masking"),
        ("training", "attestation", "dataset"),
        ("drift", "attestation", "dataset"),
        ("drift", "provenance", "training"),
        ("drift", "current_masking", "current-masking"),
    ):
        found.attempt(f"link:{holder}.{resource}->{target}", found.bundle_link(holder, resource, target))
    for holder, resource, target in (
        ("training", "dataset", "dataset"),
        ("drift", "reference", "dataset"),
        ("drift", "model", "training"),
    ):
        found.attempt(
            f"link:{holder}.{resource}->{target}", found.link(holder, resource, lambda v: v.subject_sha256, target)
        )
    found.attempt(
        "link:dataset.input->masking.input",
        found.link("dataset", "input", lambda verified: verified.dependency("input"), "masking"),
    )
    for holder, target, there in (
        ("masking", "source", chain.source),
        ("current-masking", "current-source", chain.current_source),
    ):
        if there is not None or found.names(holder, "source"):
            found.attempt(f"link:{holder}.source->{target}", found.bundle_link(holder, "source", target))
            found.attempt(
                f"link:{holder}.input->{target}", found.link(holder, "input", lambda v: v.subject_sha256, target)
            )
    if chain.source is not None or found.names("dataset", "source"):
        found.attempt("link:dataset.source->source", found.bundle_link("dataset", "source", "source"))
    found.attempt("link:model.files->training", found.signed_model)
    return Findings(tuple(found.checks), found.verified, found.shown, found.listings.get("model"))


class _Findings:
    """Collects checks; each attempt turns a refusal into a FAILED check with its evidence."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.verified: dict[str, Verified] = {}
        self.shown: dict[str, str] = {}
        self.listings: dict[str, Listing] = {}

    def show(self, name: str, bundle: Path) -> None:
        with suppress(OSError):  # why it cannot be read is what the check of the evidence then says
            if bundle.is_file() and not bundle.is_symlink() and bundle.stat().st_size <= MAX_JSON:
                self.shown[name] = sha256_file(bundle)

    def accept(self, name: str, verified: Verified) -> None:
        self.verified[name] = verified
        self.shown[name] = verified.bundle_sha256  # of the very bytes that were verified

    def attempt(self, check: str, look: Callable[[], str]) -> None:
        try:
            self.checks.append(Check(check, "PASSED", look()))
        except (CustodyError, OSError) as error:  # an artifact that cannot be read is a finding, not an accident
            refusal = error if isinstance(error, CustodyError) else from_os_error(error)
            self.checks.append(Check(check, "FAILED", f"{refusal.what} {refusal.evidence}", refusal.code))
        except _NotGenuine as missing:
            why = f"not checked: the evidence {missing} was not accepted"
            self.checks.append(Check(check, "FAILED", why, codes.CHECK_NOT_MADE))

    def need(self, name: str) -> Verified:
        if name not in self.verified:
            raise _NotGenuine(name)
        return self.verified[name]

    def names(self, name: str, resource: str) -> bool:
        """Tell whether genuine evidence refers to something."""
        piece = self.verified.get(name)
        return piece is not None and any(entry["name"] == resource for entry in descriptors(piece.statement))

    def bytes(self, artifact: str, root: Path, according_to: str) -> Callable[[], str]:
        def look() -> str:
            listing = require_subject(self.need(according_to), root, artifact)
            self.listings[artifact] = listing
            return f"{len(listing.entries)} files, {listing.size} bytes, sha256:{listing.sha256}"

        return look

    def bundle_link(self, holder: str, resource: str, target: str) -> Callable[[], str]:
        """Compare with the bundle as it was shown, genuine or not: a report then names both digests."""

        def look() -> str:
            named = self.need(holder).dependency(resource)
            require_digest(named, self.shown.get(target, "(none shown)"), f"the evidence {target}", holder)
            return f"bundle sha256:{named}"

        return look

    def link(self, holder: str, resource: str, of: Callable[[Verified], str], target: str) -> Callable[[], str]:
        def look() -> str:
            named, actual = self.need(holder).dependency(resource), of(self.need(target))
            require_digest(named, actual, resource, holder)
            return f"sha256:{named}"

        return look

    def signed_model(self) -> str:
        """The signature is for the very files that the provenance is about, whatever lies in the folder by now."""
        signed, trained = self.need("model").listing, self.need("training").subject_sha256
        if signed is None:
            raise EvidenceInvalid("The signature lists no files.", evidence="model.sig", remedy="Sign the model again.")
        require_digest(trained, signed.sha256, "the signed model", "train-model")
        return f"sha256:{trained}"


class _NotGenuine(Exception):
    """A check needs evidence that did not verify."""
