"""Strict reading of JSON and YAML: what a careless parser lets through is where forgeries hide.

Refused: names given twice, NaN and infinities, nesting deeper than 64, documents over a size limit, text that is not
UTF-8, and (through `require_keys`) fields nobody declared.
"""

import base64
import binascii
import errno
import json
import math
import os
import re
import stat
from collections.abc import Collection, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import yaml

from kfp_custody.components._shared import codes

MAX_JSON = 16 * 1024 * 1024
MAX_YAML = 1024 * 1024
_MAX_DEPTH = 64
_STRING = re.compile(rb'"[^"]*+(?:"|\Z)')
_SURROGATE = re.compile(r"\\u[dD]")
_NO_MARK = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: one level down, one up

# What PyYAML lets through for a tag that does not fit its value (`!!bool foo`), a list as a key, deep nesting.
_CONSTRUCTION = (RecursionError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


class DocumentFault(Exception):
    """Why a document was not read; the caller says which document and turns it into a refusal with the same code."""

    def __init__(self, why: str, code: str = codes.FIELDS) -> None:
        """Keep the reason and its code (`codes.py`)."""
        super().__init__(why)
        self.code = code


def read_document(path: Path, limit: int = MAX_JSON) -> bytes:
    """Read a file of limited size that is neither a link nor special (a named pipe would be waited for without end).

    Raises:
        DocumentFault: it is no regular file, or larger than `limit` bytes.
        OSError: it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.ENOENT):  # a link, a socket, nothing
            raise
        raise DocumentFault("it is no regular file", codes.NO_REGULAR_FILE) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DocumentFault("it is no regular file", codes.NO_REGULAR_FILE)
    with open(handle, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise DocumentFault(f"it has more than {limit} bytes", codes.TOO_LARGE)
    return data


def parse_json(data: bytes, limit: int = MAX_JSON) -> Any:
    """Parse JSON strictly.

    Raises:
        DocumentFault: with the reason.
    """
    text = _text(data, limit)
    if _depth(data) > _MAX_DEPTH:
        raise DocumentFault(f"it is nested deeper than {_MAX_DEPTH} levels", codes.TOO_DEEP)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        if _SURROGATE.search(text):  # half of a surrogate pair is no character: nothing could write or show it
            canonical_json(value)
    except ValueError as error:  # JSONDecodeError, UnicodeEncodeError; and integers of more than 4,300 digits
        raise DocumentFault(f"it is no JSON ({error})", codes.MALFORMED) from error
    return value


def canonical_json(value: Any) -> bytes:
    """Serialise with sorted keys and no spaces, refusing NaN.

    Raises:
        ValueError: a float is not finite (a bug of the caller).
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without duplicate keys and without aliases (which expand to documents of any size)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise DocumentFault("it uses a YAML alias", codes.ALIAS)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        _unique([(key, None) for key in keys])
        return super().construct_mapping(node, deep)


def parse_yaml(data: bytes) -> Any:
    """Parse YAML strictly.

    Raises:
        DocumentFault: with the reason.
    """
    text = _text(data, MAX_YAML)
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        # Never the error as a whole: it quotes the file, and a run may name any file as its policy.
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise DocumentFault(f"it is no YAML (line {line}: {str(error.problem)[:200]})", codes.MALFORMED) from error
    except (yaml.YAMLError, *_CONSTRUCTION) as error:
        raise DocumentFault(f"it is no YAML ({type(error).__name__})", codes.MALFORMED) from error


def require_keys(
    value: Any, where: str, required: Collection[str], optional: Collection[str] = ()
) -> Mapping[str, Any]:
    """Return `value` when it is an object with exactly the required keys and any of the optional ones.

    Raises:
        DocumentFault: naming the place and the missing or unknown keys.
    """
    if not isinstance(value, dict):
        raise DocumentFault(f"{where} is no object")
    missing = sorted(set(required) - set(value))
    unknown = sorted(ascii(str(key)[:80]) for key in set(value) - set(required) - set(optional))
    if missing:
        raise DocumentFault(f"{where} lacks {', '.join(missing)}")
    if unknown:
        raise DocumentFault(f"{where} has unknown {', '.join(unknown[:5])}")
    return value


def decode_base64(value: Any, where: str) -> bytes:
    """Return the bytes of base64 as one would write it: nothing that decoders pass over, no bits to spare.

    Raises:
        DocumentFault: naming the place.
    """
    try:
        data = base64.b64decode(value, validate=True)
        if base64.b64encode(data).decode() != value:
            raise ValueError(where)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DocumentFault(f"{where} is no base64", codes.BASE64) from error
    return data


def _text(data: bytes, limit: int) -> str:
    if len(data) > limit:
        raise DocumentFault(f"it has {len(data)} bytes, more than {limit}", codes.TOO_LARGE)
    if not data.strip():
        raise DocumentFault("it is empty", codes.EMPTY)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DocumentFault("it is not UTF-8", codes.NOT_UTF8) from error


def _depth(data: bytes) -> int:
    """Return the deepest nesting of brackets outside strings, by whole-buffer operations and without recursion.

    JSON's own parser recurses, so this is asked first. It is exact up to where `data` stops being JSON, and there
    the parser stops as well.
    """
    bare = data.replace(rb"\\", b"").replace(rb"\"", b"")  # then every quotation mark opens or closes a string
    marks = bare.translate(_STEPS, _NO_MARK).replace(b'""', b"")
    return max(accumulate(memoryview(_STRING.sub(b"", marks)).cast("b")), default=0)


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key, value in pairs:
        if key in result:
            raise DocumentFault(f"the name {str(key)[:80]!r} stands in it twice", codes.NAME_TWICE)
        result[key] = value
    return result


def _no_constant(name: str) -> NoReturn:
    raise DocumentFault(f"it holds {name}, which is no JSON number", codes.NUMBER)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DocumentFault("it holds a number that does not fit", codes.NUMBER)
    return value
