"""Fetching a dataset: may it, what is it, does it arrive as that; then data and evidence, both or neither."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import Listing, sha256_bytes
from kfp_custody.components._shared.evidence import FETCHING, now, provenance, resource, write_evidence
from kfp_custody.components._shared.files import atomic_directory
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components.data_versioning.engines import plan_source
from kfp_custody.components.data_versioning.locations import parse_location
from kfp_custody.components.data_versioning.manifest import MANIFEST_NAME, manifest
from kfp_custody.components.data_versioning.receiving import listing_of, receive
from kfp_custody.components.data_versioning.revisions import parse_revision, require_pin
from kfp_custody.components.data_versioning.sources import load_sources


@dataclass(frozen=True)
class FetchedDataset:
    """What arrived: the listing, by which engine, and of which Git commit (None: the source has none)."""

    listing: Listing
    engine: str
    commit: str | None

    def metadata(self) -> dict[str, str | float]:
        """Return what the KFP UI shows."""
        return {
            "sha256": self.listing.sha256,
            "commit": self.commit or "",
            "engine": self.engine,
            "files": float(len(self.listing.entries)),
            "bytes": float(self.listing.size),
        }


def fetch(uri: str, revision: str, data: Path, evidence: Path, run_id: str, settings: Settings) -> FetchedDataset:
    """Fetch a dataset at a revision, check every byte, and sign what came from where.

    Args:
        uri: Where; see `locations.py`.
        revision: Which state; see `revisions.py`.
        data: The directory to write.
        evidence: The evidence directory to write.
        run_id: The pipeline run.
        settings: Sources file and signer.

    Raises:
        InputRefused: the URI, the revision, a name or the size cannot be accepted.
        PolicyRefused: the platform does not allow this place, or an object is not encrypted as it demands.
        EvidenceInvalid: an object is missing, changed or not what its pointer says; the data is not what is pinned.
        ServiceUnreachable: a server does not answer, or breaks off again and again.
        Misconfigured: the sources file, credentials, the signer, or a full disk.
    """
    started = now()
    signer = load_signer(settings.signer_uri("data_versioning"))
    location = parse_location(uri)
    wanted = parse_revision(revision, location)
    sources = load_sources(settings.sources_file)
    source = sources.allow(location)
    plan = plan_source(location, wanted, source)
    with _neither_without(evidence), atomic_directory(data) as partial:
        received = receive(plan, partial, source.encryption, source.max_bytes)
        plan.still()
        listing = listing_of(received)
        require_pin(wanted, listing)
        rule = plan.store.rule()
        record = manifest(received, plan.commit, rule)
        statement = provenance(
            FETCHING,
            listing,
            run_id=run_id,
            started=started,
            parameters={"uri": uri, "revision": revision},
            internal={
                "engine": source.engine,
                "store": plan.store.name,
                "encryption": source.encryption.level,
                "key_pattern": source.encryption.key,
                "bucket_encryption": rule or "",
                "files": len(listing.entries),
                "bytes": listing.size,
            },
            dependencies=[
                resource("source", uri=location.uri, git_commit=plan.commit, annotations={"engine": source.engine}),
                *([plan.pointer] if plan.pointer else []),
                resource("sources", sources.sha256, media_type="application/yaml"),
            ],
            byproducts=[
                resource("fetch-manifest", sha256_bytes(record), media_type="application/json"),
                resource("metrics", annotations={"files": len(listing.entries), "bytes": listing.size}),
            ],
        )
        write_evidence(evidence, statement, signer, listing, attachments={MANIFEST_NAME: record})
    return FetchedDataset(listing, source.engine, plan.commit)


@contextmanager
def _neither_without(evidence: Path) -> Iterator[None]:
    """Remove evidence that was written, when the data cannot take its place after all."""
    bundle = evidence / f"{FETCHING.name}.sigstore.json"
    there = bundle.exists()  # then it is of somebody else, and writing is going to be refused
    try:
        yield
    except BaseException:
        if not there and bundle.exists():
            shutil.rmtree(evidence, ignore_errors=True)
        raise
