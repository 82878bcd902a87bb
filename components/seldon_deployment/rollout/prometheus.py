"""Counts from a Prometheus server: raw counters at this moment, so that differences are exact.

`increase()` extrapolates to the ends of its window and gives fractions of requests. Two readings of a counter do not;
a counter that fell began anew (`analysis.Counters.since`).

Source: https://prometheus.io/docs/prometheus/latest/querying/api/.
"""

import math
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components.seldon_deployment.rollout.analysis import Counters

_LIMIT = 10_000_000


@dataclass(frozen=True)
class Queries:
    """PromQL for one version: requests, failed ones, and histograms by `le`; how many of its `unit` are a second."""

    requests: str
    errors: str
    seconds: str
    scores: str
    unit: float = 1.0


class Prometheus:
    """A server, asked by its HTTP API."""

    def __init__(self, url: str, token_file: Path | None = None) -> None:
        """Take the server at an address.

        Args:
            url: http or https address.
            token_file: file with a bearer token; none: no token.
        """
        self._url, self._token_file = url.rstrip("/"), token_file

    def counters(self, queries: Queries) -> Counters:
        """Return what was counted so far.

        Raises:
            ServiceUnreachable: it does not answer, or not as Prometheus does.
        """
        return Counters(
            self._number(queries.requests),
            self._number(queries.errors),
            {bound / queries.unit: count for bound, count in self._histogram(queries.seconds).items()},
            self._histogram(queries.scores),
        )

    def _number(self, query: str) -> float:
        return sum(value for _, value in self._ask(query))

    def _histogram(self, query: str) -> dict[float, float]:
        return {float(labels["le"]): value for labels, value in self._ask(query) if "le" in labels}

    def _ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            if self._token_file:
                headers["Authorization"] = f"Bearer {self._token_file.read_text().strip()}"
            data = urllib.parse.urlencode({"query": query}).encode()
            request = urllib.request.Request(f"{self._url}/api/v1/query", data, headers)  # noqa: S310  (settings check it)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
            with opener.open(request, timeout=10) as answer:
                document = parse_json(answer.read(_LIMIT), _LIMIT)
            return [_sample(each) for each in document["data"]["result"]]
        except (OSError, DocumentFault, KeyError, TypeError, ValueError) as error:
            raise ServiceUnreachable(
                "Prometheus does not answer.",
                evidence=f"{self._url}: {type(error).__name__}",
                remedy="Check CUSTODY_PROMETHEUS and that this task may reach it; until then no canary is promoted.",
            ) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for this server and for no other."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


def _sample(each: Any) -> tuple[dict[str, str], float]:
    value = float(each["value"][1])
    return dict(each["metric"]), value if math.isfinite(value) else 0.0
