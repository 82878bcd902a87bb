"""The trust file: who may speak for what, and which policies count.

It belongs to the security engineer, never to a run. An empty file trusts nobody, so everything is refused.

```yaml
version: 1
sigstore_root: trusted_root.json            # optional: of a private Sigstore; default: the public one's
signers:
  - name: pipeline
    key: |                                  # EC P-256 public key
      -----BEGIN PUBLIC KEY-----
      ...
    may_sign: [mask-pii, attest-dataset]    # names of evidence kinds
    not_before: 2026-01-01T00:00:00Z        # optional; with a time zone
    not_after: 2027-01-01T00:00:00Z         # optional
    revoked: 2026-06-01T00:00:00Z           # optional: refused from this moment on
  - name: training                          # keyless: exactly this identity, as exactly this issuer knows it
    issuer: https://kubernetes.default.svc
    identity: https://kubernetes.io/namespaces/ml/serviceaccounts/training
    may_sign: [train-model]
  - name: shop                              # HMAC: verified by the Vault that holds the key, so only where it is
    hmac: vault-hmac:transit/custody
    may_sign: [mask-pii]
policies:
  - name: baseline
    sha256: 1b2c...                         # of the policy file's bytes
```

Every signer has exactly one of `key`, `issuer` with `identity`, and `hmac`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_json, parse_yaml, require_keys
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.keys import is_sha256, key_hint
from kfp_custody.components._shared.kinds import KINDS

_DATES = ("not_before", "not_after", "revoked")


@dataclass(frozen=True)
class Identity:
    """Whom a keyless certificate must name: both are compared letter by letter, there are no patterns."""

    issuer: str
    identity: str


@dataclass(frozen=True)
class SharedKey:
    """An HMAC key that never leaves its Vault: the URI of where to have signatures verified."""

    uri: str


Credential = ec.EllipticCurvePublicKey | Identity | SharedKey


@dataclass(frozen=True)
class TrustedSigner:
    """How a signer is recognised, the kinds of evidence it may speak for, and when."""

    name: str
    credential: Credential
    may_sign: frozenset[str]
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: datetime | None = None

    @property
    def hint(self) -> str:
        """What a bundle names the signer by: SHA-256 (hex) of its PEM public key or HMAC key URI; its identity."""
        if isinstance(self.credential, Identity):
            return identity_hint(self.credential.issuer, self.credential.identity)
        if isinstance(self.credential, SharedKey):
            from kfp_custody.components._shared.signers.hmac import hmac_hint

            return hmac_hint(self.credential.uri)
        return key_hint(self.credential)

    def fault_at(self, moment: datetime) -> tuple[str, str] | None:
        """Say why the signer is not to be believed at a moment, with the refusal's code; None when it is."""
        if self.revoked and moment >= self.revoked:
            return f"signer {self.name!r} was revoked at {self.revoked.isoformat()}", codes.SIGNER_REVOKED
        if self.not_before and moment < self.not_before:
            return f"signer {self.name!r} is not valid before {self.not_before.isoformat()}", codes.SIGNER_PERIOD
        if self.not_after and moment > self.not_after:
            return f"signer {self.name!r} is not valid after {self.not_after.isoformat()}", codes.SIGNER_PERIOD
        return None


@dataclass(frozen=True)
class Trust:
    """A trust file that was read: signers by hint, the pinned policies by name, a private Sigstore's root if any."""

    source: str
    sha256: str
    signers: Mapping[str, TrustedSigner]
    policies: Mapping[str, str]
    sigstore_root: Mapping[str, Any] | None = None


def identity_hint(issuer: str, identity: str) -> str:
    """Return what a keyless signer is looked up by."""
    return f"{identity} of {issuer}"


