"""Personal data in free text, found by Google Cloud DLP (Sensitive Data Protection).

Texts leave the cluster for Google. What comes back are places in the texts; masking, and looking again at what was
masked, stay here. Anything but a complete answer is a refusal. No text, and no message of the service (it may quote
one), is repeated.

Requests stay below the service's limits of 0.5 MB, 50,000 table cells and 3,000 findings. `CUSTODY_DLP_PARENT` says in
which project and region; the credentials are Google's application default ones, such as the task's own service account.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import CustodyError, InputRefused, Misconfigured, ServiceUnreachable
from kfp_custody.components.pii_masking.policy import Rule
from kfp_custody.components.pii_masking.spans import Span

PARENT = "CUSTODY_DLP_PARENT"
INFO_TYPES = {
    "PERSON": "PERSON_NAME",
    "LOCATION": "LOCATION",
    "STREET_ADDRESS": "STREET_ADDRESS",
    "ORGANIZATION": "ORGANIZATION_NAME",
    "PHONE_NUMBER": "PHONE_NUMBER",
    "EMAIL_ADDRESS": "EMAIL_ADDRESS",
    "CREDIT_CARD": "CREDIT_CARD_NUMBER",
    "IBAN_CODE": "IBAN_CODE",
    "US_SSN": "US_SOCIAL_SECURITY_NUMBER",
    "US_PASSPORT": "US_PASSPORT",
    "US_DRIVER_LICENSE": "US_DRIVERS_LICENSE_NUMBER",
    "IP_ADDRESS": "IP_ADDRESS",
    "URL": "URL",
    "DATE_TIME": "DATE",
    "AGE": "AGE",
}
"""The entities that a policy names -> the service's detectors."""
_ENTITIES = {info_type: entity for entity, info_type in INFO_TYPES.items()}
LIKELIHOODS = ((0.8, "VERY_LIKELY"), (0.6, "LIKELY"), (0.4, "POSSIBLE"), (0.2, "UNLIKELY"), (0.0, "VERY_UNLIKELY"))
"""The least threshold of a rule -> the least likelihood of a finding."""
MAX_BYTES = 400_000
MAX_CELLS = 10_000
DEADLINE = 120.0
"""Seconds that one request may take, with everything that is tried again."""
FIRST_WAIT = 1.0
_TRANSPORT = "google.cloud.dlp_v2.services.dlp_service.transports.grpc"
_LOGGERS = ("google.api_core.retry", "google.cloud.dlp_v2.services.dlp_service.client", _TRANSPORT)
"""They log requests and the messages of errors."""


class DlpDetector:
    """Finds the entities of free-text rules."""

    def __init__(self, rules: Sequence[Rule], connect: Callable[[], Any] | None = None) -> None:
        """Check the rules and connect.

        Args:
            rules: The free-text rules.
            connect: Makes the client; Google's own with application default credentials when left out.

        Raises:
            Misconfigured: The client is not installed, no project is named, there are no credentials, or a rule names
                an entity that the service has no detector for.
        """
        unknown = sorted({name for rule in rules for name in rule.options["entities"]} - set(INFO_TYPES))
        if unknown:
            raise Misconfigured(
                "The masking policy names entities that Google DLP is not asked for.",
                evidence=f"unknown: {', '.join(unknown)}",
                remedy=f"Use some of: {', '.join(sorted(INFO_TYPES))}.",
            )
        self._parent = os.environ.get(PARENT, "")
        if not re.fullmatch(r"projects/[a-z0-9:.-]+/locations/[a-z0-9-]+", self._parent):
            raise Misconfigured(
                "It is not configured where Google DLP runs.",
                evidence=f"{PARENT} is not of the form projects/P/locations/L",
                remedy=f"Set {PARENT} to the project that pays and the region that texts may be sent to.",
            )
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_withhold)
        self._client = (connect or _connect)()
        self.versions = {"engine": "google_dlp", "google-cloud-dlp": metadata.version("google-cloud-dlp")}
        # Google publishes no digest of its detectors: what they are asked is all that can be bound.
        self.asked_sha256 = sha256_bytes(json.dumps([INFO_TYPES, LIKELIHOODS, self._parent], sort_keys=True).encode())

    def find(self, rule: Rule, texts: Sequence[str]) -> Iterator[tuple[Span, ...]]:
        """Yield the spans of each text.

        Raises:
            InputRefused: A text is too large, or holds more findings than the service returns.
            ServiceUnreachable: The service did not answer in time, or refused.
        """
        for batch in batches(rule.column, texts):
            yield from self._inspect(rule, batch)

    def _inspect(self, rule: Rule, texts: Sequence[str]) -> list[tuple[Span, ...]]:
        result = self._asked(rule, texts)
        if not result.findings_truncated:
            return _spans(rule.column, texts, result.findings)
        if len(texts) == 1:
            raise _too_much(rule.column, "one text holds more findings than are returned")
        half = len(texts) // 2
        return [*self._inspect(rule, texts[:half]), *self._inspect(rule, texts[half:])]

    def _asked(self, rule: Rule, texts: Sequence[str]) -> Any:
        from google.api_core import exceptions, retry
        from google.auth.exceptions import GoogleAuthError

        request = {
            "parent": self._parent,
            "inspect_config": {
                "info_types": [{"name": INFO_TYPES[entity]} for entity in rule.options["entities"]],
                "min_likelihood": likelihood(float(rule.options["threshold"])),
                "include_quote": False,
            },
            "item": {
                "table": {
                    "headers": [{"name": "text"}],
                    "rows": [{"values": [{"string_value": text}]} for text in texts],
                }
            },
        }
        again = retry.if_exception_type(exceptions.ResourceExhausted, exceptions.ServiceUnavailable)
        patience = retry.Retry(again, initial=FIRST_WAIT, maximum=30.0, multiplier=2.0, timeout=DEADLINE)
        try:
            return self._client.inspect_content(request=request, retry=patience, timeout=DEADLINE).result
        except (exceptions.GoogleAPIError, GoogleAuthError) as error:
            why = error.cause if isinstance(error, exceptions.RetryError) and error.cause else error
            kind = type(why).__name__
        # Outside of the handler: the error quotes the service, which may quote the text.
        raise ServiceUnreachable(
            "Google DLP did not examine the texts, so nothing is published.",
            evidence=f"{rule.column!r}: {kind} from {self._parent}",
            remedy=f"Check that the service is enabled, the quota, the credentials (they need dlp.content.inspect) and "
            f"{PARENT}; then run the step again.",
        )


