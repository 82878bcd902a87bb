"""Strict reading of JSON and YAML: what a careless parser lets through is where forgeries hide.

Refused: names given twice, NaN and infinities, nesting deeper than 64, documents over a size limit, text that is not
UTF-8, and (through `require_keys`) fields nobody declared.
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

MAX_JSON = 16 * 1024 * 1024
MAX_YAML = 1024 * 1024
_MAX_DEPTH = 64

# What PyYAML lets through for a tag that does not fit its value (`!!bool foo`), a list as a key, deep nesting.
_CONSTRUCTION = (RecursionError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


class DocumentFault(Exception):
    """Why a document was not read; the caller says which document and turns it into a refusal."""


def read_document(path: Path, limit: int = MAX_JSON) -> bytes:
    """Read a file of limited size that is neither a link nor special (a named pipe would be waited for without end).

    Raises:
        DocumentFault: it is no regular file, or larger than `limit` bytes.
        OSError: it cannot be read.
    """
    if path.is_symlink() or not path.is_file():
        raise DocumentFault("it is no regular file")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise DocumentFault(f"it has more than {limit} bytes")
    return data


def parse_json(data: bytes, limit: int = MAX_JSON) -> Any:
    """Parse JSON strictly.

    Raises:
        DocumentFault: with the reason.
    """
    text = _text(data, limit)
    depth = _depth(text)
    if depth > _MAX_DEPTH:
        raise DocumentFault(f"it is nested deeper than {_MAX_DEPTH} levels")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        if "\\ud" in text.lower():  # half of a surrogate pair is no character: nothing could write or show it
            canonical_json(value)
    except ValueError as error:  # JSONDecodeError, UnicodeEncodeError; and integers of more than 4,300 digits
        raise DocumentFault(f"it is no JSON ({error})") from error
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
            raise DocumentFault("it uses a YAML alias")
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
        raise DocumentFault(f"it is no YAML (line {line}: {str(error.problem)[:200]})") from error
    except (yaml.YAMLError, *_CONSTRUCTION) as error:
        raise DocumentFault(f"it is no YAML ({type(error).__name__})") from error


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


def _text(data: bytes, limit: int) -> str:
    if len(data) > limit:
        raise DocumentFault(f"it has {len(data)} bytes, more than {limit}")
    if not data.strip():
        raise DocumentFault("it is empty")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DocumentFault("it is not UTF-8") from error


def _depth(text: str) -> int:
    """Return the deepest nesting of brackets outside strings, in one pass and without recursion."""
    deepest = depth = 0
    quoted = escaped = False
    for character in text:
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key, value in pairs:
        if key in result:
            raise DocumentFault(f"the name {str(key)[:80]!r} stands in it twice")
        result[key] = value
    return result


def _no_constant(name: str) -> NoReturn:
    raise DocumentFault(f"it holds {name}, which is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DocumentFault("it holds a number that does not fit")
    return value
