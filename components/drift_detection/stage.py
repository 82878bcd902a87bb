"""The stages: verify what comes in, check, and leave signed evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared.columns import open_columns
from kfp_custody.components._shared.digests import Listing, sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    DRIFT,
    MASKING,
    PROFILE,
    PROFILE_DRIFT,
    TRAINING,
    Kind,
    now,
    resource,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.profiles import NAME, Profile, read_profile
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence, require_digest, require_subject
from kfp_custody.components._shared.verified_copies import verified_tree
from kfp_custody.components.drift_detection.checking import SCHEMA, Drift, check
from kfp_custody.components.drift_detection.comparing import DRIFT as DRIFTED
from kfp_custody.components.drift_detection.comparing import NONE, UNKNOWN, WARN
from kfp_custody.components.drift_detection.history import Past, read_history
from kfp_custody.components.drift_detection.limits import Thresholds, load_thresholds
from kfp_custody.components.drift_detection.reporting import coverage, html, metrics, report_json
from kfp_custody.components.drift_detection.sources import Dataset, Profiled

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from kfp_custody.components._shared.signers.keyless import KeylessSigner

ROOM = "drift_detection"


@dataclass(frozen=True)
class Inputs:
    """Paths of the artifacts to verify and compare."""

    reference: Path
    current: Path
    attestation: Path
    current_masking: Path
    provenance: Path
    model: Path


@dataclass(frozen=True)
class ProfileInputs:
    """Paths of the artifacts to verify and compare, where a profile stands in the place of the reference."""

    current: Path
    current_masking: Path
    profile: Path
    profile_evidence: Path
    provenance: Path
    model: Path


@dataclass(frozen=True)
class Outputs:
    """Paths to write."""

    evidence: Path
    report: Path


@dataclass(frozen=True)
class Outcome:
    """The verdict, and the metrics that the evidence holds."""

    verdict: str
    metrics: dict[str, float]


def run(
    inputs: Inputs,
    outputs: Outputs,
    settings: Settings,
    *,
    run_id: str,
    label: str,
    thresholds: str,
    history: Path | None = None,
) -> Outcome:
    """Verify the inputs, check for drift, write reports and signed evidence (the evidence last).

    Args:
        inputs: What to compare; nothing is read before its bytes were found to be those of its evidence.
        outputs: Where to write.
        settings: Trust file and signer.
        run_id: The pipeline run, which all evidence must belong to.
        label: Name of the label; "" compares none.
        thresholds: Name of shipped thresholds, or a path.
        history: Directory of evidence directories of past checks, which the report draws as a line.

    Raises:
        EvidenceInvalid: evidence is missing, forged or of another run, or bytes are not those signed for.
        InputRefused: a dataset or the model is not of the form that can be compared.
        Misconfigured: thresholds, trust file, signer or run_id are wrong.
    """
    _require_run(run_id)
    limits = load_thresholds(thresholds)
    signer = load_signer(settings.signer_uri(ROOM))
    trust = load_trust(settings.trust_file)

    attested = read_evidence(inputs.attestation, ATTESTATION, trust, run_id=run_id)
    masked = read_evidence(inputs.current_masking, MASKING, trust, run_id=run_id)
    trained = read_evidence(inputs.provenance, TRAINING, trust, run_id=run_id)
    reference = require_subject(attested, inputs.reference, "reference dataset")
    current = require_subject(masked, inputs.current, "current dataset")
    model = require_subject(trained, inputs.model / "model", "model")
    past = read_history(history, model.sha256, trust)

    place = outputs.evidence.parent
    place.mkdir(parents=True, exist_ok=True)
    with (
        verified_tree(inputs.reference, reference, "reference dataset", place) as old,
        verified_tree(inputs.current, current, "current dataset", place) as new,
        verified_tree(inputs.model / "model", model, "model", place) as scoring,
    ):
        drift = check(
            Dataset(open_columns(old, [entry.name for entry in reference.entries], "reference"), limits.sample_rows),
            Dataset(open_columns(new, [entry.name for entry in current.entries], "current"), limits.sample_rows),
            scoring,
            label,
            limits,
        )
    named = [
        resource("reference", reference.sha256),
        resource("attestation", attested.bundle_sha256),
        resource("current_masking", masked.bundle_sha256),
        resource("provenance", trained.bundle_sha256),
        resource("model", model.sha256),
    ]
    return _leave(DRIFT, drift, limits, current, named, past, outputs, signer, run_id)


def run_with_profile(
    inputs: ProfileInputs,
    outputs: Outputs,
    settings: Settings,
    *,
    run_id: str,
    training_run_id: str,
    label: str,
    thresholds: str,
    history: Path | None = None,
) -> Outcome:
    """Verify the inputs, compare the current data with a signed profile, write the report and signed evidence.

    Args:
        inputs: What to compare. The profile must be of the dataset that the model was trained on, and its scores
            must be this model's.
        outputs: Where to write.
        settings: Trust file and signer.
        run_id: The pipeline run that the masking evidence must belong to.
        training_run_id: The run that the profile and the model must belong to; "" is this run.
        label: Name of the label; "" compares none.
        thresholds: Name of shipped thresholds, or a path.
        history: Directory of evidence directories of past checks, which the report draws as a line.

    Raises:
        EvidenceInvalid: evidence is missing, forged or of another run, bytes are not those signed for, or profile and
            model are not of the same dataset.
        InputRefused: the dataset, the profile or the model is not of the form that can be compared.
        Misconfigured: thresholds, trust file, signer or run_id are wrong.
    """
    _require_run(run_id)
    limits = load_thresholds(thresholds)
    signer = load_signer(settings.signer_uri(ROOM))
    trust = load_trust(settings.trust_file)
    then = training_run_id or run_id

    masked = read_evidence(inputs.current_masking, MASKING, trust, run_id=run_id)
    profiled = read_evidence(inputs.profile_evidence, PROFILE, trust, run_id=then)
    trained = read_evidence(inputs.provenance, TRAINING, trust, run_id=then)
    current = require_subject(masked, inputs.current, "current dataset")
    profile = require_subject(profiled, inputs.profile, "profile")
    model = require_subject(trained, inputs.model / "model", "model")
    past = read_history(history, model.sha256, trust)
    for name in ("dataset", "attestation"):
        require_digest(trained.dependency(name), profiled.dependency(name), f"the {name} of the profile", TRAINING.name)

    place = outputs.evidence.parent
    place.mkdir(parents=True, exist_ok=True)
    with (
        verified_tree(inputs.profile, profile, "profile", place) as kept,
        verified_tree(inputs.current, current, "current dataset", place) as new,
        verified_tree(inputs.model / "model", model, "model", place) as scoring,
    ):
        reference = _read_profile(kept)
        if reference.scores or reference.label:
            _require_same_model(profiled, trained, model)
        drift = check(
            Profiled(reference),
            Dataset(open_columns(new, [entry.name for entry in current.entries], "current"), limits.sample_rows),
            scoring,
            label,
            limits,
        )
    named = [
        resource("profile", profile.sha256),
        resource("profile_evidence", profiled.bundle_sha256, annotations={"run": then}),
        resource("current_masking", masked.bundle_sha256),
        resource("provenance", trained.bundle_sha256),
        resource("model", model.sha256),
    ]
    return _leave(PROFILE_DRIFT, drift, limits, current, named, past, outputs, signer, run_id)


def _require_run(run_id: str) -> None:
    if not run_id:
        raise Misconfigured("No run is named.", evidence="run_id is empty", remedy="Pass the pipeline's run id.")


def _read_profile(root: Path) -> Profile:
    try:
        return read_profile((root / NAME).read_bytes())
    except (DocumentFault, FileNotFoundError) as error:
        raise InputRefused(
            "The profile cannot be read.",
            evidence=f"{NAME}: {error if isinstance(error, DocumentFault) else 'missing'}",
            remedy="Give the profile that profile_dataset of this version of kfp-custody wrote.",
        ) from error


def _require_same_model(profiled: Verified, trained: Verified, model: Listing) -> None:
    """Refuse scores that another model gave."""
    require_digest(profiled.dependency("model"), model.sha256, "the model that scored the profile", PROFILE.name)
    require_digest(
        profiled.dependency("provenance"), trained.bundle_sha256, "the provenance of that model", PROFILE.name
    )


def _leave(
    kind: Kind,
    drift: Drift,
    limits: Thresholds,
    current: Listing,
    named: Sequence[Mapping[str, Any]],
    history: Sequence[Past],
    outputs: Outputs,
    signer: "Signer | KeylessSigner",
    run_id: str,
) -> Outcome:
    """Write the reports and the signed evidence about the current dataset, the evidence last."""
    report = report_json(drift, limits, kind.name, history)
    passed, warned, failed = _checks(drift)
    statement = test_result(
        kind,
        current,
        result=drift.verdict,
        run_id=run_id,
        configuration=[
            *named,
            resource("thresholds", limits.sha256, uri=limits.source),
            resource("report", sha256_bytes(report), media_type="application/json"),
        ],
        passed=passed,
        warned=warned,
        failed=failed,
        metrics=metrics(drift),
        coverage=coverage(drift),
    )
    write_atomic(outputs.report, html(drift, limits, (*history, _present(drift, run_id))).encode())
    write_evidence(outputs.evidence, statement, signer, current, report)
    return Outcome(drift.verdict, metrics(drift))


def _present(drift: Drift, run_id: str) -> Past:
    found = metrics(drift)
    return Past(run_id, now(), drift.verdict, found["share_drifted"], found.get("prediction_psi"))


def _checks(drift: Drift) -> tuple[list[str], list[str], list[str]]:
    """Return the names of the checks that passed, warned and failed."""
    named: list[tuple[str, str]] = [(f"column:{column.name}", column.verdict) for column in drift.columns]
    named.append(("prediction", drift.prediction.verdict))
    if drift.label and drift.label.verdict != UNKNOWN:
        named.append((f"label:{drift.label.name}", drift.label.verdict))
    passed, warned, failed = (
        [name for name, verdict in named if verdict in verdicts]
        for verdicts in ((NONE,), (WARN, UNKNOWN), (DRIFTED, SCHEMA))
    )
    return passed, warned, failed
