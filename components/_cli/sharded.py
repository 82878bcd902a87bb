"""Checking the shards that a masking was put together from: their evidence, that they are the whole, their bytes."""

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from kfp_custody.components._cli.bytes_found import MASKED
from kfp_custody.components._cli.collecting import Collected
from kfp_custody.components._cli.discovery import MASKINGS, Found, Piece
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.kinds import SHARD_ATTESTATION, SHARD_MASKING
from kfp_custody.components._shared.shards import require_same_origin, require_whole
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_digest, require_subject

_ARTIFACTS = {"masking": "dataset-shards", "current-masking": "current-dataset-shards"}


def check_shards(
    done: Collected, root: Path, found: Found, trust: Trust, run_id: str, moment: datetime
) -> tuple[dict[str, Piece], set[str]]:
    """Make the checks of merge_shards about the evidence of shards that a masking names; it must all be there.

    Returns:
        The pieces by name (`masking.mask-shard-0`), and the artifacts whose bytes are not all there.
    """
    places: dict[str, Piece] = {}
    absent: set[str] = set()
    for link in MASKINGS:
        named = found.shards[link]
        if not named:
            continue
        for name, copies in named.items():
            read = functools.partial(_read, done, link, name, copies, trust, run_id, moment)
            done.attempt(f"evidence:{link}.{name}", read)
            for piece in copies[1:]:
                again = functools.partial(_read, done, link, name, [piece], trust, run_id, moment)
                done.attempt(f"copy:{piece.path.relative_to(root)}", again)
        done.attempt(f"link:{link}.rows->shards", functools.partial(_whole, done, link, list(named)))
        if not _bytes(done, link, named):
            absent.add(_ARTIFACTS[link])
        places |= {f"{link}.{name}": copies[0] for name, copies in named.items() if copies}
    return places, absent


def _read(
    done: Collected, link: str, name: str, copies: Sequence[Piece], trust: Trust, run_id: str, moment: datetime
) -> str:
    named = done.need(link).dependency(name)
    if not copies:
        raise EvidenceInvalid(
            "The evidence of a shard is not here.",
            evidence=f"{link} names {name} sha256:{named}",
            remedy="Keep the evidence of all shards with that of the dataset.",
            code=codes.NO_EVIDENCE,
        )
    kind = next(kind for kind in (SHARD_MASKING, SHARD_ATTESTATION) if name.startswith(f"{kind.name}-"))
    verified = read_evidence(copies[0].path.parent, kind, trust, run_id=run_id, at=moment)
    require_digest(named, verified.bundle_sha256, f"the evidence {name}", link)
    done.verified[f"{link}.{name}"] = verified
    return f"signed by {verified.signer}, bundle sha256:{verified.bundle_sha256}"


def _whole(done: Collected, link: str, names: Sequence[str]) -> str:
    merged, pieces = done.need(link), [done.need(f"{link}.{name}") for name in names]
    maskings = [piece for piece in pieces if piece.kind is SHARD_MASKING]
    whole = require_whole(maskings, [piece for piece in pieces if piece.kind is SHARD_ATTESTATION])
    require_same_origin([merged, *maskings])
    for part in whole:
        for entry in part.resources():
            require_digest(merged.dependency(entry["name"]), entry["digest"]["sha256"], entry["name"], link)
    rows = whole[0].shard.rows
    if merged.metrics.get("rows") != rows:
        raise EvidenceInvalid(
            "The whole does not have the rows of its shards.",
            evidence=f"{link}: expected {rows} rows, found {merged.metrics.get('rows')}",
            remedy="Do not use this dataset. Run the pipeline again from the raw data.",
            code=codes.SHARD_ROWS,
        )
    return f"{len(whole)} shards, {rows} rows, each row once; every shard attested"


def _bytes(done: Collected, link: str, named: Mapping[str, Sequence[Piece]]) -> bool:
    """Hash the shards that lie beside their evidence; returns whether all of them do."""

    def same(name: str, place: Path) -> str:
        listing = require_subject(done.need(f"{link}.{name}"), place, name)
        return f"{len(listing.entries)} files, {listing.size} bytes, sha256:{listing.sha256}"

    complete = True
    for name, copies in named.items():
        if name.startswith(f"{SHARD_MASKING.name}-"):
            places = [piece.path.parent.parent / MASKED for piece in copies]
            there = [place for place in places if place.is_symlink() or place.exists()]
            complete = complete and bool(there)
            for place in there[:1]:
                done.attempt(f"bytes:{name}={link}", functools.partial(same, name, place))
    return complete
