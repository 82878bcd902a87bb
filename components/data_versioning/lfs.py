"""Git LFS: pointers from a commit, objects from the LFS server that the platform names.

https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md and docs/api/batch.md. A pointer holds SHA-256 and size, so an
object is exactly the one that was committed. The server hands out addresses: only those on the server itself or on the
hosts of the sources file are asked, and the server's own credentials go to the server alone. `.lfsconfig` is not read.
"""

import base64
import json
import re
import threading
from collections.abc import Generator, Mapping
from typing import Any, NoReturn

from urllib3.exceptions import HTTPError

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.closed_http import ClosedPool
from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components.data_versioning.credentials import read_fields
from kfp_custody.components.data_versioning.encryption import AtRest
from kfp_custody.components.data_versioning.git import Commit, pointer_refused
from kfp_custody.components.data_versioning.objects import (
    CHUNK,
    THREADS,
    Interrupted,
    Plan,
    Reading,
    Wanted,
    denied,
    missing,
    no_range,
)
from kfp_custody.components.data_versioning.sources import Source

_HEAD = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER = re.compile(_HEAD + rb"oid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,17})\n")
_TYPE = "application/vnd.git-lfs+json"
_BATCH = 100  # objects that one question names
_INLINE = 256 * 1024 * 1024  # bytes of files that are in Git itself: they are held in memory
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")


def plan_lfs(commit: Commit, path: str, source: Source) -> Plan:
    """Find the files of a path: Git LFS objects, and what lies beside them in Git itself.

    Raises:
        InputRefused: there is nothing at the path, a pointer is malformed, or too much is in Git itself.
    """
    files, inline = [], 0
    for name, data in commit.files(path):
        if not data.startswith(_HEAD[:8]) or len(data) >= 1024 or b"git-lfs" not in data[:64]:
            inline += len(data)
            files.append(Wanted(name, f"git:{name}", size=len(data), content=data))
        elif pointer := _POINTER.fullmatch(data):
            oid = pointer[1].decode()
            files.append(Wanted(name, oid, size=int(pointer[2]), sha256=oid))
        else:
            raise pointer_refused(f"{path}/{name}", commit.sha, "its Git LFS pointer is of a form that is not read")
        if inline > _INLINE:
            raise InputRefused(
                "Too much data is in Git itself.",
                evidence=f"{path!a} in commit {commit.sha}: more than {_INLINE} bytes",
                remedy="Keep data in Git LFS (git lfs migrate), and only pointers in Git.",
                code=codes.SOURCE_SIZE,
            )
    sizes = {file.key: file.size or 0 for file in files if file.content is None}
    return Plan(tuple(files), LfsStore(source, sizes), commit.sha)


