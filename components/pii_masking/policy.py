"""A masking policy: which operator each column of the data gets, read strictly from YAML.

Every column of the data needs a rule, unless the policy says `default: drop`. What a policy does not say is refused,
never guessed: unknown operators and options, keys given twice, columns that are missing on either side.
"""

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import MAX_YAML, DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components.pii_masking.format_preserving import ALPHABETS, CHECKS

SHIPPED = Path(__file__).parent / "policies"
TYPES = ("string", "integer", "float", "boolean", "date", "timestamp")
MODES = ("exact", "fast")
"""How free text is examined: exactly as stock Presidio does, or without telling sentences apart."""
PROFILES = ("standard", "accurate")
"""What examines free text: Presidio with a small model, or a second model and further rules besides."""
ENGINES = ("presidio", "google_dlp")
DIRECT = frozenset({"drop", "redact", "replace", "mask", "hmac", "encrypt", "fpe"})
"""Operators whose input is a direct identifier: its values may occur nowhere in the output of the row."""
KEYED = frozenset({"hmac", "date_shift", "encrypt", "fpe"})
IN_DOMAINS = frozenset({"hmac", "encrypt", "fpe"})
"""Operators with a sub-key for each domain."""
_REQUIRED = object()


@dataclass(frozen=True)
class Rule:
    """What happens to one column; `options` are checked and complete.

    `declared` is false for a column that the policy does not name, and drops by its default.
    """

    column: str
    operator: str
    options: Mapping[str, Any] = field(default_factory=dict)
    type: str | None = None
    optional: bool = False
    declared: bool = True

    @property
    def refers_to(self) -> tuple[str, ...]:
        """Other columns that the rule reads."""
        options = self.options
        by = (options["by"],) if "by" in options else ()
        return (*options.get("known", ()), *options.get("known_words", ()), *by)


@dataclass(frozen=True)
class Anonymity:
    """At least `k` rows of the masked whole must have the same values in these columns, whatever the values."""

    columns: tuple[str, ...]
    k: int


@dataclass(frozen=True)
class Policy:
    """A masking policy and the SHA-256 of the file that it was read from.

    `undeclared` says what happens to columns without a rule: error or drop.
    """

    name: str
    sha256: str
    rules: tuple[Rule, ...]
    mode: str = "exact"
    undeclared: str = "error"
    anonymity: Anonymity | None = None
    profile: str = "standard"
    engine: str = "presidio"

    def rule(self, column: str) -> Rule:
        """Return the rule of a column that the policy is known to hold."""
        return next(rule for rule in self.rules if rule.column == column)

    @property
    def keyed(self) -> bool:
        """Whether an operator needs the masking key."""
        return any(rule.operator in KEYED for rule in self.rules)

    def for_columns(self, columns: Collection[str], source: str) -> "Policy":
        """Return the policy with the rules of exactly these columns, in their order.

        Args:
            columns: the names of the data's columns.
            source: the name of the file, for the message.

        Raises:
            InputRefused: a column has no rule, a rule has no column, or a name occurs twice.
        """
        rules = {rule.column: rule for rule in self.rules}
        if self.undeclared == "drop" and any(name in rules for name in columns):
            rules |= {name: Rule(name, "drop", declared=False) for name in columns if name not in rules}
        undeclared = [name for name in columns if name not in rules]
        missing = [rule.column for rule in self.rules if rule.column not in columns and not rule.optional]
        if undeclared or missing or len(set(columns)) != len(columns):
            # A CSV file without a header offers its first row as names: personal data, not to be repeated.
            named = undeclared if any(name in rules for name in columns) else []
            raise InputRefused(
                "The columns of the data are not those that the masking policy declares.",
                evidence=f"{source}, policy {self.name!r}: {len(undeclared)} undeclared ({_names(named)}), "
                f"{len(missing)} missing ({_names(missing)}), {len(columns) - len(set(columns))} named twice",
                remedy="Decide about each column in the policy (a column that may be absent: optional: true; all that "
                "have no rule: default: drop).",
            )
        return replace(self, rules=tuple(rules[name] for name in columns))


