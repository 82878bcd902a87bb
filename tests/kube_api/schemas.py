"""Objects against their CRD's schema: unknown fields, the schema itself, and its CEL rules."""

import copy
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema

from kube_api.answers import Refused, invalid
from kube_api.expressions import Undecided, evaluate
from kube_api.kinds import BUILT_IN, Kind

Cause = dict[str, str]
_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
_ABSENT = object()


@lru_cache(maxsize=128)
def _load(path: Path) -> Any:
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


class Schemas:
    """The files `<group>_<kind>_<version>.*json` of some folders; the first folder that has one decides."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = [folder for folder in folders if folder.is_dir()]

    def _of(self, kind: Kind) -> Any:
        for folder in self._folders:
            for path in sorted(folder.glob(f"{kind.group}_{kind.kind.lower()}_{kind.version}.*json")):
                return _load(path)
        return None

    def missing(self, kinds: Iterable[Kind]) -> list[str]:
        """Return the custom kinds that have no schema, so that anything is taken for valid."""
        return [
            f"{kind.kind}.{kind.api_version}" for kind in kinds if kind.group not in BUILT_IN and not self._of(kind)
        ]

    def typed(self, kind: Kind, name: str, config: dict[str, Any]) -> None:
        """Refuse an applied object with an unknown field or a wrong type, as the API server does: with error 500."""
        if not (validator := self._of(kind)):
            return
        faults = [f".{field}: field not declared in schema" for field in unknown(validator, config, prune=False)]
        for error in validator.iter_errors(config):
            if error.validator == "type":
                faults.append(
                    f".{_field(error.absolute_path)}: expected {error.validator_value}, got {error.instance!r}"
                )
        if faults:
            listed = faults[0] if len(faults) == 1 else "errors:\n  " + "\n  ".join(faults)
            where = f"{config['metadata'].get('namespace', '')}/{name}; {kind.api_version}, Kind={kind.kind}"
            raise Refused(500, "", f"failed to create typed patch object ({where}): {listed}")

    def complete(self, kind: Kind, document: dict[str, Any]) -> list[str]:
        """Remove the fields that the schema does not know and return them; fill in the schema's defaults."""
        if not (validator := self._of(kind)):
            return []
        lost = unknown(validator, document, prune=True)
        _fill_in(validator.schema, document)
        return lost

    def check(self, kind: Kind, name: str, new: dict[str, Any], old: dict[str, Any] | None) -> None:
        """Refuse an object that breaks the schema, else one that breaks a rule in it."""
        if not (validator := self._of(kind)):
            return
        causes = [_cause(error) for error in validator.iter_errors(new)]
        causes = causes or list(_broken(validator.schema, new, _ABSENT if old is None else old, []))
        if causes:
            raise invalid(kind, name, causes)


def unknown(validator: Any, document: dict[str, Any], prune: bool) -> list[str]:
    found = []
    for error in list(validator.iter_errors(document)):
        if error.validator == "additionalProperties" and error.validator_value is False:
            for key in sorted(set(error.instance) - set(error.schema.get("properties", ()))):
                found.append(_field([*error.absolute_path, key]))
                if prune:
                    del error.instance[key]
    return found


def _fill_in(schema: dict[str, Any], value: Any) -> None:
    if isinstance(value, dict):
        for key, below in schema.get("properties", {}).items():
            if key not in value and isinstance(below, dict) and "default" in below:
                value[key] = copy.deepcopy(below["default"])
    for key, item in _items(value):
        if below := _below(schema, key):
            _fill_in(below, item)


def _items(value: Any) -> Iterable[tuple[str | int, Any]]:
    return value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()


def _below(schema: dict[str, Any], key: str | int) -> dict[str, Any] | None:
    """Return the schema of a field, of a map's value or of an item."""
    if isinstance(key, int):
        found = schema.get("items")
    else:
        found = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
    return found if isinstance(found, dict) else None


def _field(path: Iterable[str | int]) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".") or "<nil>"


def _cause(error: Any) -> Cause:
    path, shown = [*error.absolute_path], json.dumps(error.instance)
    match error.validator:
        case "required":
            missing = error.message.split("'")[1]
            return _said("FieldValueRequired", [*path, missing], "Required value")
        case "type":
            shown = json.dumps(_TYPES.get(type(error.instance), "null"))
            why = f"Invalid value: {shown}: {_field(path)} in body must be of type {error.validator_value}: {shown}"
            return _said("FieldValueTypeInvalid", path, why)
        case "enum":
            wanted = ", ".join(json.dumps(value) for value in error.validator_value)
            return _said("FieldValueNotSupported", path, f"Unsupported value: {shown}: supported values: {wanted}")
    return _said("FieldValueInvalid", path, f"Invalid value: {shown}: {_field(path)} in body: {error.message}")


def _said(reason: str, path: Iterable[str | int], message: str) -> Cause:
    return {"reason": reason, "field": _field(path), "message": message}


def _broken(schema: dict[str, Any], value: Any, old: Any, path: list[str | int]) -> Iterator[Cause]:
    """Evaluate the rules of a value and of all below it; one about oldSelf only where there was a value before."""
    for rule in schema.get("x-kubernetes-validations", ()):
        data = {"self": value} | ({} if old is _ABSENT else {"oldSelf": old})
        if "oldSelf" in rule["rule"] and old is _ABSENT:
            continue
        try:
            holds, why = evaluate(rule["rule"], data) is True, rule.get("message", f"failed rule: {rule['rule']}")
            if not holds and "messageExpression" in rule:
                why = evaluate(rule["messageExpression"], data)
        except Undecided as error:
            holds, why = False, f"rule evaluation error: {error}: {rule['rule']}"
        if not holds:
            kind = json.dumps(_TYPES.get(type(value), "null"))
            yield _said(rule.get("reason", "FieldValueInvalid"), path, f"Invalid value: {kind}: {why}")
    for key, item in _items(value):
        if below := _below(schema, key):  # lists are atomic: which item it was before, nobody knows
            before = old.get(key, _ABSENT) if isinstance(old, dict) else _ABSENT
            yield from _broken(below, item, before, [*path, key])
