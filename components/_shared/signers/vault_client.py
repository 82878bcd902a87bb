"""Talking to Vault or OpenBao through hvac: log in, ask, try once more, and say in our own words what went wrong.

A call ends within ten seconds. It is tried twice when nothing answered, but a single-use credential is sent only once.
No message holds a token, a secret id or a JWT: what the server says is searched for them before it is shown.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import VaultSettings
from kfp_custody.components._shared.signers.private_files import read_private_text

if TYPE_CHECKING:
    import hvac

# Seconds to connect and to wait for an answer. Twice both stays below ten.
TIMEOUT: Final = (2.0, 2.9)
# How transit says that a version of a key is retired or not there yet (as 400 or 500).
_VERSION_WORDS: Final = ("no such key version", "higher than the latest", "version is too old", "version is too new")

_sessions: dict[VaultSettings, Vault] = {}
_lock = threading.Lock()


def open_vault(settings: VaultSettings) -> Vault:
    """Return the session of these settings: one per process, because a wrapped secret id opens only one."""
    with _lock:
        return _sessions.setdefault(settings, Vault(settings))


class Vault:
    """A session that logs in at its first call, and again when its token ended."""

    def __init__(self, settings: VaultSettings) -> None:
        """Keep the settings; nothing is sent yet."""
        self.settings = settings
        self._client: hvac.Client | None = None
        self._secrets: list[str] = []

    def call(self, what: str, request: Callable[[hvac.Client], Any]) -> Mapping[str, Any]:
        """Ask the server, and return the `data` of its answer.

        Args:
            what: What is asked, for messages: `read key transit/pipeline`.
            request: The call.

        Raises:
            ServiceUnreachable: stopped, sealed, failing, or not Vault at all.
            Misconfigured: not logged in, not permitted, no such key, or a request that the server refuses.
        """
        from hvac.exceptions import Forbidden, VaultError

        fresh = self._client is None
        client = self._client or self._log_in()
        try:
            try:
                answer = self._send(request, client)
            except Forbidden:
                # A token that ended and a path that is not permitted look the same; a new token tells them apart.
                if fresh or self.settings.wrapped_secret_id_file:
                    raise
                client = self._log_in()
                answer = self._send(request, client)
        except VaultError as error:
            raise self._refusal(what, error, client) from error
        data = answer.get("data")
        if not isinstance(data, Mapping):
            raise self._not_vault(what)
        return data

    def _log_in(self) -> hvac.Client:
        import hvac
        from hvac.exceptions import VaultError

        settings = self.settings
        self._secrets = []
        # An empty token keeps hvac from taking one out of the environment or the home directory.
        client = hvac.Client(
            url=settings.address,
            token="",
            verify=str(settings.ca_file) if settings.ca_file else True,
            timeout=TIMEOUT,
            namespace=settings.namespace,
            allow_redirects=False,  # a redirect would carry the token to another server
        )
        try:
            token = self._credentials(client)
        except VaultError as error:
            raise self._login_refusal(error) from error
        client.token = _header(token)
        self._secrets.append(token)
        self._client = client
        return client

    def _credentials(self, client: hvac.Client) -> str:
        """Return a token, having sent what the auth method asks for."""
        settings = self.settings
        if settings.auth == "token":
            if settings.token_file is None and settings.token:
                return settings.token
            return self._secret(settings.token_file, "Vault token", "CUSTODY_VAULT_TOKEN_FILE")
        if settings.auth in ("kubernetes", "jwt"):
            jwt = self._secret(settings.jwt_file, "token of the service account", "CUSTODY_VAULT_JWT_FILE")
            login = f"/v1/auth/{settings.mount}/login"
            body = {"role": settings.role, "jwt": jwt}
            return self._token(self._send(lambda it: it._adapter.post(login, json=body), client))
        role_id = self._secret(settings.role_id_file, "role id", "CUSTODY_VAULT_ROLE_ID_FILE")
        if settings.wrapped_secret_id_file:
            secret_id = self._unwrap(client)
        else:
            secret_id = self._secret(settings.secret_id_file, "secret id", "CUSTODY_VAULT_SECRET_ID_FILE")
        return self._token(
            self._send(
                lambda it: it.auth.approle.login(role_id, secret_id, use_token=False, mount_point=settings.mount),
                client,
                tries=1,
            )
        )

    def _unwrap(self, client: hvac.Client) -> str:
        """Take the secret id out of its wrapping token, which works once: a token that fails may have been stolen."""
        from hvac.exceptions import Forbidden, InvalidRequest

        settings = self.settings
        wrapping = _header(
            self._secret(settings.wrapped_secret_id_file, "wrapped secret id", "CUSTODY_VAULT_WRAPPED_SECRET_ID_FILE")
        )
        client.token = wrapping  # it is its own login
        try:
            made = self._send(lambda it: it.write_data("sys/wrapping/lookup", data={"token": wrapping}), client)
            path = str((made.get("data") or {}).get("creation_path"))
            # Who opened a token could wrap something of theirs again; that token says where it was made.
            if not re.fullmatch(rf"auth/{re.escape(settings.mount)}/role/[^/]+/(custom-)?secret-id", path):
                raise self._wrapping_refusal(f"it was made at {path[:100]!r}, and holds no secret id")
            secret_id = (self._send(lambda it: it.sys.unwrap(), client, tries=1).get("data") or {}).get("secret_id")
        except (InvalidRequest, Forbidden) as error:
            raise self._wrapping_refusal(self._said(error)) from error
        finally:
            client.token = ""
        self._secrets.append(str(secret_id))
        return str(secret_id)

    def _secret(self, path: Any, purpose: str, variable: str) -> str:
        secret = read_private_text(path, purpose, variable)
        self._secrets.append(secret)
        return secret

    def _token(self, answer: Mapping[str, Any]) -> str:
        token = (answer.get("auth") or {}).get("client_token")
        if not isinstance(token, str) or not token:
            raise self._not_vault("log in")
        return token

    def _send(self, request: Callable[[hvac.Client], Any], client: hvac.Client, tries: int = 2) -> Mapping[str, Any]:
        """Send once, or once more when nothing answered; hvac's errors pass."""
        import requests

        for attempt in range(tries):
            try:
                answer = request(client)
                break
            except (requests.ConnectionError, requests.Timeout) as error:
                if attempt == tries - 1:
                    raise ServiceUnreachable(
                        "Vault did not answer.",
                        evidence=f"{self.settings.address}: {type(error).__name__}, tried {_times(tries)}",
                        remedy="Check that it runs, that VAULT_ADDR is its address and VAULT_CACERT its CA, and that "
                        "this pod may reach it.",
                        code=codes.VAULT_SILENT,
                    ) from error
            except requests.RequestException as error:
                raise ServiceUnreachable(
                    "Vault cannot be asked.",
                    evidence=f"{self.settings.address}: {type(error).__name__}",
                    remedy="Check VAULT_ADDR and the proxy settings of this pod.",
                    code=codes.VAULT_SILENT,
                ) from error
            except OSError as error:  # requests says so of a CA file that is not there
                raise Misconfigured(
                    "The CA file of Vault cannot be used.",
                    evidence=f"{self.settings.ca_file}: {type(error).__name__}",
                    remedy="Mount the CA there, or correct VAULT_CACERT.",
                    code=codes.VAULT_SETTINGS,
                ) from error
        if not isinstance(answer, Mapping):
            raise self._not_vault("answer")
        return answer

    def _refusal(self, what: str, error: Any, client: hvac.Client) -> CustodyError:
        """Say what an error of the server means, and who has to act."""
        from hvac import exceptions

        said, where = self._said(error), f"{what} at {self.settings.address}"
        if any(words in said for words in _VERSION_WORDS):
            return Misconfigured(
                "This version of the key may not be used.",
                evidence=f"{where}: {said}",
                remedy="Use a version from min_decryption_version to the latest, or leave ?version= out.",
                code=codes.KEY_VERSION,
            )
        if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized):
            if self._token_lives(client):
                return Misconfigured(
                    "Vault does not permit this.",
                    evidence=f"{where}: permission denied, while the token is valid",
                    remedy="Give the role a policy for exactly this path; the README of the signers shows it.",
                    code=codes.VAULT_DENIED,
                )
            return Misconfigured(
                "The Vault token is not valid: it expired, was revoked, or never existed.",
                evidence=f"{where}: permission denied, also to look up the token itself (auth {self.settings.auth})",
                remedy="Renew the token, or let the stage log in itself (CUSTODY_VAULT_AUTH=kubernetes).",
                code=codes.VAULT_TOKEN,
            )
        if isinstance(error, exceptions.InvalidPath):
            return Misconfigured(
                "Vault has no such key, or no engine is mounted there.",
                evidence=f"{where}: {said or 'not found'}",
                remedy="Correct MOUNT/KEY in the signer URI, or create the key.",
                code=codes.KEY_MISSING,
            )
        return self._server_refusal(where, error, said) or Misconfigured(
            "Vault refused the request.",
            evidence=f"{where}: {said}",
            remedy="Check the type and the settings of the key.",
            code=codes.VAULT_REFUSED,
        )

    def _login_refusal(self, error: Any) -> CustodyError:
        said, settings = self._said(error), self.settings
        role = f", role {settings.role}" if settings.role else ""
        where = f"log in by {settings.auth} (auth/{settings.mount}{role}) at {settings.address}"
        return self._server_refusal(where, error, said) or Misconfigured(
            "Vault did not accept this stage's credentials.",
            evidence=f"{where}: {said or type(error).__name__}",
            remedy="Check the role, what it is bound to (service account, namespace, audience, subject), whether the "
            "credential expired, and CUSTODY_VAULT_AUTH_MOUNT.",
            code=codes.VAULT_LOGIN,
        )

    def _wrapping_refusal(self, said: str) -> Misconfigured:
        return Misconfigured(
            "The wrapped secret id was opened before, or its time is over, or it was exchanged.",
            evidence=f"wrapping token for auth/{self.settings.mount} at {self.settings.address}: {said}",
            remedy="Find out who opened it if this stage did not, and give it a new one. It opens one process.",
            code=codes.WRAPPED_TWICE,
        )

    def _server_refusal(self, where: str, error: Any, said: str) -> CustodyError | None:
        """Say that the server is not able to answer, if that is what an error means."""
        from hvac import exceptions

        if isinstance(error, exceptions.VaultDown) and "sealed" in said:
            return ServiceUnreachable(
                "Vault is sealed.",
                evidence=where,
                remedy="Unseal it; check why it restarted or who sealed it.",
                code=codes.VAULT_SEALED,
            )
        if isinstance(
            error,
            exceptions.VaultDown
            | exceptions.VaultNotInitialized
            | exceptions.InternalServerError
            | exceptions.BadGateway
            | exceptions.RateLimitExceeded
            | exceptions.UnexpectedError,
        ):
            return ServiceUnreachable(
                "Vault answered with an error.",
                evidence=f"{where}: {type(error).__name__}: {said}",
                remedy="See the server's log, and try again.",
                code=codes.VAULT_FAILING,
            )
        return None

    def _token_lives(self, client: hvac.Client) -> bool:
        from hvac.exceptions import VaultError

        try:
            self._send(lambda it: it.auth.token.lookup_self(), client, tries=1)
        except VaultError:
            return False
        return True

    def _not_vault(self, what: str) -> ServiceUnreachable:
        return ServiceUnreachable(
            "What answers is not Vault, or not its active node.",
            evidence=f"{what} at {self.settings.address}: a redirect, or no JSON of the expected form",
            remedy="Set VAULT_ADDR to the address of the active node or of a load balancer before it.",
            code=codes.VAULT_SILENT,
        )

    def _said(self, error: Any) -> str:
        """Return what the server said, on one line, short, and without anything secret."""
        text = " ".join(" ".join(map(str, error.errors or [])).split())
        for secret in self._secrets:
            if secret:
                text = text.replace(secret, "(secret)")
        return "".join(sign if sign.isprintable() else "?" for sign in text)[:300]


def _header(token: str) -> str:
    """Return a token that can be sent in a header; another would fail with an error that quotes it."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Misconfigured(
            "The Vault token cannot be a token.",
            evidence="blanks, line ends or signs that no token has",
            remedy="Set VAULT_TOKEN (or write its file) with the token alone.",
            code=codes.VAULT_TOKEN,
        )
    return token


def _times(tries: int) -> str:
    return "once" if tries == 1 else "twice"
