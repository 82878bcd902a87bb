"""The sources file: what may be fetched, from where, and how it must be encrypted. It belongs to the platform.

```yaml
version: 1
sources:
  - prefix: git+https://git.bank.example/data/  # the longest that fits counts; whole parts of the path are compared
    engine: dvc                                 # dvc, git-lfs, s3, gcs, azure, local
    remote: s3://bank-datasets/dvc              # dvc: where the objects are; git-lfs: the server's LFS address
    endpoint: https://s3.bank.example           # optional: of an S3, GCS or Azure server of one's own
    region: eu-central-1                        # optional: of S3
    hosts: [https://objects.bank.example]       # optional: git-lfs: where its objects may be, besides the server itself
    encryption:                                 # any, sse or cmk; when left out sse where objects are in a store
      level: cmk
      key: arn:aws:kms:eu-central-1:111122223333:key/1b2c...
    credentials: vault:secret/fetch             # optional: of the store or LFS server; none: the workload's
    git_credentials: vault:secret/git           # optional: of a private repository; none: nobody
    max_bytes: 200_000_000_000                  # optional: 100 GiB when left out
```

Nothing of a fetched repository (`.dvc/config`, `.lfsconfig`, submodules) is ever read for this.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml, read_document, require_keys
from kfp_custody.components._shared.errors import InputRefused, Misconfigured, PolicyRefused
from kfp_custody.components.data_versioning.encryption import LEVELS, Encryption
from kfp_custody.components.data_versioning.locations import Location, parse_prefix

_GIT = ("git+https", "git+http", "git+file")
_ENGINES = {"dvc": _GIT, "git-lfs": _GIT, "s3": ("s3",), "gcs": ("gs",), "azure": ("abfss",), "local": ("file",)}
_OPTIONAL = ("remote", "endpoint", "region", "hosts", "encryption", "credentials", "git_credentials", "max_bytes")
_ORIGIN = re.compile(r"https://[a-z0-9.-]+(:\d{1,5})?|http://(127\.0\.0\.1|localhost)(:\d{1,5})?")
_SERVER = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")
_MAX_BYTES = 100 * 1024**3


@dataclass(frozen=True)
class Source:
    """One entry: see the top of this module. `store` is where the objects are (of git-lfs: None)."""

    prefix: Location
    engine: str
    store: Location | None
    remote: str | None
    endpoint: str | None
    region: str | None
    hosts: tuple[str, ...]
    encryption: Encryption
    credentials: str | None
    git_credentials: str | None
    max_bytes: int


@dataclass(frozen=True)
class Sources:
    """The file, read: its SHA-256 (hex) and its entries."""

    sha256: str
    entries: tuple[Source, ...]

    def allow(self, location: Location) -> Source:
        """Return the entry with the longest prefix that a location is below.

        Raises:
            PolicyRefused: there is none.
        """
        fitting = [entry for entry in self.entries if location.below(entry.prefix)]
        if not fitting:
            known = ", ".join(sorted({entry.prefix.base for entry in self.entries})[:5]) or "nothing"
            raise PolicyRefused(
                "The platform does not allow data from there.",
                evidence=f"{location.uri!a} is below no prefix of the sources file (sha256:{self.sha256}): {known}",
                remedy="Take the data from an allowed place, or have the platform's team add this one.",
                code=codes.SOURCE_NOT_ALLOWED,
            )
        return max(fitting, key=lambda entry: len(entry.prefix.path))


def load_sources(path: Path) -> Sources:
    """Read the sources file strictly.

    Raises:
        Misconfigured: it is missing or malformed, or an entry asks for what its engine cannot do.
    """
    try:
        data = read_document(path)
        document = require_keys(parse_yaml(data), "the file", ("version", "sources"))
        if type(document["version"]) is not int or document["version"] != 1:
            raise DocumentFault("its version is not 1")
        if not isinstance(document["sources"], list):
            raise DocumentFault("sources is no list")
        entries = tuple(_entry(entry, f"source {n}") for n, entry in enumerate(document["sources"], 1))
        prefixes = [entry.prefix for entry in entries]
        if len(set(prefixes)) != len(prefixes):
            raise DocumentFault("a prefix stands in it twice")
    except (DocumentFault, OSError) as error:
        reason = str(error) if isinstance(error, DocumentFault) else type(error).__name__
        raise Misconfigured(
            "The file that says what may be fetched cannot be used.",
            evidence=f"{path}: {reason}",
            remedy="Set CUSTODY_SOURCES to a sources file; the room's README shows one.",
            code=codes.SOURCES_FILE,
        ) from error
    return Sources(sha256_bytes(data), entries)


def _entry(value: Any, where: str) -> Source:
    entry = require_keys(value, where, ("prefix", "engine"), _OPTIONAL)
    texts = ("prefix", "engine", "remote", "endpoint", "region", "credentials", "git_credentials")
    if not all(isinstance(entry.get(name, ""), str) for name in texts):
        raise DocumentFault(f"{where}: one of {', '.join(texts)} is no text")
    engine = entry["engine"]
    if engine not in _ENGINES:
        raise DocumentFault(f"{where}: its engine is none of {', '.join(_ENGINES)}")
    prefix = _place(entry["prefix"], f"{where}: prefix", _ENGINES[engine])
    store = _store(entry, engine, prefix, where)
    hosts = entry.get("hosts", [])
    if not isinstance(hosts, list) or not all(isinstance(host, str) and _ORIGIN.fullmatch(host) for host in hosts):
        raise DocumentFault(f"{where}: hosts is no list of https://host")
    endpoint = entry.get("endpoint")
    if endpoint is not None and not _SERVER.fullmatch(endpoint):
        raise DocumentFault(f"{where}: endpoint is no https://host")
    most = entry.get("max_bytes", _MAX_BYTES)
    if type(most) is not int or most <= 0:
        raise DocumentFault(f"{where}: max_bytes is no positive number")
    return Source(
        prefix=prefix,
        engine=engine,
        store=store,
        remote=entry.get("remote"),
        endpoint=endpoint,
        region=entry.get("region"),
        hosts=tuple(hosts),
        encryption=_encryption(entry.get("encryption"), store, where),
        credentials=entry.get("credentials"),
        git_credentials=entry.get("git_credentials"),
        max_bytes=most,
    )


def _store(entry: Mapping[str, Any], engine: str, prefix: Location, where: str) -> Location | None:
    """Return where the objects of an entry are, and refuse a remote that its engine has no use for."""
    remote = entry.get("remote")
    if engine == "dvc":
        if remote is None:
            raise DocumentFault(f"{where}: dvc needs a remote; the repository's own is never used")
        return _place(remote, f"{where}: remote", ("s3", "gs", "abfss", "file"))
    if engine == "git-lfs":
        if remote is None or not _SERVER.fullmatch(remote) or not _ORIGIN.match(remote):
            raise DocumentFault(f"{where}: git-lfs needs a remote, the https:// address of its LFS server")
        return None
    if remote is not None:
        raise DocumentFault(f"{where}: {engine} has no remote")
    return prefix


def _encryption(value: Any, store: Location | None, where: str) -> Encryption:
    visible = store is not None and store.scheme != "file"  # a folder or LFS server does not say how it keeps bytes
    if value is None:
        return Encryption("sse" if visible else "any")
    wanted = require_keys(value, f"{where}: encryption", ("level",), ("key",))
    level, key = wanted["level"], wanted.get("key", "")
    if level not in LEVELS:
        raise DocumentFault(f"{where}: encryption.level is none of {', '.join(LEVELS)}")
    if level != "any" and not visible:
        raise DocumentFault(f"{where}: encryption can only be any, for nothing says how a folder or LFS server stores")
    if (level == "cmk") != ("key" in wanted) or not isinstance(key, str) or (level == "cmk" and not key.strip("*/: ")):
        raise DocumentFault(f"{where}: encryption.key is for cmk, and there it names a key or a pattern of one")
    return Encryption(level, key)


def _place(value: str, where: str, schemes: tuple[str, ...]) -> Location:
    try:
        place = parse_prefix(value)
    except InputRefused as error:
        raise DocumentFault(f"{where}: {error.evidence}") from error
    if place.scheme not in schemes:
        raise DocumentFault(f"{where} is of {place.scheme}://, and this engine takes {', '.join(schemes)}")
    return place
