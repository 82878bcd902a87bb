"""Transfers that break: a proxy between the stage and a real store cuts connections after some bytes."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from object_stores import S3, Azure, Gcs, ObjectStore, azurite, fake_gcs, seaweedfs

from fetched_sources import Fetcher
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import CustodyError, ServiceUnreachable
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.data_versioning import retrying

pytestmark = pytest.mark.services
ENGINES = {"s3": "s3", "gcs": "gcs", "azure": "azure"}
BIG = os.urandom(3_000_000)


@dataclass
class Line:
    """A proxy on the loopback interface.

    Attributes:
        port: Where it listens.
        target: Where the server listens.
        cuts: How many connections it still cuts.
        after: Bytes of answers after which it does.
        done: How many it cut.
        when_cut: What happens at that moment.
    """

    port: int = 0
    target: int = 0
    cuts: int = 0
    after: int = 0
    done: int = 0
    when_cut: Callable[[], None] = lambda: None


@contextmanager
def a_line() -> Iterator[Line]:
    """Run a proxy; the server behind it may come later."""
    listening = socket.create_server(("127.0.0.1", 0))
    line, stop = Line(listening.getsockname()[1]), threading.Event()

    def pump(source: socket.socket, target: socket.socket, answers: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65_536):
                if answers and line.cuts and passed + len(data) > line.after:
                    line.cuts, line.done = line.cuts - 1, line.done + 1
                    target.sendall(data[: max(line.after - passed, 0)])
                    line.when_cut()
                    break
                target.sendall(data)
                passed += len(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while not stop.is_set():
            try:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", line.target))
            except OSError:
                return
            for ends in ((near, far, False), (far, near, True)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    try:
        yield line
    finally:
        stop.set()
        listening.shutdown(
            socket.SHUT_RDWR
        )  # wakes the thread, which would else take the connections of a later server
        serving.join()
        listening.close()


@pytest.fixture(scope="module", params=list(ENGINES))
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ObjectStore, str, Line]]:
    """A store, its engine, and the line that leads to it."""
    root = tmp_path_factory.mktemp("behind")
    with a_line() as line:
        start: Any = {
            "s3": lambda: seaweedfs(root),
            "gcs": lambda: fake_gcs(root, f"http://127.0.0.1:{line.port}"),
            "azure": lambda: azurite(root),
        }[request.param]
        with start() as store:
            line.target = int(store.endpoint.split(":")[2].split("/")[0])
            store.put("lines/big.bin", BIG)
            store.put("lines/small.csv", b"a\n1\n")
            through = store.endpoint.replace(f":{line.target}", f":{line.port}")
            yield replace(store, endpoint=through), ENGINES[request.param], line


@pytest.fixture
def fetcher(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    monkeypatch.setattr(retrying, "PAUSE", 0.001)
    return Fetcher(tmp_path, settings)


def test_a_transfer_goes_on_where_it_broke(fetcher: Fetcher, behind: tuple[S3 | Gcs | Azure, str, Line]) -> None:
    store, engine, line = behind
    fetcher.allow({"prefix": store.uri(""), "engine": engine, **store.entry})
    line.cuts, line.after, line.done = 2, 1_200_000, 0
    fetcher(store.uri("lines"))
    assert line.done == 2
    assert sha256_bytes((fetcher.data / "big.bin").read_bytes()) == sha256_bytes(BIG)
    assert (fetcher.data / "small.csv").read_bytes() == b"a\n1\n"


def test_a_line_that_breaks_again_and_again_is_given_up(
    fetcher: Fetcher, behind: tuple[S3 | Gcs | Azure, str, Line]
) -> None:
    store, engine, line = behind
    fetcher.allow({"prefix": store.uri(""), "engine": engine, **store.entry})
    line.cuts, line.after, line.done = 10_000, 20_000, 0
    try:
        with pytest.raises(ServiceUnreachable) as caught:
            fetcher(store.uri("lines/big.bin"))
    finally:
        line.cuts = 0
    assert caught.value.code in (codes.TRANSFER, codes.STORE_SILENT, codes.STORE_FAILING)
    assert fetcher.left() == []
    assert line.done >= 5


def test_an_object_that_is_written_again_while_the_line_is_down_is_another_one(
    fetcher: Fetcher, behind: tuple[S3 | Gcs | Azure, str, Line]
) -> None:
    store, engine, line = behind
    fetcher.allow({"prefix": store.uri(""), "engine": engine, **store.entry})
    direct = replace(store, endpoint=store.endpoint.replace(f":{line.port}", f":{line.target}"))
    line.cuts, line.after, line.done = 1, 1_200_000, 0
    line.when_cut = lambda: direct.put("lines/big.bin", BIG[::-1])
    try:
        with pytest.raises(CustodyError) as caught:
            fetcher(store.uri("lines/big.bin"))
    finally:
        line.cuts, line.when_cut = 0, lambda: None
        direct.put("lines/big.bin", BIG)
    assert line.done == 1
    assert caught.value.code in (codes.OBJECT_CHANGED, codes.OBJECT_MISSING)
    assert fetcher.left() == []