def load_policy(policy: str) -> Policy:
    """Read a shipped policy by its name, or any policy by its path.

    Raises:
        Misconfigured: no such policy, or it is not well formed.
    """
    shipped = {path.stem: path for path in SHIPPED.glob("*.yaml")}
    path = shipped.get(policy, Path(policy))
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_YAML + 1)
    except OSError as error:
        raise Misconfigured(
            "There is no such masking policy.",
            evidence=f"{policy!r}: {error.strerror}",
            remedy=f"Name a shipped policy ({', '.join(sorted(shipped))}) or the path of a YAML file.",
        ) from error
    try:
        return _read(path.stem, data)
    except DocumentFault as fault:
        raise Misconfigured(
            "The masking policy is not well formed.",
            evidence=f"{path.name}: {fault}",
            remedy="Correct the policy; the room's README lists the operators and their options.",
        ) from fault


def _read(name: str, data: bytes) -> Policy:
    optional = ("description", "detection", "default", "quasi_identifiers", "k", "allow_fpe")
    document = require_keys(parse_yaml(data), "the policy", ("version", "columns"), optional)
    if document["version"] != 1 or isinstance(document["version"], bool):
        raise DocumentFault("its version is not 1")
    columns = document["columns"]
    if not isinstance(columns, dict) or not columns or not all(isinstance(key, str) and key for key in columns):
        raise DocumentFault("columns is no object of named columns")
    rules = {column: _rule(column, rule) for column, rule in columns.items()}
    for rule in rules.values():
        for other in rule.refers_to:
            if other not in columns:
                raise DocumentFault(f"{rule.column} refers to the column {other!r}, which has no rule")
    allowed = document.get("allow_fpe", False)
    if not isinstance(allowed, bool):
        raise DocumentFault("allow_fpe is neither true nor false")
    if not allowed and (fpe := [rule.column for rule in rules.values() if rule.operator == "fpe"]):
        raise DocumentFault(
            f"{', '.join(fpe)}: what fpe writes looks real, to people and to scanners; allow_fpe: true allows it"
        )
    undeclared = document.get("default", "error")
    if undeclared not in ("error", "drop"):
        raise DocumentFault("default is neither error nor drop")
    return Policy(
        name,
        sha256_bytes(data),
        tuple(rules.values()),
        undeclared=undeclared,
        anonymity=_anonymity(document, rules),
        **_detection(document.get("detection", {})),
    )


def _anonymity(document: Mapping[str, Any], rules: Mapping[str, Rule]) -> Anonymity | None:
    columns: Any = document.get("quasi_identifiers")
    k: Any = document.get("k")
    if columns is None and k is None:
        return None
    if not _texts(columns) or len(set(columns)) != len(columns) or not _whole(2, 10**6)(k):
        raise DocumentFault("quasi_identifiers is no list of different columns, or k no whole number from 2 on")
    for column in columns:
        if column not in rules or rules[column].operator in ("drop", "free_text"):
            raise DocumentFault(f"the quasi-identifier {column!r} has no rule, or none that leaves a column to compare")
        if rules[column].optional:
            raise DocumentFault(
                f"the quasi-identifier {column!r} is optional, and without it nothing could be compared"
            )
    return Anonymity(tuple(columns), k)


def _detection(raw: Any) -> dict[str, str]:
    choices = {"mode": MODES, "profile": PROFILES, "engine": ENGINES}
    given = require_keys(raw, "detection", (), choices)
    for key, allowed in choices.items():
        if key in given and given[key] not in allowed:
            raise DocumentFault(f"the {key} of detection is none of {', '.join(allowed)}")
    if given.get("engine") == "google_dlp" and {"mode", "profile"} & set(given):
        raise DocumentFault("mode and profile of detection are Presidio's, and say nothing to google_dlp")
    return {key: str(value) for key, value in given.items()}


