"""What analyse_canary, finish_rollout and close_rollout do: verify again, judge or change, sign what was done."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import PolicyRefused
from kfp_custody.components._shared.evidence import (
    CANARY,
    DEPLOYMENT,
    ROLLOUT,
    Kind,
    resource,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.report import Section, page, paragraph, table
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence, require_digest, require_subject
from kfp_custody.components.seldon_deployment.decision import Admitted, require_admitted
from kfp_custody.components.seldon_deployment.parameters import (
    GIT,
    require,
    require_name,
    require_timeout,
    resolve_target,
)
from kfp_custody.components.seldon_deployment.rollout import canary
from kfp_custody.components.seldon_deployment.rollout.analysis import FAILED, PASSED, WAITING, Limits
from kfp_custody.components.seldon_deployment.rollout.canary import HEALTHY, INCONCLUSIVE, Analysis
from kfp_custody.components.seldon_deployment.rollout.open import open_target
from kfp_custody.components.seldon_deployment.rollout.state import Rollout
from kfp_custody.components.seldon_deployment.rollout.target import Target, require_canary, version_of

if TYPE_CHECKING:
    from securesystemslib.signer import Signer  # imports every cloud's client that is installed

ROOM = "seldon_deployment"
PROMOTED, ROLLED_BACK, NOTHING = "PROMOTED", "ROLLED_BACK", "NOTHING"
_RESULTS = {HEALTHY: "PASSED", INCONCLUSIVE: "WARNED"}


@dataclass(frozen=True)
class Judged:
    """What a stage found or did (its verdict), and flat facts for the artifacts' metadata."""

    verdict: str
    facts: dict[str, str]


@dataclass(frozen=True)
class Inputs:
    """What a stage verifies before it acts: signed model, decision, and the evidence of the stage before it."""

    model: Path
    decision: Path
    before: Path


@dataclass(frozen=True)
class Outputs:
    """Where a stage leaves its evidence and its HTML report."""

    evidence: Path
    report: Path


def parse_limits(
    steps: str,
    samples: int,
    interval_seconds: int,
    step_seconds: int,
    error_ratio: float,
    p99_seconds: float,
    score_distance: float,
) -> Limits:
    """Return the limits that a run asks for.

    Raises:
        Misconfigured: one of them would let a canary through unseen, or makes no sense.
    """
    try:
        percents = tuple(int(part) for part in steps.split(","))
    except ValueError:
        percents = ()
    ascending = list(percents) == sorted(set(percents)) and percents[-1:] == (100,) and percents[0] >= 1
    require(ascending, "steps", steps, "percents in ascending order that end with 100, such as 10,25,50,100")
    require(10 <= samples <= 1_000_000, "samples", samples, "10 to 1000000")
    require(1 <= interval_seconds <= 3600, "interval_seconds", interval_seconds, "1 to 3600")
    require(interval_seconds <= step_seconds <= 86_400, "step_seconds", step_seconds, "interval_seconds to 86400")
    require(0 <= error_ratio <= 0.5, "error_ratio", error_ratio, "0 to 0.5")
    require(0 < p99_seconds <= 60, "p99_seconds", p99_seconds, "more than 0, at most 60")
    require(0 < score_distance <= 1, "score_distance", score_distance, "more than 0, at most 1")
    return Limits(percents, samples, interval_seconds, step_seconds, error_ratio, p99_seconds, score_distance)


