"""The allow-list file, read strictly: an unknown key, a missing one or a malformed name is refused."""

import re
from dataclasses import dataclass
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.named_files import read_named, whole

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_DOMAIN = re.compile(r"[a-z0-9.\-]{0,100}")
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """How far archives are opened: levels, members of all archives together, and bytes that they may grow to."""

    depth: int
    members: int
    expanded: int


@dataclass(frozen=True)
class Allowed:
    """An allow-list that was read: full names of what a model may call, and of what it may only name or make empty."""

    source: str
    sha256: str
    calls: frozenset[str]
    types: frozenset[str]
    onnx_domains: frozenset[str]
    limits: Limits


def load_allowed(name_or_path: str) -> Allowed:
    """Read an allow-list that ships with the room by name, or a file by path (anything with a slash or a dot).

    Raises:
        Misconfigured: no such name or file, or the file is not exactly of the documented form.
    """
    try:
        data = read_named("kfp_custody.components.model_scanning.allow", name_or_path)
        return _allowed(parse_yaml(data), name_or_path, sha256_bytes(data))
    except DocumentFault as error:
        raise _refused(name_or_path, str(error), error.code) from error


def _allowed(document: Any, source: str, sha256: str) -> Allowed:
    root = require_keys(document, "the allow-list", ("version", "calls", "types", "onnx_domains", "limits"))
    if root["version"] != 1:
        raise DocumentFault(f"version {root['version']!r} is not 1")
    calls, types = (_names(root[key], key, _NAME) for key in ("calls", "types"))
    if calls & types:
        raise DocumentFault(f"{min(calls & types)} stands under calls and under types")
    limits = require_keys(root["limits"], "limits", ("depth", "members", "expanded_mib"))
    return Allowed(
        source=source,
        sha256=sha256,
        calls=calls,
        types=types,
        onnx_domains=_names(root["onnx_domains"], "onnx_domains", _DOMAIN),
        limits=Limits(
            whole(limits["depth"], "limits.depth", 1, 16),
            whole(limits["members"], "limits.members", 1, 1_000_000),
            whole(limits["expanded_mib"], "limits.expanded_mib", 1, 1024 * 1024) * _MEBIBYTE,
        ),
    )


def _names(value: Any, where: str, form: re.Pattern[str]) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) and form.fullmatch(name) for name in value):
        raise DocumentFault(f"{where} is no list of full names")
    if len(set(value)) != len(value):
        raise DocumentFault(f"{where} has a name twice", codes.NAME_TWICE)
    return frozenset(value)


def _refused(source: str, why: str, code: str) -> Misconfigured:
    return Misconfigured(
        "The allow-list was not accepted.",
        evidence=f"{source}: {why}",
        remedy="Name the shipped one, default, or correct the file (components/model_scanning/allow/default.yaml).",
        code=code,
    )
