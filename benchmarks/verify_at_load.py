"""What it costs the model server to verify a model before it loads it, beside hashing the model's files once.

A model of 100 MB in one file is signed as the pipeline signs it and read once before, so that all find it in the page
cache. All take turns; each figure is the median of its turns, in CPU seconds of this process. The server reads a model
into memory, where it has to be to be loaded, verified or not; so the cost of verifying is what it takes beyond that
reading: hashing, comparing the listing with the pinned one, verifying the signature against the trust file, and
comparing what was signed with what was read. The peer is hashing alone, from the files.
"""

import hashlib
import json
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from _table import Result, publish

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.model_signature import sign_model_tree
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components.seldon_deployment.serving.verified import verified_files

SIZE, TURNS = 100 * 10**6, 9
SIGNATURE = {
    "schema_version": 1,
    "format": "xgboost-ubj",
    "file": "model.ubj",
    "features": [{"name": "x", "type": "number"}],
    "label": "y",
    "threshold": 0.5,
    "trusted_types": [],
}


def main() -> int:
    """Measure both in turns."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        model = root / "model"
        model.mkdir()
        (model / "model.ubj").write_bytes(os.urandom(SIZE))
        (model / "signature.json").write_text(json.dumps(SIGNATURE))
        generate_key(root / "key.pem")
        signer = load_signer(f"file:{root}/key.pem")
        sign_model_tree(model, root / "model.sig", signer)
        pem = public_pem(public_key(signer)).decode().replace("\n", "\n      ").rstrip()
        (root / "trust.yaml").write_text(
            f"version: 1\nsigners:\n  - name: pipeline\n    key: |\n      {pem}\n    may_sign: [sign-model]\n"
        )
        os.environ["CUSTODY_TRUST"] = str(root / "trust.yaml")
        pins = {"listing_sha256": list_tree(model).sha256, "signature_sha256": sha256_file(root / "model.sig")}
        verify = lambda: verified_files(root, pins)  # noqa: E731
        verify()
        turns = [(_cpu(verify), _cpu(lambda: _read(model)), _cpu(lambda: _hash(model))) for _ in range(TURNS)]
    both, reading, hashing = (median(turn) for turn in zip(*turns, strict=True))
    print(f"verified and read {both:.3f}, only read {reading:.3f}, hashed {hashing:.3f} CPU s")
    result = Result(
        "verify a model of 100 MB at load",
        both - reading,
        hashing,
        "CPU s",
        goal=1.2,
        most=True,
        peer_name="hashlib.file_digest of its files",
        relative=True,
    )
    return 0 if publish("verify_at_load", [result]) else 1


def _read(model: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(model.iterdir())]


def _hash(model: Path) -> None:
    for path in sorted(model.iterdir()):
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256").hexdigest()


def _cpu(work: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
