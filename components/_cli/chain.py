"""Checking the chain up to the gate, with the gate's own checks, where some of it may not be there any more."""

import functools
import re
from datetime import datetime
from pathlib import Path

from kfp_custody.components._cli.bytes_found import MASKED, TRAINED, listing_beside, locate
from kfp_custody.components._cli.collecting import Collected
from kfp_custody.components._cli.discovery import LINKS, Found, Piece
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.kinds import MODEL_SIGNATURE
from kfp_custody.components._shared.model_signature import (
    MODEL_FOLDER,
    SIGNATURE_FILE,
    read_model_signature,
    verify_model_signature,
)
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_digest, require_subject
from kfp_custody.components.policy_gate.checks import Chain, check_chain

# Artifact as the gate's checks name it -> the evidence that speaks of it, first that of the stage that made it.
_ARTIFACTS = {
    "dataset": ("masking", "dataset"),
    "current-dataset": ("current-masking", "drift"),
    "model": ("training", "model"),
}
_OF_THE_SIGNED_MODEL = ("evidence:model", "bytes:model=training", "link:model.files->training")


def check_links(
    done: Collected, root: Path, found: Found, trust: Trust, run_id: str, moment: datetime, *, partial: bool
) -> set[str]:
    """Make the gate's checks about everything that is there.

    What is missing is refused where other evidence names it, and everywhere unless `partial`. The bytes of artifacts
    that are not there are left out.

    Returns:
        The artifacts whose bytes are not there.
    """
    chain, absent = _locate(root, found)
    seen = check_chain(chain, trust, run_id, moment)
    done.verified.update(seen.verified)
    signature_alone = "model" in absent and "model" in found.links
    for check in seen.checks:
        aspect, _, rest = check.id.partition(":")
        artifact, _, _ = rest.partition("=")
        holder = rest.partition("=")[2] if aspect == "bytes" else re.split(r"\.|->", rest)[0]
        if partial and holder not in found.links:
            continue
        if (aspect == "bytes" and artifact in absent) or (signature_alone and check.id in _OF_THE_SIGNED_MODEL):
            continue
        done.checks.append(check)
    if signature_alone:
        _check_signature_alone(done, chain.model / SIGNATURE_FILE, trust, moment)
    beside = [piece.path.parent.parent / TRAINED for piece in found.links.get("training", ())]
    for number, place in enumerate((place for place in beside if place.is_symlink() or place.exists()), 1):
        name = "trained-model" if number == 1 else f"trained-model-{number}"
        done.attempt(f"bytes:{name}=training", functools.partial(_subject, done, "training", place))
        absent.discard("model")
    return absent


def check_copies(done: Collected, root: Path, found: Found, trust: Trust, run_id: str, moment: datetime) -> None:
    """Verify the further copies of each piece: what lies beside a copy may differ; and refuse what has no place."""

    def look(name: str, piece: Piece) -> str:
        model = piece.path.parent / MODEL_FOLDER
        if name != "model":
            read_evidence(piece.path.parent, LINKS[name], trust, run_id=run_id, at=moment)
        elif model.is_symlink() or model.exists():
            verify_model_signature(model, piece.path, trust, at=moment)
        return f"a copy of {name}, sha256:{piece.sha256}"

    for name, copies in found.links.items():
        for piece in copies[1:]:
            done.attempt(f"copy:{piece.path.relative_to(root)}", functools.partial(look, name, piece))
    for piece in found.extra:
        done.refuse(
            f"extra:{piece.path.relative_to(root)}",
            codes.EVIDENCE_EXTRA,
            f"sha256:{piece.sha256 or '(no regular file)'} is no link of the chain of run {run_id!r}; verify the "
            "folder of one run, and let nothing else lie among its evidence",
        )


def _locate(root: Path, found: Found) -> tuple[Chain, set[str]]:
    """Return where everything lies, and the artifacts of which evidence speaks and whose bytes are not there."""

    def directories(*links: str) -> list[Path]:
        return [piece.path.parent for link in links for piece in found.links.get(link, ())]

    def directory(link: str) -> Path:
        return next(iter(directories(link)), root / f"(no {LINKS[link].name} here)")

    listings = {artifact: listing_beside(directories(*links)) for artifact, links in _ARTIFACTS.items()}
    digests = {listing.sha256 for listing in listings.values() if listing}
    places = {
        artifact: locate(directories(_ARTIFACTS[artifact][0]), MASKED, listings[artifact], found.folders, digests)
        for artifact in ("dataset", "current-dataset")
    }
    signed = directory("model") / MODEL_FOLDER
    places["model"] = signed if signed.is_symlink() or signed.exists() else None
    absent = {
        artifact for artifact, place in places.items() if place is None and any(map(directories, _ARTIFACTS[artifact]))
    }
    nowhere = root / "(not here)"
    chain = Chain(
        dataset=places["dataset"] or nowhere,
        masking=directory("masking"),
        attestation=directory("dataset"),
        provenance=directory("training"),
        model=directory("model"),
        current=places["current-dataset"] or nowhere,
        current_masking=directory("current-masking"),
        drift=directory("drift"),
        source=directory("source") if "source" in found.links else None,
        current_source=directory("current-source") if "current-source" in found.links else None,
    )
    return chain, absent


def _check_signature_alone(done: Collected, signature: Path, trust: Trust, moment: datetime) -> None:
    """Verify a model signature without its model: who signed which files, and that training made these."""

    def signer() -> str:
        done.verified["model"] = verified = read_model_signature(signature, trust, at=moment)
        return f"signed by {verified.signer}; the model itself is not here ({MODEL_SIGNATURE.predicate_type})"

    def files() -> str:
        signed, trained = done.need("model").listing, done.need("training").subject_sha256
        require_digest(trained, signed.sha256 if signed else "(none)", "the signed model", "train-model")
        return f"sha256:{trained}"

    done.attempt("evidence:model", signer)
    done.attempt("link:model.files->training", files)


def _subject(done: Collected, name: str, place: Path) -> str:
    listing = require_subject(done.need(name), place, f"{place.parent.name}/{place.name}")
    return f"{len(listing.entries)} files, {listing.size} bytes, sha256:{listing.sha256}"