def analyse(
    inputs: Inputs,
    outputs: Outputs,
    settings: Settings,
    limits: Limits,
    *,
    run_id: str,
    name: str,
    target: str,
    timeout_seconds: int,
) -> Judged:
    """Take a placed canary through its steps and sign what was seen.

    Args:
        inputs: the stage before it is deploy_model.
        outputs: where to leave evidence and report.
        settings: trust, signer, and where models are served.
        limits: steps, samples, times and thresholds.
        run_id: the run that placed the canary.
        name: the service's name.
        target: where it was placed.
        timeout_seconds: for each change of the share.

    Returns:
        HEALTHY, UNHEALTHY or INCONCLUSIVE. But for HEALTHY, the canary has no traffic any more.

    Raises:
        EvidenceInvalid, PolicyRefused: decision or deployment are not genuine, or do not let this model be served.
        InputRefused: this run's canary is not there any more.
        ServiceUnreachable: a share cannot be moved.
        Misconfigured: a parameter, the signer or the trust file is wrong.
    """
    admitted, signer, service, _ = _begin(inputs, DEPLOYMENT, settings, run_id, name, target, timeout_seconds)
    found = service.state()
    if is_stable(found, admitted):
        done = Analysis(HEALTHY)  # a repeated run: these very bytes, with this signature, are in service already
    else:
        require_canary(found, admitted, run_id)
        done = canary.run(service, limits)
    shown = _analysis_report(name, admitted, done, limits).encode()
    results = [(f"{step.weight}-percent-{check.name}", check.result) for step in done.steps for check in step.checks]
    statement = test_result(
        CANARY,
        admitted.listing,
        result=_RESULTS.get(done.result, "FAILED"),
        run_id=run_id,
        configuration=[
            resource("decision", admitted.decision_sha256),
            resource("limits", sha256_bytes(json.dumps(asdict(limits), sort_keys=True).encode())),
            resource("report", sha256_bytes(shown), media_type="text/html"),
        ],
        passed=["decision", *_named(results, PASSED)],
        warned=[*_named(results, WAITING), *(["metrics"] if not results and done.result == INCONCLUSIVE else [])],
        failed=_named(results, FAILED),
        metrics={
            "canary_requests": sum(step.canary.requests for step in done.steps),
            "canary_errors": sum(step.canary.errors for step in done.steps),
        },
    )
    _leave(outputs, statement, signer, admitted, shown)
    return Judged(done.result, {"verdict": done.result, "sha256": admitted.digest})


def finish(
    inputs: Inputs,
    outputs: Outputs,
    settings: Settings,
    *,
    run_id: str,
    name: str,
    target: str,
    timeout_seconds: int,
) -> Judged:
    """Make a healthy canary the stable version; roll back any other.

    Args:
        inputs: the stage before it is analyse_canary; what its evidence says counts, and no parameter.
        outputs: where to leave evidence and report.
        settings: trust, signer, and where models are served.
        run_id: the run that placed the canary.
        name: the service's name.
        target: where it was placed.
        timeout_seconds: for the change.

    Returns:
        PROMOTED or ROLLED_BACK.

    Raises:
        EvidenceInvalid, PolicyRefused: decision or analysis are not genuine, or not about this model.
        InputRefused: this run's canary is not there any more.
        ServiceUnreachable: the change cannot be made.
        Misconfigured: a parameter, the signer or the trust file is wrong.
    """
    admitted, signer, service, analysis = _begin(inputs, CANARY, settings, run_id, name, target, timeout_seconds)
    before = service.state()
    done = _finish(service, before, admitted, run_id, healthy=analysis.result == "PASSED")
    after, promoted = service.state(), done == PROMOTED
    shown = _finish_report(name, admitted, done, str(analysis.result), before, after).encode()
    statement = test_result(
        ROLLOUT,
        admitted.listing,
        result="PASSED" if promoted else "FAILED",
        run_id=run_id,
        configuration=[
            resource("decision", admitted.decision_sha256),
            resource("analysis", analysis.bundle_sha256),
            resource("report", sha256_bytes(shown), media_type="text/html"),
        ],
        passed=["decision", "analysis", *(["promotion"] if promoted else [])],
        failed=[] if promoted else ["promotion"],
    )
    _leave(outputs, statement, signer, admitted, shown)
    stable = after.stable.digest if after.stable else ""
    return Judged(done, {"verdict": done, "sha256": admitted.digest, "stable": stable})


def close(settings: Settings, *, run_id: str, name: str, target: str, timeout_seconds: int) -> str:
    """Roll back a rollout that its run left unfinished; whoever died in between, nothing half-tried stays.

    A rollout of another run is left alone, and so is one that is finished. It needs no decision: going back to what was
    served is always allowed.

    Returns:
        ROLLED_BACK, or NOTHING when there was nothing to do.

    Raises:
        ServiceUnreachable: the change cannot be made.
        Misconfigured: a parameter is wrong.
    """
    if resolve_target(target, settings) in GIT:
        return NOTHING  # what is committed is never half-tried
    service = _service(settings, name, target, timeout_seconds)
    found = service.state()
    if found.canary is None or found.run_id != run_id:
        return NOTHING
    service.roll_back()
    return ROLLED_BACK


