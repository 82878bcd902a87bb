"""The trust file: who may speak for what, and which policies count.

It belongs to the security engineer, never to a run. An empty file trusts nobody, so everything is refused.

```yaml
version: 1
signers:
  - name: pipeline
    key: |                                  # EC P-256 public key
      -----BEGIN PUBLIC KEY-----
      ...
    may_sign: [mask-pii, attest-dataset]    # names of evidence kinds
    not_before: 2026-01-01T00:00:00Z        # optional; with a time zone
    not_after: 2027-01-01T00:00:00Z         # optional
    revoked: 2026-06-01T00:00:00Z           # optional: refused from this moment on
policies:
  - name: baseline
    sha256: 1b2c...                         # of the policy file's bytes
```
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.keys import is_sha256, key_hint
from kfp_custody.components._shared.kinds import KINDS


@dataclass(frozen=True)
class TrustedSigner:
    """A public key, the kinds of evidence it may speak for, and when."""

    name: str
    key: ec.EllipticCurvePublicKey
    may_sign: frozenset[str]
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: datetime | None = None

    @property
    def hint(self) -> str:
        """SHA-256 (hex) of the PEM public key: what a bundle names the key by."""
        return key_hint(self.key)

    def fault_at(self, moment: datetime) -> str | None:
        """Say why the signer is not to be believed at a moment, or None."""
        if self.revoked and moment >= self.revoked:
            return f"signer {self.name!r} was revoked at {self.revoked.isoformat()}"
        if self.not_before and moment < self.not_before:
            return f"signer {self.name!r} is not valid before {self.not_before.isoformat()}"
        if self.not_after and moment > self.not_after:
            return f"signer {self.name!r} is not valid after {self.not_after.isoformat()}"
        return None


@dataclass(frozen=True)
class Trust:
    """A trust file that was read: signers by key hint, and the pinned policies by name."""

    source: str
    sha256: str
    signers: Mapping[str, TrustedSigner]
    policies: Mapping[str, str]


def load_trust(path: Path) -> Trust:
    """Read a trust file strictly.

    Raises:
        Misconfigured: it is missing, malformed, has unknown fields, names a key or policy twice, or a key that is no
            EC P-256 public key.
    """
    try:
        data = path.read_bytes()
        return _trust(parse_yaml(data), str(path), sha256_bytes(data))
    except OSError as error:
        raise _refused(path, f"it cannot be read ({error.strerror})") from error
    except DocumentFault as error:
        raise _refused(path, str(error)) from error


def _trust(document: Any, source: str, sha256: str) -> Trust:
    require_keys(document, "the trust file", ("version", "signers"), ("policies",))
    if document["version"] != 1:
        raise DocumentFault(f"version {document['version']!r} is not 1")
    signers: dict[str, TrustedSigner] = {}
    for number, entry in enumerate(_list(document, "signers")):
        signer = _signer(entry, f"signers[{number}]")
        if signer.hint in signers or signer.name in {known.name for known in signers.values()}:
            raise DocumentFault(f"signers[{number}] repeats a name or key")
        signers[signer.hint] = signer
    policies: dict[str, str] = {}
    for number, entry in enumerate(_list(document, "policies")):
        require_keys(entry, f"policies[{number}]", ("name", "sha256"))
        name = _name(entry["name"], f"policies[{number}].name")
        if not is_sha256(entry["sha256"]) or name in policies:
            raise DocumentFault(f"policies[{number}] has no lower-case SHA-256 or repeats a name")
        policies[name] = entry["sha256"]
    return Trust(source, sha256, signers, policies)


def _list(document: Any, name: str) -> list[Any]:
    value = document.get(name)
    if value is not None and not isinstance(value, list):
        raise DocumentFault(f"{name} is no list")
    return value or []


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DocumentFault(f"{where} is no text")
    return value


def _signer(entry: Any, where: str) -> TrustedSigner:
    require_keys(entry, where, ("name", "key", "may_sign"), ("not_before", "not_after", "revoked"))
    may_sign = entry["may_sign"]
    if not isinstance(may_sign, list) or not may_sign or not set(map(str, may_sign)) <= set(KINDS):
        raise DocumentFault(f"{where}.may_sign must list some of: {', '.join(KINDS)}")
    try:
        key = load_pem_public_key(str(entry["key"]).encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DocumentFault(f"{where}.key is no PEM public key of a known type") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise DocumentFault(f"{where}.key is not on the curve P-256")
    moments = {name: _moment(entry.get(name), f"{where}.{name}") for name in ("not_before", "not_after", "revoked")}
    return TrustedSigner(_name(entry["name"], f"{where}.name"), key, frozenset(may_sign), **moments)


def _moment(value: Any, where: str) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise DocumentFault(f"{where} is no timestamp like 2026-01-01T00:00:00Z")
    # YAML turns a zone into UTC and drops it, and leaves zoneless stamps as they are: both are UTC here.
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _refused(path: Path, why: str) -> Misconfigured:
    return Misconfigured(
        "The trust file was not accepted, so nobody can be trusted.",
        evidence=f"{path}: {why}",
        remedy="Point CUSTODY_TRUST to the trust file of your security team, or mount it there.",
    )
