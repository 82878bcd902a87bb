"""Finding the evidence below a folder, and which link of a chain each piece is.

Nothing here is verified or trusted: a wrong guess is refused by the checks that follow.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import sha256_file
from kfp_custody.components._shared.documents import DocumentFault, parse_json, read_document
from kfp_custody.components._shared.evidence import descriptors
from kfp_custody.components._shared.kinds import (
    ATTESTATION,
    CANARY,
    DECISION,
    DRIFT,
    FETCHING,
    KINDS,
    MASKING,
    MODEL_SIGNATURE,
    PROFILE,
    PROFILE_DRIFT,
    ROLLOUT,
    SHARD_ATTESTATION,
    SHARD_MASKING,
    Kind,
)
from kfp_custody.components._shared.model_signature import MODEL_FOLDER, SIGNATURE_FILE

_SUFFIX = ".sigstore.json"

# The links of a chain in the order in which they are made, by their names in a decision, and after it.
LINKS: Mapping[str, Kind] = {
    "source": FETCHING,
    "masking": MASKING,
    "dataset": ATTESTATION,
    "training": KINDS["train-model"],
    "model": MODEL_SIGNATURE,
    "current-source": FETCHING,
    "current-masking": MASKING,
    "drift": DRIFT,
    "decision": DECISION,
    "deployment": KINDS["deploy-model"],
    "analysis": CANARY,
    "rollout": ROLLOUT,
    "profile": PROFILE,
    "profile-drift": PROFILE_DRIFT,
}
# What the gate is not shown; a chain need not have all of it.
NOT_SHOWN = ("deployment", "analysis", "rollout", "profile", "profile-drift")

_PRESENT = {"current-masking": (("drift", "current_masking"), ("profile-drift", "current_masking"))}
_SOURCES = {"source": "masking", "current-source": "current-masking"}
MASKINGS = tuple(name for name, kind in LINKS.items() if kind is MASKING)


@dataclass(frozen=True)
class Piece:
    """A bundle file as it lies there; `sha256` is empty when it is no regular file."""

    path: Path
    sha256: str

    @property
    def kind(self) -> Kind | None:
        """What its name says it is; None for a name of no kind."""
        if self.path.name == SIGNATURE_FILE:
            return MODEL_SIGNATURE
        kind = KINDS.get(self.path.name.removesuffix(_SUFFIX))
        return None if kind is MODEL_SIGNATURE else kind


@dataclass(frozen=True)
class Found:
    """What lies below a folder.

    `links`: name in the chain -> the pieces that are it, byte-identical copies of one another. `extra`: what has no
    place in a chain. `folders`: every folder without evidence. `run_id`: what the evidence says, most often. `shards`:
    masking in the chain -> the evidence of shards that it names -> the copies of it, none when it is not there.
    """

    links: Mapping[str, Sequence[Piece]]
    extra: Sequence[Piece]
    folders: Sequence[Path]
    run_id: str | None
    shards: Mapping[str, Mapping[str, Sequence[Piece]]]


def find(root: Path) -> Found:
    """Look through a folder without following symbolic links.

    Raises:
        OSError: a folder cannot be read (what it holds must not go unseen).
    """
    pieces: list[Piece] = []
    folders: list[Path] = []
    for folder, names in _walk(root):
        here = [folder / name for name in names if name.endswith(_SUFFIX) or name == SIGNATURE_FILE]
        pieces += [Piece(path, _digest(path)) for path in here]
        if not here:
            folders.append(folder)
    said = {piece: _said(piece.path) for piece in pieces}
    several = (FETCHING, MASKING, MODEL_SIGNATURE)
    links = {link: _of_kind(pieces, kind, said) for link, kind in LINKS.items() if kind not in several}
    links |= _two_months(pieces, MASKING, {"masking": (("dataset", "masking"),), **_PRESENT}, links, said)
    links |= _two_months(pieces, FETCHING, {name: ((of, "source"),) for name, of in _SOURCES.items()}, links, said)
    links["model"] = _signatures(pieces)
    shards = {link: _shards(pieces, links[link], said) for link in MASKINGS}
    placed = {piece for found in (links, *shards.values()) for copies in found.values() for piece in copies}
    runs = [run for piece in pieces if (run := _run(said[piece]))]
    decided = [run for piece in links["decision"] if (run := _run(said[piece]))]
    return Found(
        {name: copies for name in LINKS if (copies := links[name])},
        [piece for piece in pieces if piece not in placed],
        folders,
        decided[0] if decided else max(runs, key=runs.count, default=None),
        shards,
    )


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, below, names in os.walk(root, onerror=refuse):
        # A stage that was killed leaves `.<name>.*.partial`, which was never published.
        below[:] = sorted(name for name in below if not (name.startswith(".") and name.endswith(".partial")))
        yield Path(folder), sorted(names)


def _digest(path: Path) -> str:
    with suppress(OSError):  # a link: the check of the evidence then says so
        if path.is_file() and not path.is_symlink():
            return sha256_file(path)
    return ""


def _of_kind(pieces: Sequence[Piece], kind: Kind, said: Mapping[Piece, Mapping[str, Any]]) -> list[Piece]:
    """Return the copies of one piece of a kind; where there are several pieces, of the one that most others name."""
    found = [piece for piece in pieces if piece.kind is kind]
    named = [digest for statement in said.values() for digest in _named(statement).values()]
    return _copies(found, max(found, key=lambda piece: named.count(piece.sha256)).sha256) if found else []


def _signatures(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the copies of the model signature, first those that lie beside their model."""
    found = [piece for piece in pieces if piece.kind is MODEL_SIGNATURE]
    found.sort(key=lambda piece: not (piece.path.parent / MODEL_FOLDER).is_dir())
    return _copies(found, found[0].sha256) if found else []


