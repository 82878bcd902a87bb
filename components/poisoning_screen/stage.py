"""The stage: verify what comes in, screen, and leave signed evidence."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import Listing, sha256_bytes
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    POISONING,
    TRAINING,
    resource,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.model_signature import MODEL_FOLDER
from kfp_custody.components._shared.scoring import load_scorer
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import read_evidence, require_digest, require_subject
from kfp_custody.components._shared.verified_copies import verified_tree
from kfp_custody.components.poisoning_screen.limits import FAILED, PASSED, UNKNOWN, WARNED, Limits, load_limits
from kfp_custody.components.poisoning_screen.reporting import coverage, html, metrics, report_json, suspects
from kfp_custody.components.poisoning_screen.rows import Rows, read_rows
from kfp_custody.components.poisoning_screen.screening import Trusted, screen

ROOM = "poisoning_screen"


@dataclass(frozen=True)
class Inputs:
    """Paths of the artifacts to verify and read.

    A trusted model comes with its provenance or not at all; the window that it was trained on, with its attestation and
    the model or not at all.
    """

    dataset: Path
    attestation: Path
    trusted_model: Path | None = None
    trusted_provenance: Path | None = None
    trusted_dataset: Path | None = None
    trusted_attestation: Path | None = None


@dataclass(frozen=True)
class Outputs:
    """Paths to write."""

    suspects: Path
    evidence: Path
    report: Path


@dataclass(frozen=True)
class Asked:
    """Parameters: the run, the run of the trusted model, the label's name, and the limits."""

    run_id: str
    trusted_run_id: str
    label: str
    limits: str


@dataclass(frozen=True)
class Outcome:
    """The verdict, and the metrics that the evidence holds."""

    verdict: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class _Earlier:
    """Verified evidence of an earlier run: its model, perhaps the window that it was trained on."""

    model: Listing
    window: Listing | None
    configuration: tuple[dict[str, Any], ...]


def run(inputs: Inputs, outputs: Outputs, settings: Settings, asked: Asked) -> Outcome:
    """Verify the inputs, screen, write suspects, report and signed evidence (the evidence last).

    Args:
        inputs: The dataset with its attestation, and perhaps a model that is trusted.
        outputs: Where to write.
        settings: Trust file and signer.
        asked: Parameters.

    Raises:
        EvidenceInvalid: evidence is missing, forged or of another run, or bytes are not those signed for.
        InputRefused: a dataset or the model cannot be read, or the model was trained on the dataset that it judges.
        Misconfigured: limits, trust file, signer or a parameter are wrong, or only a part of what is trusted is given.
    """
    _require_whole(inputs, asked)
    limits = load_limits(asked.limits)
    signer = load_signer(settings.signer_uri(ROOM))
    trust = load_trust(settings.trust_file)
    attested = read_evidence(inputs.attestation, ATTESTATION, trust, run_id=asked.run_id)
    listing = require_subject(attested, inputs.dataset, "dataset")
    earlier = _earlier(inputs, trust, asked, listing)

    place = outputs.evidence.parent
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        copy = stack.enter_context(verified_tree(inputs.dataset, listing, "dataset", place))
        rows = _rows(copy, listing, asked.label, limits, "screened")
        found = screen(rows, limits, _trusted(stack, inputs, earlier, asked.label, limits, place))
    report, named = report_json(found, limits), suspects(found, limits)
    statement = test_result(
        POISONING,
        listing,
        result=found.verdict,
        run_id=asked.run_id,
        configuration=[
            resource("attestation", attested.bundle_sha256),
            resource("limits", limits.sha256, uri=limits.source),
            resource("suspects", sha256_bytes(named), media_type="application/vnd.apache.parquet"),
            resource("report", sha256_bytes(report), media_type="application/json"),
            *(earlier.configuration if earlier else ()),
        ],
        passed=found.names(PASSED),
        warned=[*found.names(WARNED), *(name for name in found.names(UNKNOWN) if name in limits.must_judge)],
        failed=found.names(FAILED),
        metrics=metrics(found),
        coverage=coverage(found),
    )
    write_atomic(outputs.suspects, named)
    write_atomic(outputs.report, html(found, limits).encode())
    write_evidence(outputs.evidence, statement, signer, listing, report)
    return Outcome(found.verdict, metrics(found))


