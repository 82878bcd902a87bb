"""Which manager owns which field, merge patches, and server-side apply.

Lists are atomic, as in a custom resource whose schema names no list type: one manager owns a list as a whole.
"""

import copy
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kube_api.answers import Refused

Path = tuple[str, ...]
_ABSENT = object()
_SERVERS = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
_UNOWNED = {("apiVersion",), ("kind",), *(("metadata", name) for name in ("name", "namespace", *_SERVERS))}


class Manager(NamedTuple):
    """Who writes: the same name is somebody else when it updates and when it applies."""

    name: str
    operation: str
    subresource: str = ""

    def __str__(self) -> str:
        return f'"{self.name}"' + (f' with subresource "{self.subresource}"' if self.subresource else "")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(base: Any, patch: Any) -> Any:
    """Return a JSON merge patch's outcome: null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def _leaves(value: Any, path: Path = ()) -> set[Path]:
    if isinstance(value, dict) and value:
        return set().union(*(_leaves(item, (*path, key)) for key, item in value.items())) - _UNOWNED
    return {path} - {()}


def _at(value: Any, path: Path) -> Any:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _overlap(one: Path, other: Path) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))


def _remove(value: dict[str, Any], path: Path) -> None:
    """Remove a field, and whatever held nothing else."""
    if len(path) > 1 and isinstance(value.get(path[0]), dict):
        _remove(value[path[0]], path[1:])
        if not value[path[0]]:
            del value[path[0]]
    elif len(path) == 1:
        value.pop(path[0], None)


def _decode(fields: dict[str, Any], path: Path = ()) -> set[Path]:
    found: set[Path] = set()
    for key, below in fields.items():
        here = (*path, key.removeprefix("f:"))
        found |= _decode(below, here) if below else {here}
    return found


def _encode(paths: Iterable[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for key in path:
            node = node.setdefault(f"f:{key}", {})
    return tree


def _managers(document: dict[str, Any]) -> dict[Manager, set[Path]]:
    entries = document.get("metadata", {}).get("managedFields", ())
    return {_manager(entry): _decode(entry["fieldsV1"]) for entry in entries}


def _manager(entry: dict[str, Any]) -> Manager:
    return Manager(entry["manager"], entry["operation"], entry.get("subresource", ""))


def _record(document: dict[str, Any], managers: dict[Manager, set[Path]]) -> dict[str, Any]:
    """Write managedFields; an entry that did not change keeps its time."""
    before = {_manager(entry): entry for entry in document["metadata"].pop("managedFields", ())}
    entries = []
    for manager, paths in sorted(managers.items()):
        fields = _encode(paths)
        entry = before.get(manager, {})
        if fields != entry.get("fieldsV1"):
            entry = {"manager": manager.name, "operation": manager.operation, "time": now()}
            entry |= {"apiVersion": document["apiVersion"], "fieldsType": "FieldsV1", "fieldsV1": fields}
            entry |= {"subresource": manager.subresource} if manager.subresource else {}
        if fields:
            entries.append(entry)
    document["metadata"]["managedFields"] = entries
    return document


def updated(before: dict[str, Any] | None, after: dict[str, Any], manager: Manager) -> dict[str, Any]:
    """Give a manager the fields that its update changed, and take them from all others."""
    old, managers = before or {}, _managers(before or {})
    changed = {path for path in _leaves(after) if _at(old, path) != _at(after, path)}
    lost = changed | (_leaves(old) - _leaves(after))
    managers = {other: paths if other == manager else paths - lost for other, paths in managers.items()}
    managers[manager] = (managers.get(manager, set()) | changed) & _leaves(after)
    after = copy.deepcopy(after)
    after["metadata"]["managedFields"] = old.get("metadata", {}).get("managedFields", [])
    return _record(after, managers)


def applied(live: dict[str, Any], config: dict[str, Any], manager: Manager, force: bool) -> dict[str, Any]:
    """Return the outcome of a server-side apply.

    Raises:
        Refused: 409, somebody else owns a field with another value, and `force` was not asked for.
    """
    config = merge({}, config)  # without nulls
    mine, managers = _leaves(config), _managers(live)
    others = {other: paths for other, paths in managers.items() if other != manager}
    differ = {path for path in mine if _differs(_at(live, path), _at(config, path))}
    clashes = {
        other: sorted(path for path in differ if any(_overlap(path, owned) for owned in paths))
        for other, paths in others.items()
    }
    clashes = {other: paths for other, paths in clashes.items() if paths}
    if clashes and not force:
        raise _apply_conflict(clashes, live)
    for other, paths in clashes.items():
        others[other] = {owned for owned in others[other] if not any(_overlap(path, owned) for path in paths)}
    result = merge(copy.deepcopy(live), config)
    left = managers.get(manager, set()) - mine - set().union(*others.values())
    for path in left:
        if not any(_overlap(path, kept) for kept in mine):
            _remove(result, path)
    return _record(result, {**others, manager: mine})


def _differs(live: Any, wanted: Any) -> bool:
    return live != wanted and not (wanted == {} and isinstance(live, dict))


def _apply_conflict(clashes: dict[Manager, list[Path]], live: dict[str, Any]) -> Refused:
    times = {_manager(entry): entry["time"] for entry in live["metadata"]["managedFields"]}
    causes, lines = [], []
    for manager, paths in clashes.items():
        updates = manager.operation == "Update"
        who = f"{manager} using {live['apiVersion']} at {times[manager]}" if updates else str(manager)
        fields = ["." + ".".join(path) for path in paths]
        lines += [f"conflicts with {who}:", *(f"- {field}" for field in fields)]
        cause = {"reason": "FieldManagerConflict", "message": f"conflict with {who}"}
        causes += [cause | {"field": field} for field in fields]
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        message = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return Refused(409, "Conflict", message, {"causes": causes})
