"""Where the raw data is from: the evidence of fetch_dataset, and how the evidence of masking names it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import Listing
from kfp_custody.components._shared.evidence import FETCHING, descriptors, resource
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence, require_digest

RESOURCE = "source"


def verified_origin(source: Path | None, raw: Listing, run_id: str, trust_file: Path) -> list[dict[str, Any]]:
    """Verify that raw data is what fetch_dataset brought in this run.

    Args:
        source: The evidence directory of fetch_dataset; None for data that came in another way.
        raw: The listing of the raw data, as it was hashed.
        run_id: The pipeline run.
        trust_file: Who is trusted.

    Returns:
        What the statement about masking says of it: the digest of that evidence, the URI, the commit; nothing for None.

    Raises:
        EvidenceInvalid: the evidence is not genuine, of another run, or speaks of other data.
        Misconfigured: the trust file cannot be used.
    """
    if source is None:
        return []
    fetched = read_evidence(source, FETCHING, load_trust(trust_file), run_id=run_id)
    require_digest(fetched.subject_sha256, raw.sha256, "raw dataset", FETCHING.name)
    place: dict[str, Any] = next((dict(e) for e in descriptors(fetched.statement) if e["name"] == RESOURCE), {})
    commit = place.get("digest", {}).get("gitCommit")
    annotations = {**place.get("annotations", {}), **({"commit": commit} if commit else {})}
    return [resource(RESOURCE, fetched.bundle_sha256, uri=place.get("uri"), annotations=annotations)]


def named_origin(masked: Verified) -> Sequence[dict[str, Any]]:
    """Return what evidence of masking says about the origin of its raw data."""
    return [dict(entry) for entry in descriptors(masked.statement) if entry["name"] == RESOURCE]
