"""`sigstore:` signs without a key: with a certificate of minutes, got for an identity token, and an entry in a log.

`sigstore:` is the public Sigstore, `sigstore:?config=/etc/custody/sigstore.json` a private one, described by a Sigstore
client trust config. The public one's log shows everyone, for ever, who signed and the statement's digest.

The identity token (audience `sigstore`) is read anew for every signature, from the first of:

1. the file that CUSTODY_OIDC_TOKEN_FILE names, such as a projected ServiceAccount token;
2. `/var/run/sigstore/cosign/oidc-token`, the path that cosign and Tekton Chains use;
3. the CI system around us (GitHub, GitLab, Buildkite, CircleCI, Google Cloud), as the package `id` detects it.

What comes out is a whole Sigstore bundle and not only a signature, so this is no `securesystemslib` signer. sigstore is
imported when something is signed, and not before.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import load_key_settings
from kfp_custody.components._shared.signers.private_files import read_private_file

if TYPE_CHECKING:
    from sigstore.sign import SigningContext

TOKEN_PATH = Path("/var/run/sigstore/cosign/oidc-token")
AUDIENCE = "sigstore"
SILENCE = 30.0  # seconds that a server may take to answer; sigstore itself would wait for ever


def load(uri: str) -> "KeylessSigner":
    """Return the signer of a `sigstore:` URI.

    Raises:
        Misconfigured: it is neither `sigstore:` nor `sigstore:?config=/absolute/path`.
    """
    rest = uri.removeprefix("sigstore:")
    fields = dict(parse_qsl(rest[1:], keep_blank_values=True))
    if rest and not (rest.startswith("?") and set(fields) == {"config"} and fields["config"].startswith("/")):
        raise Misconfigured(
            "The signer URI is not understood.",
            evidence="scheme sigstore, followed by something else than one config",
            remedy="Use sigstore: for the public Sigstore, sigstore:?config=/absolute/path.json for a private one.",
            code=codes.SIGNER_URI,
        )
    return KeylessSigner(Path(fields["config"]) if rest else None)


class KeylessSigner:
    """Signs as the identity that the task runs under, through one Sigstore instance."""

    def __init__(self, config: Path | None = None) -> None:
        """Use the instance of a client trust config file, or the public one."""
        self._config = config

    def sign_payload(self, payload: bytes) -> dict[str, Any]:
        """Sign the bytes of an in-toto statement.

        Returns:
            A Sigstore bundle v0.3 with a certificate and one transparency log entry.

        Raises:
            Misconfigured: no identity token, one that is not accepted, or a trust config that cannot be used.
            ServiceUnreachable: Sigstore does not answer, or not as it should.
        """
        from requests import RequestException
        from sigstore._internal.fulcio.client import ExpiredCertificate, FulcioClientError
        from sigstore._internal.rekor import RekorClientError
        from sigstore.dsse import Statement
        from sigstore.errors import Error
        from sigstore.oidc import ExpiredIdentity, IdentityError, IdentityToken

        context, text = self._context(), _token()
        try:
            with context.signer(IdentityToken(text, AUDIENCE)) as signer:
                bundle = signer.sign_dsse(Statement(payload))
        except (IdentityError, ExpiredIdentity) as error:
            raise _token_refused(str(error.__cause__ or error) or "it has expired") from error
        except FulcioClientError as error:
            raise _certificate_refused(error) from error
        except RekorClientError as error:
            raise _unreachable(f"the transparency log refused the entry ({error})") from error
        except RequestException as error:
            url = error.request.url if error.request else "(no request)"
            raise _unreachable(f"{type(error).__name__} at {url}") from error
        except (ExpiredCertificate, Error, ValueError, TypeError, LookupError, AttributeError) as error:
            raise _unreachable(f"an answer that sigstore does not accept ({type(error).__name__}: {error})") from error
        result: dict[str, Any] = json.loads(bundle.to_json())
        return result

    def _context(self) -> "SigningContext":
        """Read the trust config, without asking any service of it yet (of the public one: its newest version)."""
        from requests.adapters import HTTPAdapter
        from sigstore.errors import Error, TUFError
        from sigstore.models import ClientTrustConfig
        from sigstore.sign import SigningContext

        class Impatient(HTTPAdapter):
            def send(self, request: Any, stream: bool = False, timeout: Any = None, *more: Any, **named: Any) -> Any:
                return super().send(request, stream, timeout or SILENCE, *more, **named)

        try:
            if self._config is None:
                config = ClientTrustConfig.production()
            else:
                config = ClientTrustConfig.from_json(self._config.read_text())
            services = config.signing_config
            fulcio = services.get_fulcio()
            rekor: Any = services.get_tlogs()[0]
            for session in (fulcio.session, rekor._session):
                session.mount("https://", Impatient())
                session.mount("http://", Impatient())
            return SigningContext(
                fulcio=fulcio, rekor=rekor, trusted_root=config.trusted_root, tsa_clients=services.get_tsas()
            )
        except TUFError as error:
            raise _unreachable(f"{error.message}") from error
        except OSError as error:
            raise _config_refused(f"{error.filename}: {error.strerror}") from error
        except (Error, ValueError, IndexError) as error:
            raise _config_refused(f"{self._config}: {type(error).__name__}") from error


def _token() -> str:
    path = load_key_settings().oidc_token_file or (TOKEN_PATH if TOKEN_PATH.exists() else None)
    if path is None:
        return _ambient_token()
    text = read_private_file(path, "identity token").decode(errors="replace").strip()
    if not text:
        raise _token_refused(f"{path} is empty")
    return text


def _ambient_token() -> str:
    from id import IdentityError, detect_credential
    from urllib3.exceptions import HTTPError

    try:
        found = detect_credential(AUDIENCE)
    except (IdentityError, HTTPError, OSError, ValueError) as error:
        # Behind a parenthesis the library quotes what a server answered: it is left out, and so is the chain.
        raise _token_refused(str(error).partition(" (")[0]) from None
    if not found:
        raise _token_refused(
            f"CUSTODY_OIDC_TOKEN_FILE is not set, {TOKEN_PATH} is not there, and no CI system is known"
        )
    return found


def _token_refused(why: str) -> Misconfigured:
    return Misconfigured(
        "There is no identity token that could sign without a key.",
        evidence=_short(why),
        remedy=f"Mount a token with the audience {AUDIENCE!r}, issued minutes ago, and name its file in "
        "CUSTODY_OIDC_TOKEN_FILE; in GitHub Actions, give the workflow the permission id-token: write.",
        code=codes.OIDC_TOKEN,
    )


def _certificate_refused(error: Exception) -> CustodyError:
    """Tell a token that the certificate authority refused from a certificate authority that is in trouble."""
    status = getattr(getattr(error.__cause__, "response", None), "status_code", None)
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return _token_refused(f"the certificate authority refused it with HTTP {status}")
    return _unreachable(f"the certificate authority answered with HTTP {status}" if status else str(error))


def _config_refused(why: str) -> Misconfigured:
    return Misconfigured(
        "The Sigstore instance to sign with is not configured as it must be.",
        evidence=_short(why),
        remedy="Give the client trust config of your instance as sigstore:?config=/absolute/path.json. The public one "
        "needs a place to keep its metadata: set XDG_DATA_HOME and XDG_CACHE_HOME to writable folders.",
        code=codes.SIGSTORE_CONFIG,
    )


def _unreachable(why: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        "Sigstore could not be used to sign.",
        evidence=_short(why),
        remedy="Check that the task reaches the instance, then run it again. Nothing was kept of this step.",
        code=codes.SIGSTORE,
    )


def _short(text: str) -> str:
    return ascii(" ".join(text.split())[:300])[1:-1]
