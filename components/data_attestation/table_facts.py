"""What the Parquet files of a dataset say about themselves: rows, columns, and the schema.

The footers are read from descriptors that were opened before the tree was hashed, and are believed only when the files
were not touched from then on; so they are of the bytes that were hashed, and the data is not read a second time.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused


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


class OpenedTables:
    """The Parquet files of a dataset, held open while it is hashed."""

    def __init__(self, files: Mapping[str, IO[bytes]]) -> None:
        """Remember what the files look like now."""
        self._files = files
        self._before = {name: _look(file) for name, file in files.items()}

    def facts(self) -> TableFacts | None:
        """Return what the footers say, None for a dataset without Parquet files.

        Raises:
            InputRefused: a file is no Parquet, or the files differ in their columns.
            EvidenceInvalid: a file was touched since it was opened.
        """
        if not self._files:
            return None
        read = {name: _footer(name, file) for name, file in self._files.items()}
        touched = [name for name, file in self._files.items() if _look(file) != self._before[name]]
        if touched:
            raise EvidenceInvalid(
                "The dataset changed while it was attested.",
                evidence=f"{touched[0]!a} was written to or replaced",
                remedy="Find out who writes there, then run the pipeline again from the raw data.",
                code=codes.BYTES,
            )
        first = next(iter(read.values())).columns
        for name, found in read.items():
            if found.columns != first:
                raise _unreadable(name, f"its columns are not those of {next(iter(read))!a}")
        return TableFacts(sum(found.rows for found in read.values()), first)


@contextmanager
def open_tables(root: Path) -> Iterator[OpenedTables]:
    """Open the Parquet files of a tree that is about to be listed; what cannot be opened, the listing refuses."""
    with ExitStack() as stack:
        files = {}
        for path in sorted([root] if root.is_file() else root.rglob("*")):
            if path.suffix == ".parquet" and path.is_file() and not path.is_symlink():
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                files[path.name if path == root else str(path.relative_to(root))] = stack.enter_context(
                    open(descriptor, "rb")
                )
        yield OpenedTables(files)


def _look(file: IO[bytes]) -> tuple[int, ...]:
    """Return what changes when a file is written to or loses its name; no program can set the time of change."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _footer(name: str, file: IO[bytes]) -> TableFacts:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            metadata: Any = parquet.metadata
            # Of the row groups: the total in the footer is one more claim that nobody reads by.
            rows = sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
            columns = tuple((field.name, str(field.type), field.nullable) for field in parquet.schema_arrow)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(name, f"it is not readable as Parquet ({type(error).__name__})") from None
    return TableFacts(rows, columns)


def _unreadable(name: str, why: str) -> InputRefused:
    return InputRefused(
        "A table of the dataset cannot be described.",
        evidence=f"{name!a}: {why}",
        remedy="Attest the dataset as mask_pii wrote it.",
    )
