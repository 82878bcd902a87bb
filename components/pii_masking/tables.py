"""Reading Parquet and CSV in chunks, and writing Parquet whose bytes depend on the rows alone.

Memory is bounded by the chunk (rows) and by the block of a CSV file, whatever the size of the files.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from kfp_custody.components._shared.errors import InputRefused

NAME = "data.parquet"
ROW_GROUP = 65_536
_CSV_BLOCK = 8 << 20
_ARROW_TYPES = {
    "string": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}
_PLAIN: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_timestamp,
)


@dataclass(frozen=True)
class Source:
    """One or more files with the same columns; `schema` holds plain types and no metadata.

    `spans`: the rows of each file that are read; none given, all of them are.
    """

    files: tuple[Path, ...]
    schema: pa.Schema
    types: dict[str, str]
    spans: tuple[range, ...] = ()

    def count(self) -> tuple[int, ...]:
        """Return how many rows each file has: Parquet says so, CSV is read through.

        Raises:
            InputRefused: a CSV file breaks off, or a value does not have its column's type.
        """
        counts = []
        for path in self.files:
            with _refusing(path):
                counts.append(_count(path, self.types))
        return tuple(counts)

    def part(self, counts: Sequence[int], first: int, end: int) -> "Source":
        """Return a source of some rows only.

        Args:
            counts: what `count` said.
            first: number of the first row, over all files.
            end: number of the row after the last one.
        """
        starts = [sum(counts[:number]) for number in range(len(counts))]
        spans = tuple(
            range(min(max(first - start, 0), count), max(min(end - start, count), 0))
            for start, count in zip(starts, counts, strict=True)
        )
        return replace(self, spans=spans)

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """Yield tables of at most `rows` rows, in the order of the files' names.

        Raises:
            InputRefused: a file breaks off, or a value does not have its column's type.
        """
        for path, span in zip_longest(self.files, self.spans):
            with _refusing(path), closing(_batches(path, self.types, rows, span)) as batches:
                for batch in batches:
                    yield pa.Table.from_batches([batch]).cast(self.schema).combine_chunks()


def open_source(root: Path, types: dict[str, str]) -> Source:
    """Open a Parquet or CSV file, or a directory of one of the two.

    Args:
        root: the file or directory.
        types: declared types of columns; CSV columns that are not named here get the type of their first block.

    Raises:
        InputRefused: no such file, both formats, an unknown one, an empty or unreadable file, columns of nested or
            binary types, or files whose columns differ.
    """
    files = tuple(sorted((path for path in root.rglob("*") if path.is_file()), key=str)) if root.is_dir() else (root,)
    if len({is_parquet(path) for path in files}) != 1:
        raise _refused(root, "it holds both Parquet and CSV files, or none")
    schemas = [_schema(path, types) for path in files]
    for path, schema in zip(files, schemas, strict=True):
        if schema.names != schemas[0].names:
            raise _refused(path, f"its columns are not those of {files[0].name}")
        different = [a.name for a, b in zip(schema, schemas[0], strict=True) if a.type != b.type]
        if different:
            raise _refused(path, f"types differ from {files[0].name} in {', '.join(map(repr, different))}")
    return Source(files, schemas[0], types)


def is_parquet(path: Path) -> bool:
    """Tell Parquet from CSV by the name, and a file without a suffix (as KFP stores artifacts) by its first bytes.

    Raises:
        InputRefused: another suffix, or an empty file.
    """
    with open(path, "rb") as file:
        magic = file.read(4)
    if not magic:
        raise _refused(path, "the file has no bytes")
    if path.suffix not in (".parquet", ".csv", ""):
        raise _refused(path, f"files named {path.suffix!r} are not read")
    return path.suffix == ".parquet" or (path.suffix == "" and magic == b"PAR1")


class ParquetSink(AbstractContextManager["ParquetSink"]):
    """A Parquet file with row groups of fixed size and no metadata but the columns' names and types."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Open the file for writing."""
        self._schema = schema
        # store_schema=False leaves out Arrow's own copy of the schema, which could carry foreign metadata.
        self._writer = pq.ParquetWriter(
            path, schema, version="2.6", compression="zstd", compression_level=3, store_schema=False
        )
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows; full row groups are written at once."""
        self._waiting.append(table)
        self._rows += table.num_rows
        while self._rows >= ROW_GROUP:
            self._flush(ROW_GROUP)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the last row group and close the file."""
        try:
            if kind is None and self._rows:
                self._flush(self._rows)
        finally:
            self._writer.close()

    def _flush(self, rows: int) -> None:
        # One contiguous piece: the pages of a row group would otherwise follow the borders of the chunks.
        table = pa.concat_tables(self._waiting)
        self._writer.write_table(table.slice(0, rows).combine_chunks(), row_group_size=ROW_GROUP)
        rest = table.slice(rows)
        self._waiting = [rest] if rest.num_rows else []
        self._rows = rest.num_rows


