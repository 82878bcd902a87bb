"""Looking for secrets in files, in whatever form they were written: encoded, compressed, in a database or a table."""

import base64
import binascii
import bz2
import gzip
import io
import lzma
import re
import sqlite3
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote_from_bytes

import pyarrow as pa
import pyarrow.parquet as pq

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{64,}={0,2}")
_DEEPEST = 4


def forms(secret: bytes) -> dict[str, bytes]:
    """Return the ways in which a secret may be written: name -> bytes."""
    text = secret.decode("latin-1")
    found = {
        "plain": secret,
        "upper case": secret.upper(),
        "lower case": secret.lower(),
        "reversed": secret[::-1],
        "hex": secret.hex().encode(),
        "upper-case hex": secret.hex().upper().encode(),
        "bytes literal": repr(secret)[2:-1].encode(),
        "URL": quote_from_bytes(secret, safe="").encode(),
        "every byte as URL": "".join(f"%{byte:02X}" for byte in secret).encode(),
        "UTF-16 LE": text.encode("utf-16-le"),
        "UTF-16 BE": text.encode("utf-16-be"),
        "base32": base64.b32encode(secret).rstrip(b"="),
    }
    for offset in range(3):
        # Of the groups of three bytes only those that hold nothing but the secret.
        first, last = -(-offset * 8 // 6), (offset + len(secret)) * 8 // 6
        for name, encode in (("base64", base64.b64encode), ("URL-safe base64", base64.urlsafe_b64encode)):
            found[f"{name} at {offset}"] = encode(b"\0" * offset + secret)[first:last]
    return found


class Tracer:
    """Knows some secrets, and finds them in bytes and folders."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        """Prepare the forms of every secret: name -> value of 12 bytes or more."""
        assert all(len(value) >= 12 for value in secrets.values())
        self.needles: dict[bytes, str] = {}
        for name, secret in secrets.items():
            for form, needle in forms(secret).items():
                self.needles.setdefault(needle, f"{name} ({form})")

    def in_bytes(self, data: bytes) -> set[str]:
        """Return what is found in some bytes and in what they contain."""
        return {name for part in contents(data) for needle, name in self.needles.items() if needle in part}

    def in_folder(self, folder: Path) -> dict[str, set[str]]:
        """Return what is found in the names and contents of all files: file -> secrets."""
        found: dict[str, set[str]] = {}
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            traces = self.in_bytes(name.encode())
            if path.is_symlink():
                traces |= self.in_bytes(str(path.readlink()).encode())
            elif path.is_file():
                traces |= self.in_bytes(path.read_bytes())
            if traces:
                found[name] = traces
        return found


def contents(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield some bytes, and the bytes in them when they are a container of a known kind."""
    yield data
    if depth < _DEEPEST:
        for part in _opened(data):
            yield from contents(part, depth + 1)


def _opened(data: bytes) -> Iterator[bytes]:
    if data.startswith(b"\x1f\x8b"):
        yield gzip.decompress(data)
    elif data.startswith(b"BZh"):
        yield bz2.decompress(data)
    elif data.startswith(b"\xfd7zXZ"):
        yield lzma.decompress(data)
    elif data[:1] == b"\x78" and data[1:2] in b"\x01\x5e\x9c\xda":
        try:
            yield zlib.decompress(data)
        except zlib.error:
            return
    elif data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                yield member.name.encode()
                if file := archive.extractfile(member):
                    yield file.read()
    elif data.startswith(b"SQLite format 3\0"):
        yield from _rows(data)
    elif data.startswith(b"PAR1"):
        yield from _columns(data)
    else:
        for match in _BASE64.finditer(data[:8_000_000]):
            run = match[0].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
            try:
                yield base64.b64decode(run + b"=" * (-len(run) % 4))
            except binascii.Error:
                continue


def _rows(data: bytes) -> Iterator[bytes]:
    """Yield every cell that holds text or bytes: long ones lie scattered over pages of the file."""
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(data)
        copy.flush()
        connection = sqlite3.connect(f"file:{copy.name}?immutable=1", uri=True)
        connection.text_factory = bytes
        try:
            tables = [
                row[0].decode() for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            ]
            for table in tables:
                for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608
                    yield from (cell for cell in row if isinstance(cell, bytes))
        finally:
            connection.close()


def _columns(data: bytes) -> Iterator[bytes]:
    table = pq.read_table(pa.BufferReader(data))
    yield str(table.schema.metadata).encode() + str(table.schema).encode()
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            yield "\n".join(value for value in column.unique().to_pylist() if value is not None).encode()
        elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            yield b"\n".join(value for value in column.unique().to_pylist() if value is not None)
