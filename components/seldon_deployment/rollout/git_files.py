"""A service's objects as files in one folder of a Git repository, in place of a namespace that has them.

    <kind>-<name>.yaml     one object, as it would be applied
    kustomization.yaml     names them all

Whatever else lies in the folder is left as it is. A file that is in the way, or that another hand made, is refused and
not overwritten. The bytes depend on nothing but the objects.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.seldon_deployment.kubernetes_api import KINDS, MANAGER, Object, Objects

KUSTOMIZATION = "kustomization.yaml"
# A second name for the same thing, at which kustomize stops.
_OTHER_KUSTOMIZATIONS = ("kustomization.yml", "Kustomization")
_HEAD = f"# Written by {MANAGER}, and written over: changes of your own belong in an overlay that names this folder.\n"
_LABEL = "app.kubernetes.io/managed-by"
_OBJECT = re.compile(rf"({'|'.join(kind.lower() for kind in KINDS)})-([a-z0-9-]+)\.yaml")
_LOOKS_LIKE_A_NUMBER = re.compile(r"[-+.]?[0-9]")


class Files(Objects):
    """The objects of a service in a folder; what is applied is kept here until `written` says which bytes it is."""

    def __init__(self, namespace: str, folder: str, found: Mapping[str, bytes]) -> None:
        """Read the files that are there.

        Args:
            namespace: which the objects belong to.
            folder: the folder's path in the repository, for messages.
            found: every file of the folder, by its name.

        Raises:
            Misconfigured: a file that would be written is not what its name says, or is somebody else's.
        """
        self.namespace, self._folder, self._found = namespace, folder, found
        self._objects = {name: self._read(name) for name in found if _OBJECT.fullmatch(name)}
        self._before = dict(self._objects)
        if KUSTOMIZATION in found and not found[KUSTOMIZATION].startswith(_HEAD.encode()):
            raise self._in_the_way(KUSTOMIZATION, f"{MANAGER} did not write it")
        for name in _OTHER_KUSTOMIZATIONS:
            if name in found:
                raise self._in_the_way(name, f"kustomize takes it or {KUSTOMIZATION}, not both")

    def get(self, kind: str, name: str) -> Object | None:
        """Return an object; None when there is none of this name."""
        return self._objects.get(_file(kind, name))

    def list(self, kind: str, service: str) -> list[Object]:
        """Return the objects of a service."""
        of_kind = [each for each in self._objects.values() if each["kind"] == kind]
        return [each for each in of_kind if each["metadata"]["labels"].get("app.kubernetes.io/part-of") == service]

    def apply(self, wanted: Object) -> Object:
        """Write an object, all of it."""
        self._objects[_file(wanted["kind"], wanted["metadata"]["name"])] = wanted
        return wanted

    def delete(self, kind: str, name: str) -> None:
        """Remove an object; one that is not there is as it should be."""
        self._objects.pop(_file(kind, name), None)

    def where(self, kind: str, name: str) -> str:
        """Say how a person looks at an object."""
        return f"{self._folder}/{_file(kind, name)} in the repository"

    def written(self) -> dict[str, bytes]:
        """Return every file that is ours as it is to be; an object that has not changed keeps its bytes."""
        files = {
            name: self._found[name] if self._before.get(name) == wanted else _dump(wanted)
            for name, wanted in sorted(self._objects.items())
        }
        listed = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(files)}
        return {**files, KUSTOMIZATION: _dump(listed)}

    def ours(self) -> dict[str, bytes]:
        """Return every file that is ours as it was found."""
        return {name: data for name, data in self._found.items() if name in self._before or name == KUSTOMIZATION}

    def _read(self, name: str) -> Object:
        try:
            found = parse_yaml(self._found[name])
        except DocumentFault as error:
            raise self._in_the_way(name, str(error)) from error
        match found:
            case {"kind": str() as kind, "metadata": {"name": str() as own, "labels": dict() as labels, **rest}}:
                ours = kind in KINDS and _file(kind, own) == name and rest.get("namespace") == self.namespace
                formed = isinstance(found.get("spec"), dict) and isinstance(rest.get("annotations", {}), dict)
                if ours and formed and labels.get(_LABEL) == MANAGER:
                    return dict(found)
        raise self._in_the_way(name, f"it is no such object that {MANAGER} wrote for the namespace {self.namespace!r}")

    def _in_the_way(self, name: str, why: str) -> Misconfigured:
        return Misconfigured(
            "A file in the repository is in the way; it is left as it is.",
            evidence=f"{self._folder}/{name}: {why}",
            remedy="Move it, or set CUSTODY_GITOPS_PATH to a folder for this namespace's models alone.",
            code=codes.GIT_CONTENT,
        )


def _file(kind: str, name: str) -> str:
    return f"{kind.lower()}-{name}.yaml"


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some reader of YAML takes for a number, such as the name 1e5."""


def _text(dumper: yaml.SafeDumper, value: str) -> Any:
    style = '"' if _LOOKS_LIKE_A_NUMBER.match(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _dump(document: Object) -> bytes:
    return (_HEAD + yaml.dump(document, Dumper=_Dumper, sort_keys=True, width=sys.maxsize)).encode()
