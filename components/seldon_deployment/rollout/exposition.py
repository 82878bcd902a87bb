"""Reading counters from the text that Prometheus reads, of Envoy and of the model server."""

import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from kfp_custody.components._shared.errors import ServiceUnreachable

# gRPC statuses that are the server's fault: what 5xx is to HTTP.
GRPC_FAULTS = frozenset(("2", "4", "12", "13", "14", "15"))


def samples(text: str) -> Iterator[Sample]:
    """Return every sample of an exposition."""
    for family in text_string_to_metric_families(text):
        yield from family.samples


def scrape(url: str, timeout: float = 5.0) -> str:
    """Fetch an exposition from a server of ours on this machine.

    Raises:
        ServiceUnreachable: no answer.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            return str(answer.read().decode())
    except (OSError, ValueError) as error:
        raise ServiceUnreachable(
            "The metrics of a model server cannot be read.",
            evidence=f"{url}: {type(error).__name__}",
            remedy="Look whether it runs; its log is beside its server.json.",
        ) from error


def scores_of(text: str, model: str) -> dict[str, dict[float, float]]:
    """Return the histogram of scores of each version of a model, by its digest."""
    found: dict[str, dict[float, float]] = defaultdict(dict)
    for sample in samples(text):
        if sample.name == "custody_inference_score_bucket" and sample.labels.get("model") == model:
            found[sample.labels["version"]][float(sample.labels["le"])] = sample.value
    return dict(found)
