"""The policy file: which evidence must be there, how old it may be, and CEL rules over what it says.

```yaml
version: 1
name: baseline
description: ...
max_age_hours: 24
requires:                       # the gate refuses when one is missing or not genuine
  - kind: train-model
    signers: [training]         # optional: names in the trust file
rules:
  - id: auprc-floor
    when: drift.result != "FAILED"                      # optional; the rule counts only when this is true
    expr: training.metrics.average_precision >= 0.5
    message: what the rule asks for, in one sentence
```

Rules are in CEL (https://cel.dev). They see `masking`, `dataset`, `training`, `model`, `drift` and `current_masking`,
each a map with `signer`, `age_hours`, `result`, `metrics`, `coverage` and `parameters` of that verified evidence.
Every number is a double: write 5.0, not 5.
"""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import MAX_YAML, DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.kinds import KINDS

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Requirement:
    """A kind of evidence that must be there, and who may have signed it (empty: whom the trust file allows)."""

    kind: str
    signers: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """A CEL rule: it holds when `expr` is true, and counts only when `when` is (or is empty)."""

    id: str
    expr: str
    message: str
    when: str = ""


@dataclass(frozen=True)
class Policy:
    """A policy file that was read: `sha256` is of its bytes."""

    name: str
    description: str
    sha256: str
    max_age_hours: float
    requires: tuple[Requirement, ...]
    rules: tuple[Rule, ...]


def load_policy(name_or_path: str) -> Policy:
    """Read a policy that ships with this room (by name) or from a YAML file (by path).

    Raises:
        Misconfigured: it is missing, malformed, has unknown fields, or would refuse nothing.
    """
    try:
        if _ID.fullmatch(name_or_path):
            data = (files(__package__) / "policies" / f"{name_or_path}.yaml").read_bytes()
        else:
            with Path(name_or_path).open("rb") as file:
                data = file.read(MAX_YAML + 1)  # whoever starts a run chooses the path
    except OSError as error:
        raise _refused(name_or_path, f"it cannot be read ({error.strerror})") from error
    try:
        return _policy(parse_yaml(data), sha256_bytes(data))
    except DocumentFault as fault:
        raise _refused(name_or_path, str(fault)) from fault


def _policy(document: Any, sha256: str) -> Policy:
    require_keys(document, "the policy", ("version", "name", "description", "max_age_hours", "requires", "rules"))
    if document["version"] != 1:
        raise DocumentFault(f"version {document['version']!r} is not 1")
    age = document["max_age_hours"]
    if isinstance(age, bool) or not isinstance(age, int | float) or not 0 < age < float("inf"):
        raise DocumentFault("max_age_hours is no positive number")
    requires = tuple(_requirement(entry, f"requires[{n}]") for n, entry in enumerate(_list(document, "requires")))
    rules = tuple(_rule(entry, f"rules[{n}]") for n, entry in enumerate(_list(document, "rules")))
    for what, names in (("requires", [r.kind for r in requires]), ("rules", [r.id for r in rules])):
        if len(set(names)) != len(names):
            raise DocumentFault(f"{what} names something twice")
    return Policy(
        _text(document["name"], "name"),
        _text(document["description"], "description"),
        sha256,
        float(age),
        requires,
        rules,
    )


def _requirement(entry: Any, where: str) -> Requirement:
    require_keys(entry, where, ("kind",), ("signers",))
    if entry["kind"] not in list(KINDS):  # a list compares, where a set would fail on what cannot be hashed
        raise DocumentFault(f"{where}.kind is none of {', '.join(KINDS)}")
    signers = entry.get("signers", [])
    if not isinstance(signers, list) or ("signers" in entry and not signers):
        raise DocumentFault(f"{where}.signers is no list of names")
    return Requirement(entry["kind"], tuple(_text(name, f"{where}.signers") for name in signers))


def _rule(entry: Any, where: str) -> Rule:
    require_keys(entry, where, ("id", "expr", "message"), ("when",))
    fields = {name: _text(value, f"{where}.{name}") for name, value in entry.items()}
    if not _ID.fullmatch(fields["id"]):
        raise DocumentFault(f"{where}.id is not made of lower-case words with dashes")
    return Rule(**fields)


def _list(document: Any, name: str) -> list[Any]:
    value = document[name]
    if not isinstance(value, list) or not value:
        raise DocumentFault(f"{name} is no list, or empty: such a policy would refuse nothing")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DocumentFault(f"{where} is no text")
    return value


def _refused(name: str, why: str) -> Misconfigured:
    return Misconfigured(
        "The policy was not accepted.",
        evidence=f"{name}: {why}",
        remedy="Name a policy that ships with the gate (baseline), or correct the file.",
    )
