"""The engines s3, gcs, azure and local: everything at and below a prefix, as the store lists it.

The listing of the beginning is what is fetched, every object in the very state (ETag, generation, inode) that the
listing names; when all has arrived, the store must still list the same. A dataset that others write to is refused.
"""

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components.data_versioning.objects import Plan, Store, Stored, Wanted, changed


def plan_stored_tree(store: Store, prefix: str) -> Plan:
    """Find what is at a prefix: one object of exactly this key, or all below it.

    Args:
        store: Where.
        prefix: The key; empty for all that the store has.

    Raises:
        EvidenceInvalid: there is nothing.
        InputRefused: there are both an object of this key and others below it.
    """
    found = _snapshot(store, prefix)
    if not found:
        raise EvidenceInvalid(
            "There is no data at the source.",
            evidence=f"{prefix!a} in {store.name}: 0 objects",
            remedy="Correct the URI, or find out who removed the data.",
            code=codes.OBJECT_MISSING,
        )
    if prefix in found and len(found) > 1:
        raise InputRefused(
            "The source is both a file and a folder.",
            evidence=f"{prefix!a} in {store.name}, and {len(found) - 1} objects below it",
            remedy="Rename one of them: a tree of files cannot have both.",
            code=codes.NAME_TWINS,
        )
    cut = len(prefix) + 1 if prefix else 0
    names = {key: key.rsplit("/", 1)[-1] if key == prefix else key[cut:] for key in found}
    files = [Wanted(names[key], key, entry.size, entry.pin) for key, entry in found.items()]
    return Plan(tuple(files), store, still=lambda: _require_still(store, prefix, found))


def _snapshot(store: Store, prefix: str) -> dict[str, Stored]:
    """Return what is there by key, without the empty objects that some tools write for folders (`prefix/`)."""
    entries = store.entries(prefix)
    return {entry.key: entry for entry in entries if not (entry.key.endswith("/") and entry.size == 0)}


def _require_still(store: Store, prefix: str, before: dict[str, Stored]) -> None:
    after = _snapshot(store, prefix)
    if after == before:
        return
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            raise changed(store.name, key, "it is gone")
        if key not in before:
            raise changed(store.name, key, "it was added")
        if before[key] != after[key]:
            raise changed(store.name, key, "it was written again")
