"""Which state of a source is asked for: a Git revision, the digest of the data, or both."""

import re
from dataclasses import dataclass

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Listing
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components.data_versioning.locations import Location

_DIGEST = re.compile(r"(?:(.*)@)?sha256:([0-9a-f]{64})")
# What Git allows in a name, and no more than one word of it (git check-ref-format).
_NAME = re.compile(r"(?![-/.@])(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)|/\.))[^\x00-\x20\x7f~^:?*\[\\]{1,200}(?<![/.])")


@dataclass(frozen=True)
class Revision:
    """A Git revision (empty for other sources) and the SHA-256 (hex) that the data's listing must have (None: any)."""

    git: str
    listing: str | None


def parse_revision(text: str, location: Location) -> Revision:
    """Read a revision.

    Raises:
        InputRefused: it is malformed, or none that this kind of source can have.
    """
    pinned = _DIGEST.fullmatch(text)
    git, listing = (pinned[1] or "", pinned[2]) if pinned else (text, None)
    if location.is_git and not git:
        raise _refused("it is empty; a path in Git means nothing without a commit, branch or tag")
    if location.is_git and not _NAME.fullmatch(git):
        raise _refused("it is no name that Git allows")
    if not location.is_git and (git or text.startswith("@")):
        raise _refused(f"a {location.scheme} source has no commits; it may be sha256:<64 digits of hex> or empty")
    return Revision(git, listing)


def require_pin(revision: Revision, listing: Listing) -> None:
    """Refuse data whose listing is not the one that was asked for.

    Raises:
        EvidenceInvalid: naming both digests.
    """
    if revision.listing is not None and revision.listing != listing.sha256:
        raise EvidenceInvalid(
            "The data is not that which the revision asks for.",
            evidence=f"SHA256SUMS expected sha256:{revision.listing}, found sha256:{listing.sha256}"
            f" over {len(listing.entries)} files",
            remedy="Find out who changed the source; compare with the SHA256SUMS of the evidence that was left before.",
            code=codes.DATA_PIN,
        )


def _refused(why: str) -> InputRefused:
    return InputRefused(
        "The revision cannot be used.",
        evidence=f"revision: {why}",
        remedy="Give a full commit, a branch, a tag, or refs/...; for any source sha256:<hex>, after @ for Git.",
        code=codes.SOURCE_REVISION,
    )
