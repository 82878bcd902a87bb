"""DVC's pointers, read from a commit: `<path>.dvc`, or an output in a `dvc.lock`. Data in the layout of DVC 3.

A pointer names a file by its MD5, and a folder by the MD5 of a JSON list of its files
(https://dvc.org/doc/user-guide/project-structure/internal-files). DVC does not compare what it downloads with it; here
every object is. The repository's own configuration is never read: the remote is the platform's.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_json, parse_yaml
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import resource
from kfp_custody.components.data_versioning.encryption import Encryption
from kfp_custody.components.data_versioning.git import Commit, pointer_refused
from kfp_custody.components.data_versioning.objects import Interrupted, Plan, Readable, Wanted
from kfp_custody.components.data_versioning.retrying import again

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_MAX_LIST = 256 * 1024 * 1024  # bytes of a folder's list of files


def plan_dvc(commit: Commit, path: str, store: Readable, encryption: Encryption) -> Plan:
    """Find the files of a DVC output.

    Args:
        commit: The commit with the pointer.
        path: The output's path in the repository.
        store: DVC's remote.
        encryption: What the folder's list must be encrypted with, as every object.

    Raises:
        InputRefused: there is no pointer, more than one, or one that DVC 2 wrote.
        EvidenceInvalid: the folder's list is missing or not the one that the pointer names.
        PolicyRefused: it is not encrypted as demanded.
    """
    found = list(_outputs(commit, path))
    if len(found) != 1:
        raise pointer_refused(path, commit.sha, f"{len(found)} DVC pointers name it")
    pointer, data, out = found[0]
    md5, size = out.get("md5"), out.get("size")
    if out.get("hash") != "md5":
        raise pointer_refused(path, commit.sha, "it was written by DVC 2 or is of another hash; dvc commit -f it anew")
    if not isinstance(md5, str) or not _MD5.fullmatch(md5) or not (size is None or type(size) is int):
        raise pointer_refused(path, commit.sha, "its md5 or size is none")
    named = resource("pointer", sha256_bytes(data), uri=pointer, md5=md5.removesuffix(".dir"))
    if not md5.endswith(".dir"):
        files = [Wanted(path.rsplit("/", 1)[-1], _key(md5), size=size, md5=md5)]
    else:
        files = _folder(again(lambda: _read(store, md5, encryption), store.name), path, commit)
    return Plan(tuple(files), store, commit.sha, named)


def _outputs(commit: Commit, path: str) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Yield every pointer to a path: the file that it stands in, that file's bytes, and its entry."""
    folder, _, name = path.rpartition("/")
    data = commit.file(f"{path}.dvc")
    if data is not None:
        document = _parsed(data, f"{path}.dvc", commit)
        if document.get("wdir", ".") == ".":
            yield from ((f"{path}.dvc", data, out) for out in _list(document) if out.get("path") == name)
    while True:
        lock = f"{folder}/dvc.lock" if folder else "dvc.lock"
        data = commit.file(lock)
        if data is not None:
            stages = _parsed(data, lock, commit).get("stages")
            inner = path[len(folder) + 1 :] if folder else path
            for stage in stages.values() if isinstance(stages, dict) else ():
                yield from ((lock, data, out) for out in _list(stage) if out.get("path") == inner)
        if not folder:
            return
        folder = folder.rpartition("/")[0]


def _parsed(data: bytes, name: str, commit: Commit) -> dict[str, Any]:
    try:
        document = parse_yaml(data)
    except DocumentFault as fault:
        raise pointer_refused(name, commit.sha, str(fault)) from fault
    return document if isinstance(document, dict) else {}


def _list(holder: Any) -> list[dict[str, Any]]:
    outs = holder.get("outs") if isinstance(holder, dict) else None
    return [out for out in outs if isinstance(out, dict)] if isinstance(outs, list) else []


def _key(md5: str) -> str:
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _read(store: Readable, md5: str, encryption: Encryption) -> bytes:
    """Read a folder's list whole, and refuse one that is not the one of that name."""
    reading = store.read(_key(md5), None, 0)
    data = bytearray()
    with closing(reading.chunks) as chunks:
        encryption.require(_key(md5), reading.at_rest)
        for chunk in chunks:
            data += chunk
            if len(data) > _MAX_LIST:
                break
    if len(data) < reading.size <= _MAX_LIST:
        raise Interrupted("the transfer ended early", codes.TRANSFER)
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if f"{found}.dir" != md5:
        raise EvidenceInvalid(
            "The list of a folder's files is not the one that the commit's pointer names.",
            evidence=f"{_key(md5)} expected md5:{md5.removesuffix('.dir')}, found md5:{found}",
            remedy="Do not use this data. Find out who changed the object; push it again from where it was made.",
            code=codes.OBJECT_DIGEST,
        )
    return bytes(data)


def _folder(data: bytes, path: str, commit: Commit) -> list[Wanted]:
    try:
        entries = parse_json(data, _MAX_LIST)
    except DocumentFault as fault:
        raise pointer_refused(path, commit.sha, f"the list of its files: {fault}") from fault
    files = []
    for entry in entries if isinstance(entries, list) else [None]:
        fields = entry if isinstance(entry, dict) else {}
        md5, name = fields.get("md5"), fields.get("relpath")
        if not isinstance(name, str) or not isinstance(md5, str) or not _MD5.fullmatch(md5) or md5.endswith(".dir"):
            raise pointer_refused(path, commit.sha, "the list of its files has an entry without md5 and relpath")
        files.append(Wanted(name, _key(md5), md5=md5))
    if not files:
        raise pointer_refused(path, commit.sha, "the folder is empty")
    return files
