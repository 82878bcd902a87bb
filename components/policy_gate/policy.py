"""The policy file: which evidence must be there, how old it may be, and CEL rules over what it says.

```yaml
version: 1
name: baseline
description: ...
max_age_hours: 24
requires:                       # the gate refuses when one is missing or not genuine
  - kind: train-model
    signers: [training]         # optional: names in the trust file
rules:
  - id: auprc-floor
    when: drift.result != "FAILED"                      # optional; the rule counts only when this is true
    expr: training.metrics.average_precision >= 0.5
    message: what the rule asks for, in one sentence
opa:                            # optional: a policy server is asked as well, and must allow it
  url: https://opa.internal:8181                        # http only for a loopback address
  path: custody/allow                                   # POST <url>/v1/data/<path>
  ca_file: /etc/custody/opa/ca.pem                      # optional; the system's authorities when left out
```

Rules are in CEL (https://cel.dev). What they see is in `facts.py`. Every number is a double: write 5.0, not 5.
"""

import ipaddress
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import MAX_YAML, DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.kinds import KINDS

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_DATA_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_URL = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Requirement:
    """A kind of evidence that must be there, and who may have signed it (empty: whom the trust file allows)."""

    kind: str
    signers: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """A CEL rule: it holds when `expr` is true, and counts only when `when` is (or is empty)."""

    id: str
    expr: str
    message: str
    when: str = ""


@dataclass(frozen=True)
class Opa:
    """A policy server that is asked as well: its address, the path of the decision, and whose certificate to accept."""

    url: str
    path: str
    ca_file: Path | None = None

    @property
    def address(self) -> str:
        """What is asked."""
        return f"{self.url.rstrip('/')}/v1/data/{self.path}"


@dataclass(frozen=True)
class Policy:
    """A policy file that was read: `sha256` is of its bytes."""

    name: str
    description: str
    sha256: str
    max_age_hours: float
    requires: tuple[Requirement, ...]
    rules: tuple[Rule, ...]
    opa: Opa | None = None


def load_policy(name_or_path: str) -> Policy:
    """Read a policy that ships with this room (by name) or from a YAML file (by path).

    Raises:
        Misconfigured: it is missing, malformed, has unknown fields, or would refuse nothing.
    """
    try:
        return parse_policy(read_policy(name_or_path))
    except DocumentFault as fault:
        raise _refused(name_or_path, str(fault)) from fault


def read_policy(name_or_path: str) -> bytes:
    """Return the bytes of a policy that ships with this room (by name) or of a file (by path).

    Raises:
        Misconfigured: it is missing or cannot be read.
    """
    try:
        if _ID.fullmatch(name_or_path):
            return (files(__package__) / "policies" / f"{name_or_path}.yaml").read_bytes()
        with Path(name_or_path).open("rb") as file:
            return file.read(MAX_YAML + 1)  # whoever starts a run chooses the path
    except OSError as error:
        raise _refused(name_or_path, f"it cannot be read ({error.strerror})") from error


def parse_policy(data: bytes) -> Policy:
    """Read a policy from the bytes of its file.

    Raises:
        DocumentFault: it is malformed, has unknown fields, or would refuse nothing.
    """
    document = parse_yaml(data)
    fields = ("version", "name", "description", "max_age_hours", "requires", "rules")
    require_keys(document, "the policy", fields, ("opa",))
    if document["version"] != 1 or isinstance(document["version"], bool):
        raise DocumentFault(f"version {document['version']!r} is not 1")
    age = document["max_age_hours"]
    if isinstance(age, bool) or not isinstance(age, int | float) or not 0 < age < 2**53:
        raise DocumentFault("max_age_hours is no positive number")
    requires = tuple(_requirement(entry, f"requires[{n}]") for n, entry in enumerate(_list(document, "requires")))
    rules = tuple(_rule(entry, f"rules[{n}]") for n, entry in enumerate(_list(document, "rules")))
    for what, names in (("requires", [r.kind for r in requires]), ("rules", [r.id for r in rules])):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DocumentFault(f"{what} names something twice: {', '.join(twice)[:200]}")
    return Policy(
        _text(document["name"], "name"),
        _text(document["description"], "description"),
        sha256_bytes(data),
        float(age),
        requires,
        rules,
        _opa(document["opa"]) if "opa" in document else None,
    )


def _requirement(entry: Any, where: str) -> Requirement:
    require_keys(entry, where, ("kind",), ("signers",))
    if entry["kind"] not in list(KINDS):  # a list compares, where a set would fail on what cannot be hashed
        raise DocumentFault(f"{where}.kind is none of {', '.join(KINDS)}")
    signers = entry.get("signers", [])
    if not isinstance(signers, list) or ("signers" in entry and not signers):
        raise DocumentFault(f"{where}.signers is no list of names")
    return Requirement(entry["kind"], tuple(_text(name, f"{where}.signers") for name in signers))


def _rule(entry: Any, where: str) -> Rule:
    require_keys(entry, where, ("id", "expr", "message"), ("when",))
    fields = {name: _text(value, f"{where}.{name}") for name, value in entry.items()}
    if not _ID.fullmatch(fields["id"]):
        raise DocumentFault(f"{where}.id is not made of lower-case words with dashes")
    return Rule(**fields)


def _opa(entry: Any) -> Opa:
    require_keys(entry, "opa", ("url", "path"), ("ca_file",))
    fields = {name: _text(value, f"opa.{name}") for name, value in entry.items()}
    if not _is_address(fields["url"]):
        raise DocumentFault("opa.url is no https address without user, query and fragment, nor http to this machine")
    if not _DATA_PATH.fullmatch(fields["path"]):
        raise DocumentFault("opa.path is no path such as custody/allow")
    authority = Path(fields["ca_file"]) if "ca_file" in fields else None
    if authority is not None and not authority.is_absolute():
        raise DocumentFault("opa.ca_file is no absolute path")
    return Opa(fields["url"], fields["path"], authority)


def _is_address(url: str) -> bool:
    """Tell whether facts and a token may be sent there: https, or http that does not leave this machine."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not _URL.fullmatch(url) or not host or port == 0 or "@" in parts.netloc or "?" in url or "#" in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _list(document: Any, name: str) -> list[Any]:
    value = document[name]
    if not isinstance(value, list) or not value:
        raise DocumentFault(f"{name} is no list, or empty: such a policy would refuse nothing")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DocumentFault(f"{where} is no text")
    return value


def _refused(name: str, why: str) -> Misconfigured:
    return Misconfigured(
        "The policy was not accepted.",
        evidence=f"{name}: {why}",
        remedy=f"Name a policy that ships with the gate ({', '.join(shipped())}), or correct the file.",
        code=codes.POLICY_FILE,
    )


def shipped() -> list[str]:
    """Return the names of the policies that ship with the gate."""
    return sorted(path.name[:-5] for path in (files(__package__) / "policies").iterdir() if path.name.endswith(".yaml"))
