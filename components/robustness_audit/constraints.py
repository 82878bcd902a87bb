"""What may be changed: the constraints file, read strictly, and the rules that it gives the features of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.named_files import read_named
from kfp_custody.components._shared.scoring import LARGEST, Feature


@dataclass(frozen=True)
class Rule:
    """How a feature may change.

    Attributes:
        change: `immutable`, `free` (a number) or `switch` (to another category).
        integer: Whether only whole numbers are allowed; None when the training data decides.
        box: Least and greatest value; None when the training data decides.
        cost: What a switch counts, in standard deviations.
    """

    change: str
    integer: bool | None = None
    box: tuple[float, float] | None = None
    cost: float = 0.0


@dataclass(frozen=True)
class OneHot:
    """Columns of 0 and 1 of which exactly one is 1; a switch makes another of them 1."""

    columns: tuple[str, ...]
    rule: Rule


@dataclass(frozen=True)
class Constraints:
    """A constraints file that was read; the fields are those of the file."""

    source: str
    sha256: str
    numbers: Rule
    categories: Rule
    one_hot: tuple[OneHot, ...]
    features: Mapping[str, Rule]

    def rules(self, features: Sequence[Feature]) -> dict[str, Rule]:
        """Return the rule of each feature that is in no one-hot group.

        Raises:
            Misconfigured: a name that the model does not have, or a rule that does not fit the feature's type; a typo
                must not leave a feature free that was meant to be fixed.
        """
        types = {feature.name: feature.type for feature in features}
        grouped = {name for group in self.one_hot for name in group.columns}
        for name in (*grouped, *self.features):
            if name not in types:
                raise _refused(self.source, f"the model has no feature {name!r}")
        for name in grouped:
            if types[name] != "number":
                raise _refused(self.source, f"{name!r} in one_hot is no number")
        found = {}
        for name in [name for name in types if name not in grouped]:
            default = self.numbers if types[name] == "number" else self.categories
            found[name] = self.features.get(name, default)
            if found[name].change == ("switch" if types[name] == "number" else "free"):
                raise _refused(self.source, f"features.{name}: a {types[name]} cannot be {found[name].change}")
        if all(rule.change == "immutable" for rule in (*found.values(), *(group.rule for group in self.one_hot))):
            raise _refused(self.source, "no feature of the model may change, so there is nothing to audit")
        return found


def load_constraints(name_or_path: str) -> Constraints:
    """Read constraints that ship with the room by name, or a file by path (anything with a slash or a dot).

    Raises:
        Misconfigured: no such name or file, or the file is not exactly of the documented form.
    """
    try:
        data = read_named("kfp_custody.components.robustness_audit.allowed", name_or_path)
        return _constraints(parse_yaml(data), name_or_path, sha256_bytes(data))
    except DocumentFault as error:
        raise _refused(name_or_path, str(error)) from error


def _constraints(document: Any, source: str, sha256: str) -> Constraints:
    keys = ("version", "numbers", "categories", "one_hot", "features")
    root = require_keys(document, "the constraints file", keys)
    if root["version"] != 1 or isinstance(root["version"], bool):
        raise DocumentFault(f"version {root['version']!r} is not 1")
    named, groups = root["features"], root["one_hot"]
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named) or not isinstance(groups, list):
        raise DocumentFault("features is no object with names, or one_hot no list")
    numbers, categories = _rule(root["numbers"], "numbers"), _rule(root["categories"], "categories")
    if numbers.change == "switch" or categories.change == "free":
        raise DocumentFault("numbers cannot be switch, nor categories free")
    one_hot = tuple(_group(entry, f"one_hot[{place}]") for place, entry in enumerate(groups))
    grouped = [name for group in one_hot for name in group.columns]
    if len({*grouped, *named}) != len(grouped) + len(named):
        raise DocumentFault("a feature stands in it twice")
    rules = {name: _rule(entry, f"features.{name}") for name, entry in named.items()}
    return Constraints(source, sha256, numbers, categories, one_hot, rules)


def _group(entry: Any, where: str) -> OneHot:
    fields = dict(require_keys(entry, where, ("columns", "change"), ("cost",)))
    columns = fields.pop("columns")
    if not isinstance(columns, list) or len(columns) < 2 or not all(isinstance(name, str) for name in columns):
        raise DocumentFault(f"{where}.columns is no list of at least two names")
    if fields["change"] == "free":
        raise DocumentFault(f"{where}.change is neither immutable nor switch")
    return OneHot(tuple(columns), _rule(fields, where))


def _rule(entry: Any, where: str) -> Rule:
    change = entry.get("change") if isinstance(entry, dict) else None
    keys = {"immutable": (), "free": ("integer", "box"), "switch": ("cost",)}
    if not isinstance(change, str) or change not in keys:
        raise DocumentFault(f"{where}.change is none of {', '.join(keys)}")
    fields = require_keys(entry, where, ("change", *keys[change]))
    if change == "free":
        return Rule(change, _integer(fields["integer"], where), _box(fields["box"], where))
    if change == "switch":
        return Rule(change, cost=_number(fields["cost"], f"{where}.cost", 0.0, 100.0))
    return Rule(change)


def _integer(value: Any, where: str) -> bool | None:
    if value == "observed":
        return None
    if not isinstance(value, bool):
        raise DocumentFault(f"{where}.integer is none of true, false, observed")
    return value


def _box(value: Any, where: str) -> tuple[float, float] | None:
    if value == "observed":
        return None
    if value == "none":
        return -LARGEST, LARGEST
    if not isinstance(value, list) or len(value) != 2:
        raise DocumentFault(f"{where}.box is none of observed, none, [least, greatest]")
    low, high = (_number(end, f"{where}.box", -LARGEST, LARGEST) for end in value)
    if low > high:
        raise DocumentFault(f"{where}.box ends before it begins")
    return low, high


def _number(value: Any, where: str, least: float, most: float) -> float:
    """Return a number from least to most; NaN fails both comparisons."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise DocumentFault(f"{where} is no number from {least:g} to {most:g}")
    return float(value)


def _refused(source: str, why: str) -> Misconfigured:
    return Misconfigured(
        "The constraints of the audit were not accepted.",
        evidence=f"{source}: {why}",
        remedy="Name shipped constraints, or correct the file (components/robustness_audit/allowed/default.yaml).",
    )
