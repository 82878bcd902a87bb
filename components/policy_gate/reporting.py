"""The gate's explanation: report.json for programs, HTML for people; every check and rule that was tried."""

from typing import Any

from kfp_custody.components._shared.report import Markup, Section, badge, page, paragraph, table, text
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components.policy_gate.chain_drawing import draw_chain
from kfp_custody.components.policy_gate.checks import Check, Findings
from kfp_custody.components.policy_gate.policy import Policy

_GROUPS = (
    ("Evidence: signatures, signers, run", ("evidence",)),
    ("Bytes: hashed again here", ("bytes",)),
    ("Links: each piece of evidence names the one before", ("link",)),
    ("Policy: pinned, what it requires, and what its server says", ("policy", "requires", "opa")),
)


def explanation(
    checks: tuple[Check, ...],
    verdict: str,
    model: tuple[str, str],
    policy: Policy,
    findings: Findings,
    trust: Trust,
) -> dict[str, Any]:
    """Return report.json.

    Args:
        checks: Everything that was looked at.
        verdict: PASSED or FAILED.
        model: The model's name and digest.
        policy: The policy that was asked.
        findings: What was verified, and shown.
        trust: The trust file that it was verified with.
    """
    name, sha256 = model
    return {
        "stage": "enforce_policy",
        "verdict": verdict,
        "model": {"name": name, "sha256": sha256},
        "policy": {"name": policy.name, "sha256": policy.sha256},
        "trust": {"sha256": trust.sha256},
        "inputs": dict(findings.shown),
        "checks": [_check(check) for check in checks],
    }


def html(
    checks: tuple[Check, ...],
    verdict: str,
    model: tuple[str, str],
    policy: Policy,
    findings: Findings,
    trust: Trust,
    run_id: str,
) -> str:
    """Return the report for people; the arguments are those of `explanation`, and the run."""
    name, sha256 = model
    failed = [check for check in checks if check.verdict != "PASSED"]
    digests = {piece: verified.subject_sha256 for piece, verified in findings.verified.items()} | {"model": sha256}
    sections = [Section("Why it was refused", "".join(map(_refused, failed)))] if failed else []
    sections.append(Section("The chain", draw_chain(checks, verdict, digests)))
    for title, prefixes in _GROUPS:
        rows = [
            (Markup(badge(check.verdict)), check.id.partition(":")[2], check.detail)
            for check in checks
            if check.id.partition(":")[0] in prefixes
        ]
        sections.append(Section(title, table(("verdict", "check", "what was seen"), rows)))
    rules = [check for check in checks if check.tried]
    header = (
        "verdict",
        "rule",
        "what it asks",
        "each part, with the values it was decided on",
        "what would make it pass",
    )
    sections.append(Section(f"Policy {policy.name}: its rules", table(header, [_rule(check) for check in rules])))
    about = (
        ("model", f"{name} sha256:{sha256}"),
        ("run", run_id),
        ("policy", f"{policy.name} sha256:{policy.sha256}: {policy.description}"),
        ("trust file", f"sha256:{trust.sha256}, {len(trust.signers)} signers"),
        *((f"evidence {piece}", f"bundle sha256:{digest}") for piece, digest in sorted(findings.shown.items())),
    )
    sections.append(Section("What was decided about", table(("", ""), about)))
    counted = f"{len(checks)} checks, {len(failed)} failed. A model is deployed only when every check passes."
    summary = f"{counted} Policy {policy.name}: {policy.description}"
    return page("Policy gate", verdict, sections, summary)


def _check(check: Check) -> dict[str, Any]:
    told: dict[str, Any] = {"id": check.id, "verdict": check.verdict, "detail": check.detail}
    if check.code:
        told["code"] = check.code
    if check.tried:
        told["rule"] = {
            "asks": check.tried.message,
            "when": check.tried.when,
            "expr": check.tried.expr,
            "applies": check.tried.applies,
            "needs": check.tried.needs,
            "parts": [
                {"expr": term.expression, "holds": term.holds, "found": term.found, "needs": term.needs}
                for term in check.tried.terms
            ],
        }
    return told


def _refused(check: Check) -> str:
    code = f" <code>{text(check.code)}</code>" if check.code else ""
    return f"<p>{badge('REFUSED')} <strong>{text(check.id)}</strong>{code}</p>{paragraph(check.detail)}"


def _rule(check: Check) -> tuple[object, ...]:
    tried = check.tried
    assert tried is not None  # noqa: S101  (only rules are given)
    parts = "".join(
        f"<div>{'✓' if term.holds else '✗'} <code>{text(term.expression)}</code>"
        + (f" <span class='note'>{text(term.found)}</span>" if term.found else "")
        + "</div>"
        for term in tried.terms
    )
    if not tried.applies:
        parts = f"<div>does not apply: <code>{text(tried.when)}</code></div>" if check.verdict == "PASSED" else ""
    needs = tried.needs or ("" if check.verdict == "PASSED" else check.detail)
    return Markup(badge(check.verdict)), check.id.partition(":")[2], tried.message, Markup(parts), needs
