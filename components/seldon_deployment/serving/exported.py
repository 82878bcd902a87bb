"""An exported model in the process of another server: verified, loaded from memory, asked.

    <folder>/custody.json       what was admitted: the model's name and the digests that must be found
    <folder>/signed/model/      the model, never on `sys.path`
    <folder>/signed/model.sig   its OpenSSF signature

The entry point that the server runs (`exports/entries`) calls `load_exported` while the server starts and cannot answer
without what it returns. Whose signature counts, the trust file of the machine says (`CUSTODY_TRUST`), never the export.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.documents import DocumentFault, parse_json, read_document, require_keys
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, boundary
from kfp_custody.components._shared.scoring import Feature, Scorer, load_scorer
from kfp_custody.components.seldon_deployment.serving.inputs import (
    MAX_ROWS,
    InputFault,
    Tensor,
    as_arrays,
    read_columns,
)
from kfp_custody.components.seldon_deployment.serving.verified import verified_files

PINS, SIGNED = "custody.json", "signed"
PINNED = ("name", "listing_sha256", "signature_sha256", "decision_sha256", "policy_sha256")


@dataclass(frozen=True)
class Exported:
    """A verified and loaded model; `digest` is that of the listing of the bytes that were loaded."""

    name: str
    digest: str
    scorer: Scorer

    def answer(self, tensors: Sequence[Tensor]) -> tuple[list[float], list[int]]:
        """Return probabilities and labels, one a row.

        Args:
            tensors: As `inputs.read_columns` takes them.

        Raises:
            InputFault: the request does not fit the model; the message repeats no value.
        """
        try:
            columns = read_columns(tensors, self.scorer.features)
            probability = self.scorer.score(as_arrays(columns))
        except InputRefused as refusal:
            raise InputFault(refusal.evidence) from refusal
        return probability.tolist(), (probability >= self.scorer.threshold).astype(int).tolist()

    def answer_rows(self, body: Any) -> dict[str, Any]:
        """Answer `{"rows": [{<feature>: <value>, ...}, ...]}`, every row with exactly the model's features.

        Args:
            body: The document, or its JSON as text or bytes; null is a missing value.

        Returns:
            `{"model": ..., "version": <digest>, "probability": [...], "label": [...]}`.

        Raises:
            InputFault: the request does not fit the model; the message repeats no value.
        """
        probability, label = self.answer(_tensors_of(_document(body), self.scorer.features))
        return {"model": self.name, "version": self.digest, "probability": probability, "label": label}


def require_verified(folder: Path) -> None:
    """Verify the model of an export and load nothing: for a process that starts those which load.

    Raises:
        CustodyError: as `load_exported`.
    """
    with boundary():
        _verified(folder)


def load_exported(folder: Path) -> Exported:
    """Verify the model of an export and load the very bytes that were verified.

    Args:
        folder: Where `custody.json` and `signed/` lie.

    Raises:
        EvidenceInvalid: the pins are malformed, a byte, a name or the signature is not the pinned one, or the signature
            is not by somebody whom the trust file trusts with it.
        InputRefused: something is missing, or the model cannot be read.
        PolicyRefused: the model holds files that nothing reads.
        Misconfigured: the trust file is not acceptable, or a file may not be read.
    """
    with boundary():
        name, digest, files = _verified(folder)
        return Exported(name, digest, load_scorer(files))


def _verified(folder: Path) -> tuple[str, str, Mapping[str, bytes]]:
    pins = _pins(folder / PINS)
    return str(pins["name"]), *verified_files(folder / SIGNED, pins)


def _pins(path: Path) -> Mapping[str, Any]:
    try:
        return require_keys(parse_json(read_document(path)), PINS, PINNED)
    except DocumentFault as fault:
        raise EvidenceInvalid(
            "The pins of the exported model cannot be read.",
            evidence=f"{PINS}: {fault}",
            remedy="Export the admitted model again.",
            code=fault.code,
        ) from fault


def _document(body: Any) -> Any:
    if not isinstance(body, str | bytes | bytearray):
        return body
    try:
        return parse_json(body.encode() if isinstance(body, str) else bytes(body))
    except (DocumentFault, UnicodeEncodeError):
        raise InputFault("the body is no JSON that can be read strictly") from None  # the cause may quote it


def _tensors_of(document: Any, features: Sequence[Feature]) -> list[Tensor]:
    rows = document.get("rows") if isinstance(document, dict) and len(document) == 1 else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputFault('send {"rows": [{<feature>: <value>, ...}, ...]} and nothing beside it')
    if not 1 <= len(rows) <= MAX_ROWS:
        raise InputFault(f"a request must have 1 to {MAX_ROWS} rows")
    names = rows[0].keys()
    if any(row.keys() != names for row in rows):
        raise InputFault("the rows have different columns")
    if any(isinstance(value, list | dict) for row in rows for value in row.values()):
        raise InputFault("a row holds something that is no single value")
    numbers = {feature.name for feature in features if feature.type == "number"}
    wanted = {feature.name for feature in features}
    if not wanted & names:  # one unknown column is no matrix here
        raise InputFault(f"inputs missing: {sorted(wanted)}; inputs not taken by the model: {len(names)}")
    return [
        Tensor(name, "FP64" if name in numbers else "BYTES", (len(rows),), [row[name] for row in rows])
        for name in names
    ]
