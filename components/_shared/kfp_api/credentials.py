"""Who asks: a token or a session that exists already, read from a file and never shown."""

import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.settings import KfpSettings
from kfp_custody.components._shared.signers.private_files import read_private_text

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
# Names that only resolve inside of a cluster: KFP's own service speaks no TLS, and a service mesh adds it below.
_IN_CLUSTER: Final = (".svc", ".svc.cluster.local")


def read_token(path: Path) -> str:
    """Read a bearer token.

    Raises:
        Misconfigured: it cannot be read, may be read by others, or would not fit into a header.
    """
    return _header_text(path, "token for Kubeflow Pipelines", "--token-file or CUSTODY_KFP_TOKEN_FILE")


def read_cookies(path: Path) -> str:
    """Read the cookies of a session, as a Cookie header has them.

    Raises:
        Misconfigured: as for a token, or it is not of the form name=value; name=value.
    """
    text = _header_text(path, "session for Kubeflow Pipelines", "--cookies-file or CUSTODY_KFP_COOKIES_FILE")
    if not all("=" in cookie for cookie in text.rstrip("; ").split(";")):
        raise Misconfigured(
            "The session for Kubeflow Pipelines cannot be used.",
            evidence=f"{path} is not of the form name=value; name=value",
            remedy="Write the value of the Cookie header into it that your browser sends after the login.",
            code=codes.KFP_CREDENTIALS,
        )
    return text


def require_safe(settings: KfpSettings) -> None:
    """Refuse to send a token or a session where everybody on the way can read it.

    Raises:
        Misconfigured: the address is http:// and neither this machine nor a service of the cluster, or the CA file is
            unusable.
    """
    try:
        ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # an ssl.SSLError is one
        raise Misconfigured(
            "The CA file for Kubeflow Pipelines cannot be used.",
            evidence=f"{settings.ca_file}: {error.strerror or 'no certificate in PEM'}",
            remedy="Correct --ca-cert, or SSL_CERT_FILE.",
            code=codes.KFP_CREDENTIALS,
        ) from error
    address = urlsplit(settings.host or "")
    host = address.hostname or ""
    plain = address.scheme == "http" and host not in _LOOPBACK and not host.endswith(_IN_CLUSTER)
    if plain and (settings.token_file or settings.cookies_file):
        raise Misconfigured(
            "The token or session would be sent unencrypted.",
            evidence=f"http://{host}, which is neither this machine nor a service inside of the cluster",
            remedy="Use the https:// address, or kubectl port-forward and http://localhost.",
            code=codes.KFP_PLAINTEXT,
        )


def _header_text(path: Path, purpose: str, variable: str) -> str:
    text = read_private_text(path, purpose, variable)
    if not text.isascii():
        # What cannot stand in a header would be quoted by the error of the library that tries.
        raise Misconfigured(
            f"The {purpose} cannot be used.",
            evidence=f"{path} is not one line of ASCII",
            remedy=f"Write the {purpose} into it, and nothing else.",
            code=codes.KFP_CREDENTIALS,
        )
    return text
