"""What every export holds: the model as it was admitted, its signature, and the digests that a server must find."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import read_tree, require_same, sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.files import atomic_directory
from kfp_custody.components._shared.scoring import Signature, read_signature
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.serving.exported import PINNED, PINS, SIGNED
from kfp_custody.components.seldon_deployment.serving.verified import require_only_model_files

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def contents(admitted: Admitted, name: str) -> tuple[dict[str, bytes], Signature]:
    """Read an admitted model once more and return the files of its export by name.

    Returns:
        The files, and what the model says of its inputs.

    Raises:
        EvidenceInvalid: bytes changed since the model was admitted.
        InputRefused: the model's own signature file cannot be read.
        PolicyRefused: the model has files that nothing reads.
        Misconfigured: the name is no DNS label.
        OSError: a file cannot be read.
    """
    if not _LABEL.fullmatch(name):
        raise Misconfigured(
            "The model's name cannot be the name of a service.",
            evidence=f"name {ascii(name[:80])} is no DNS label",
            remedy="Give the name that the decision speaks of.",
            code=codes.MODEL_NAME,
        )
    listing, model = read_tree(admitted.directory / "model")
    require_same(admitted.listing, listing, "model (model/)")
    signature = (admitted.directory / "model.sig").read_bytes()
    if sha256_bytes(signature) != admitted.signature_sha256:
        raise EvidenceInvalid(
            "The signature is not the one that was admitted.",
            evidence=f"model.sig expected sha256:{admitted.signature_sha256}, found sha256:{sha256_bytes(signature)}",
            remedy="Find out who changed it, then export again.",
            code=codes.LINK,
        )
    require_only_model_files(model)
    digests = (admitted.digest, admitted.signature_sha256, admitted.decision_sha256, admitted.policy_sha256)
    pins = dict(zip(PINNED, (name, *digests), strict=True))
    tree = {f"{SIGNED}/model/{file}": data for file, data in model.items()}
    return {PINS: canonical_json(pins), f"{SIGNED}/model.sig": signature, **tree}, read_signature(model)


def entry(module: str) -> bytes:
    """Return the source of an entry point."""
    return files("kfp_custody.components.seldon_deployment.exports.entries").joinpath(f"{module}.py").read_bytes()


def write(tree: Mapping[str, bytes], directory: Path) -> None:
    """Write the files of an export, all of them or none.

    Raises:
        Misconfigured: the directory exists.
        OSError: the place cannot be written.
    """
    if directory.exists() or directory.is_symlink():
        raise Misconfigured(
            "The folder of the export exists already; nothing was written.",
            evidence=directory.name,
            remedy="Name a new folder, or move the old export away.",
            code=codes.EXPORT_EXISTS,
        )
    with atomic_directory(directory) as partial:
        for name, data in tree.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(data)
