"""Attesting a masked dataset."""

from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import Listing, sha256_bytes
from kfp_custody.components._shared.errors import PolicyRefused
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    MASKING,
    now,
    provenance,
    resource,
    write_evidence,
)
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.data_attestation.dvc_identity import DvcIdentity, dvc_identity
from kfp_custody.components.data_attestation.dvc_remote import push

POINTER_NAME = "dataset.dvc"


@dataclass(frozen=True)
class AttestedDataset:
    """What was attested: the listing, DVC's name for it, and how many objects its remote took (None: no remote)."""

    listing: Listing
    dvc: DvcIdentity
    pushed: int | None

    def metadata(self) -> dict[str, str | float]:
        """Return what the KFP UI shows."""
        return {
            "sha256": self.listing.sha256,
            "dvc_md5": self.dvc.md5,
            "files": float(len(self.listing.entries)),
            "bytes": float(self.listing.size),
        }


def attest(dataset: Path, masking: Path, output: Path, run_id: str, settings: Settings) -> AttestedDataset:
    """Verify the masking evidence, hash the dataset again and sign what it is.

    Args:
        dataset: The masked dataset, a directory.
        masking: The evidence directory of mask_pii.
        output: The evidence directory to write.
        run_id: The pipeline run.
        settings: Trust, signer and DVC remote.

    Raises:
        EvidenceInvalid: the evidence is not genuine, of another run, or speaks of other bytes.
        PolicyRefused: the masking evidence says FAILED.
        InputRefused: the dataset's tree cannot be listed.
        Misconfigured: trust file or signer.
        ServiceUnreachable: the DVC remote.
    """
    started = now()
    signer = load_signer(settings.signer_uri("data_attestation"))
    masked = read_evidence(masking, MASKING, load_trust(settings.trust_file), run_id=run_id)
    if masked.result == "FAILED":
        raise PolicyRefused(
            "The masking of this dataset failed, so it is not attested.",
            evidence=f"mask-pii result FAILED in bundle sha256:{masked.bundle_sha256}",
            remedy="See the masking report; correct the data or the masking policy.",
        )
    listing = require_subject(masked, dataset, "dataset", md5=True)
    dvc = dvc_identity(dataset, listing)
    pushed = push(dataset, settings.dvc_remote, dvc.md5) if settings.dvc_remote else None
    pointer = dvc.pointer("dataset")
    statement = provenance(
        ATTESTATION,
        listing,
        run_id=run_id,
        started=started,
        parameters={},
        internal={"files": len(listing.entries), "bytes": listing.size, "dvc_pushed": pushed is not None},
        dependencies=[
            resource("input", masked.dependency("input")),
            resource("masking", masked.bundle_sha256, media_type="application/vnd.dev.sigstore.bundle.v0.3+json"),
        ],
        byproducts=[
            resource("dataset", sha256_bytes(pointer), media_type="application/yaml"),
            resource("dvc", md5=dvc.md5.removesuffix(".dir"), annotations={"dvc_md5": dvc.md5, "size": dvc.size}),
        ],
    )
    write_evidence(output, statement, signer, listing, attachments={POINTER_NAME: pointer})
    return AttestedDataset(listing, dvc, pushed)
