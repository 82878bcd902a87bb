"""Signing a model whose provenance was verified."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import Listing, sha256_file
from kfp_custody.components._shared.evidence import TRAINING
from kfp_custody.components._shared.files import atomic_directory
from kfp_custody.components._shared.model_signature import (
    MODEL_FOLDER,
    SIGNATURE_FILE,
    sign_model_tree,
    verify_model_signature,
)
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject


@dataclass(frozen=True)
class SignedTree:
    """What was signed: the model's listing, the signature's SHA-256 and the trusted signer's name."""

    listing: Listing
    signature_sha256: str
    signer: str

    def metadata(self) -> dict[str, str | float]:
        """Return what the KFP UI shows."""
        return {
            "sha256": self.listing.sha256,
            "signature_sha256": self.signature_sha256,
            "signer": self.signer,
            "bytes": float(self.listing.size),
        }


def sign(model: Path, provenance: Path, output: Path, run_id: str, settings: Settings) -> SignedTree:
    """Verify a model against its provenance and write it with its signature.

    The copy that is written is what gets hashed and signed, so nothing can change between check and signature; the
    signature is verified before anything is published.

    Args:
        model: The trained model, a directory.
        provenance: The evidence directory of train_model.
        output: The directory to write: `model/` and `model.sig`.
        run_id: The pipeline run.
        settings: Trust and signer.

    Raises:
        EvidenceInvalid: the provenance is not genuine, of another run, speaks of other bytes; or the trust file does
            not trust this signer with models.
        InputRefused: the model's tree cannot be listed.
        Misconfigured: trust file or signer.
    """
    trust = load_trust(settings.trust_file)
    signer = load_signer(settings.signer_uri("artifact_signing"))
    trained = read_evidence(provenance, TRAINING, trust, run_id=run_id)
    found = require_subject(trained, model, "model")
    with atomic_directory(output) as partial:
        for entry in found.entries:
            target = partial / MODEL_FOLDER / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model / entry.name, target, follow_symlinks=False)
        listing = require_subject(trained, partial / MODEL_FOLDER, "model (the copy to be signed)")
        sign_model_tree(partial / MODEL_FOLDER, partial / SIGNATURE_FILE, signer)
        verified = verify_model_signature(partial / MODEL_FOLDER, partial / SIGNATURE_FILE, trust)
        digest = sha256_file(partial / SIGNATURE_FILE)
    return SignedTree(listing, digest, verified.signer)
