"""Google Cloud Storage through google-cloud-storage. Every reading is held to one generation of the object.

A generation never changes, and the key that it is encrypted with is a property of it: so the metadata of the generation
that is read says how the very bytes are kept. Reading happens in ranges of a chunk, so nothing has to be resumed.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.data_versioning.credentials import read_fields
from kfp_custody.components.data_versioning.encryption import AtRest
from kfp_custody.components.data_versioning.locations import Location
from kfp_custody.components.data_versioning.objects import (
    CHUNK,
    Interrupted,
    Reading,
    Stored,
    changed,
    denied,
    missing,
    no_range,
)
from kfp_custody.components.data_versioning.retrying import again

if TYPE_CHECKING:
    from kfp_custody.components.data_versioning.sources import Source

_READ_ONLY = "https://www.googleapis.com/auth/devstorage.read_only"
_PARTS = 8  # chunks that one question asks for
_TIMEOUT = (10.0, 60.0)


class GcsStore:
    """A bucket, or a part of one."""

    def __init__(self, place: Location, source: "Source") -> None:
        """Make the client; nothing is asked yet."""
        self._bucket_name, self._prefix = place.host, f"{place.path}/" if place.path else ""
        with self._refusals(""):
            self._bucket = _client(source).bucket(place.host)

    @property
    def name(self) -> str:
        """The bucket and prefix."""
        return f"gs://{self._bucket_name}/{self._prefix}".rstrip("/")

    def entries(self, prefix: str) -> list[Stored]:
        """Return every object at and below a prefix."""
        return again(lambda: self._entries(prefix), self.name)

    def read(self, key: str, pin: str | None, offset: int) -> Reading:
        """Read an object from an offset on, held to the generation `pin`."""
        with self._refusals(key):
            blob = self._bucket.get_blob(self._prefix + key, timeout=_TIMEOUT, retry=None)
        if blob is None:
            raise missing(self.name, key)
        generation = str(blob.generation)
        if pin is not None and pin != generation:
            raise changed(self.name, key, "it was written again")
        # Google encrypts everything; the emulator's silence about a key is "its own".
        kept = AtRest("AES256", _without_version(blob.kms_key_name))
        return Reading(blob.size, generation, kept, self._chunks(blob, key, offset), generation)

    def rule(self) -> str | None:
        """Return the bucket's default key; None when there is none or it may not be read."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        try:
            self._bucket.reload(timeout=_TIMEOUT, retry=None)
        except (GoogleAPIError, GoogleAuthError, RequestException):
            return None  # recorded only: what counts is each object
        return self._bucket.default_kms_key_name  # type: ignore[no-any-return]

    def _entries(self, prefix: str) -> list[Stored]:
        start = self._prefix + prefix
        with self._refusals(prefix):
            found = list(self._bucket.list_blobs(prefix=start, timeout=_TIMEOUT, retry=None))
        below = f"{start}/" if prefix else start
        cut = len(self._prefix)
        return [
            Stored(blob.name[cut:], blob.size, str(blob.generation))
            for blob in found
            if blob.name == start or blob.name.startswith(below)
        ]

    def _chunks(self, blob: Any, key: str, offset: int) -> Generator[bytes, None, None]:
        while offset < blob.size:
            end = min(offset + _PARTS * CHUNK, blob.size) - 1
            with self._refusals(key):
                data = blob.download_as_bytes(
                    start=offset,
                    end=end,
                    raw_download=True,  # the bytes as they are stored, also of what is stored compressed
                    if_generation_match=blob.generation,
                    checksum=None,
                    timeout=_TIMEOUT,
                    retry=None,
                )
            if len(data) > end + 1 - offset:
                raise no_range(self.name, key, offset)
            if not data:
                raise Interrupted("the transfer ended early", codes.TRANSFER)
            offset += len(data)
            yield data

    @contextmanager
    def _refusals(self, key: str) -> Generator[None, None, None]:
        """Turn Google's errors into what another attempt may help, and what a person has to look at."""
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.cloud.exceptions import NotFound
        from google.resumable_media import DataCorruption, InvalidResponse
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (NotFound, GoogleAPICallError, InvalidResponse) as error:
            response = getattr(error, "response", None)
            status = int(getattr(error, "code", None) or getattr(response, "status_code", 0) or 0)
            if status == 404:
                raise missing(self.name, key) from error
            if status in (304, 412, 416):
                raise changed(self.name, key, "it was written again, or is shorter now") from error
            if status in (401, 403):
                raise denied(self.name, key, str(status)) from error
            raise Interrupted(f"the server answered {status}", codes.STORE_FAILING) from error
        except (TransportError, RequestException, ConnectionError, TimeoutError) as error:
            raise Interrupted(type(error).__name__, codes.STORE_SILENT) from error
        except (DataCorruption, HTTPError) as error:  # a raw download breaks with urllib3's own error
            raise Interrupted("the transfer ended early", codes.TRANSFER) from error
        except GoogleAuthError as error:
            raise Misconfigured(
                "There are no credentials for the store that Google accepts.",
                evidence=f"{self.name}: {type(error).__name__}",
                remedy="Name them in the sources file, or give the task's workload an identity of the cloud.",
                code=codes.STORE_CREDENTIALS,
            ) from error


def _client(source: "Source") -> Any:
    from google.auth import default
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage
    from google.oauth2 import service_account

    if source.credentials:
        text = read_fields(source.credentials, ("service_account",))["service_account"]
        try:
            info = json.loads(text)
            made = service_account.Credentials.from_service_account_info(info, scopes=[_READ_ONLY])  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, AttributeError):
            made = None
        if made is None:
            # Outside the except block, so that an error that may quote the key is not chained.
            raise Misconfigured(
                "The credentials of a source are no service account key of Google.",
                evidence=source.credentials,
                remedy="Store the JSON key file as the text service_account.",
                code=codes.STORE_CREDENTIALS,
            )
    elif source.endpoint:
        made = AnonymousCredentials()  # type: ignore[no-untyped-call]  # the workload's identity is for Google, not for a server of one's own
    else:
        made, _ = default(scopes=[_READ_ONLY])
    options = {"api_endpoint": source.endpoint} if source.endpoint else None
    return storage.Client(project="none", credentials=made, client_options=options)


def _without_version(key: str | None) -> str | None:
    """Return a key's name without the version: `.../cryptoKeys/k/cryptoKeyVersions/1`."""
    return key.split("/cryptoKeyVersions/")[0] if key else None
