"""Reading a signed model into memory and verifying what was read: the same for every server that loads one."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import read_tree, require_same, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.keys import is_sha256
from kfp_custody.components._shared.model_signature import read_model_signature
from kfp_custody.components._shared.scoring import SIGNATURE, read_signature
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.trust import load_trust


def verified_files(source: Path, pins: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
    """Read `model/` and `model.sig` from `source` into memory and verify what was read.

    Args:
        source: The folder that holds both.
        pins: `listing_sha256` and `signature_sha256`, in hex.

    Returns:
        The digest of the model's listing, and its files by name.

    Raises:
        EvidenceInvalid: a byte, a name or the signature is not the pinned one; the signature is missing or not genuine.
        InputRefused: the tree cannot be listed, or the model's own signature file cannot be read.
        PolicyRefused: no pins, or files that nothing reads.
        OSError: a file cannot be read.
    """
    expected, signature_pin = pins.get("listing_sha256"), pins.get("signature_sha256")
    if not is_sha256(expected) or not is_sha256(signature_pin):
        raise not_allowed("its pins listing_sha256 and signature_sha256 are not both given")
    listing, files = read_tree(source / "model")
    with tempfile.TemporaryDirectory(prefix="custody-signature-") as private:
        copy = Path(private, "model.sig")
        try:
            shutil.copyfile(source / "model.sig", copy, follow_symlinks=False)
        except FileNotFoundError as error:
            raise EvidenceInvalid(
                "The model is not signed.",
                evidence="model.sig is missing beside the model",
                remedy="Deploy or export the output of sign_model as it is.",
                code=codes.MODEL_UNSIGNED,
            ) from error
        signature = sha256_file(copy)
        if (listing.sha256, signature) != (expected, signature_pin):
            raise EvidenceInvalid(
                "The model is not the one that was admitted.",
                evidence=f"model expected sha256:{expected}, found sha256:{listing.sha256}; "
                f"signature expected sha256:{signature_pin}, found sha256:{signature}",
                remedy="Deploy or export the admitted model again, and find out who changed this one.",
            )
        require_only_model_files(files)
        signed = read_model_signature(copy, load_trust(load_settings().trust_file)).listing
    assert signed is not None  # noqa: S101  (it always has one)
    require_same(signed, listing, "model (model/)")
    return listing.sha256, files


def require_only_model_files(files: Mapping[str, bytes]) -> None:
    """Refuse a model with files that nothing reads: a settings file or Python module has no business in it.

    Raises:
        PolicyRefused: there is such a file.
        InputRefused: the model's own signature file cannot be read.
    """
    surplus = files.keys() - {SIGNATURE, read_signature(files).file}
    if surplus:
        raise not_allowed(f"the model has files that are not served: {sorted(surplus)[:5]!a}")


def not_allowed(why: str) -> PolicyRefused:
    """Return the refusal of settings or files that no server of ours accepts."""
    return PolicyRefused(
        "The model's settings are not accepted.",
        evidence=why,
        remedy="Let deploy_model write the settings, or write them as the README of seldon_deployment shows.",
    )
