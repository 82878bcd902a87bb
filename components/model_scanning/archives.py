"""Archives and compressed files, opened strictly: what two programs could read differently is blocked.

A zip must be nothing but its members, one after the other, then its directory, then its end: no byte before, between
or after, every local header like its entry of the directory, every checksum right. A tar holds regular files and
folders under plain names. Compressed data is unpacked into a file without a name, up to the limit of the whole scan.
"""

import bz2
import lzma
import stat
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any, Final

from kfp_custody.components.model_scanning.reading import Blocked, Member, View, plain_name, window

_BLOCK = 1 << 20
_XZ_MEMORY = 256 << 20
_END, _ENTRY, _LOCAL, _END64, _LOCATOR = (
    struct.Struct("<4s4H2IH"),
    struct.Struct("<4s6H3I5H2I"),
    struct.Struct("<4s5H3I2H"),
    struct.Struct("<4sQ2H2I4Q"),
    struct.Struct("<4sIQI"),
)
_ENCRYPTED, _DESCRIPTOR, _KNOWN_FLAGS = 0x1, 0x8, 0x80E
_STORED, _DEFLATED = 0, 8
_UNICODE_NAME = 0x7075
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_TAR_BLOCK = 512
_PAX_HARMLESS = {b"mtime", b"atime", b"ctime", b"uname", b"gname", b"uid", b"gid", b"comment"}


class Room:
    """What unpacking may take: members, and bytes on the disk, of all archives of a scan together."""

    def __init__(self, scratch: Path, members: int, expanded: int) -> None:
        """Keep the limits; unpacked data lies below `scratch`."""
        self.scratch, self.members, self.expanded = scratch, members, expanded

    def take_member(self) -> None:
        """Count a member.

        Raises:
            Blocked: there are too many.
        """
        self.members -= 1
        if self.members < 0:
            raise Blocked("the archives have more members than the limit")

    def unpack(self, source: View, machine: Any, size: int | None = None) -> View:
        """Return what a decompressor of the standard library makes of data, mapped from a file without a name.

        Args:
            source: Compressed data, all of which must be used.
            machine: The decompressor.
            size: What must come out; None: anything up to the limit.

        Raises:
            Blocked: the data is damaged, ends early, goes on after its end, or grows beyond the limit.
        """
        with tempfile.TemporaryFile(dir=self.scratch) as file:
            at, written = 0, 0
            while not machine.eof:
                piece = bytes(source[at : at + _BLOCK]) if _needs_input(machine) else _rest(machine)
                at += len(piece) if _needs_input(machine) else 0
                try:
                    out = machine.decompress(piece, _BLOCK)
                except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError) as error:
                    raise Blocked("its compressed data is damaged") from error
                self._write(file, out)
                written += len(out)
                if not machine.eof and not out and at >= len(source) and not _rest(machine):
                    raise Blocked("its compressed data ends early")
            if machine.unused_data or at < len(source):
                raise Blocked("something comes after its compressed data")
            if size is not None and written != size:
                raise Blocked("a member has another size than its archive says")
            file.flush()
            if written > _BLOCK:
                return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
            file.seek(0)
            return memoryview(file.read())

    def _write(self, file: IO[bytes], out: bytes) -> None:
        self.expanded -= len(out)
        if self.expanded < 0:
            raise Blocked("it unpacks to more bytes than the limit")
        file.write(out)


def _needs_input(machine: Any) -> bool:
    """Tell whether a decompressor wants more: zlib keeps what it did not take, the others keep it inside."""
    return not machine.unconsumed_tail if hasattr(machine, "unconsumed_tail") else bool(machine.needs_input)


def _rest(machine: Any) -> bytes:
    return bytes(getattr(machine, "unconsumed_tail", b""))


DECOMPRESSORS: Final[dict[str, Callable[[], Any]]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "zlib": lambda: zlib.decompressobj(15),
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_XZ_MEMORY),
}