class _refusing(AbstractContextManager[None]):  # noqa: N801  (used like a function)
    """Turn Arrow's errors into refusals; their text may quote a cell, so it is withheld."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, pa.ArrowException | UnicodeDecodeError) or (type(error) is OSError and not error.errno):
            raise _refused(self._path, _explain(error)) from None


def _schema(path: Path, types: dict[str, str]) -> pa.Schema:
    with _refusing(path):
        if is_parquet(path):
            with pq.ParquetFile(path) as file:
                given = file.schema_arrow
        else:
            with _open_csv(path, types) as reader:
                given = reader.schema
        schema, nested = plain_schema(given)
    if nested or not schema.names:
        named = ", ".join(map(repr, nested)) if is_parquet(path) else f"{len(nested)} columns"
        raise _refused(path, f"no text, number, boolean, date or timestamp (or not one value yet): {named}")
    return schema


def plain_schema(given: pa.Schema) -> tuple[pa.Schema, list[str]]:
    """Return a schema without dictionaries and metadata, and the names of columns of types that are not masked."""
    plain = pa.schema([pa.field(field.name, _plain(field.type)) for field in given])
    return plain, [field.name for field in plain if not any(test(field.type) for test in _PLAIN)]


def _plain(given: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(given):
        given = given.value_type
    return pa.string() if pa.types.is_large_string(given) or pa.types.is_string_view(given) else given


def _count(path: Path, types: dict[str, str]) -> int:
    if is_parquet(path):
        with pq.ParquetFile(path) as file:
            # Of what is read: the total in the file's footer is only a claim.
            return sum(file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups))
    with _open_csv(path, types) as reader:
        return sum(batch.num_rows for batch in reader)


def _batches(
    path: Path, types: dict[str, str], rows: int, span: range | None = None
) -> Generator[pa.RecordBatch, None, None]:
    if is_parquet(path):
        # Buffered reading without prefetch: a row group is never in memory as a whole.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            if span is None:
                yield from file.iter_batches(rows)
            else:
                groups, before = _row_groups(file.metadata, span)
                yield from _within(
                    file.iter_batches(rows, row_groups=groups), range(span.start - before, span.stop - before)
                )
        return
    with _open_csv(path, types) as reader:
        for batch in reader if span is None else _within(reader, span):
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


def _row_groups(metadata: pq.FileMetaData, span: range) -> tuple[list[int], int]:
    """Return the row groups that hold some rows, and how many rows are before the first of them."""
    groups, before, start = [], 0, 0
    for number in range(metadata.num_row_groups):
        end = start + metadata.row_group(number).num_rows
        if end <= span.start:
            before = end
        elif start < span.stop:
            groups.append(number)
        start = end
    return groups, before


def _within(batches: Iterable[pa.RecordBatch], span: range) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a span; what comes after it is not read."""
    start = 0
    for batch in batches if span else ():
        first, end = max(span.start - start, 0), min(span.stop - start, batch.num_rows)
        if first < end:
            yield batch.slice(first, end - first)
        start += batch.num_rows
        if start >= span.stop:
            return


def _open_csv(path: Path, types: dict[str, str]) -> csv.CSVStreamingReader:
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=_CSV_BLOCK),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={name: _ARROW_TYPES[kind] for name, kind in types.items()},
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _explain(error: BaseException | None) -> str:
    text = str(error)
    if "UTF8" in text or isinstance(error, UnicodeDecodeError):
        return "the text is not UTF-8"
    if "onversion error" in text or "CSV column" in text:
        return "a value does not have the type of its column (mixed types)"
    if "Expected" in text and "columns" in text:
        return "a row has more or fewer cells than the header"
    return f"it cannot be read as {'Parquet or ' if 'arquet' in text else ''}CSV ({type(error).__name__})"


def _refused(path: Path, why: str) -> InputRefused:
    return InputRefused(
        "The raw data cannot be read.",
        evidence=f"{path.name}: {why}",
        remedy="Provide Parquet, or CSV in UTF-8 with a header and one type a column (declare it in the policy).",
    )
