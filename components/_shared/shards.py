"""Shards: a dataset cut into runs of rows that are masked and attested apart, and put together again.

Shard number i of n holds the rows i*R//n up to (i+1)*R//n of the R rows, in the order of the files. Which one it is
stands in its signed evidence as the resource `shard`; nothing depends on the order in which shards arrive, or on names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured, PolicyRefused
from kfp_custody.components._shared.evidence import descriptors, resource
from kfp_custody.components._shared.verification import Verified, require_digest

MAX_SHARDS = 32
"""KFP hands a task all its inputs in one command-line argument, which Linux limits to 128 KiB."""
RESOURCE = "shard"
_ORIGIN = ("input", "source", "policy", "masking-key", "detector")
_AGAIN = "Do not use these shards. Find out where they come from, then run the pipeline again."


@dataclass(frozen=True)
class Shard:
    """One of the `of` shards of a dataset of `rows` rows; `number` counts from 0."""

    number: int
    of: int
    rows: int

    @property
    def first(self) -> int:
        """Number of its first row."""
        return self.number * self.rows // self.of

    @property
    def end(self) -> int:
        """Number of the row after its last one."""
        return (self.number + 1) * self.rows // self.of

    def __str__(self) -> str:
        """Return the shard as messages name it."""
        return f"shard {self.number} of {self.of}"

    def resource(self) -> dict[str, Any]:
        """Return what a statement says about the shard."""
        span = {"first_row": self.first, "end_row": self.end, "rows": self.rows}
        return resource(RESOURCE, annotations={"number": self.number, "of": self.of, **span})


@dataclass(frozen=True)
class ShardEvidence:
    """What was verified about one shard."""

    shard: Shard
    masking: Verified
    attestation: Verified

    def resources(self) -> list[dict[str, Any]]:
        """Return how the evidence of the whole names this evidence."""
        return [
            resource(f"{piece.kind.name}-{self.shard.number}", piece.bundle_sha256)
            for piece in (self.masking, self.attestation)
        ]


def require_number(number: int, of: int) -> None:
    """Refuse a number that no shard can have.

    Raises:
        Misconfigured: naming both numbers.
    """
    if not (1 <= of <= MAX_SHARDS and 0 <= number < of):
        raise Misconfigured(
            "There is no such shard.",
            evidence=f"shard {number} of {of}; there may be 1 to {MAX_SHARDS} shards, numbered from 0",
            remedy="Give each shard of a loop its own number, and all of them the same count.",
            code=codes.SHARD_NUMBER,
        )


def cut(number: int, of: int, rows: int) -> Shard:
    """Return a shard of a dataset of so many rows.

    Raises:
        Misconfigured: there is no such shard.
        InputRefused: there are fewer rows than shards, so one would be empty.
    """
    require_number(number, of)
    if rows < of:
        raise InputRefused(
            "The data has fewer rows than there are shards.",
            evidence=f"{rows} rows, {of} shards",
            remedy="Use fewer shards, or the pipeline without shards.",
            code=codes.TOO_FEW_ROWS,
        )
    return Shard(number, of, rows)


def read_shard(verified: Verified) -> Shard:
    """Return which shard some evidence is about.

    Raises:
        EvidenceInvalid: it does not say so properly, or names rows that are not those of its number.
    """
    found = next((entry for entry in descriptors(verified.statement) if entry["name"] == RESOURCE), {})
    said: Mapping[str, Any] = found.get("annotations", {})
    if set(said) != {"number", "of", "first_row", "end_row", "rows"} or not all(type(v) is int for v in said.values()):
        raise _refused(verified, "it does not say which shard it is about", codes.VALUE)
    shard = Shard(said["number"], said["of"], said["rows"])
    if not (1 <= shard.of <= MAX_SHARDS and 0 <= shard.number < shard.of <= shard.rows):
        raise _refused(verified, f"there is no {shard} of a dataset of {shard.rows} rows", codes.VALUE)
    if (said["first_row"], said["end_row"]) != (shard.first, shard.end):
        span = f"rows {said['first_row']} to {said['end_row']}"
        raise _refused(verified, f"{shard} expected rows {shard.first} to {shard.end}, found {span}", codes.SHARD_ROWS)
    return shard


def require_whole(
    maskings: Sequence[Verified], attestations: Sequence[Verified], of: int | None = None
) -> tuple[ShardEvidence, ...]:
    """Match the evidence of all shards of a dataset, in the order of their numbers.

    Args:
        maskings: What mask_shard signed, verified, in any order.
        attestations: What attest_shard signed, verified, in any order.
        of: How many shards there must be; None takes their own word for it.

    Raises:
        EvidenceInvalid: a shard is missing, twice or not attested; they are of different datasets or cut in different
            ways; they differ in raw data, policy, key or detector; an attestation is about another shard.
        PolicyRefused: the masking of a shard failed.
    """
    for piece in maskings:
        if piece.result == "FAILED":
            raise PolicyRefused(
                "The masking of a shard failed, so the shards are not put together.",
                evidence=f"{read_shard(piece)}: {piece.kind.name} result FAILED in bundle sha256:{piece.bundle_sha256}",
                remedy="See the report of that shard; correct the data or the masking policy.",
            )
    numbered = sorted(((read_shard(piece), piece) for piece in maskings), key=lambda found: found[0].number)
    _require_each_once([shard for shard, _ in numbered], of)
    require_same_origin(maskings)
    attested: dict[str, list[Verified]] = {piece.bundle_sha256: [] for piece in maskings}
    for piece in attestations:
        named = piece.dependency("masking")
        if named not in attested:
            raise _refused(piece, f"it is about bundle sha256:{named}, which is of none of these shards", codes.LINK)
        attested[named].append(piece)
    return tuple(
        ShardEvidence(shard, masking, _attestation(shard, masking, attested[masking.bundle_sha256]))
        for shard, masking in numbered
    )


def require_same_origin(pieces: Sequence[Verified]) -> None:
    """Refuse evidence about masking that was not made from one raw dataset, with one policy, key and detector.

    Raises:
        EvidenceInvalid: naming what differs, and both digests or names.
    """
    first, *others = ({entry["name"]: entry for entry in descriptors(piece.statement)} for piece in pieces)
    for piece, other in zip(pieces[1:], others, strict=True):
        for name in _ORIGIN:
            if first.get(name) != other.get(name):
                raise _refused(
                    piece,
                    f"{name} expected {_shown(first.get(name))}, found {_shown(other.get(name))}",
                    codes.SHARD_ORIGIN,
                )


def _require_each_once(shards: Sequence[Shard], of: int | None) -> None:
    """Refuse anything but the shards 0, 1, 2, ... of one dataset; `shards` is sorted by number."""
    count = of or max((shard.of for shard in shards), default=0)
    numbers = [shard.number for shard in shards]
    rows = sorted({shard.rows for shard in shards})
    counts = sorted({shard.of for shard in shards})
    if not count or numbers != list(range(count)) or counts != [count] or len(rows) != 1:
        raise EvidenceInvalid(
            "The shards are not each shard of one dataset, exactly once.",
            evidence=f"expected the shards 0 to {count - 1}, found {', '.join(map(str, numbers)) or 'none'}; "
            f"cut into {', '.join(map(str, counts)) or 'nothing'} from {', '.join(map(str, rows)) or 'no'} rows",
            remedy=_AGAIN,
            code=codes.SHARD_SET,
        )


def _attestation(shard: Shard, masking: Verified, found: Sequence[Verified]) -> Verified:
    if len(found) != 1:
        raise _refused(masking, f"{shard} has {len(found)} attestations, expected 1", codes.SHARD_SET)
    (attestation,) = found
    require_digest(masking.subject_sha256, attestation.subject_sha256, f"attested {shard}", masking.kind.name)
    if read_shard(attestation) != shard:
        raise _refused(attestation, f"expected {shard}, found {read_shard(attestation)}", codes.SHARD_SET)
    return attestation


def _shown(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "none"
    said = [f"sha256:{entry['digest']['sha256']}"] if "sha256" in entry.get("digest", {}) else []
    return ", ".join([*said, *(f"{name} {value}" for name, value in sorted(entry.get("annotations", {}).items()))])


def _refused(verified: Verified, why: str, code: str) -> EvidenceInvalid:
    return EvidenceInvalid(
        f"The evidence {verified.kind.name} does not fit into a whole dataset.",
        evidence=f"{why}; bundle sha256:{verified.bundle_sha256}",
        remedy=_AGAIN,
        code=code,
    )
