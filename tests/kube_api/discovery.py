"""What clients ask first: which groups, versions and resources there are."""

from collections.abc import Iterable
from typing import Any

from kube_api.kinds import Kind

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.0", "platform": "linux/amd64"}


def document(path: str, kinds: Iterable[Kind]) -> dict[str, Any] | None:
    """Return the answer to a path of discovery, or None when it is none."""
    groups: dict[str, dict[str, list[Kind]]] = {}
    for kind in kinds:
        groups.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
    match path.strip("/").split("/"):
        case ["version"]:
            return _VERSION
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            found = [_group(name, versions) for name, versions in groups.items() if name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}
        case ["apis", group] if group in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, groups[group])}
        case ["api", version] if version in groups.get("", ()):
            return _resources(groups[""][version])
        case ["apis", group, version] if version in groups.get(group, ()):
            return _resources(groups[group][version])
    return None


def _group(name: str, versions: Iterable[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resources(kinds: list[Kind]) -> dict[str, Any]:
    found = []
    for kind in kinds:
        head = {"singularName": kind.kind.lower(), "namespaced": kind.namespaced, "kind": kind.kind}
        found.append(head | {"name": kind.plural, "verbs": _VERBS})
        found.append(head | {"name": f"{kind.plural}/status", "verbs": ["get", "patch", "update"]})
    version = kinds[0].api_version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}
