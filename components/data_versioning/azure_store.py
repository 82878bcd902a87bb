"""Azure Data Lake Gen2 through azure-storage-blob. Every reading is held to the blob's ETag.

Encryption comes from the properties in the very answer that delivers the bytes. Azure names the encryption scope of a
blob and not the key: which key a scope uses only its management interface says. So `cmk` asks for a scope by name,
`scope:<name>`; the key of a whole account cannot be seen from a blob at all.
"""

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

_PART = 8 * CHUNK  # bytes that one question asks for
_FIELDS = ("account_key", "sas_token")


class AzureStore:
    """A container, or a part of one."""

    def __init__(self, place: Location, source: "Source") -> None:
        """Make the client; nothing is asked yet."""
        container, _, host = place.host.partition("@")
        self._shown, self._prefix = f"abfss://{place.host}", f"{place.path}/" if place.path else ""
        endpoint = source.endpoint or f"https://{host.replace('.dfs.', '.blob.', 1)}"
        self._container = _client(endpoint, host.partition(".")[0], container, source)

    @property
    def name(self) -> str:
        """The container and prefix."""
        return f"{self._shown}/{self._prefix}".rstrip("/")

    def entries(self, prefix: str) -> list[Stored]:
        """Return every blob at and below a prefix."""
        return again(lambda: self._entries(prefix), self.name)

    def read(self, key: str, pin: str | None, offset: int) -> Reading:
        """Read a blob from an offset on, held to the ETag `pin`."""
        from azure.core import MatchConditions

        held = {"etag": pin, "match_condition": MatchConditions.IfNotModified} if pin else {}
        with self._refusals(key):
            answer = self._container.download_blob(
                self._prefix + key, offset=offset or None, length=None, max_concurrency=1, **held
            )
        found = answer.properties
        size, scope = answer.size + offset, found.encryption_scope
        told = str(getattr(found, "content_range", None) or "")
        if offset and not told.startswith(f"bytes {offset}-"):
            raise no_range(self.name, key, offset)
        kept = AtRest("AES256" if found.server_encrypted else None, f"scope:{scope}" if scope else None)
        return Reading(size, found.etag, kept, self._chunks(answer, key), found.version_id)

    def rule(self) -> str | None:
        """Return the container's default encryption scope; None when there is none or it may not be read."""
        from azure.core.exceptions import AzureError

        try:
            found = self._container.get_container_properties().encryption_scope
        except AzureError:
            return None  # recorded only: what counts is each blob
        return f"scope:{found.default_encryption_scope}" if found else None

    def _entries(self, prefix: str) -> list[Stored]:
        start = self._prefix + prefix
        with self._refusals(prefix):
            found = list(self._container.list_blobs(name_starts_with=start or None, include=["metadata"]))
        below = f"{start}/" if prefix else start
        cut = len(self._prefix)
        return [
            Stored(blob.name[cut:], blob.size, _quoted(blob.etag))
            for blob in found
            if (blob.name == start or blob.name.startswith(below)) and not _is_folder(blob)
        ]

    def _chunks(self, answer: Any, key: str) -> Generator[bytes, None, None]:
        with self._refusals(key):
            yield from answer.chunks()

    @contextmanager
    def _refusals(self, key: str) -> Generator[None, None, None]:
        """Turn Azure's errors into what another attempt may help, and what a person has to look at."""
        from azure.core.exceptions import (
            AzureError,
            ClientAuthenticationError,
            HttpResponseError,
            ResourceNotFoundError,
            ServiceRequestError,
            ServiceResponseError,
        )

        try:
            yield
        except ResourceNotFoundError as error:
            raise missing(self.name, key) from error
        except ClientAuthenticationError as error:
            raise denied(self.name, key, "401") from error
        except HttpResponseError as error:
            status = error.status_code or 0
            if status in (304, 412, 416):
                raise changed(self.name, key, "it was written again, or is shorter now") from error
            if status == 403:
                raise denied(self.name, key, "403") from error
            raise Interrupted(f"the server answered {status}", codes.STORE_FAILING) from error
        except (ServiceRequestError, ServiceResponseError, ConnectionError, TimeoutError) as error:
            raise Interrupted(type(error).__name__, codes.STORE_SILENT) from error
        except AzureError as error:
            raise Interrupted(type(error).__name__, codes.TRANSFER) from error


def _client(endpoint: str, account: str, container: str, source: "Source") -> Any:
    from azure.storage.blob import ContainerClient

    credential: Any
    if source.credentials:
        given = read_fields(source.credentials, (), _FIELDS)
        if len(given) != 1:
            raise Misconfigured(
                "The credentials of a source are not exactly one of an account key and a SAS token.",
                evidence=f"{source.credentials}: {len(given)} of {', '.join(_FIELDS)}",
                remedy="Store a JSON object with one of them.",
                code=codes.STORE_CREDENTIALS,
            )
        ((kind, value),) = given.items()
        # A mapping names the account also where the address does not, as with an emulator.
        credential = value if kind == "sas_token" else {"account_name": account, "account_key": value}
    else:
        from azure.identity import DefaultAzureCredential

        credential = DefaultAzureCredential()
    return ContainerClient(
        endpoint,
        container,
        credential=credential,
        max_single_get_size=_PART,
        max_chunk_get_size=_PART,
        connection_timeout=10,
        read_timeout=60,
        retry_total=0,  # ours come back to where a transfer broke
    )


def _quoted(etag: str) -> str:
    """Return an ETag as the answers to a reading have it; listings have it without quotation marks."""
    return etag if etag.startswith('"') else f'"{etag}"'


def _is_folder(blob: Any) -> bool:
    """Tell whether this is what a hierarchical namespace lists for a folder."""
    return bool((blob.metadata or {}).get("hdi_isfolder") == "true" and not blob.size)
