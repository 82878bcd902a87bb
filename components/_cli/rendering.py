"""An audit as text and as JSON."""

import json
from collections.abc import Sequence
from typing import Any

from kfp_custody.components._cli.audit import Audit
from kfp_custody.components._cli.refusals import printable
from kfp_custody.components._shared.evidence import stamp
from kfp_custody.components.policy_gate.checks import Check

# Title -> how the ids of its checks begin.
GROUPS = {
    "Evidence: signatures, signers, run": ("evidence", "copy", "extra"),
    "Bytes: hashed again here": ("bytes",),
    "Links: each piece of evidence names the one before": ("link",),
    "Decision of the gate": ("decision",),
    "Policy, evaluated again as of the decision": ("requires", "rule"),
}


def grouped(checks: Sequence[Check]) -> dict[str, list[Check]]:
    """Return the checks under their titles, titles without a check left out."""
    groups = {
        title: [check for check in checks if check.id.partition(":")[0] in starts] for title, starts in GROUPS.items()
    }
    return {title: members for title, members in groups.items() if members}


def heading(done: Audit) -> list[tuple[str, str]]:
    """Return what was judged, by whose word, and as of when."""
    return [
        ("run", done.run_id or "(none)"),
        ("below", str(done.root)),
        ("trust file", f"{done.trust.source} sha256:{done.trust.sha256}"),
        ("judged at", stamp(done.at)),
    ]


def as_text(done: Audit) -> str:
    """Return every check, one a line, and the verdict last."""
    lines = [f"{name:<11}{value}" for name, value in heading(done)]
    for title, checks in grouped(done.checks).items():
        lines += ["", title]
        for check in checks:
            word = "ok" if check.verdict == "PASSED" else "REFUSED"
            detail = check.detail if check.code in check.detail else f"[{check.code}] {check.detail}"
            lines.append(f"  {word:<8} {check.id.partition(':')[2]:<34} {' '.join(detail.split())}")
    if done.notes:
        lines += ["", "Notes", *(f"  {note}" for note in done.notes)]
    lines += ["", f"{done.verdict}: {len(done.checks)} checks, {len(done.failed)} refuse"]
    return printable("\n".join(lines))


def as_document(done: Audit) -> str:
    """Return the audit as JSON: version 1, fields are only ever added."""
    document: dict[str, Any] = {
        "version": 1,
        "verdict": done.verdict,
        "path": str(done.root),
        "run_id": done.run_id,
        "judged_at": stamp(done.at),
        "trust": {"path": done.trust.source, "sha256": done.trust.sha256},
        "evidence": [_piece(done, name) for name in done.places],
        "checks": [
            {"id": check.id, "verdict": check.verdict, "code": check.code or None, "detail": check.detail}
            for check in done.checks
        ],
        "notes": list(done.notes),
    }
    return json.dumps(document, indent=2)


def _piece(done: Audit, name: str) -> dict[str, Any]:
    """Return a piece of evidence; what it says is null unless it was accepted."""
    verified = done.verified.get(name)
    return {
        "name": name,
        "path": str(done.places[name].relative_to(done.root)),
        "bundle_sha256": done.shown[name] or None,
        "accepted": verified is not None,
        "kind": verified.kind.name if verified else None,
        "signer": verified.signer if verified else None,
        "time": stamp(verified.time) if verified and verified.time else None,
        "result": verified.result if verified else None,
        "subject_sha256": verified.subject_sha256 if verified else None,
    }