def _rule(column: str, raw: Any) -> Rule:
    where = f"the rule of {column!r}"
    operator = raw.get("operator") if isinstance(raw, dict) else None
    if not isinstance(operator, str) or operator not in _OPTIONS:
        raise DocumentFault(f"{where} has no known operator (one of {', '.join(_OPTIONS)})")
    options = _OPTIONS[operator]
    required = ["operator", *(key for key, (_, default) in options.items() if default is _REQUIRED)]
    require_keys(raw, where, required, [*options, "type", "optional"])
    if raw.get("type") not in (None, *TYPES):
        raise DocumentFault(f"{where} has an unknown type (one of {', '.join(TYPES)})")
    if not isinstance(raw.get("optional", False), bool):
        raise DocumentFault(f"{where}: optional is neither true nor false")
    checked: dict[str, Any] = {}
    for key, (check, default) in options.items():
        value = raw.get(key, default)
        if key in raw and not check(value):
            raise DocumentFault(f"{where} has a bad value for {key}")
        if value is not None:
            checked[key] = value
    if operator == "generalize" and len(checked) != 1:
        raise DocumentFault(f"{where} needs exactly one of {', '.join(options)}")
    if operator in IN_DOMAINS:
        checked.setdefault("domain", column)
    if operator == "fpe" and checked["luhn"] != "any" and checked["alphabet"] != "digits":
        raise DocumentFault(f"{where}: only digits have a check digit")
    if operator == "free_text" and len(set(checked["entities"])) != len(checked["entities"]):
        raise DocumentFault(f"{where} names an entity twice")
    return Rule(column, operator, checked, raw.get("type"), raw.get("optional", False))


def _names(names: Collection[str]) -> str:
    shown = ", ".join(repr(name) for name in list(names)[:10])
    return shown + (", ..." if len(names) > 10 else "") if names else "none named"


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _one_of(*choices: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in choices


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_text, value))


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -1e15 < value < 1e15


def _day(value: Any) -> bool:
    try:
        return type(value) is dt.date or bool(dt.date.fromisoformat(value))
    except (TypeError, ValueError):
        return False


def _edges(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(map(_number, value))
        and all(low < high for low, high in zip(value, value[1:], strict=False))
    )


# operator -> option -> (check, default); a default of None means "may be left out".
_OPTIONS: dict[str, dict[str, tuple[Callable[[Any], bool], Any]]] = {
    "keep": {"scan": (lambda value: isinstance(value, bool), True)},
    "drop": {},
    "redact": {},
    "replace": {"value": (_text, _REQUIRED)},
    "mask": {"keep_last": (_whole(0, 8), 0)},
    "hmac": {"domain": (_text, None)},
    "encrypt": {"domain": (_text, None)},
    "fpe": {
        "domain": (_text, None),
        "alphabet": (_one_of(*ALPHABETS), "digits"),
        "luhn": (_one_of(*CHECKS), "any"),
    },
    "date_shift": {"by": (_text, _REQUIRED), "max_days": (_whole(1, 3660), _REQUIRED)},
    "generalize": {
        "to": (_one_of("year", "decade", "zip3"), None),
        "age_on": (_day, None),
        "prefix": (_whole(1, 64), None),
        "round": (lambda value: _number(value) and value > 0, None),
        "bucket": (_edges, None),
    },
    "free_text": {
        "entities": (_texts, _REQUIRED),
        "threshold": (lambda value: _number(value) and 0 < value <= 1, _REQUIRED),
        "on_find": (_one_of("replace", "redact", "drop"), "replace"),
        "known": (_texts, None),
        "known_words": (_texts, None),
        "phone_regions": (_texts, ["US", "GB", "DE", "FR"]),
    },
}
