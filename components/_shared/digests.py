"""The identity of a tree of files: a `SHA256SUMS` listing and its SHA-256.

The listing is what `sha256sum` prints for every file of the tree, sorted by name; its digest is in-toto's `dirHash1`
(https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md) and binds names as well as contents.
Nothing is ignored. What could make two trees look alike or a reader walk elsewhere is refused: symbolic links, special
files, empty trees, names that are not UTF-8, not in normal form C, or hold a newline or a backslash, and names that
differ only in case (a store that ignores case would merge them).
"""

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
_WORKERS = max(2, min(4, os.cpu_count() or 1))  # reading and hashing release the GIL
_BUFFER = 512 * 1024  # what was read is still in the core's own cache when it is hashed
_BATCH = 16 * 1024 * 1024  # of work that a thread takes at once
_FILE = 64 * 1024  # opening a file counts as this much of it


@dataclass(frozen=True)
class Entry:
    """One file of a tree: its relative name, SHA-256 (hex) and size in bytes (0 when read from a listing).

    `md5` (hex) is there when it was asked for; it binds nothing and makes no difference between two entries.
    """

    name: str
    sha256: str
    size: int = 0
    md5: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Listing:
    """All files of a tree, sorted by the bytes of their names."""

    entries: tuple[Entry, ...]

    @cached_property
    def text(self) -> bytes:
        """The `SHA256SUMS` file: `sha256sum -c` accepts it."""
        return "".join(f"{entry.sha256}  {entry.name}\n" for entry in self.entries).encode()

    @cached_property
    def sha256(self) -> str:
        """The identity of the tree: SHA-256 (hex) of the listing."""
        return sha256_bytes(self.text)

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return sum(entry.size for entry in self.entries)


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hex, without following a symbolic link.

    Raises:
        OSError: the file cannot be read, or is a symbolic link.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_tree(root: Path, *, md5: bool = False) -> Listing:
    """Hash every file of a tree (or one file, listed under its own name), reading each once.

    Args:
        root: The directory or file.
        md5: Compute the files' MD5 as well, for other tools' identities.

    Raises:
        InputRefused: nothing there, no file, a symbolic link or special file, or a name that cannot be listed.
        OSError: a file cannot be read.
    """
    found = _walk(root)
    if not found:
        raise _empty(root)
    found.sort(key=lambda file: file[0].encode())
    batches = list(_batches(found))
    if len(batches) == 1:
        return Listing(tuple(_hash_files(batches[0], md5)))
    with ThreadPoolExecutor(_WORKERS) as pool:
        hashed = pool.map(partial(_hash_files, md5=md5), batches)
        return Listing(tuple(entry for batch in hashed for entry in batch))


def read_tree(root: Path) -> tuple[Listing, dict[str, bytes]]:
    """Read every file of a tree into memory, once; the listing is of the very bytes that are returned.

    Whoever uses these bytes uses what was hashed, whatever happens to the files meanwhile.

    Args:
        root: The directory or file.

    Raises:
        InputRefused: as `list_tree`.
        OSError: a file cannot be read, or became a symbolic link.
    """
    files = {}
    for name, path, _ in sorted(_walk(root), key=lambda file: file[0].encode()):
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            files[name] = file.read()
    if not files:
        raise _empty(root)
    return Listing(tuple(Entry(name, sha256_bytes(data), len(data)) for name, data in files.items())), files


def require_names(names: Collection[str]) -> None:
    """Refuse names of files that `list_tree` would not list, or that are of no tree, before anything is written.

    Args:
        names: Relative names, `/` between folders.

    Raises:
        InputRefused: a name is unsafe, absolute or climbs, stands there twice, is also a folder's, or has a twin in
            another case.
    """
    for name in names:
        if any(part in ("", ".", "..") for part in _checked(name).split("/")):
            raise InputRefused(
                "A file name leads out of its tree, or is none.",
                evidence=f"{name!a}",
                remedy="Do not use this source before it is known who wrote such a name.",
                code=codes.NAME_UNSAFE,
            )
    if len(set(names)) != len(names) or not _is_tree(list(names)):
        raise InputRefused(
            "The names of the files are of no tree.",
            evidence="a name stands there twice, is a file's and a folder's, or two differ only in case",
            remedy="Rename or remove one of them at the source.",
            code=codes.NAME_TWINS,
        )


def read_listing(data: bytes, source: str) -> Listing:
    """Read a `SHA256SUMS` file strictly: exactly what `list_tree` would have written, sorted, no name twice.

    Raises:
        EvidenceInvalid: any other form, an absolute name, or a name that climbs with `..`.
    """
    entries = []
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise _bad_listing(source, "it is not UTF-8") from error
    if lines.pop() != "" or not lines:
        raise _bad_listing(source, "it is empty or its last line is cut off")
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or _name_fault(match[2]) or any(p in ("", ".", "..") for p in match[2].split("/")):
            raise _bad_listing(source, f"line {number} is no '<sha256>  <relative name>'")
        entries.append(Entry(match[2], match[1]))
    names = [entry.name.encode() for entry in entries]
    if any(first >= second for first, second in zip(names, names[1:], strict=False)):
        raise _bad_listing(source, "its names are not sorted or not unique")
    if not _is_tree([entry.name for entry in entries]):
        raise _bad_listing(source, "its names are of no tree: a file is also a folder, or names differ only in case")
    return Listing(tuple(entries))


