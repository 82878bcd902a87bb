"""Evaluating CEL rules over verified evidence; whatever is not plainly true denies."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.verification import Verified
from kfp_custody.components.policy_gate.checks import Check, Tried
from kfp_custody.components.policy_gate.explaining import explain, values
from kfp_custody.components.policy_gate.expressions import terms
from kfp_custody.components.policy_gate.facts import GATE, VARIABLES, age_hours, facts
from kfp_custody.components.policy_gate.policy import Policy, Rule

__all__ = ["GATE", "VARIABLES", "evaluate", "facts", "requirements"]


def evaluate(policy: Policy, seen: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Evaluate every rule; none is skipped because another failed.

    Args:
        policy: The policy.
        seen: What `facts` returned.
    """
    from cel_expr_python import cel

    fields = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    environment = cel.NewEnv(variables=dict.fromkeys((*VARIABLES, GATE), fields))
    return [_evaluate(environment, rule, {GATE: {}, **seen}) for rule in policy.rules]


def requirements(policy: Policy, verified: Mapping[str, Verified], at: datetime) -> list[Check]:
    """Check that the required evidence is there, from the required signers, and fresh."""
    checks = []
    for requirement in policy.requires:
        pieces = [piece for piece in verified.values() if piece.kind.name == requirement.kind]
        faults = [] if pieces else ["there is none that verified"]
        for piece in pieces:
            age = age_hours(piece, at)
            if age is not None and age > policy.max_age_hours:
                faults.append(f"it is {age:.1f} hours old, more than {policy.max_age_hours:g}")
            if requirement.signers and piece.signer not in requirement.signers:
                faults.append(f"it is signed by {piece.signer}, not by {' or '.join(requirement.signers)}")
        found = ", ".join(sorted({f"signed by {piece.signer}" for piece in pieces}))
        check, detail = f"requires:{requirement.kind}", "; ".join(faults) or found
        checks.append(Check(check, _verdict(not faults), detail, codes.REQUIREMENT if faults else ""))
    return checks


def _evaluate(environment: Any, rule: Rule, seen: Mapping[str, Mapping[str, Any]]) -> Check:
    check = f"rule:{rule.id}"
    if rule.when:
        applies, fault = _true(environment, rule.when, seen)
        tried = Tried(rule.message, rule.expr, rule.when, applies)
        if fault:
            why = f"{rule.message} The condition 'when' could not be decided: {fault}"
            return Check(check, "FAILED", why, codes.RULE_UNDECIDED, tried)
        if not applies:
            return Check(check, "PASSED", f"{rule.message} Does not apply here ({rule.when}).", tried=tried)
    holds, fault = _true(environment, rule.expr, seen)
    parts = tuple(explain(environment, term, seen) for term in terms(rule.expr))
    tried = Tried(rule.message, rule.expr, rule.when, True, parts)
    detail = f"{rule.message} Rule: {rule.expr}. Found: {values(rule.expr, seen) or 'nothing'}."
    if holds:
        return Check(check, "PASSED", detail, tried=tried)
    detail += f" It {tried.needs}." if tried.needs else ""
    if fault:
        return Check(check, "FAILED", f"{detail} Error: {fault}", codes.RULE_UNDECIDED, tried)
    return Check(check, "FAILED", detail, codes.RULE, tried)


def _true(environment: Any, expression: str, seen: Mapping[str, Mapping[str, Any]]) -> tuple[bool, str]:
    """Return whether an expression is exactly true, and why it could not be decided (empty when it could)."""
    from cel_expr_python import cel

    try:
        value = environment.compile(expression).eval(data=dict(seen))
    except RuntimeError as error:  # all that this library raises for an expression it does not accept
        return False, " ".join(str(error).split())[:300]
    if value.type() == cel.Type.BOOL:
        return value.value() is True, ""
    shown = (
        " ".join(repr(value).split())[:300]
        if value.type() == cel.Type.ERROR
        else f"it is {value.type()}, not a boolean"
    )
    return False, shown


def _verdict(good: bool) -> str:
    return "PASSED" if good else "FAILED"
