"""The model server's log of requests: one JSON object a line, without inputs, in files of bounded size.

| field | what |
|---|---|
| time | when the answer was given, UTC, RFC 3339 with milliseconds |
| model, version | of the verified model that answered |
| id | the request's own id, where it has a plain one (letters, digits and `._:-`, at most 64) |
| outcome | `answered`, or `refused`: it does not fit the model |
| rows, seconds | how many rows, and what it took |
| scores | probability of class 1 of each row, of the first hundred |
| inputs | keyed digest of all inputs, 32 hex digits: equal requests have equal ones while this server runs |

The key of `inputs` is made when the server starts and is nowhere else: who has the log cannot try out inputs.
"""

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from kfp_custody.components.seldon_deployment.serving.inputs import Column

BYTES, FILES = 20_000_000, 5
"""How large a file becomes, and how many older ones are kept."""
SCORES = 100
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RequestLog:
    """Writes to a file, and begins a new one when it is full."""

    def __init__(self, path: Path) -> None:
        """Open the file for appending.

        Raises:
            OSError: it cannot be written.
        """
        self._key = secrets.token_bytes(32)
        self._handler = RotatingFileHandler(path, maxBytes=BYTES, backupCount=FILES, encoding="utf-8")
        self._logger = logging.Logger("custody-requests")
        self._logger.addHandler(self._handler)

    def answered(
        self,
        model: str,
        version: str,
        request_id: str | None,
        columns: Mapping[str, Column],
        scores: Sequence[float],
        seconds: float,
    ) -> None:
        """Write a line about an answer."""
        more = {
            "rows": len(scores),
            "scores": [round(score, 6) for score in scores[:SCORES]],
            "inputs": self._digest(columns),
        }
        self._write(model, version, request_id, "answered", seconds, more)

    def refused(self, model: str, version: str, request_id: str | None, seconds: float) -> None:
        """Write a line about a request that does not fit the model."""
        self._write(model, version, request_id, "refused", seconds, {})

    def _write(
        self, model: str, version: str, request_id: str | None, outcome: str, seconds: float, more: Mapping[str, object]
    ) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "model": model,
            "version": version,
            **({"id": request_id} if request_id and _ID.fullmatch(request_id) else {}),
            "outcome": outcome,
            "seconds": round(seconds, 6),
            **more,
        }
        self._logger.info("%s", json.dumps(line, separators=(",", ":")))

    def _digest(self, columns: Mapping[str, Column]) -> str:
        # NaN is no JSON, but the same text each time, and nobody reads it back.
        text = json.dumps(columns, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=16).hexdigest()
