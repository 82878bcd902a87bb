"""Secrets in Vault or OpenBao: `vault:MOUNT/path#field`; address and login are those of the signers (settings.py).

What stands at the path decides how it is read; Vault is asked which engine is mounted there:

- key/value (version 2 or 1): the newest value, read again after the lifetime;
- anything that issues credentials with a lease: they are kept, and their lease and the login's token are renewed when
  two thirds of them have passed; when Vault will not renew, new credentials are asked for;
- `?wrapped=URI` before the `#`: the secret is taken out of the response-wrapping token that a `file:` or `env:` URI
  holds. Such a token works once, so the value is kept until there is another token. The token must have been made for
  exactly this path: one that an intruder made of a value of theirs says where it comes from, and is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.secrets.fields import of_mapping, split_field
from kfp_custody.components._shared.secrets.secret import Reading, Source
from kfp_custody.components._shared.settings import load_vault_settings
from kfp_custody.components._shared.signers.vault_client import Vault, open_vault

_PATH = re.compile(r"[^/?#\s]+(/[^/?#\s]+)+")
_MARGIN = 2 / 3  # the part of a lease or login that passes before it is renewed


def source(rest: str, lifetime: float) -> Source:
    """Return what reads the secret."""
    place, key = split_field(rest)
    path, wrapped, token = place.partition("?wrapped=")
    where = f"vault:{rest}"
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")) or not key:
        raise Misconfigured("The URI names no secret.", evidence=where, remedy="Use vault:MOUNT/path#field.")
    if not wrapped:
        return _Stored(path, key, where, lifetime).read
    # Not at the top: that module imports this one.
    from kfp_custody.components._shared.secrets.loading import load_secret

    if not token.startswith(("file:", "env:")):
        raise Misconfigured(
            "The wrapping token of a secret has to be in a file or a variable.",
            evidence=f"vault:{path}?wrapped= and neither file: nor env:",
            remedy="Use vault:MOUNT/path?wrapped=file:/path#field.",
        )
    return _Wrapped(path, key, where, load_secret(token).reveal).read


@dataclass
class _Lease:
    """Credentials that Vault takes back, also when the login that they were given to ends."""

    vault: Vault
    id: str
    renewable: bool
    value: bytes = field(repr=False)


class _Stored:
    """Reads from whatever engine is mounted at the path."""

    def __init__(self, path: str, key: str, where: str, lifetime: float) -> None:
        self._path, self._key, self._where, self._lifetime = path, key, where, lifetime
        self._lease: _Lease | None = None

    def read(self) -> Reading:
        lease, self._lease = self._lease, None
        if lease and (seconds := _renewed(lease)):
            self._lease = lease
            return Reading(lease.value, min(self._lifetime, seconds))
        vault = open_vault(load_vault_settings())
        mount = _whole(vault, f"see what is mounted at {self._path}", f"sys/internal/ui/mounts/{self._path}")
        at, versioned = _mounted(mount)
        path = f"{at}data/{self._path.removeprefix(at)}" if versioned else self._path
        answer = _whole(vault, f"read {self._path}", path)
        data = answer.get("data") or {}
        if versioned:
            data = data.get("data")
        if not data:
            raise Misconfigured(
                "Vault has no such secret, or its newest version was deleted.",
                evidence=self._where,
                remedy="Check mount and path, or store a new version.",
            )
        value = of_mapping(data, self._key, self._where)
        if not answer.get("lease_id"):
            return Reading(value, self._lifetime)
        self._lease = _Lease(vault, str(answer["lease_id"]), bool(answer.get("renewable")), value)
        seconds = _ends(answer, _login(vault)) * _MARGIN
        return Reading(value, min(self._lifetime, seconds))


class _Wrapped:
    """Takes the secret out of a response-wrapping token, once for each token."""

    def __init__(self, path: str, key: str, where: str, token: Callable[[], bytes]) -> None:
        self._path, self._key, self._where, self._token = path, key, where, token
        self._opened: tuple[bytes, bytes] | None = None

    def read(self) -> Reading:
        token = self._token()
        if self._opened is None or self._opened[0] != token:
            self._opened = None
            self._opened = token, self._unwrap(token.decode(errors="replace").strip())
        return Reading(self._opened[1], 0.0)  # asked for at every use: there may be another token

    def _unwrap(self, token: str) -> bytes:
        if not token.isascii() or not token.isprintable():
            raise self._suspect("it is no token")
        # The wrapping token is the login itself: OpenBao does not open one for a client without.
        login = replace(load_vault_settings(), auth="token", token=token, token_file=None, wrapped_secret_id_file=None)
        vault = Vault(login)
        try:
            made_for = vault.call("look up a wrapping token", lambda it: it.write("sys/wrapping/lookup", token=token))
            path = made_for.get("creation_path")
            versioned = path in _versioned(self._path)
            if path != self._path and not versioned:
                raise self._suspect("it was made for another path")
            data = vault.call("open a wrapping token", lambda it: it.sys.unwrap())
        except Misconfigured as error:
            raise self._suspect("Vault does not know it: it expired, or was opened before") from error
        return of_mapping(data["data"] if versioned else data, self._key, self._where)

    def _suspect(self, why: str) -> EvidenceInvalid:
        return EvidenceInvalid(
            "A response-wrapping token cannot be relied on.",
            evidence=f"{self._where}: {why}",
            remedy="If nobody of yours used it, somebody else may have the secret: rotate it, and wrap it anew.",
        )


def _whole(vault: Vault, what: str, path: str) -> Mapping[str, Any]:
    """Return a whole answer with its lease, and not its data only; empty when there is nothing at the path."""
    return vault.call(what, lambda client: {"data": client.read(path) or {}})


def _mounted(answer: Mapping[str, Any]) -> tuple[str, bool]:
    """Return where the engine is mounted, with a slash at the end, and whether it keeps versions."""
    mount = answer.get("data") or {}
    return str(mount.get("path", "")), (mount.get("options") or {}).get("version") == "2"


def _versioned(path: str) -> set[str]:
    """Return the paths by which an engine that keeps versions may serve this one: `data` after any mount."""
    parts = path.split("/")
    return {"/".join((*parts[:cut], "data", *parts[cut:])) for cut in range(1, len(parts))}


def _login(vault: Vault) -> Mapping[str, Any]:
    return vault.call("look up the login", lambda client: client.auth.token.lookup_self())


def _renewed(lease: _Lease) -> float:
    """Renew a lease and its login; return the seconds until the next time, 0 when new credentials are needed."""
    if not lease.renewable:
        return 0.0
    try:
        login = _login(lease.vault)
        if login.get("renewable"):
            lease.vault.call("renew the login", lambda client: {"data": client.auth.token.renew_self()})
            login = _login(lease.vault)
        answer = lease.vault.call("renew a lease", lambda client: {"data": client.sys.renew_lease(lease.id)})
    except CustodyError:
        return 0.0  # expired, revoked, or Vault is down: asking for new credentials will say which
    return _ends(answer, login) * _MARGIN


def _ends(lease: Mapping[str, Any], login: Mapping[str, Any]) -> float:
    """Return the seconds until a lease ends, or the login before it, when that ends at all."""
    login_ends = float(login.get("ttl") or 0) if login.get("expire_time") else float("inf")
    return min(float(lease.get("lease_duration") or 0), login_ends)