# --- zip --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A member as the directory of a zip has it; `start` and `end` are of its data."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    start: int = 0

    @property
    def end(self) -> int:
        """Where its data ends."""
        return self.start + self.packed


def has_zip_end(data: View) -> bool:
    """Tell whether a reader of zips, which looks from the end, would find an archive in these bytes."""
    start = max(len(data) - _END.size - _FULL16, 0)
    tail = bytes(data[start:])
    at = tail.rfind(b"PK\5\6")
    while at >= 0:
        if at + _END.size <= len(tail):
            size = _END.unpack_from(tail, at)[5]
            directory = start + at - size
            if size == 0 or (directory >= 0 and bytes(data[directory : directory + 4]) == b"PK\1\2"):
                return True
        at = tail.rfind(b"PK\5\6", 0, at)
    return False


def zip_members(data: View, room: Room) -> Iterator[Member]:
    """Yield the files of a zip.

    Raises:
        Blocked: it is encrypted, damaged, or of a form that two readers could read differently.
    """
    entries, directory = _directory(data)
    names = [entry.name.casefold() for entry in entries]
    if len(set(names)) != len(names):
        raise Blocked("it has two members of one name")
    at = 0
    placed = []
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset != at:
            raise Blocked("it has bytes that belong to no member, or members that overlap")
        found = _located(data, entry)
        placed.append(found)
        at = found.end + _descriptor_size(data, found, directory)
    if at != directory:
        raise Blocked("it has bytes between its members and its directory")
    for entry in placed:
        room.take_member()
        if not entry.name.endswith("/"):
            yield Member(entry.name, partial(_content, data, entry, room))
        elif entry.size:
            raise Blocked("a folder has content")


def _directory(data: View) -> tuple[list[Entry], int]:
    """Return the entries of the directory and where it starts."""
    end = len(data) - _END.size
    sign, disk, first, here, count, size, offset, comment = _END.unpack(window(data, end, len(data)))
    if sign != b"PK\5\6" or comment:
        raise Blocked("it does not end with the end of its directory")
    if (disk, first) != (0, 0) or here != count:
        raise Blocked("it is a part of several")
    if count == _FULL16 or size == _FULL32 or offset == _FULL32:
        end, count, size, offset = _directory64(data, end)
    elif bytes(data[max(end - _LOCATOR.size, 0) : end][:4]) == b"PK\6\7":
        raise Blocked("it has two ends of its directory")
    if offset + size != end:
        raise Blocked("its directory is not where its end says")
    entries, at = [], offset
    for _ in range(count):
        entry, at = _entry(data, at)
        entries.append(entry)
    if at != end:
        raise Blocked("its directory has another size than it says")
    return entries, offset


def _directory64(data: View, end: int) -> tuple[int, int, int, int]:
    sign, disk, where, disks = _LOCATOR.unpack(window(data, end - _LOCATOR.size, end))
    if (sign, disk, disks) != (b"PK\6\7", 0, 1) or where + _END64.size != end - _LOCATOR.size:
        raise Blocked("its 64-bit directory is malformed")
    sign, length, _, _, disk, first, here, count, size, offset = _END64.unpack(window(data, where, where + _END64.size))
    if sign != b"PK\6\6" or length != _END64.size - 12 or disk or first or here != count:
        raise Blocked("its 64-bit directory is malformed")
    return where, count, size, offset


