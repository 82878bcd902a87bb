"""What the Parquet files of a dataset say about themselves: rows, columns, and the schema.

What the files look like (inode, size, times) is noted before the tree is hashed, and the footers are believed only when
they look the same before and after they are read; so they are of the bytes that were hashed, and the data is not read a
second time. Files are opened one at a time: a dataset may have more of them than a process may hold open.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused

_END = 8  # bytes: the footer's length in four, and PAR1


@dataclass(frozen=True)
class TableFacts:
    """Rows over all Parquet files, and their one schema as (name, type, whether it may hold nulls)."""

    rows: int
    columns: tuple[tuple[str, str, bool], ...]

    @property
    def schema(self) -> bytes:
        """The schema as canonical JSON: what its digest is of."""
        named = [{"name": name, "type": kind, "nullable": nullable} for name, kind, nullable in self.columns]
        return canonical_json({"version": 1, "columns": named})

    @property
    def schema_sha256(self) -> str:
        """SHA-256 (hex) of `schema`."""
        return sha256_bytes(self.schema)


class WatchedTables:
    """The Parquet files of a tree that is about to be hashed; what is no plain file, the listing refuses."""

    def __init__(self, root: Path) -> None:
        """Remember what the files look like now."""
        self._looks = {
            path: (path.name if path == root else str(path.relative_to(root)), _look(os.lstat(path)))
            for path in sorted([root] if root.is_file() else root.rglob("*"))
            if path.suffix == ".parquet" and path.is_file() and not path.is_symlink()
        }

    def facts(self) -> TableFacts | None:
        """Return what the footers say, None for a dataset without Parquet files.

        Raises:
            InputRefused: a file is no Parquet, or the files differ in their columns.
            EvidenceInvalid: a file was touched since it was first looked at.
        """
        if not self._looks:
            return None
        read = {name: _unchanged_footer(path, name, look) for path, (name, look) in self._looks.items()}
        first = next(iter(read.values())).columns
        for name, found in read.items():
            if found.columns != first:
                raise _unreadable(name, f"its columns are not those of {next(iter(read))!a}")
        return TableFacts(sum(found.rows for found in read.values()), first)


def _unchanged_footer(path: Path, name: str, look: tuple[int, ...]) -> TableFacts:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
            before = _look(os.fstat(file.fileno()))
            found = _footer(name, file) if before == look else None
            if found and _look(os.fstat(file.fileno())) == look:
                return found
    except FileNotFoundError:
        pass  # like one that was replaced
    raise EvidenceInvalid(
        "The dataset changed while it was attested.",
        evidence=f"{name!a} was written to or replaced",
        remedy="Find out who writes there, then run the pipeline again from the raw data.",
        code=codes.BYTES,
    )


def _look(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written to, replaced or renamed; no program can set the time of change."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _footer(name: str, file: IO[bytes]) -> TableFacts:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(_tail(file))) as parquet:
            metadata: Any = parquet.metadata
            # Of the row groups: the total in the footer is one more claim that nobody reads by.
            rows = sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
            columns = tuple((field.name, str(field.type), field.nullable) for field in parquet.schema_arrow)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(name, f"it is not readable as Parquet ({type(error).__name__})") from None
    return TableFacts(rows, columns)


def _tail(file: IO[bytes]) -> bytes:
    """Read the footer, its length and the magic number behind it, and nothing else: Arrow would read 64 KiB.

    Source: https://parquet.apache.org/docs/file-format/
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _END, 0))
    length = int.from_bytes(file.read(_END)[:4], "little")
    if length + _END > size:
        raise ValueError("no Parquet: the footer would be longer than the file")
    file.seek(size - _END - length)
    return file.read()


def _unreadable(name: str, why: str) -> InputRefused:
    return InputRefused(
        "A table of the dataset cannot be described.",
        evidence=f"{name!a}: {why}",
        remedy="Attest the dataset as mask_pii wrote it.",
    )
