"""fetch-manifest.json: of every file what it is, what it had to be, and how the store says that it keeps it."""

from collections.abc import Sequence
from typing import Any

from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components.data_versioning.receiving import Received

MANIFEST_NAME = "fetch-manifest.json"


def manifest(received: Sequence[Received], commit: str | None, rule: str | None) -> bytes:
    """Return the manifest.

    Args:
        received: The files.
        commit: The Git commit, if there is one.
        rule: The encryption that the bucket gives to new objects, as far as it is known.
    """
    document = {"version": 1, "commit": commit, "bucket_encryption": rule, "files": [_file(file) for file in received]}
    return canonical_json(document) + b"\n"


def _file(file: Received) -> dict[str, Any]:
    entry, wanted = file.entry, file.wanted
    pointer = {"md5": wanted.md5, "oid": wanted.sha256}
    storage = {
        "key": wanted.key,
        "pin": file.pin,
        "version_id": file.version,
        "encryption": file.at_rest.algorithm,
        "key_id": file.at_rest.key,
    }
    return {
        "path": entry.name,
        "size": entry.size,
        "sha256": entry.sha256,
        **{name: value for name, value in pointer.items() if value},
        "storage": {name: value for name, value in storage.items() if value} if wanted.content is None else "git",
    }
