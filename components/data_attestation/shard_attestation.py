"""Attesting one shard of a masked dataset, before the shards are put together."""

from pathlib import Path

from kfp_custody.components._shared.digests import Listing
from kfp_custody.components._shared.errors import PolicyRefused
from kfp_custody.components._shared.evidence import (
    SHARD_ATTESTATION,
    SHARD_MASKING,
    now,
    provenance,
    resource,
    write_evidence,
)
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.shards import read_shard
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject


def attest_shard(shard: Path, masking: Path, output: Path, run_id: str, settings: Settings) -> Listing:
    """Verify the masking evidence of a shard, hash the shard again and sign what it is.

    Args:
        shard: The masked shard, a directory.
        masking: The evidence directory of mask_shard.
        output: The evidence directory to write.
        run_id: The pipeline run.
        settings: Trust and signer.

    Returns:
        The listing of the shard.

    Raises:
        EvidenceInvalid: the evidence is not genuine, of another run, does not name its shard, or speaks of other bytes.
        PolicyRefused: the masking evidence says FAILED.
        InputRefused: the shard's tree cannot be listed.
        Misconfigured: trust file or signer.
    """
    started = now()
    signer = load_signer(settings.signer_uri("data_attestation"))
    masked = read_evidence(masking, SHARD_MASKING, load_trust(settings.trust_file), run_id=run_id)
    named = read_shard(masked)
    if masked.result == "FAILED":
        raise PolicyRefused(
            "The masking of this shard failed, so it is not attested.",
            evidence=f"{named}: mask-shard result FAILED in bundle sha256:{masked.bundle_sha256}",
            remedy="See the masking report; correct the data or the masking policy.",
        )
    listing = require_subject(masked, shard, str(named))
    statement = provenance(
        SHARD_ATTESTATION,
        listing,
        run_id=run_id,
        started=started,
        parameters={},
        internal={"files": len(listing.entries), "bytes": listing.size},
        dependencies=[
            resource("input", masked.dependency("input")),
            resource("masking", masked.bundle_sha256, media_type="application/vnd.dev.sigstore.bundle.v0.3+json"),
            named.resource(),
        ],
        byproducts=[],
    )
    write_evidence(output, statement, signer, listing)
    return listing
