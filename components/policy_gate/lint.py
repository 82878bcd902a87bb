"""Finding what is wrong with a policy before it meets evidence: `kfp-custody policy lint`.

A rule that names what does not exist denies every release, and a rule that is always true denies none. Both are found
here, where every rule is compiled against the types of the evidence (`facts.FIELDS`); the gate itself compiles against
maps of anything, so that a field that is absent is a denial with a reason and not an error of the whole policy.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from typing import Any, Final

from kfp_custody.components._shared.documents import DocumentFault
from kfp_custody.components.policy_gate.expressions import Path, comparison, is_integer, paths, terms
from kfp_custody.components.policy_gate.facts import FIELDS, GATE, KIND_OF, REPORTED
from kfp_custody.components.policy_gate.policy import Policy, Rule, parse_policy, read_policy

ERROR: Final = "error"
WARNING: Final = "warning"

_RESULTS = ("PASSED", "WARNED", "FAILED")
_MOST_CASES = 1000
_DOUBLES = "numbers are doubles, write 5.0, not 5"


@dataclass(frozen=True)
class Finding:
    """Something wrong with a policy.

    An `error` is certainly wrong; a `warning` may be meant (a number that no stage of this version reports, say).
    `rule` is the rule's id, or empty for the policy as a whole.
    """

    level: str
    rule: str
    what: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.level}: {f'rule {self.rule}: ' if self.rule else ''}{self.what}"


def lint_policy(name_or_path: str) -> list[Finding]:
    """Return everything that is wrong with a policy; nothing when the list is empty.

    Args:
        name_or_path: A policy that ships with the gate, or a file.

    Raises:
        Misconfigured: it cannot be read.
    """
    try:
        policy = parse_policy(read_policy(name_or_path))
    except DocumentFault as fault:  # malformed, unknown fields, an id twice: there are no rules to look at
        return [Finding(ERROR, "", str(fault))]
    environment = _environment()
    return [finding for rule in policy.rules for finding in _rule(environment, policy, rule)]


def _rule(environment: Any, policy: Policy, rule: Rule) -> Iterator[Finding]:
    for part, expression in (("when", rule.when), ("expr", rule.expr)):
        if not expression:
            continue
        for level, what in _expression(environment, policy, expression):
            yield Finding(level, rule.id, f"{part}: {what}")
        outcomes = _outcomes(environment, expression)
        if outcomes == {False}:
            said = "it is never true, so the rule never counts" if part == "when" else "it is never true: it denies all"
            yield Finding(ERROR, rule.id, f"{part}: {said}")
        elif outcomes == {True}:
            said = "it is always true: leave it out" if part == "when" else "it is always true: it denies nothing"
            yield Finding(WARNING if part == "when" else ERROR, rule.id, f"{part}: {said}")


def _expression(environment: Any, policy: Policy, expression: str) -> Iterator[tuple[str, str]]:
    from cel_expr_python import cel

    named = paths(expression, FIELDS)
    faults = [what for path in named if (what := _unknown(path))]
    yield from ((ERROR, what) for what in faults)
    if not faults:
        try:
            kind = environment.compile(expression).return_type()
        except RuntimeError as error:
            yield ERROR, _said(error)
        else:
            if kind != cel.Type.BOOL:
                yield ERROR, f"it is {_type(kind)}, not a boolean: compare it with something"
            else:
                yield from ((ERROR, what) for what in _integers(expression))
    yield from ((WARNING, what) for path in named if (what := _unreported(path)))
    required = {requirement.kind for requirement in policy.requires}
    for variable in dict.fromkeys(path.parts[0] for path in named if path.parts[0] != GATE):
        if KIND_OF[variable].name not in required:
            kind_name = KIND_OF[variable].name
            yield ERROR, f"it speaks of {variable}, and the policy does not require {kind_name}: add it to requires"


def _unknown(path: Path) -> str:
    """Say which part of a path does not exist, or return nothing."""
    variable, *fields = path.parts
    if not fields:
        return f"{variable} is used as a whole: name a field of it ({', '.join(FIELDS[variable])})"
    if fields[0] not in FIELDS[variable]:
        return f"{variable} has no field {fields[0]}{_perhaps(fields[0], list(FIELDS[variable]))}"
    if path.text.startswith(f"{variable}["):
        return f"write {variable}.{fields[0]}"
    return ""


def _unreported(path: Path) -> str:
    """Say that no stage puts this name into a map, or return nothing."""
    variable, *fields = path.parts
    known = REPORTED.get(variable, {}).get(fields[0]) if len(fields) > 1 else None
    if known is None or any(fields[1] == name or _begins(fields[1], name) for name in known):
        return ""
    where = f"{variable}.{fields[0]}"
    return f"no stage of this version puts {fields[1]} into {where}{_perhaps(fields[1], list(known))}"


def _begins(name: str, pattern: str) -> bool:
    return pattern.endswith("*") and name.startswith(pattern[:-1])


def _integers(expression: str) -> Iterator[str]:
    """Find comparisons of evidence with integers that the types cannot tell: of parameters and annotations."""
    for term in terms(expression):
        compared = comparison(term)
        if compared and is_integer(compared.right) and _is_field(compared.left):
            yield f"{compared.left} is compared with the integer {compared.right}: {_DOUBLES}"


def _is_field(text: str) -> bool:
    return any(path.text == text for path in paths(text, FIELDS))


def _outcomes(environment: Any, expression: str) -> set[bool]:
    """Return what an expression can be, when it depends on nothing but results; an empty set when on more."""
    from cel_expr_python import cel

    named = paths(expression, FIELDS)
    names = [path.text for path in named]
    if any(path.parts[1:] != ("result",) for path in named) or len(_RESULTS) ** len(names) > _MOST_CASES:
        return set()
    try:
        compiled = environment.compile(expression)
        values = [
            compiled.eval(data=dict(zip(names, case, strict=True))) for case in product(_RESULTS, repeat=len(names))
        ]
    except RuntimeError:  # it does not compile, which is a finding already
        return set()
    if any(value.type() != cel.Type.BOOL for value in values):
        return set()
    return {value.value() is True for value in values}


def _environment() -> Any:
    """Return an environment in which every field is a variable of its own type, with a dot in its name."""
    from cel_expr_python import cel

    fields = ((variable, name, kind) for variable, kinds in FIELDS.items() for name, kind in kinds.items())
    return cel.NewEnv(variables={f"{variable}.{name}": cel.Type(kind) for variable, name, kind in fields})


def _said(error: RuntimeError) -> str:
    """Return what the compiler says, in words for whoever wrote the rule."""
    text = " ".join(str(error).split())
    unknown = re.search(r"undeclared reference to '([^']*)'", text)
    if unknown:
        name = unknown.group(1).partition(".")[0]
        return f"nothing is called {unknown.group(1)}{_perhaps(name, list(FIELDS))}"
    mixed = re.search(r"no matching overload for '([^']*)' applied to '\(([^']*)\)'", text)
    if mixed:
        hint = f": {_DOUBLES}" if {"double", "int"} <= set(re.findall(r"\w+", text)) else ""
        sign = mixed.group(1).strip("_@")
        return f"{sign} does not take ({mixed.group(2)}){hint}"
    return re.sub(r"^INVALID_ARGUMENT: ERROR: <input>:|\s*\[INVALID_ARGUMENT\]$", "", text)[:300]


def _perhaps(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f" (there are {', '.join(known)})" if known else ""


def _type(kind: Any) -> str:
    name = str(kind.name()).lower()
    return "of a type that is known only at run time" if name == "dyn" else f"a {name}"