def _withhold(record: logging.LogRecord) -> bool:
    return False


def likelihood(threshold: float) -> str:
    """Return the least likelihood for a rule's threshold."""
    return next(name for least, name in LIKELIHOODS if threshold >= least)


def batches(column: str, texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut texts into requests, in order.

    Raises:
        InputRefused: A single text is too large.
    """
    batch: list[str] = []
    size = 0
    for text in texts:
        needed = len(text.encode()) + 32  # and what the message adds to a cell
        if needed > MAX_BYTES:
            raise _too_much(column, f"one text is larger than {MAX_BYTES} bytes")
        if batch and (size + needed > MAX_BYTES or len(batch) == MAX_CELLS):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += needed
    if batch:
        yield batch


def _spans(column: str, texts: Sequence[str], findings: Sequence[Any]) -> list[tuple[Span, ...]]:
    """Place findings in their texts; one that cannot be placed is a refusal, never left out."""
    found: list[set[Span]] = [set() for _ in texts]
    for finding in findings:
        places = finding.location.content_locations
        entity = _ENTITIES.get(finding.info_type.name)
        row = places[0].record_location.table_location.row_index if len(places) == 1 else -1
        if entity is None or not 0 <= row < len(texts):
            raise _unplaced(column)
        start, end = _range(texts[row], finding.location)
        if not 0 <= start < end <= len(texts[row]):
            raise _unplaced(column)
        found[row].add(Span(start, end, entity))
    return [tuple(sorted(spans)) for spans in found]


def _range(text: str, location: Any) -> tuple[int, int]:
    """Return the characters of a finding; (-1, -1) when its bytes do not fall between characters."""
    if location.codepoint_range.end:
        return location.codepoint_range.start, location.codepoint_range.end
    data, ends = text.encode(), (location.byte_range.start, location.byte_range.end)
    try:
        return (len(data[: ends[0]].decode()), len(data[: ends[1]].decode())) if ends[1] <= len(data) else (-1, -1)
    except UnicodeDecodeError:
        return -1, -1


def _connect() -> Any:
    try:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import dlp_v2
    except ImportError as error:
        raise Misconfigured(
            "The client of Google DLP is not installed.",
            evidence=f"{error.name} is missing",
            remedy="Use the room's image built WITH=dlp, or install kfp-custody[pii-masking-dlp].",
        ) from error
    try:
        return dlp_v2.DlpServiceClient()
    except GoogleAuthError as error:
        kind = type(error).__name__
    raise Misconfigured(
        "There are no credentials for Google DLP.",
        evidence=kind,
        remedy="Give the task a service account by workload identity, or set GOOGLE_APPLICATION_CREDENTIALS.",
    )


def _too_much(column: str, why: str) -> CustodyError:
    return InputRefused(
        "A free text is too much for Google DLP, so nothing is published.",
        evidence=f"{column!r}: {why}",
        remedy="Shorten it, or drop the column in the policy.",
    )


def _unplaced(column: str) -> CustodyError:
    return ServiceUnreachable(
        "Google DLP found something whose place in the text cannot be told, so nothing is published.",
        evidence=f"{column!r}: a finding of an unknown kind, row or range",
        remedy="Compare the version of google-cloud-dlp with the lock; run the step again.",
    )
