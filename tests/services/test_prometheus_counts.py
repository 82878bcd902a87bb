"""Counts of versions from a real Prometheus, which scrapes what the model server's own telemetry exports."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components.seldon_deployment import child
from kfp_custody.components.seldon_deployment.rollout.cluster import ClusterTarget, Setup
from kfp_custody.components.seldon_deployment.rollout.on_kserve import KServe
from kfp_custody.components.seldon_deployment.rollout.on_seldon_v1 import SeldonV1
from kfp_custody.components.seldon_deployment.rollout.on_seldon_v2 import SeldonV2
from kfp_custody.components.seldon_deployment.rollout.prometheus import Prometheus, Queries
from kfp_custody.components.seldon_deployment.rollout.target import version_of
from kfp_custody.components.seldon_deployment.serving import telemetry
from services.prometheus_server import PrometheusServer
from unit.seldon_deployment.test_seldon_v2 import ADMITTED

pytestmark = pytest.mark.services
VERSION = version_of(ADMITTED)


@dataclass
class Counted:
    """A running Prometheus, and the counts of Seldon's agent and Envoy that it scrapes."""

    url: str
    requests: Counter
    envoy: Gauge

    def wait_for(self, queries: Queries, requests: float) -> None:
        deadline = time.monotonic() + 30
        while (found := Prometheus(self.url).counters(queries)).requests != requests or not found.scores:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    root = tmp_path_factory.mktemp("prometheus")
    served, mesh, port = child.free_ports(3)
    registry = CollectorRegistry()
    requests = Counter("seldon_model_infer", "As Seldon's agent counts", ("model_internal", "code"), registry=registry)
    labels = ("envoy_cluster_name", "envoy_response_code")
    envoy = Gauge("envoy_cluster_upstream_rq", "As Envoy counts: without _total", labels, registry=registry)
    servers = [
        start_http_server(served, "127.0.0.1", telemetry.REGISTRY),
        start_http_server(mesh, "127.0.0.1", registry),
    ]
    server = PrometheusServer(root, port, [f"127.0.0.1:{served}", f"127.0.0.1:{mesh}"], "200ms")
    try:
        server.start()
        yield Counted(server.url, requests, envoy)
    finally:
        server.stop()
        for http, thread in servers:
            http.shutdown()
            http.server_close()
            thread.join()


def queries(kind: type[ClusterTarget]) -> Queries:
    return kind("fraud", None, 1, Setup("", "", None))._queries(VERSION)  # type: ignore[arg-type]


def test_what_was_answered_is_counted_exactly(counted: Counted) -> None:
    name = f"fraud-{VERSION.digest[:8]}_1"
    ours = telemetry.Telemetry(name, VERSION.digest, ("amount",))
    other = telemetry.Telemetry("fraud-99999999_1", "9" * 64, ("amount",))
    scores = np.array([0.05, 0.35, 0.95])
    for seconds in (0.002, 0.02, 0.2):
        ours.answered({"amount": [1.0, 2.0, 3.0]}, scores, seconds)
    other.answered({"amount": [1.0]}, np.array([0.5]), 0.01)
    counted.requests.labels(name, "200").inc(3)
    counted.requests.labels(name, "503").inc(2)
    counted.requests.labels("fraud-99999999_1", "200").inc(50)
    for cluster, code, times in (("_http", "200", 3), ("_http", "502", 4), ("_grpc", "504", 1), ("0_http", "502", 7)):
        counted.envoy.labels(name + cluster, code).inc(times)
    counted.envoy.labels("fraud-99999999_1_http", "502").inc(50)
    asked = queries(SeldonV2)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                counted.wait_for(asked, 17)
                break
            except ServiceUnreachable:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        found = Prometheus(counted.url).counters(asked)
    finally:
        ours.end()
        other.end()
    assert (found.requests, found.errors) == (17, 14), "with what Envoy alone saw, of both copies of the model"
    assert found.seconds[0.0025] == 1
    assert found.seconds[0.025] == 2
    assert max(found.seconds.values()) == 3
    assert (found.scores[0.1], found.scores[0.4], found.scores[1.0]) == (3, 6, 9)


@pytest.mark.parametrize("kind", [SeldonV2, SeldonV1, KServe])
def test_every_query_is_one_that_prometheus_takes_and_nothing_is_counted_as_nothing(
    counted: Counted, kind: type[ClusterTarget]
) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            found = Prometheus(counted.url).counters(queries(kind))
            break
        except ServiceUnreachable:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert found.requests >= 0
    if kind is not SeldonV2:
        assert (found.requests, found.errors, found.seconds) == (0, 0, {})


def test_a_query_that_is_none_and_a_server_that_is_not_there_are_told(counted: Counted, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnreachable, match="does not answer"):
        Prometheus(counted.url).counters(Queries("sum(", "1", "1", "1"))
    (tmp_path / "token").write_text("not-a-secret")
    with pytest.raises(ServiceUnreachable, match="does not answer") as refusal:
        Prometheus("http://127.0.0.1:9", tmp_path / "token").counters(queries(SeldonV2))
    assert "not-a-secret" not in str(refusal.value)