def _require_whole(inputs: Inputs, asked: Asked) -> None:
    pairs = (
        ("trusted_model", inputs.trusted_model, "trusted_provenance", inputs.trusted_provenance),
        ("trusted_dataset", inputs.trusted_dataset, "trusted_attestation", inputs.trusted_attestation),
    )
    faults = [f"{name} is empty" for name in ("run_id", "label") if not getattr(asked, name)]
    faults += [
        f"{one} or {other} is missing" for one, first, other, second in pairs if (first is None) != (second is None)
    ]
    if inputs.trusted_model is None and (inputs.trusted_dataset is not None or asked.trusted_run_id):
        faults.append("no trusted_model is given")
    if inputs.trusted_model is not None and asked.trusted_run_id in ("", asked.run_id):
        faults.append("trusted_run_id names no earlier run")
    if faults:
        raise Misconfigured(
            "The stage was not told everything.",
            evidence="; ".join(faults),
            remedy="Pass run_id and label; a trusted model with its provenance and the id of the earlier run that made "
            "it, and the window that it was trained on with its attestation, or without it.",
        )


def _earlier(inputs: Inputs, trust: Trust, asked: Asked, listing: Listing) -> _Earlier | None:
    """Verify what an earlier run left, and that it is of other data than what is screened."""
    if inputs.trusted_model is None or inputs.trusted_provenance is None:
        return None
    then = asked.trusted_run_id
    trained = read_evidence(inputs.trusted_provenance, TRAINING, trust, run_id=then)
    model = require_subject(trained, inputs.trusted_model / MODEL_FOLDER, "trusted model")
    if trained.dependency("dataset") == listing.sha256:
        raise InputRefused(
            "The trusted model was trained on the dataset that it is to judge.",
            evidence=f"dataset sha256:{listing.sha256} in the provenance of run {then!r}",
            remedy="Give a model of an earlier window.",
        )
    named = [
        resource("trusted_model", model.sha256, annotations={"run": then}),
        resource("trusted_provenance", trained.bundle_sha256),
    ]
    window = None
    if inputs.trusted_dataset is not None and inputs.trusted_attestation is not None:
        attested = read_evidence(inputs.trusted_attestation, ATTESTATION, trust, run_id=then)
        window = require_subject(attested, inputs.trusted_dataset, "trusted dataset")
        require_digest(trained.dependency("dataset"), window.sha256, "the trusted dataset", TRAINING.name)
        named += [
            resource("trusted_dataset", window.sha256),
            resource("trusted_attestation", attested.bundle_sha256),
        ]
    return _Earlier(model, window, tuple(named))


def _trusted(
    stack: ExitStack, inputs: Inputs, earlier: _Earlier | None, label: str, limits: Limits, place: Path
) -> Trusted | None:
    """Load the trusted model, and read its window, from private copies."""
    if earlier is None or inputs.trusted_model is None:
        return None
    files = inputs.trusted_model / MODEL_FOLDER
    scorer = load_scorer(stack.enter_context(verified_tree(files, earlier.model, "trusted model", place)))
    if scorer.signature.label != label:
        raise InputRefused(
            "The trusted model predicts another label.",
            evidence=f"{scorer.signature.label!r}, not {label!r}",
            remedy="Give a model of the same label.",
        )
    if earlier.window is None or inputs.trusted_dataset is None:
        return Trusted(scorer)
    copy = stack.enter_context(verified_tree(inputs.trusted_dataset, earlier.window, "trusted dataset", place))
    return Trusted(scorer, _rows(copy, earlier.window, label, limits, "trusted"))


def _rows(copy: Path, listing: Listing, label: str, limits: Limits, role: str) -> Rows:
    return read_rows(copy, [entry.name for entry in listing.entries], label, limits.rows, role)
