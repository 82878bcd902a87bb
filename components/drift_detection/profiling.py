"""Profiling a dataset: what a later drift check can be made against without the rows."""

from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    BUNDLE_TYPE,
    PROFILE,
    now,
    provenance,
    resource,
    write_evidence,
)
from kfp_custody.components._shared.files import atomic_directory
from kfp_custody.components._shared.profiles import (
    NAME,
    SMALLEST_GROUP,
    ColumnProfile,
    OtherProfile,
    Profile,
    profile_categories,
    profile_numbers,
)
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components._shared.verified_copies import verified_tree
from kfp_custody.components.drift_detection.columns import Columns, open_columns

ROOM = "drift_detection"


@dataclass(frozen=True)
class Profiled:
    """What was profiled, and the digest of the profile's tree."""

    profile: Profile
    sha256: str
    dataset_sha256: str

    def metadata(self) -> dict[str, str | float]:
        """Return what the KFP UI shows."""
        return {
            "sha256": self.sha256,
            "dataset_sha256": self.dataset_sha256,
            "rows": float(self.profile.rows),
            "columns": float(len(self.profile.columns)),
        }


def profile_dataset(
    dataset: Path, attestation: Path, profile: Path, evidence: Path, run_id: str, settings: Settings
) -> Profiled:
    """Verify a dataset, profile its columns, and sign what the profile is and is of.

    Args:
        dataset: The attested dataset.
        attestation: Its evidence directory.
        profile: The directory to make, with `profile.json`.
        evidence: The evidence directory to make.
        run_id: The pipeline run.
        settings: Trust file and signer.

    Raises:
        EvidenceInvalid: the attestation is not genuine or of another run, or speaks of other bytes.
        InputRefused: the dataset cannot be read.
        Misconfigured: trust file or signer.
        OSError: a file cannot be read or written.
    """
    started = now()
    signer = load_signer(settings.signer_uri(ROOM))
    attested = read_evidence(attestation, ATTESTATION, load_trust(settings.trust_file), run_id=run_id)
    listing = require_subject(attested, dataset, "dataset")
    evidence.parent.mkdir(parents=True, exist_ok=True)
    with verified_tree(dataset, listing, "dataset", evidence.parent) as copy:
        found = profile_columns(open_columns(copy, [entry.name for entry in listing.entries], "profiled"))
    with atomic_directory(profile) as partial:
        (partial / NAME).write_bytes(found.json())
        subject = list_tree(partial)
        statement = provenance(
            PROFILE,
            subject,
            run_id=run_id,
            started=started,
            parameters={},
            internal={"rows": found.rows, "columns": len(found.columns), "smallest_group": SMALLEST_GROUP},
            dependencies=[
                resource("dataset", listing.sha256),
                resource("attestation", attested.bundle_sha256, media_type=BUNDLE_TYPE),
            ],
            byproducts=[],
        )
        write_evidence(evidence, statement, signer, subject)
    return Profiled(found, subject.sha256, listing.sha256)


def profile_columns(columns: Columns) -> Profile:
    """Profile every column, one at a time in memory."""
    return Profile(columns.rows, {name: _profile(columns, name, kind) for name, kind in columns.kinds.items()})


def _profile(columns: Columns, name: str, kind: str) -> ColumnProfile:
    if kind in ("number", "boolean"):
        return profile_numbers(columns.numbers(name))
    if kind == "text":
        counts, missing = columns.counts(name)
        return profile_categories(counts, missing)
    return OtherProfile(columns.missing(name))