def _entry(data: View, at: int) -> tuple[Entry, int]:
    fields = _ENTRY.unpack(window(data, at, at + _ENTRY.size))
    sign, _, _, flags, method, _, _, crc, packed, size, names, extras, comment, disk, _, mode, offset = fields
    if sign != b"PK\1\2" or comment or disk:
        raise Blocked("an entry of its directory is malformed or has a comment")
    start = at + _ENTRY.size
    raw, extra = window(data, start, start + names), window(data, start + names, start + names + extras)
    _require_one_name(extra)
    size, packed, offset = _wide(extra, size, packed, offset)
    name = _name(raw)
    if flags & _ENCRYPTED:
        raise Blocked(f"{name} is encrypted")
    if flags & ~_KNOWN_FLAGS or method not in (_STORED, _DEFLATED):
        raise Blocked(f"{name} is packed in a way that is not read")
    kind = stat.S_IFMT(mode >> 16)
    if kind and kind != (stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
        raise Blocked(f"{name} is a link or no regular file")
    return Entry(name, flags, method, crc, packed, size, offset), start + names + extras


def _wide(extra: bytes, *values: int) -> list[int]:
    """Replace sizes and an offset that did not fit by those of the 64-bit field."""
    if _FULL32 not in values:
        return list(values)
    at = 0
    while at + 4 <= len(extra):
        number, length = struct.unpack_from("<HH", extra, at)
        if number == 1:
            wanted = values.count(_FULL32)
            if length < 8 * wanted or at + 4 + 8 * wanted > len(extra):
                break
            wide = list(struct.unpack_from(f"<{wanted}Q", extra, at + 4))
            return [wide.pop(0) if value == _FULL32 else value for value in values]
        at += 4 + length
    raise Blocked("a 64-bit size is missing")


def _require_one_name(extra: bytes) -> None:
    """Block fields that give a member another name, which some readers go by."""
    at = 0
    while at + 4 <= len(extra):
        number, length = struct.unpack_from("<HH", extra, at)
        if number == _UNICODE_NAME:
            raise Blocked("a member has another name in Unicode")
        at += 4 + length


def _name(raw: bytes) -> str:
    name = raw.decode("ascii", "replace")
    if not plain_name(name):
        raise Blocked(f"a member's name leads out of the archive or cannot be shown: {raw[:80]!a}")
    return name


def _located(data: View, entry: Entry) -> Entry:
    """Return the entry with the place of its data, when its local header says the same as the directory."""
    fields = _LOCAL.unpack(window(data, entry.offset, entry.offset + _LOCAL.size))
    sign, _, flags, method, _, _, crc, packed, size, names, extras = fields
    start = entry.offset + _LOCAL.size
    raw, extra = window(data, start, start + names), window(data, start + names, start + names + extras)
    if sign != b"PK\3\4" or raw != entry.name.encode() or (flags, method) != (entry.flags, entry.method):
        raise Blocked(f"{entry.name} has another name or form in its own header than in the directory")
    _require_one_name(extra)
    later = bool(flags & _DESCRIPTOR)
    if not (later and (crc, packed, size) == (0, 0, 0)):
        if _FULL32 in (packed, size):
            size, packed = _wide(extra, size, packed)
        if (packed, size) != (entry.packed, entry.size) and not (later and (packed, size) == (0, 0)):
            raise Blocked(f"{entry.name} has another size in its own header than in the directory")
        if crc != entry.crc and not (later and crc == 0):
            raise Blocked(f"{entry.name} has another checksum in its own header than in the directory")
    placed = replace(entry, start=start + names + extras)
    if placed.end > len(data) or (entry.method == _STORED and entry.packed != entry.size):
        raise Blocked(f"{entry.name} ends after the archive, or has two sizes")
    return placed


def _descriptor_size(data: View, entry: Entry, directory: int) -> int:
    """Return the size of what repeats sizes and checksum after the data, 0 when there is none."""
    if not entry.flags & _DESCRIPTOR:
        return 0
    for form in ("<2I", "<2Q"):
        sizes = struct.pack("<I", entry.crc) + _packed_sizes(form, entry)
        for text in (b"PK\7\10" + sizes, sizes):
            end = entry.end + len(text)
            if end <= directory and bytes(data[entry.end : end]) == text and _starts_next(data, end, directory):
                return len(text)
    raise Blocked(f"{entry.name} has no sizes after its data")


def _packed_sizes(form: str, entry: Entry) -> bytes:
    limit = _FULL32 if form == "<2I" else 1 << 63
    return struct.pack(form, min(entry.packed, limit), min(entry.size, limit))


def _starts_next(data: View, at: int, directory: int) -> bool:
    return at == directory or bytes(data[at : at + 4]) == b"PK\3\4"


def _content(data: View, entry: Entry, room: Room) -> View:
    packed = data[entry.start : entry.end]
    content = packed if entry.method == _STORED else room.unpack(packed, zlib.decompressobj(-15), entry.size)
    crc = 0
    for at in range(0, len(content), _BLOCK):
        crc = zlib.crc32(content[at : at + _BLOCK], crc)
    if crc != entry.crc:
        raise Blocked(f"{entry.name} has another checksum than the archive says")
    return content


# --- tar --------------------------------------------------------------------------------------------------------------


def is_tar(data: View) -> bool:
    """Tell whether the first block is a tar header by its checksum, which is what readers go by.

    Bytes may be summed with or without a sign, and the sum may be written in any way that Python's reader takes.
    """
    if len(data) < _TAR_BLOCK:
        return False
    block = bytes(data[:_TAR_BLOCK])
    signed = struct.unpack("148b8x356b", block)
    sums = (sum(block) - sum(block[148:156]) + 8 * ord(" "), sum(signed) + 8 * ord(" "))
    return any(block) and _any_number(block[148:156]) in sums


def tar_members(data: View, room: Room) -> Iterator[Member]:
    """Yield the files of a tar.

    Raises:
        Blocked: it holds anything but regular files and folders under plain names, or is damaged.
    """
    at, names = 0, set()
    while True:
        block = window(data, at, at + _TAR_BLOCK)
        if not any(block):
            break
        if not is_tar(data[at : at + _TAR_BLOCK]):
            raise Blocked("a header of the tar is damaged")
        size, kind = _octal(block[124:136]), block[156:157]
        if size is None:
            raise Blocked("a size in the tar is no number")
        start = at + _TAR_BLOCK
        content = data[start : start + size]
        at = start + -(-size // _TAR_BLOCK) * _TAR_BLOCK
        if at > len(data):
            raise Blocked("the tar ends in the middle of a member")
        room.take_member()
        if kind == b"x":
            _require_harmless(content)
            continue
        name = _tar_name(block)
        if kind not in (b"0", b"\0", b"5") or any(block[157:257]) or (kind == b"5" and size):
            raise Blocked(f"{name} is a link or no regular file")
        if name.casefold() in names:
            raise Blocked("it has two members of one name")
        names.add(name.casefold())
        if kind != b"5":
            yield Member(name, partial(_itself, content))
    for start in range(at, len(data), _BLOCK):
        if any(bytes(data[start : start + _BLOCK])):
            raise Blocked("something comes after the end of the tar")


def _itself(data: View) -> View:
    return data


def _any_number(field: bytes) -> int | None:
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (1 << 56 if field[0] == 0xFF else 0)
    try:
        return int(field.split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return None


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and all(digit in b"01234567" for digit in digits) else None


def _tar_name(block: bytes) -> str:
    name, prefix = block[:100].split(b"\0")[0], b""
    if block[257:263] == b"ustar\0":
        prefix = block[345:500].split(b"\0")[0]
    elif block[257:263] == b"ustar ":
        if any(block[345:500]):
            raise Blocked("a header of the tar has an extension that is not read")
    elif any(block[257:]):
        raise Blocked("a header of the tar is of no known form")
    return _name(prefix + b"/" + name if prefix else name)


def _require_harmless(content: View) -> None:
    """Block extended headers that change anything but times and owners: two readers may differ about them."""
    if len(content) > _BLOCK:
        raise Blocked("an extended header of the tar is too long")
    rest = bytes(content)
    while rest:
        length, _, _ = rest.partition(b" ")
        if not length.isdigit() or len(length) > 7 or not 0 < int(length) <= len(rest):
            raise Blocked("an extended header of the tar is malformed")
        record, rest = rest[: int(length)], rest[int(length) :]
        key = record[len(length) + 1 :].partition(b"=")[0]
        if key not in _PAX_HARMLESS or not record.endswith(b"\n"):
            raise Blocked(f"an extended header of the tar changes {key[:40]!a}")
