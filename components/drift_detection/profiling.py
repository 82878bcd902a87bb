"""Profiling a dataset: what a later drift check can be made against without the rows."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from kfp_custody.components._shared.columns import Columns, open_columns, unreadable
from kfp_custody.components._shared.digests import Listing, list_tree
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    BUNDLE_TYPE,
    PROFILE,
    TRAINING,
    now,
    resource,
    write_evidence,
)
from kfp_custody.components._shared.evidence import provenance as build_provenance
from kfp_custody.components._shared.files import atomic_directory
from kfp_custody.components._shared.model_signature import MODEL_FOLDER
from kfp_custody.components._shared.profiles import (
    NAME,
    SMALLEST_GROUP,
    ColumnProfile,
    LabelProfile,
    OtherProfile,
    Profile,
    ScoresProfile,
    profile_categories,
    profile_numbers,
)
from kfp_custody.components._shared.scoring import Scorer, load_scorer
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence, require_digest, require_subject
from kfp_custody.components._shared.verified_copies import verified_tree
from kfp_custody.components.drift_detection.sources import Dataset, require_feature

ROOM = "drift_detection"
SCORED_ROWS = 100_000


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
    dataset: Path,
    attestation: Path,
    profile: Path,
    evidence: Path,
    run_id: str,
    settings: Settings,
    model: Path | None = None,
    provenance: Path | None = None,
) -> Profiled:
    """Verify a dataset, profile its columns, and sign what the profile is and is of.

    Args:
        dataset: The attested dataset.
        attestation: Its evidence directory.
        profile: The directory to make, with `profile.json`.
        evidence: The evidence directory to make.
        run_id: The pipeline run.
        settings: Trust file and signer.
        model: The signed model that was trained on the dataset, whose scores the profile is to hold.
        provenance: The evidence directory of its training.

    Raises:
        EvidenceInvalid: the evidence is not genuine or of another run, speaks of other bytes, or the model was trained
            on another dataset.
        InputRefused: the dataset or the model cannot be read, or the dataset lacks what the model takes.
        Misconfigured: trust file or signer, or only one of model and provenance.
        OSError: a file cannot be read or written.
    """
    started = now()
    signer = load_signer(settings.signer_uri(ROOM))
    trust = load_trust(settings.trust_file)
    attested = read_evidence(attestation, ATTESTATION, trust, run_id=run_id)
    listing = require_subject(attested, dataset, "dataset")
    named = [
        resource("dataset", listing.sha256),
        resource("attestation", attested.bundle_sha256, media_type=BUNDLE_TYPE),
    ]
    evidence.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        copy = stack.enter_context(verified_tree(dataset, listing, "dataset", evidence.parent))
        columns = open_columns(copy, [entry.name for entry in listing.entries], "profiled")
        found = profile_columns(columns)
        if model or provenance:
            files, trained, made = _verified_model(model, provenance, attested, listing, trust, run_id)
            scoring = stack.enter_context(verified_tree(files, made, "model", evidence.parent))
            found = with_scores(found, columns, load_scorer(scoring))
            named += [
                resource("model", made.sha256),
                resource("provenance", trained.bundle_sha256, media_type=BUNDLE_TYPE),
            ]
    with atomic_directory(profile) as partial:
        (partial / NAME).write_bytes(found.json())
        subject = list_tree(partial)
        statement = build_provenance(
            PROFILE,
            subject,
            run_id=run_id,
            started=started,
            parameters={},
            internal={
                "rows": found.rows,
                "columns": len(found.columns),
                "smallest_group": SMALLEST_GROUP,
                "scores": found.scores is not None,
            },
            dependencies=named,
            byproducts=[],
        )
        write_evidence(evidence, statement, signer, subject)
    return Profiled(found, subject.sha256, listing.sha256)


def profile_columns(columns: Columns) -> Profile:
    """Profile every column, one at a time in memory."""
    return Profile(columns.rows, {name: _profile(columns, name, kind) for name, kind in columns.kinds.items()})


def with_scores(profile: Profile, columns: Columns, scorer: Scorer) -> Profile:
    """Add to a profile how the model scores a sample of the rows, and how many rows its label calls positive.

    Raises:
        InputRefused: the columns are not those that the model takes, or it cannot score them.
    """
    data = Dataset(columns, SCORED_ROWS)
    for feature in scorer.features:
        require_feature(feature, data)
    scores, label = data.scores(scorer), data.label(scorer.signature.label)
    if scores.numbers is None or scores.positive_share is None:
        raise unreadable(columns.role, scores.fault)
    return replace(
        profile,
        scores=ScoresProfile(profile_numbers(scores.numbers.values), scores.positive_share, scores.not_scored),
        label=LabelProfile(scorer.signature.label, label.rows, label.positives) if label else None,
    )


def _verified_model(
    model: Path | None, provenance: Path | None, attested: Verified, dataset: Listing, trust: Trust, run_id: str
) -> tuple[Path, Verified, Listing]:
    """Return the model's files, once it is known that it was trained on this very dataset."""
    if model is None or provenance is None:
        raise Misconfigured(
            "A model is profiled with its training provenance, or not at all.",
            evidence=f"{'model' if model is None else 'provenance'} is missing",
            remedy="Give profile_dataset both, or neither.",
        )
    files = model / MODEL_FOLDER
    trained = read_evidence(provenance, TRAINING, trust, run_id=run_id)
    listing = require_subject(trained, files, "model")
    require_digest(trained.dependency("dataset"), dataset.sha256, "the dataset to profile", TRAINING.name)
    require_digest(trained.dependency("attestation"), attested.bundle_sha256, "its attestation", TRAINING.name)
    return files, trained, listing


def _profile(columns: Columns, name: str, kind: str) -> ColumnProfile:
    if kind in ("number", "boolean"):
        return profile_numbers(columns.numbers(name), boolean=kind == "boolean")
    if kind == "text":
        counts, missing = columns.counts(name)
        return profile_categories(counts, missing)
    return OtherProfile(columns.missing(name), kind)
