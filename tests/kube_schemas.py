"""Schemas of Kubernetes objects: of custom resources from tests/schemas (Apache-2.0), of core kinds from a package.

The file names are `<group>_<kind>_<version>.json`; each says in `$comment` where it was taken from.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

VERSIONS = tuple(f"1.{minor}" for minor in range(29, 37))
# Kinds that are stable from a later version on: before it a cluster does not have them.
SINCE = {"ValidatingAdmissionPolicy": "1.30", "ValidatingAdmissionPolicyBinding": "1.30"}
SCHEMAS = Path(__file__).parent / "schemas"
# Too large to be kept here; used where the folder is, and named by `unverified` where it is not.
SHARED = Path(__file__).resolve().parents[2] / "shared" / "schemas"


@cache
def custom(api_version: str, kind: str) -> jsonschema.Draft202012Validator | None:
    """The validator of a custom resource; None when there is no schema of it."""
    group, version = api_version.split("/")
    for folder in (SCHEMAS, SHARED):
        found = sorted(folder.glob(f"{group}_{kind.lower()}_{version}*.json"))
        if found:
            return jsonschema.Draft202012Validator(json.loads(found[0].read_text()))
    return None


def is_core(document: dict[str, Any]) -> bool:
    """Whether an object belongs to Kubernetes itself."""
    group = document["apiVersion"].rpartition("/")[0]
    return "." not in group or group.endswith(".k8s.io") and not group.startswith(("gateway.", "snapshot."))


def faults(document: dict[str, Any]) -> list[str]:
    """Why an object is not valid, for each version of Kubernetes; a custom resource by its one schema."""
    if not is_core(document):
        validator = custom(document["apiVersion"], document["kind"])
        return [] if validator is None else [error.message for error in validator.iter_errors(document)]
    found = []
    for version in VERSIONS[VERSIONS.index(SINCE.get(document["kind"], VERSIONS[0])) :]:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{version}: {str(error)[:300]}")
    return found


def unverified(document: dict[str, Any]) -> bool:
    """Whether there is nothing to hold an object against."""
    return not is_core(document) and custom(document["apiVersion"], document["kind"]) is None
