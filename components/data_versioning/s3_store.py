"""S3 and what speaks like it, through boto3. Every reading is one GET that is held to the object's ETag.

The encryption is taken from the headers of the very answer that delivers the bytes. S3 gives a key's ARN and not who
manages it: a pattern `key/*` also lets AWS's own key of the account pass, so name the key.
"""

from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.data_versioning.credentials import read_fields
from kfp_custody.components.data_versioning.encryption import AtRest
from kfp_custody.components.data_versioning.locations import Location
from kfp_custody.components.data_versioning.objects import (
    CHUNK,
    THREADS,
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

_FIELDS = ("access_key_id", "secret_access_key")
_GONE = {"NoSuchKey", "NoSuchBucket", "NotFound", "404"}
_OTHER = {"PreconditionFailed", "412", "InvalidRange", "416"}


class S3Store:
    """A bucket, or a part of one."""

    def __init__(self, place: Location, source: "Source") -> None:
        """Make the client; nothing is asked yet."""
        import boto3
        from botocore.config import Config

        given = read_fields(source.credentials, _FIELDS, ("session_token",)) if source.credentials else {}
        self._bucket, self._prefix = place.host, f"{place.path}/" if place.path else ""
        self._client = boto3.session.Session().client(
            "s3",
            endpoint_url=source.endpoint,
            region_name=source.region or ("us-east-1" if source.endpoint else None),
            aws_access_key_id=given.get("access_key_id"),
            aws_secret_access_key=given.get("secret_access_key"),
            aws_session_token=given.get("session_token"),
            config=Config(
                ignore_configured_endpoint_urls=True,  # the sources file says where, and nothing else
                s3={"addressing_style": "path" if source.endpoint else "auto"},
                max_pool_connections=THREADS,
                connect_timeout=10,
                read_timeout=60,
                retries={"total_max_attempts": 1},  # ours come back to where a transfer broke
                response_checksum_validation="when_required",
            ),
        )

    @property
    def name(self) -> str:
        """The bucket and prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def entries(self, prefix: str) -> list[Stored]:
        """Return every object at and below a prefix."""
        return again(lambda: self._list(prefix), self.name)

    def read(self, key: str, pin: str | None, offset: int) -> Reading:
        """Read an object from an offset on, held to the ETag `pin`."""
        held = {"IfMatch": pin} if pin else {}
        ranged = {"Range": f"bytes={offset}-"} if offset else {}
        with self._refusals(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **held, **ranged)
        body, length = answer["Body"], int(answer["ContentLength"])
        size = offset + length
        if offset and answer.get("ContentRange") != f"bytes {offset}-{size - 1}/{size}":
            body.close()
            raise no_range(self.name, key, offset)
        return Reading(
            size=size,
            pin=answer["ETag"],
            at_rest=AtRest(answer.get("ServerSideEncryption"), answer.get("SSEKMSKeyId")),
            chunks=self._chunks(body, key),
            version=answer.get("VersionId"),
        )

    def rule(self) -> str | None:
        """Return the bucket's rule for new objects; None when there is none or it may not be read."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = self._client.get_bucket_encryption(Bucket=self._bucket)["ServerSideEncryptionConfiguration"]
            rule = found["Rules"][0]["ApplyServerSideEncryptionByDefault"]
        except (BotoCoreError, ClientError, LookupError):
            return None  # recorded only: what counts is each object
        return " ".join(filter(None, (rule.get("SSEAlgorithm"), rule.get("KMSMasterKeyID"))))

    def _list(self, prefix: str) -> list[Stored]:
        start = self._prefix + prefix
        found = []
        with self._refusals(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start):
                for entry in page.get("Contents", ()):
                    if entry["Key"] == start or entry["Key"].startswith(f"{start}/" if prefix else start):
                        found.append(Stored(entry["Key"][len(self._prefix) :], entry["Size"], entry["ETag"]))
        return found

    def _chunks(self, body: Any, key: str) -> Generator[bytes, None, None]:
        with self._refusals(key), closing(body):
            yield from body.iter_chunks(CHUNK)

    @contextmanager
    def _refusals(self, key: str) -> Generator[None, None, None]:
        """Turn botocore's errors into what another attempt may help, and what a person has to look at."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if code in _GONE:
                raise missing(self.name, key) from error
            if code in _OTHER:
                raise changed(self.name, key, "it was written again, or is shorter now") from error
            if status in (401, 403):
                raise denied(self.name, key, code) from error
            if status >= 500 or status == 429:
                raise Interrupted(f"the server answered {status} {code}", codes.STORE_FAILING) from error
            raise Misconfigured(
                "The store does not accept the request.",
                evidence=f"{key!a} in {self.name}: {status} {code}",
                remedy="Check endpoint, region and bucket in the sources file.",
                code=codes.STORE_DENIED,
            ) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise Misconfigured(
                "There are no credentials for the store.",
                evidence=f"{self.name}: {type(error).__name__}",
                remedy="Name them in the sources file, or give the task's workload an identity of the cloud.",
                code=codes.STORE_CREDENTIALS,
            ) from error
        except (BotoCoreError, HTTPError, ConnectionError, TimeoutError) as error:
            raise Interrupted(type(error).__name__, codes.STORE_SILENT) from error
