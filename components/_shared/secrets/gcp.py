"""Secrets in Google Secret Manager: `gcp-secretmanager:projects/P/secrets/S[/versions/V][#field]`, newest when no V.

Credentials are Google's application default: workload identity of the service account, or the file that
GOOGLE_APPLICATION_CREDENTIALS names.
"""

import logging
import re

from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.secrets.fields import of_json, split_field
from kfp_custody.components._shared.secrets.secret import Reading, Source

_NAME = re.compile(r"projects/[^/]+/(locations/(?P<location>[a-z0-9-]+)/)?secrets/[^/]+(?P<version>/versions/[^/]+)?")


def source(rest: str, lifetime: float) -> Source:
    """Return what reads the version of the secret."""
    path, field = split_field(rest)
    where = f"gcp-secretmanager:{rest}"
    match = _NAME.fullmatch(path)
    if match is None:
        raise Misconfigured(
            "The URI names no secret.",
            evidence=where,
            remedy="Use gcp-secretmanager:projects/P/secrets/S or .../versions/V.",
        )
    name = path if match["version"] else f"{path}/versions/latest"
    options = {"api_endpoint": f"secretmanager.{match['location']}.rep.googleapis.com"} if match["location"] else None

    def read() -> Reading:
        import google_crc32c
        import requests
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.secretmanager import SecretManagerServiceClient

        # At DEBUG, the client means to log whole answers (and stumbles over them in the version tested here).
        logger = logging.getLogger("google.cloud.secretmanager_v1")
        logger.setLevel(max(logging.INFO, logger.level))
        try:
            # REST: a read needs no gRPC channel, and proxies and CA bundles work as they do for every other store.
            with SecretManagerServiceClient(transport="rest", client_options=options) as client:
                payload = client.access_secret_version(name=name, timeout=5, retry=None).payload
        except GoogleAuthError as error:
            raise _denied(where, type(error).__name__) from None  # the cause may quote the credentials' file
        except exceptions.ClientError as error:
            if isinstance(error, exceptions.TooManyRequests):
                raise _unreachable(where, type(error).__name__) from error
            raise _denied(where, type(error).__name__) from error
        except (exceptions.GoogleAPIError, requests.RequestException) as error:
            raise _unreachable(where, type(error).__name__) from error
        if google_crc32c.value(payload.data) != payload.data_crc32c:
            raise _unreachable(where, "the value does not match its checksum")
        return Reading(of_json(payload.data, field, where), lifetime)

    return read


def _denied(where: str, why: str) -> Misconfigured:
    return Misconfigured(
        "Google Secret Manager does not give this secret to this task.",
        evidence=f"{where}: {why}",
        remedy="Check the name and version, that it is enabled, and the task's workload identity"
        " (roles/secretmanager.secretAccessor).",
    )


def _unreachable(where: str, why: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        "Google Secret Manager did not answer, or answered with an error.",
        evidence=f"{where}: {why}",
        remedy="Check the network of this task, and try again.",
    )
