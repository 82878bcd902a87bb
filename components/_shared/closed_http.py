"""HTTP that asks the servers it was made for, and nobody else: for Git and Git LFS, whose answers hold addresses."""

import ssl
from typing import Any
from urllib.parse import urlsplit

import urllib3

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid

_PORTS = {"https": 443, "http": 80}
_TIMEOUT = urllib3.Timeout(connect=10, read=60)


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL; nothing that it may hold besides, such as a token, is in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS.get(parts.scheme)}"


class ClosedPool(urllib3.PoolManager):
    """Asks only the given servers, follows no redirect, and takes nothing from the environment but CA certificates."""

    def __init__(self, *urls: str, connections: int = 1) -> None:
        """Make it for the servers of some URLs.

        Args:
            urls: Of each server, any URL.
            connections: How many to one server are kept open for the next request.
        """
        # The default context honours SSL_CERT_FILE and verifies certificate and host name.
        context = ssl.create_default_context()
        super().__init__(maxsize=connections, retries=False, timeout=_TIMEOUT, ssl_context=context)
        self._allowed = {origin_of(url) for url in urls}

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> Any:  # type: ignore[override]
        """Ask one of the servers.

        Raises:
            EvidenceInvalid: the URL is of another server, or the answer is a redirect.
            HTTPError: of urllib3.
        """
        self.require(url)
        answer = super().urlopen(method, url, redirect=False, **options)
        if answer.get_redirect_location():
            answer.release_conn()
            raise _sent_elsewhere(f"{origin_of(url)} answers with a redirect")
        return answer

    def require(self, url: str) -> None:
        """Refuse a URL of another server.

        Raises:
            EvidenceInvalid: it is, or it is none.
        """
        try:
            known = origin_of(url) in self._allowed and not urlsplit(url).username
        except ValueError:
            known = False
        if not known:
            raise _sent_elsewhere(f"a server other than {', '.join(sorted(self._allowed))} is named")


def _sent_elsewhere(why: str) -> EvidenceInvalid:
    return EvidenceInvalid(
        "A server sends this stage to a place that the platform does not allow.",
        evidence=why,
        remedy="If that place is right, the platform's team names it in the sources file or the settings.",
        code=codes.SENT_ELSEWHERE,
    )