def load_trust(path: Path) -> Trust:
    """Read a trust file strictly.

    Raises:
        Misconfigured: it is missing, malformed, has unknown fields, names a signer or policy twice, a key that is no
            EC P-256 public key, or a Sigstore root that cannot be read.
    """
    try:
        data = path.read_bytes()
        document = _checked(parse_yaml(data))
        root = _sigstore_root(path.parent, document["sigstore_root"]) if "sigstore_root" in document else None
        return Trust(str(path), sha256_bytes(data), _signers(document), _policies(document), root)
    except OSError as error:
        raise _refused(path, f"it cannot be read ({error.strerror})", codes.TRUST_UNREADABLE) from error
    except DocumentFault as error:
        raise _refused(path, str(error), error.code) from error


def add_signer(
    text: str,
    name: str,
    credential: Mapping[str, str],
    may_sign: Sequence[str],
    *,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> str:
    """Return a trust file's text with one more signer; comments are lost, everything else stays.

    Args:
        text: The trust file as it is; empty text starts a new one.
        name: Name of the signer; no other may have it.
        credential: `{"key": PEM}`, `{"issuer": ..., "identity": ...}` or `{"hmac": URI}`.
        may_sign: The kinds of evidence that it may sign.
        not_before: From when, timezone-aware.
        not_after: Until when, timezone-aware.

    Raises:
        Misconfigured: the text, or what it would become, is no trust file.
    """
    dates = {key: value for key, value in (("not_before", not_before), ("not_after", not_after)) if value}
    entry = {"name": name, **credential, "may_sign": list(may_sign), **dates}

    def add(document: dict[str, Any]) -> None:
        document["signers"] = [*_list(document, "signers"), entry]

    return _edited(text or "version: 1\nsigners: []\n", add)


def revoke_signer(text: str, name: str, at: datetime) -> str:
    """Return a trust file's text with a signer revoked; an earlier revocation is never moved to a later time.

    Args:
        text: The trust file as it is.
        name: Name of the signer.
        at: Nothing is believed of it from this moment on, timezone-aware.

    Raises:
        Misconfigured: the text is no trust file, or has no signer of that name.
    """

    def revoke(document: dict[str, Any]) -> None:
        found = [entry for entry in _list(document, "signers") if entry["name"] == name]
        if not found:
            raise DocumentFault(f"it has no signer {name!r}")
        found[0]["revoked"] = min(_moment(found[0].get("revoked", at), "revoked"), at)

    return _edited(text, revoke)


def _edited(text: str, edit: Any) -> str:
    """Return the text after an edit, read strictly before and after it."""
    try:
        document = dict(_checked(parse_yaml(text.encode())))
        edit(document)
        result = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        _checked(parse_yaml(result.encode()))
    except DocumentFault as error:
        raise _refused("the trust file", str(error), error.code) from error
    return result


class _Dumper(yaml.SafeDumper):
    """Writes keys as blocks and times as RFC 3339, as a person would; never an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None),
)
_Dumper.add_representer(
    datetime,
    lambda dumper, value: dumper.represent_scalar(
        "tag:yaml.org,2002:timestamp",
        (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    ),
)


def _checked(document: Any) -> Mapping[str, Any]:
    require_keys(document, "the trust file", ("version", "signers"), ("policies", "sigstore_root"))
    if document["version"] != 1 or isinstance(document["version"], bool):
        raise DocumentFault(f"version {document['version']!r} is not 1", codes.TRUST_VERSION)
    _signers(document)
    _policies(document)
    return document  # type: ignore[no-any-return]


def _signers(document: Mapping[str, Any]) -> dict[str, TrustedSigner]:
    signers: dict[str, TrustedSigner] = {}
    for number, entry in enumerate(_list(document, "signers")):
        signer = _signer(entry, f"signers[{number}]")
        if signer.hint in signers or signer.name in {known.name for known in signers.values()}:
            raise DocumentFault(f"signers[{number}] repeats a name or key", codes.TRUST_TWICE)
        signers[signer.hint] = signer
    return signers


def _policies(document: Mapping[str, Any]) -> dict[str, str]:
    policies: dict[str, str] = {}
    for number, entry in enumerate(_list(document, "policies")):
        require_keys(entry, f"policies[{number}]", ("name", "sha256"))
        name = _name(entry["name"], f"policies[{number}].name")
        if not is_sha256(entry["sha256"]) or name in policies:
            code = codes.TRUST_TWICE if name in policies else codes.TRUST_PIN
            raise DocumentFault(f"policies[{number}] has no lower-case SHA-256 or repeats a name", code)
        policies[name] = entry["sha256"]
    return policies


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if value is not None and not isinstance(value, list):
        raise DocumentFault(f"{name} is no list")
    return value or []


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DocumentFault(f"{where} is no text")
    return value


def _signer(entry: Any, where: str) -> TrustedSigner:
    require_keys(entry, where, ("name", "may_sign"), ("key", "issuer", "identity", "hmac", *_DATES))
    may_sign = entry["may_sign"]
    if not isinstance(may_sign, list) or not may_sign or not set(map(str, may_sign)) <= set(KINDS):
        raise DocumentFault(f"{where}.may_sign must list some of: {', '.join(KINDS)}", codes.TRUST_ROLE)
    moments = {name: _moment(entry[name], f"{where}.{name}") for name in _DATES if name in entry}
    name, credential = _name(entry["name"], f"{where}.name"), _credential(entry, where)
    return TrustedSigner(name, credential, frozenset(may_sign), **moments)


def _credential(entry: Mapping[str, Any], where: str) -> Credential:
    ways = set(entry) & {"key", "issuer", "identity", "hmac"}
    if ways == {"key"}:
        return _key(entry["key"], where)
    if ways == {"issuer", "identity"}:
        return Identity(_name(entry["issuer"], f"{where}.issuer"), _name(entry["identity"], f"{where}.identity"))
    if ways == {"hmac"}:
        uri = _name(entry["hmac"], f"{where}.hmac")
        if not uri.startswith("vault-hmac:"):
            raise DocumentFault(f"{where}.hmac is no vault-hmac: URI", codes.TRUST_CREDENTIAL)
        return SharedKey(uri)
    raise DocumentFault(f"{where} must have exactly one of: key; issuer and identity; hmac", codes.TRUST_CREDENTIAL)


def _key(value: Any, where: str) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(str(value).encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DocumentFault(f"{where}.key is no PEM public key of a known type", codes.TRUST_KEY) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise DocumentFault(f"{where}.key is not on the curve P-256", codes.TRUST_KEY)
    return key


def _moment(value: Any, where: str) -> datetime:
    if not isinstance(value, datetime):  # also a field that was left blank: it must not read as never
        raise DocumentFault(f"{where} is no timestamp like 2026-01-01T00:00:00Z", codes.TRUST_MOMENT)
    # YAML turns a zone into UTC and drops it, and leaves zoneless stamps as they are: both are UTC here.
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _sigstore_root(folder: Path, name: Any) -> Mapping[str, Any]:
    """Read the root of a private Sigstore: a trusted_root.json, or a client trust config that holds one."""
    path = folder / _name(name, "sigstore_root")
    try:
        document = parse_json(path.read_bytes())
    except (OSError, DocumentFault) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DocumentFault(f"sigstore_root {path}: {why}", codes.SIGSTORE_ROOT) from error
    root = document.get("trustedRoot", document) if isinstance(document, dict) else None
    if not isinstance(root, dict) or "certificateAuthorities" not in root or "tlogs" not in root:
        raise DocumentFault(f"sigstore_root {path} is no Sigstore trusted root", codes.SIGSTORE_ROOT)
    return root


def _refused(source: object, why: str, code: str) -> Misconfigured:
    return Misconfigured(
        "The trust file was not accepted, so nobody can be trusted.",
        evidence=f"{source}: {why}",
        remedy="Point CUSTODY_TRUST to the trust file of your security team, or mount it there.",
        code=code,
    )