def require_same(expected: Listing, actual: Listing, artifact: str) -> None:
    """Refuse a tree that is not the expected one, naming the first file that differs.

    Raises:
        EvidenceInvalid: the digests differ; the message names the artifact, the files and both digests.
    """
    if expected.sha256 == actual.sha256:
        return
    raise EvidenceInvalid(
        f"{artifact}: the bytes are not those that were signed for.",
        evidence=f"{artifact} expected sha256:{expected.sha256}, found sha256:{actual.sha256}; "
        + "; ".join(_differences(expected, actual)),
        remedy="Do not use this artifact. Find out who changed it, then run the pipeline again from the raw data.",
        code=codes.BYTES,
    )


def _differences(expected: Listing, actual: Listing) -> list[str]:
    before = {entry.name: entry.sha256 for entry in expected.entries}
    after = {entry.name: entry.sha256 for entry in actual.entries}
    changed = [
        f"changed {name!r} (expected {before[name]}, found {after[name]})"
        for name in before
        if name in after and before[name] != after[name]
    ]
    removed = [f"missing {name!r}" for name in before if name not in after]
    added = [f"unexpected {name!r}" for name in after if name not in before]
    found = changed + removed + added
    return found[:3] + ([f"and {len(found) - 3} more"] if len(found) > 3 else [])


def _batches(files: Iterable[tuple[str, str, int]]) -> Iterator[list[tuple[str, str, int]]]:
    """Cut a tree into pieces of work: many small files, or a single large one."""
    batch: list[tuple[str, str, int]] = []
    work = 0
    for file in files:
        batch.append(file)
        work += _FILE + file[2]
        if work >= _BATCH:
            yield batch
            batch, work = [], 0
    if batch:
        yield batch


def _hash_files(files: Iterable[tuple[str, str, int]], md5: bool) -> list[Entry]:
    """Hash files one after the other through one buffer, without following a symbolic link."""
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    entries = []
    for name, path, _ in files:
        sha256, other, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False) if md5 else None, 0
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            while count := os.readv(descriptor, (buffer,)):
                size += count
                sha256.update(view[:count])
                if other:
                    other.update(view[:count])
        finally:
            os.close(descriptor)
        entries.append(Entry(name, sha256.hexdigest(), size, other.hexdigest() if other else None))
    return entries


def _empty(root: Path) -> InputRefused:
    return InputRefused(
        "The tree holds no file, so there is nothing to identify.",
        evidence=f"{root.name}/: 0 files",
        remedy="Check the step that should have written it.",
        code=codes.TREE_EMPTY,
    )


def _walk(root: Path) -> list[tuple[str, str, int]]:
    """Return (relative name, path, size) of every regular file below `root`, or refuse what is not one."""
    try:
        status = root.lstat()
    except FileNotFoundError as error:
        raise InputRefused(
            "The tree is not there.",
            evidence=f"{root.name!a} does not exist",
            remedy="Check the step that should have written it.",
            code=codes.TREE_MISSING,
        ) from error
    if stat.S_ISREG(status.st_mode):
        return [(_checked(root.name), str(root), status.st_size)]
    if not stat.S_ISDIR(status.st_mode):
        raise _not_regular(root.name)
    found: list[tuple[str, str, int]] = []
    pending = [(str(root), "")]
    while pending:
        folder, prefix = pending.pop()
        with os.scandir(folder) as scan:
            children = list(scan)
            if not children and prefix:
                raise _not_regular(prefix)  # no listing can bind an empty folder
            twins = _twins(child.name for child in children)
            if twins:
                raise InputRefused(
                    "Two names of the tree differ only in case.",
                    evidence=f"{prefix + twins[0]!a} and {prefix + twins[1]!a}",
                    remedy="Rename one of them: a store that ignores case would keep only one.",
                    code=codes.NAME_TWINS,
                )
            for child in children:
                name = _checked(prefix + child.name)
                if child.is_dir(follow_symlinks=False):
                    pending.append((child.path, f"{name}/"))
                elif child.is_file(follow_symlinks=False):
                    found.append((name, child.path, child.stat(follow_symlinks=False).st_size))
                else:  # also every symbolic link
                    raise _not_regular(name)
    return found


def _name_fault(name: str) -> str | None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if _FORBIDDEN.search(name):
        return "it holds a control character or a backslash"
    if not unicodedata.is_normalized("NFC", name):
        return "it is not in Unicode normal form C, so another file system may rename it"
    return None


def _twins(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two different names that a store which ignores case would merge."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            return first, name
    return None


def _is_tree(names: list[str]) -> bool:
    """Tell whether some tree has exactly these files."""
    folders = {name[: match.start()] for name in names for match in re.finditer("/", name)}
    return folders.isdisjoint(names) and _twins([*folders, *names]) is None


def _checked(name: str) -> str:
    fault = _name_fault(name)
    if fault:
        raise InputRefused(
            "A file name cannot be listed safely.",
            evidence=f"{name!a}: {fault}",
            remedy="Rename the file.",
            code=codes.NAME_UNSAFE,
        )
    return name


def _not_regular(name: str) -> InputRefused:
    return InputRefused(
        "The tree holds a symbolic link, a special file or an empty folder; no listing can bind these.",
        evidence=f"{name!a} is not a regular file or a folder with files",
        remedy="Replace a link with a copy of the file that it points to; remove the rest.",
        code=codes.NOT_LISTABLE,
    )


def _bad_listing(source: str, why: str) -> EvidenceInvalid:
    return EvidenceInvalid(
        "A SHA256SUMS listing is malformed.",
        evidence=f"{source}: {why}",
        remedy="Use the listing that was written with the evidence; a different one cannot be trusted.",
        code=codes.LISTING,
    )