def refuse(rollout: Path, run_id: str, settings: Settings) -> None:
    """Fail the run with what finish_rollout signed.

    Raises:
        PolicyRefused: always, when the evidence is genuine.
        EvidenceInvalid: it is not.
    """
    verified = read_evidence(rollout, ROLLOUT, load_trust(settings.trust_file), run_id=run_id)
    raise PolicyRefused(
        "The new version was rolled back; the stable one serves as before.",
        evidence=f"finish_rollout said {verified.result} of model sha256:{verified.subject_sha256}",
        remedy="See the report of analyse_canary for the step and the check that ended it.",
        code=codes.ROLLED_BACK,
    )


def is_stable(found: Rollout, admitted: Admitted) -> bool:
    """Tell whether an admitted model is what the service serves already, with nothing beside it."""
    wanted = version_of(admitted).name
    return found.canary is None and found.stable is not None and found.stable.name == wanted


def _finish(target: Target, found: Rollout, admitted: Admitted, run_id: str, *, healthy: bool) -> str:
    if is_stable(found, admitted):
        return PROMOTED
    if found.canary is None and not healthy:
        return ROLLED_BACK  # an earlier attempt of this task did it
    require_canary(found, admitted, run_id)
    if healthy:
        target.promote()
        return PROMOTED
    target.roll_back()
    return ROLLED_BACK


def _begin(
    inputs: Inputs, kind: Kind, settings: Settings, run_id: str, name: str, target: str, timeout_seconds: int
) -> tuple[Admitted, "Signer", Target, Verified]:
    """Verify everything, and the signer too, before the service is even looked at."""
    service = _service(settings, name, target, timeout_seconds)
    trust, signer = load_trust(settings.trust_file), load_signer(settings.signer_uri(ROOM))
    admitted = require_admitted(inputs.model, inputs.decision, trust, run_id=run_id, name=name)
    before = read_evidence(inputs.before, kind, trust, run_id=run_id)
    require_subject(before, inputs.model / "model", "model")
    require_digest(admitted.decision_sha256, before.dependency("decision"), "the decision", kind.name)
    return admitted, signer, service, before


def _service(settings: Settings, name: str, target: str, timeout_seconds: int) -> Target:
    require_name(name)
    require_timeout(timeout_seconds)
    return open_target(target, name, settings, timeout_seconds)


def _leave(outputs: Outputs, statement: dict[str, Any], signer: "Signer", admitted: Admitted, report: bytes) -> None:
    write_evidence(outputs.evidence, statement, signer, admitted.listing)
    write_atomic(outputs.report, report)


def _named(results: Sequence[tuple[str, str]], wanted: str) -> list[str]:
    return [name for name, result in results if result == wanted]


def _analysis_report(name: str, admitted: Admitted, done: Analysis, limits: Limits) -> str:
    rows = [
        (f"{step.weight} %", check.name, f"{check.value:.4g}", f"{check.limit:.4g}", check.result)
        for step in done.steps
        for check in step.checks
    ]
    sections = [
        Section("Model", table(("what", "value"), [("service", name), ("model listing", f"sha256:{admitted.digest}")])),
        Section("Limits", table(("limit", "value"), [(key, str(value)) for key, value in asdict(limits).items()])),
    ]
    if rows:
        sections.append(Section("Steps", table(("share", "check", "found", "limit", "result"), rows)))
        counted = [(f"{s.weight} %", f"{s.canary.requests:.0f}", f"{s.canary.errors:.0f}", f"{s.seconds:.0f}")
                   for s in done.steps]  # fmt: skip
        sections.append(Section("Counted", table(("share", "requests", "errors", "seconds"), counted)))
    else:
        why = "This version is in service already; there was nothing to try."
        sections.append(Section("Steps", paragraph(why if done.result == HEALTHY else "The metrics told nothing.")))
    return page(f"Canary of {name}", done.result, sections)


def _finish_report(name: str, admitted: Admitted, done: str, analysis: str, before: Rollout, after: Rollout) -> str:
    rows = [
        ("service", name),
        ("model listing", f"sha256:{admitted.digest}"),
        ("analysis", analysis),
        ("stable before", before.stable.name if before.stable else "none"),
        ("stable now", after.stable.name if after.stable else "none"),
    ]
    return page(f"Rollout of {name}", done, [Section("Rollout", table(("what", "value"), rows))])
