"""The stage: verify what was found, decide, start what is due once, and leave signed evidence of all of it."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Listing, sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.evidence import RETRAINING, now, resource, stamp, test_result, write_evidence
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.kinds import DRIFT, MONITORING, PROFILE_DRIFT
from kfp_custody.components._shared.settings import Settings, load_watch_settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.components.retraining.choices import ALERT, BACKFILL, CHOICES
from kfp_custody.components.retraining.claims import key_of
from kfp_custody.components.retraining.once import USUAL, Timing, record_missed, start_once
from kfp_custody.components.retraining.opening import open_starter, open_store
from kfp_custody.components.retraining.orders import load_orders
from kfp_custody.components.retraining.reporting import Facts, html
from kfp_custody.components.retraining.windows import MAX_HOURS, mark, parse_time

ROOM = "retraining"
ALREADY, NOT_NEEDED, ALERT_ONLY, TOO_LATE = "ALREADY", "NOT_NEEDED", "ALERT_ONLY", "TOO_LATE"
# What may ask for a retraining.
FINDINGS: Final = (DRIFT, PROFILE_DRIFT, MONITORING)


@dataclass(frozen=True)
class Wish:
    """What the run asks for; `scheduled_time` as KFP gave it."""

    schedule_name: str
    scheduled_time: str
    action: str
    order: str
    max_age_hours: int
    every_hours: int


@dataclass(frozen=True)
class Outcome:
    """The decision, and flat facts for the artifact's metadata."""

    decision: str
    facts: dict[str, str]


def run(
    findings: list[Path],
    evidence: Path,
    report: Path,
    settings: Settings,
    wish: Wish,
    *,
    run_id: str,
    timing: Timing = USUAL,
) -> Outcome:
    """Decide about a window, and start its retraining when it is due.

    Args:
        findings: Evidence directories of checks of this run.
        evidence: Where to leave the signed evidence.
        report: Where to leave the HTML report.
        settings: Trust file and signer.
        wish: What is asked for.
        run_id: The pipeline run that all evidence must belong to.
        timing: How long to hold a claim and to wait for another's.

    Returns:
        STARTED, ADOPTED, ALREADY, NOT_NEEDED, ALERT_ONLY or TOO_LATE.

    Raises:
        EvidenceInvalid: evidence is missing, forged or of another run.
        InputRefused: the pinned version does not take the order's parameters.
        ServiceUnreachable: a server failed, or another holds the claim; asking again is safe.
        Misconfigured: a parameter, the retraining file, the signer or the trust file is wrong.
    """
    moment = _check(wish, run_id)
    signer, trust = load_signer(settings.signer_uri(ROOM)), load_trust(settings.trust_file)
    found = [_finding(path, trust, run_id) for path in findings]
    subject = _subject(found)  # before anything is started: what cannot be signed is not done
    facts = _decide(wish, moment, found, settings, f"{run_id}/{secrets.token_hex(8)}", timing)
    text = canonical_json(facts.document())
    bound = resource("report", sha256_bytes(text), media_type="application/json")
    shown = html(facts).encode()
    statement = test_result(
        RETRAINING,
        subject,
        result="WARNED" if facts.decision in (ALERT_ONLY, TOO_LATE) else "PASSED",
        run_id=run_id,
        configuration=[*_resources(found, facts), bound],
        passed=["evidence", *([] if facts.warned else [facts.decision.lower()])],
        warned=[*([facts.decision.lower()] if facts.warned else []), *(["windows"] if facts.before.missed else [])],
        metrics={"missed_windows": facts.before.missed},
    )
    write_atomic(report, shown)
    write_evidence(evidence, statement, signer, subject, text)
    return Outcome(facts.decision, {"decision": facts.decision, "retraining_run": facts.run_id, "claim": facts.key})


def _decide(
    wish: Wish, moment: datetime, found: list[Verified], settings: Settings, holder: str, timing: Timing
) -> Facts:
    due = {"schedule": wish.schedule_name, "time": stamp(moment)}
    key, failed = key_of(due), [each.kind.name for each in found if each.result == "FAILED"]
    said: dict[str, Any] = {"due": due, "key": key, "failed": failed}
    if wish.action == ALERT:
        return Facts(**said, decision=ALERT_ONLY if failed else NOT_NEEDED)
    watch = load_watch_settings(settings.trust_file)
    orders = load_orders(watch.orders_file)
    order, store = orders.order(wish.order), open_store(watch)
    said |= {"order": order, "orders_sha256": orders.sha256, "claim": store.name(key)}
    said["before"] = mark(store, wish.schedule_name, moment, wish.every_hours, holder)
    if not failed:
        return Facts(**said, decision=NOT_NEEDED)
    if wish.action != BACKFILL and now() - moment > timedelta(hours=wish.max_age_hours):
        earlier = record_missed(store, key, due, holder=holder)
        return Facts(**said, decision=ALREADY if earlier else TOO_LATE, run_id=earlier)
    starter = open_starter(watch, order, moment)
    done = start_once(store, starter, key, due, holder=holder, timing=timing)
    return Facts(**said, decision=done.how, run_id=done.run_id, link=starter.link(done.run_id))


def _check(wish: Wish, run_id: str) -> datetime:
    """Return the time of the window, once every parameter is one."""
    name = wish.schedule_name
    wrong = {
        "run_id": not run_id,
        "schedule_name": not name.strip() or not name.isprintable() or len(name.encode()) > 255,
        "action": wish.action not in CHOICES["action"],
        "max_age_hours": not 1 <= wish.max_age_hours <= MAX_HOURS,
        "every_hours": not 0 <= wish.every_hours <= MAX_HOURS,
    }
    for parameter, is_wrong in wrong.items():
        if is_wrong:
            raise Misconfigured(
                f"The parameter {parameter} is wrong; nothing was started.",
                evidence=f"{parameter} = {str(getattr(wish, parameter, run_id))[:80]!r}",
                remedy="See the component's description for what it takes.",
            )
    return parse_time(wish.scheduled_time)


def _finding(path: Path, trust: Trust, run_id: str) -> Verified:
    """Verify evidence of the kind that lies there, when it is one that may ask for a retraining."""
    for kind in FINDINGS:
        if (path / f"{kind.name}.sigstore.json").exists():
            return read_evidence(path, kind, trust, run_id=run_id)
    raise EvidenceInvalid(
        "There is no evidence that may ask for a retraining.",
        evidence=f"{path.name}/ holds none of {', '.join(kind.name for kind in FINDINGS)}",
        remedy="Wire the evidence of a drift check or of monitor_inference.",
        code=codes.NO_EVIDENCE,
    )


def _subject(found: list[Verified]) -> Listing:
    """Return what was judged: the subject of the first evidence."""
    if found[0].listing is None:
        raise EvidenceInvalid(
            "The evidence came without the listing of what it is about.",
            evidence=f"no SHA256SUMS beside {found[0].kind.name}.sigstore.json",
            remedy="Wire the output of the stage itself, with all of its files.",
            code=codes.NO_EVIDENCE,
        )
    return found[0].listing


def _resources(found: list[Verified], facts: Facts) -> list[dict[str, Any]]:
    names = {f"evidence-{number}": each for number, each in enumerate(found, 1)}
    claim = {**facts.due, "decision": facts.decision, "run": facts.run_id}
    pinned = {"retraining-file": facts.orders_sha256} if facts.orders_sha256 else {}
    return [
        *(resource(name, each.bundle_sha256, annotations={"kind": each.kind.name}) for name, each in names.items()),
        *(resource(name, digest) for name, digest in pinned.items()),
        resource("claim", facts.key, annotations=claim),
    ]