def _two_months(
    pieces: Sequence[Piece],
    kind: Kind,
    named_by: Mapping[str, Sequence[tuple[str, str]]],
    links: Mapping[str, Sequence[Piece]],
    said: Mapping[Piece, Mapping[str, Any]],
) -> dict[str, list[Piece]]:
    """Tell what is about the training data from what is about the present data: others name it by digest.

    Args:
        pieces: Everything that lies there.
        kind: Of the evidence.
        named_by: Name in the chain -> the links, and the resource of each, that name this evidence.
        links: What was found so far.
        said: What the pieces say.
    """
    found = [piece for piece in pieces if piece.kind is kind]
    places = {}
    for name, namers in named_by.items():
        digests = {_named(said[piece]).get(resource) for link, resource in namers for piece in links[link]}
        places[name] = [piece for piece in found if piece.sha256 in digests]
    rest = [piece for piece in found if not any(piece in place for place in places.values())]
    for place in places.values():
        if not place and rest:  # nobody names it as it is now: it was changed, or it is all that is left
            place += _copies(rest, rest[0].sha256)
            rest = [piece for piece in rest if piece not in place]
    return places


def _shards(
    pieces: Sequence[Piece], masking: Sequence[Piece], said: Mapping[Piece, Mapping[str, Any]]
) -> dict[str, list[Piece]]:
    """Return the evidence of shards that a masking names: name -> what lies there of it."""
    named = _named(said[masking[0]]) if masking else {}
    return {
        name: [piece for piece in _copies(pieces, digest) if piece.kind is kind]
        for kind in (SHARD_MASKING, SHARD_ATTESTATION)
        for name, digest in named.items()
        if name.startswith(f"{kind.name}-")
    }


def _copies(pieces: Sequence[Piece], sha256: str) -> list[Piece]:
    return [piece for piece in pieces if piece.sha256 == sha256]


def _said(path: Path) -> Mapping[str, Any]:
    """Return the statement in a bundle, believed by nobody yet; empty when it cannot be read."""
    import base64

    with suppress(DocumentFault, OSError, ValueError, TypeError, KeyError):
        statement = parse_json(base64.b64decode(parse_json(read_document(path))["dsseEnvelope"]["payload"]))
        if isinstance(statement, dict) and isinstance(statement.get("predicate"), dict):
            return statement
    return {}


def _named(statement: Mapping[str, Any]) -> Mapping[str, str]:
    """Return resource name -> SHA-256 of what a statement refers to."""
    with suppress(TypeError, AttributeError, KeyError):
        return {str(entry["name"]): str(entry.get("digest", {}).get("sha256")) for entry in descriptors(statement)}
    return {}


def _run(statement: Mapping[str, Any]) -> str | None:
    with suppress(TypeError, AttributeError, KeyError):
        predicate = statement["predicate"]
        run = predicate.get("custody_runId") or predicate.get("runDetails", {}).get("metadata", {}).get("invocationId")
        return run if isinstance(run, str) else None
    return None
