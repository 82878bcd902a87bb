"""Which format bytes are of, by the bytes alone: names and extensions are chosen by whoever wrote the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from kfp_custody.components.model_scanning.allowing import Allowed
from kfp_custody.components.model_scanning.archives import (
    DECOMPRESSORS,
    Room,
    has_zip_end,
    is_tar,
    tar_members,
    zip_members,
)
from kfp_custody.components.model_scanning.arrays import NPY, is_safetensors, read_npy, read_safetensors
from kfp_custody.components.model_scanning.boosters import json_of, read_json, read_ubj
from kfp_custody.components.model_scanning.configurations import keras_reading
from kfp_custody.components.model_scanning.onnx import read_onnx
from kfp_custody.components.model_scanning.packages import package_members
from kfp_custody.components.model_scanning.pickles import OPCODES, read_pickle, runs_as_pickle
from kfp_custody.components.model_scanning.reading import Blocked, Denied, Member, Reading, View

PASSED, WARNED, FAILED = "PASSED", "WARNED", "FAILED"
_STARTS: Final = (
    (b"PK\3\4", "zip"),
    (b"PK\5\6", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"]\0\0", "lzma"),
    (NPY, "npy"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
)
_UNREAD: Final = ("lz4", "zstd", "hdf5", "7z")
_SPACE = b" \t\r\n"


@dataclass(frozen=True)
class Item:
    """What was found in one file, or one member of an archive (`outer!inner`).

    `is_unread`: it failed because it could not be read to its end, and not for what it says.
    """

    name: str
    format: str
    verdict: str
    finding: str
    is_unread: bool = False


def format_of(data: View) -> str:
    """Return the format that the bytes say; "" when it is none that is known."""
    if is_tar(data):
        return "tar"
    start = bytes(data[:8])
    for magic, name in _STARTS:
        if start.startswith(magic):
            return name
    if is_safetensors(data):
        return "safetensors"
    if start[:1] == b"{":
        return "json" if start[1:2] in (b'"', b"}") or start[1:2].strip(_SPACE) == b"" else "ubj"
    if len(start) > 1 and start[0] == 0x78 and not (start[0] << 8 | start[1]) % 31:
        return "zlib"
    if start[:1] and start[0] in OPCODES:
        return "pickle"
    return "onnx" if start[:1] == b"\x08" else ""


class Scanner:
    """A scan of a model: one allow-list, and one account of what its archives may unpack to."""

    def __init__(self, allowed: Allowed, scratch: Path) -> None:
        """Unpack below `scratch`, within the limits of the allow-list."""
        self.allowed = allowed
        self.room = Room(scratch, allowed.limits.members, allowed.limits.expanded)

    def scan(self, data: View, name: str, expected: str = "", depth: int = 0) -> Iterator[Item]:
        """Yield what is found in a file: itself, then what is in it. It never raises for what the bytes are.

        Args:
            data: The file.
            name: What the items are called.
            expected: The only format that its archive can read it in; "" for any.
            depth: How many archives it is in.
        """
        found = expected if expected in _BY_PLACE else format_of(data)
        try:
            reading = self._read(data, found, expected, depth)
            # Members are taken one at a time, so that no more than one lies unpacked.
            inside: list[Item] = []
            for member in reading.members:
                inside += self.scan(member.take(), f"{name}!{member.name}", member.format, depth + 1)
        except Blocked as why:
            yield Item(name, found or "unknown", FAILED, str(why), not isinstance(why, Denied))
            return
        worst = max((item.verdict for item in inside), key=(PASSED, WARNED, FAILED).index, default=PASSED)
        own = WARNED if reading.warning else PASSED
        if worst == FAILED:
            yield Item(name, reading.format, FAILED, "something in it is blocked")
        else:
            yield Item(name, reading.format, own, "; ".join(filter(None, (reading.warning, reading.detail))))
        yield from inside

    def _read(self, data: View, found: str, expected: str, depth: int) -> Reading:
        if depth > self.allowed.limits.depth:
            raise Blocked("archives are nested deeper than the limit")
        if expected in _BY_PLACE:
            return _BY_PLACE[expected](data, self.allowed)
        if not len(data):
            raise Blocked("it is empty")
        if not found:
            raise Blocked("it is of no known format")
        if found in _UNREAD:
            raise Blocked(f"{found} is not read")
        if expected and found != expected:
            raise Blocked(f"it stands where only {expected} may stand")
        if found != "zip" and has_zip_end(data):
            raise Blocked("it is a zip as well to a reader that looks from the end")
        if found != "pickle" and runs_as_pickle(data, self.allowed):
            raise Blocked("it runs as a pickle as well")
        if found != "tar" and is_tar(data):
            raise Blocked("it is a tar as well")
        if found == "zip":
            return package_members(zip_members(data, self.room), self.allowed)
        if found == "tar":
            return Reading("tar", members=tar_members(data, self.room))
        if found in DECOMPRESSORS:
            return Reading(found, members=self._unpacked(data, found))
        return _READERS[found](data, self.allowed)

    def _unpacked(self, data: View, found: str) -> Iterator[Member]:
        self.room.take_member()
        yield Member("content", partial(self.room.unpack, data, DECOMPRESSORS[found]()))


def _json(data: View, allowed: Allowed) -> Reading:
    document = json_of(data)
    return keras_reading(document) if isinstance(document, dict) and "class_name" in document else read_json(data)


def _short_text(data: View, allowed: Allowed) -> Reading:
    if len(data) > 200 or not bytes(data).isascii():
        raise Blocked("it is no short text")
    return Reading("text")


def _raw(data: View, allowed: Allowed) -> Reading:
    return Reading("bytes", f"{len(data)} bytes that are only kept as bytes")


def _keras_notes(data: View, allowed: Allowed) -> Reading:
    document = json_of(data)
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise Blocked("it is no table of texts")
    return Reading("json")


def _storages(data: View, allowed: Allowed) -> Reading:
    return replace(read_pickle(data, allowed, storages=True), format="torch")


def _schema(data: View, allowed: Allowed) -> Reading:
    return Reading("skops-schema", "every type is on the allow-list")


_Reader = Callable[[View, Allowed], Reading]
_READERS: Final[dict[str, _Reader]] = {
    "npy": read_npy,
    "safetensors": lambda data, _: read_safetensors(data),
    "json": _json,
    "ubj": lambda data, _: read_ubj(data),
    "pickle": read_pickle,
    "onnx": read_onnx,
}
_BY_PLACE: Final[dict[str, _Reader]] = {
    "bytes": _raw,
    "text": _short_text,
    "torch-pickle": _storages,
    "keras-notes": _keras_notes,
    "skops-schema": _schema,
}