class LfsStore:
    """The objects of an LFS server, which is asked for their addresses a hundred at a time."""

    def __init__(self, source: Source, sizes: Mapping[str, int]) -> None:
        """Keep which objects are going to be read: oid -> bytes."""
        self._server = str(source.remote).rstrip("/")
        self._pool = ClosedPool(self._server, *source.hosts, connections=THREADS)
        self._sizes, self._oids = dict(sizes), list(sizes)
        self._order = {oid: number for number, oid in enumerate(self._oids)}
        self._actions: dict[str, tuple[str, dict[str, str]]] = {}
        self._denied: set[str] = set()
        self._lock = threading.Lock()
        self._headers = {"Accept": _TYPE, "Content-Type": _TYPE}
        if source.credentials:
            given = read_fields(source.credentials, ("username", "password"))
            basic = base64.b64encode(f"{given['username']}:{given['password']}".encode()).decode()
            self._headers["Authorization"] = f"Basic {basic}"

    @property
    def name(self) -> str:
        """The server's address."""
        return self._server

    def rule(self) -> str | None:
        """An LFS server does not say how it keeps objects."""
        return None

    def read(self, key: str, pin: str | None, offset: int) -> Reading:
        """Read an object from an offset on; its name is its digest, so it needs no other pin."""
        href, headers = self._action(key)
        ranged = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            answer = self._pool.request("GET", href, headers={**headers, **ranged}, preload_content=False)
        except (HTTPError, OSError) as error:
            raise Interrupted(type(error).__name__, codes.STORE_SILENT) from error
        size = self._sizes[key]
        try:
            if answer.status in (401, 403, 410):
                self._forget(key, answer.status)
            if answer.status == 404:
                raise missing(self.name, key)
            if answer.status >= 500 or answer.status == 429:
                raise Interrupted(f"the server answered {answer.status}", codes.STORE_FAILING)
            if offset and answer.headers.get("Content-Range") != f"bytes {offset}-{size - 1}/{size}":
                raise no_range(self.name, key, offset)
            if answer.status != (206 if offset else 200):
                raise Interrupted(f"the server answered {answer.status}", codes.STORE_FAILING)
            length = answer.headers.get("Content-Length")
            told = offset + int(length) if length and length.isdigit() else size
        except BaseException:
            answer.close()
            raise
        return Reading(told, f"sha256:{key}", AtRest(), _chunks(answer))

    def _forget(self, key: str, status: int) -> NoReturn:
        """Ask for another address once, for this one may have expired; then it is no question of time."""
        with self._lock:
            self._actions.pop(key, None)
            if key in self._denied:
                raise denied(self.name, key, str(status))
            self._denied.add(key)
        raise Interrupted(f"the server answered {status}", codes.STORE_DENIED)

    def _action(self, oid: str) -> tuple[str, dict[str, str]]:
        """Return where an object is, and the headers to ask for it with; ask for those that come next as well."""
        with self._lock:
            if oid not in self._actions:
                at = self._order[oid]
                following = [key for key in self._oids[at : at + _BATCH] if key not in self._actions]
                self._actions |= self._ask(following)
            return self._actions[oid]

    def _ask(self, oids: list[str]) -> dict[str, tuple[str, dict[str, str]]]:
        objects = [{"oid": oid, "size": self._sizes[oid]} for oid in oids]
        question = {"operation": "download", "transfers": ["basic"], "hash_algo": "sha256", "objects": objects}
        try:
            answer = self._pool.request(
                "POST", f"{self._server}/objects/batch", body=json.dumps(question), headers=self._headers
            )
        except (HTTPError, OSError) as error:
            raise Interrupted(type(error).__name__, codes.STORE_SILENT) from error
        if answer.status in (401, 403):
            raise denied(self.name, "objects/batch", str(answer.status))
        if answer.status == 404:
            raise missing(self.name, "objects/batch")
        try:
            if answer.status != 200:
                raise DocumentFault(f"status {answer.status}")
            found = parse_json(answer.data)["objects"]
            named = {entry["oid"]: entry for entry in found}
            actions = {}
            for oid in oids:
                if named[oid].get("error"):
                    raise missing(self.name, oid)
                actions[oid] = self._address(named[oid], oid)
            if set(named) != set(oids):
                raise DocumentFault("it names objects that nobody asked for")
        except (DocumentFault, LookupError, TypeError, AttributeError) as error:
            # Not chained: an answer may hold tokens.
            why = str(error) if isinstance(error, DocumentFault) else "no list of the objects that were asked for"
        else:
            return actions
        raise Interrupted(f"its answer cannot be used: {why}", codes.STORE_FAILING)

    def _address(self, entry: Mapping[str, Any], oid: str) -> tuple[str, dict[str, str]]:
        if entry.get("size") != self._sizes[oid]:
            raise EvidenceInvalid(
                "An object has another size than its pointer says.",
                evidence=f"{oid} expected {self._sizes[oid]} bytes, the server has {entry.get('size')!a}",
                remedy="Do not use this data. Find out who changed the object on the LFS server.",
                code=codes.OBJECT_SIZE,
            )
        download = entry["actions"]["download"]
        href, headers = download["href"], download.get("header", {})
        if not isinstance(href, str) or not all(
            isinstance(value, str) and _HEADER.fullmatch(name) and value.isprintable()
            for name, value in headers.items()
        ):
            raise DocumentFault("an address or header is malformed")
        self._pool.require(href)
        return href, dict(headers)


def _chunks(answer: Any) -> Generator[bytes, None, None]:
    try:
        yield from answer.stream(CHUNK, decode_content=False)
    except (HTTPError, OSError) as error:
        raise Interrupted(type(error).__name__, codes.TRANSFER) from error
    finally:
        answer.close()
