"""The stage: verify what comes in, monitor, and leave signed evidence."""

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import (
    COLLECTION,
    MONITORING,
    PROFILE,
    resource,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.profiles import NAME, NumberProfile, Profile, read_profile
from kfp_custody.components._shared.request_logs import LOG_NAME, read_lines
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence, require_subject
from kfp_custody.components._shared.verified_copies import verified_tree
from kfp_custody.components.inference_monitoring.drift import UNKNOWN
from kfp_custody.components.inference_monitoring.limits import FAILED, PASSED, WARNED, load_limits
from kfp_custody.components.inference_monitoring.monitoring import Monitor
from kfp_custody.components.inference_monitoring.reporting import coverage, html, metrics, report_json

ROOM = "inference_monitoring"


@dataclass(frozen=True)
class Inputs:
    """Paths of the artifacts to verify and read; a profile and its evidence come together or not at all."""

    logs: Path
    logs_evidence: Path
    profile: Path | None = None
    profile_evidence: Path | None = None


@dataclass(frozen=True)
class Outputs:
    """Paths to write."""

    evidence: Path
    report: Path


@dataclass(frozen=True)
class Asked:
    """Parameters: the run, the run of the profile, the model's name, and the limits."""

    run_id: str
    training_run_id: str
    model_name: str
    limits: str


@dataclass(frozen=True)
class Outcome:
    """The verdict, and the metrics that the evidence holds."""

    verdict: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class _Reference:
    """A verified profile, its scores if it has them, and what the evidence says of it."""

    profile: Profile | None = None
    scores: NumberProfile | None = None
    configuration: tuple[dict[str, Any], ...] = ()


def run(inputs: Inputs, outputs: Outputs, settings: Settings, asked: Asked) -> Outcome:
    """Verify the inputs, monitor, write the report and signed evidence (the evidence last).

    Args:
        inputs: The logs with the evidence of their collection, and perhaps a profile with its own.
        outputs: Where to write.
        settings: Trust file and signer.
        asked: Parameters.

    Raises:
        EvidenceInvalid: evidence is missing, forged or of another run, or bytes are not those signed for.
        InputRefused: the profile is malformed.
        Misconfigured: limits, trust file, signer or a parameter are wrong.
    """
    if not asked.run_id or not asked.model_name:
        raise _missing("run_id" if not asked.run_id else "model_name")
    limits = load_limits(asked.limits)
    signer = load_signer(settings.signer_uri(ROOM))
    trust = load_trust(settings.trust_file)
    collected = read_evidence(inputs.logs_evidence, COLLECTION, trust, run_id=asked.run_id)
    listing = require_subject(collected, inputs.logs, "logs")
    reference = _reference(inputs, trust, asked)
    window, hours = _window(collected)

    place = outputs.evidence.parent
    place.mkdir(parents=True, exist_ok=True)
    with (
        verified_tree(inputs.logs, listing, "logs", place) as logs,
        tempfile.TemporaryDirectory(prefix=".rows-", dir=place) as rows,
    ):
        monitor = Monitor(asked.model_name, limits, reference.profile, reference.scores, Path(rows))
        with open(logs / LOG_NAME, "rb") as file:
            monitor.add_all(read_lines(file))
        found = monitor.finish(hours, int(collected.metrics.get("lines_unreadable", 0)))
    report = report_json(found, limits, window)
    statement = test_result(
        MONITORING,
        listing,
        result=found.verdict,
        run_id=asked.run_id,
        configuration=[
            resource("logs_evidence", collected.bundle_sha256),
            resource("limits", limits.sha256, uri=limits.source),
            resource("model", annotations={"name": asked.model_name}),
            resource("window", annotations={"start": window[0], "end": window[1]}),
            resource("report", sha256_bytes(report), media_type="application/json"),
            *reference.configuration,
        ],
        passed=found.names(PASSED),
        warned=[*found.names(WARNED), *(name for name in found.names(UNKNOWN) if name in limits.must_judge)],
        failed=found.names(FAILED),
        metrics=metrics(found),
        coverage=coverage(found),
    )
    write_atomic(outputs.report, html(found, limits, window).encode())
    write_evidence(outputs.evidence, statement, signer, listing, report)
    return Outcome(found.verdict, metrics(found))


def _reference(inputs: Inputs, trust: Trust, asked: Asked) -> _Reference:
    """Verify the profile against its own evidence, of the run that trained the model."""
    if inputs.profile is None and inputs.profile_evidence is None:
        return _Reference()
    if inputs.profile is None or inputs.profile_evidence is None or not asked.training_run_id:
        raise _missing("a profile's evidence, the profile itself, or training_run_id")
    profiled = read_evidence(inputs.profile_evidence, PROFILE, trust, run_id=asked.training_run_id)
    listing = require_subject(profiled, inputs.profile, "profile")
    with verified_tree(inputs.profile, listing, "profile", inputs.profile_evidence.parent) as copy:
        try:
            profile = read_profile((copy / NAME).read_bytes())
        except DocumentFault as fault:
            raise InputRefused(
                "The profile cannot be read.",
                evidence=f"{NAME}: {fault}",
                remedy="Make it again with this version of kfp-custody.",
                code=fault.code,
            ) from fault
    configuration = resource("profile", listing.sha256), resource("profile_evidence", profiled.bundle_sha256)
    return _Reference(profile, profile.scores.scores if profile.scores else None, configuration)


def _window(collected: Verified) -> tuple[tuple[str, str], float]:
    """Return start and end as the evidence has them, and the hours between."""
    given = collected.predicate["buildDefinition"]["externalParameters"]
    try:
        start, end = str(given["start"]), str(given["end"])
        seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceInvalid(
            "The evidence collect-logs does not say of which window it is.",
            evidence=f"start and end in bundle sha256:{collected.bundle_sha256}",
            remedy="Collect the logs again with this version of kfp-custody.",
            code=codes.LINK_MISSING,
        ) from error
    return (start, end), seconds / 3600


def _missing(what: str) -> Misconfigured:
    return Misconfigured(
        "The stage was not told everything.",
        evidence=f"{what} is missing",
        remedy="Pass run_id and model_name; a profile with its evidence and the id of the run that made it.",
    )
