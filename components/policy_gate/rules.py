"""Evaluating CEL rules over verified evidence; whatever is not plainly true denies."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kfp_custody.components._shared.verification import Verified
from kfp_custody.components.policy_gate.checks import Check
from kfp_custody.components.policy_gate.policy import Policy, Rule

# What rules may name, and the evidence behind it.
VARIABLES = {
    "masking": "masking",
    "dataset": "dataset",
    "training": "training",
    "model": "model",
    "drift": "drift",
    "current_masking": "current-masking",
}
_PATH = re.compile(rf"\b(?:{'|'.join(VARIABLES)})(?:\.[A-Za-z_][A-Za-z0-9_]*)+")


def facts(verified: Mapping[str, Verified], at: datetime) -> dict[str, dict[str, Any]]:
    """Return what the rules see; evidence that did not verify is an empty map, so that its fields are absent."""
    return {variable: _facts(verified[name], at) if name in verified else {} for variable, name in VARIABLES.items()}


def evaluate(policy: Policy, seen: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Evaluate every rule; none is skipped because another failed."""
    from cel_expr_python import cel

    text, any_value = cel.Type.STRING, cel.Type.DYN
    environment = cel.NewEnv(variables={name: cel.Type.Map(text, any_value) for name in VARIABLES})
    return [_evaluate(environment, rule, seen) for rule in policy.rules]


def requirements(policy: Policy, verified: Mapping[str, Verified], at: datetime) -> list[Check]:
    """Check that the required evidence is there, from the required signers, and fresh."""
    checks = []
    for requirement in policy.requires:
        pieces = [piece for piece in verified.values() if piece.kind.name == requirement.kind]
        faults = [] if pieces else ["there is none that verified"]
        for piece in pieces:
            age = _age_hours(piece, at)
            if age is not None and age > policy.max_age_hours:
                faults.append(f"it is {age:.1f} hours old, more than {policy.max_age_hours:g}")
            if requirement.signers and piece.signer not in requirement.signers:
                faults.append(f"it is signed by {piece.signer}, not by {' or '.join(requirement.signers)}")
        found = ", ".join(sorted({f"signed by {piece.signer}" for piece in pieces}))
        checks.append(Check(f"requires:{requirement.kind}", _verdict(not faults), "; ".join(faults) or found))
    return checks


def _facts(piece: Verified, at: datetime) -> dict[str, Any]:
    predicate, age = piece.predicate, _age_hours(piece, at)
    return {
        "signer": piece.signer,
        **({} if age is None else {"age_hours": age}),  # absent, so that a rule about it denies
        "result": piece.result or "",
        "subject": piece.subject_sha256,
        "metrics": piece.metrics,
        "coverage": {name: float(value) for name, value in predicate.get("custody_coverage", {}).items()},
        "parameters": dict(predicate.get("buildDefinition", {}).get("externalParameters", {})),
    }


def _evaluate(environment: Any, rule: Rule, seen: Mapping[str, Mapping[str, Any]]) -> Check:
    values = _values(rule, seen)
    if rule.when:
        applies, fault = _true(environment, rule.when, seen)
        if fault:
            return Check(
                f"rule:{rule.id}", "FAILED", f"{rule.message} The condition 'when' could not be decided: {fault}"
            )
        if not applies:
            return Check(f"rule:{rule.id}", "PASSED", f"{rule.message} Does not apply here ({rule.when}).")
    holds, fault = _true(environment, rule.expr, seen)
    detail = f"{rule.message} Rule: {rule.expr}. Found: {values or 'nothing'}." + (f" Error: {fault}" if fault else "")
    return Check(f"rule:{rule.id}", _verdict(holds), detail)


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


def _values(rule: Rule, seen: Mapping[str, Any]) -> str:
    """Return the present value of every field that a rule names."""
    shown = {}
    for path in _PATH.findall(rule.expr):
        value: Any = seen
        for part in path.split("."):
            value = value.get(part, "absent") if isinstance(value, Mapping) else "absent"
        shown[path] = value if not isinstance(value, Mapping) else "a map"
    return ", ".join(f"{path} = {value}" for path, value in shown.items())


def _age_hours(piece: Verified, at: datetime) -> float | None:
    return None if piece.time is None else max((at - piece.time).total_seconds() / 3600, 0.0)


def _verdict(good: bool) -> str:
    return "PASSED" if good else "FAILED"
