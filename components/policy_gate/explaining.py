"""Why a rule holds or not: each part with its value, its threshold and how far the one is from the other."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from kfp_custody.components.policy_gate.checks import Term
from kfp_custody.components.policy_gate.expressions import Comparison, Path, comparison, is_literal, paths

_ABSENT: Final = object()
_SHOWN = 200  # characters of one value


def explain(environment: Any, term: str, seen: Mapping[str, Mapping[str, Any]]) -> Term:
    """Explain one part of a rule.

    Args:
        environment: The CEL environment that the rule is decided in.
        term: The part, from `expressions.terms`.
        seen: What `facts.facts` returned.
    """
    holds = _value(environment, term, seen) is True
    compared = comparison(term)
    found = values(term, seen)
    if compared is None:
        return Term(term, holds, found, "" if holds else f"needs {term}" + (f", but {found}" if found else ""))
    left, right = _value(environment, compared.left, seen), _value(environment, compared.right, seen)
    asked = f"{compared.left} {compared.sign} {compared.right}"
    if _is_number(right) and not is_literal(compared.right):
        asked += f" (that is {_show(right)})"
    if left is _ABSENT or right is _ABSENT:
        return Term(term, holds, found, "" if holds else f"needs {asked}, but {found or 'it cannot be computed'}")
    is_now = f"is {_show(right if compared.sign == 'in' and is_literal(compared.left) else left)}"
    gap = _gap(left, compared, right)
    needs = "" if holds else f"needs {asked}, {is_now}" + (f" ({gap})" if gap else "")
    return Term(term, holds, found, needs)


def values(expression: str, seen: Mapping[str, Any]) -> str:
    """Return the present value of every field that an expression names."""
    return ", ".join(f"{path.text} = {_show(_look_up(path, seen))}" for path in paths(expression, seen))


def _look_up(path: Path, seen: Mapping[str, Any]) -> Any:
    value: Any = seen
    for part in path.parts:
        value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value


def _value(environment: Any, expression: str, seen: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the plain value of an expression, `_ABSENT` when it has none."""
    from cel_expr_python import cel

    try:
        value = environment.compile(expression).eval(data=dict(seen))
    except RuntimeError:  # all that this library raises for an expression it does not accept
        return _ABSENT
    return _ABSENT if value.type() in (cel.Type.ERROR, cel.Type.UNKNOWN) else value.plain_value()


def _gap(left: Any, compared: Comparison, right: Any) -> str:
    """Say how far a number is on the wrong side of its threshold; empty when it is not, or there is none."""
    if not _is_number(left) or not _is_number(right):
        return ""
    apart = Decimal(repr(left)) - Decimal(repr(right))
    far = _show(float(abs(apart)))
    if compared.sign in (">", ">=") and apart <= 0:
        return f"{far} short" if apart else "must be more" if compared.sign == ">" else ""
    if compared.sign in ("<", "<=") and apart >= 0:
        return f"{far} too much" if apart else "must be less" if compared.sign == "<" else ""
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e300


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:.10g}"
    if isinstance(value, str):
        return json.dumps(value[:_SHOWN], ensure_ascii=False)
    if isinstance(value, Mapping):
        return f"a map of {', '.join(sorted(map(str, value)))}"[:_SHOWN] if value else "an empty map"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_show, value[:20]))}{', …' if len(value) > 20 else ''}]"[:_SHOWN]
    return {None: "null", True: "true", False: "false"}.get(value, type(value).__name__)
