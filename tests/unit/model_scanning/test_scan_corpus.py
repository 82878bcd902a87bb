"""No malicious file passes, no benign one is refused; nothing is imported or run while they are looked at."""

import io
import pickle
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benign_files import benign_files
from malicious_files import bombs, dumped, malicious_files, odd_tars

from kfp_custody.components.model_scanning.allowing import Allowed, load_allowed
from kfp_custody.components.model_scanning.formats import FAILED, Item, Scanner, format_of
from kfp_custody.components.model_scanning.scanning import mapped

ALLOWED = load_allowed("default")
_watched: list[str] = []
_is_watching = False


def _watch(event: str, args: tuple[object, ...]) -> None:
    if _is_watching and event.partition(".")[0] in ("import", "exec", "pickle", "subprocess", "socket", "ctypes"):
        _watched.append(f"{event} {args[:1]}")


sys.addaudithook(_watch)


@pytest.fixture
def nothing_runs() -> Iterator[None]:
    global _is_watching
    modules = set(sys.modules)
    _watched.clear()
    _is_watching = True
    try:
        yield
    finally:
        _is_watching = False
    assert _watched == []
    assert set(sys.modules) == modules


def scan(data: bytes, scratch: Path, allowed: Allowed = ALLOWED) -> list[Item]:
    return list(Scanner(allowed, scratch).scan(memoryview(data), "file"))


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus") / "marker"


@pytest.fixture(scope="module")
def malicious(marker: Path) -> dict[str, list[bytes]]:
    return malicious_files(marker)


@pytest.fixture(scope="module")
def benign() -> dict[str, bytes]:
    return benign_files()


def test_the_corpus_is_large_enough(malicious: dict[str, list[bytes]], benign: dict[str, bytes]) -> None:
    different = {data for files in malicious.values() for data in files}
    assert len(malicious) >= 25
    assert len(different) >= 120
    assert len({data for name, data in benign.items() if not name.startswith("by hand")}) >= 60


def test_no_malicious_file_passes(
    malicious: dict[str, list[bytes]], marker: Path, tmp_path: Path, nothing_runs: None
) -> None:
    passed = [
        f"{kind}, {number}"
        for kind, files in malicious.items()
        for number, data in enumerate(files)
        if scan(data, tmp_path)[0].verdict != FAILED
    ]
    assert passed == []
    assert not marker.exists()


def test_no_benign_file_is_refused(benign: dict[str, bytes], tmp_path: Path, nothing_runs: None) -> None:
    refused = {
        f"{name}: {item.name}: {item.finding}"
        for name, data in benign.items()
        for item in scan(data, tmp_path)
        if item.verdict == FAILED
    }
    assert refused == set()


def test_what_unpacks_to_more_than_the_limit_fails(tmp_path: Path, nothing_runs: None) -> None:
    narrow = replace(ALLOWED, limits=replace(ALLOWED.limits, expanded=2 << 20))
    for data in bombs():
        findings = [item.finding for item in scan(data, tmp_path, narrow)]
        assert any("more bytes than the limit" in finding for finding in findings), findings
    assert list(tmp_path.iterdir()) == [], "nothing is left of what was unpacked"


def test_whatever_python_opens_as_a_tar_is_seen_as_one() -> None:
    for data in odd_tars():
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert archive.getnames() == ["a.pkl"]
        assert format_of(memoryview(data)) == "tar"


@pytest.mark.parametrize("write", [dumped, lambda array: pickle.dumps(array, 4)], ids=["joblib", "pickle"])
def test_a_large_array_is_stepped_over(write: Callable[[Any], bytes], tmp_path: Path, nothing_runs: None) -> None:
    path = tmp_path / "large"
    path.write_bytes(write(np.zeros(15_000_000)))
    tracemalloc.start()
    (item,) = Scanner(ALLOWED, tmp_path).scan(mapped(path), "large")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert item.verdict == "WARNED"
    assert path.stat().st_size > 118_000_000
    assert peak < 1 << 20, "bytes of Python's own for 120 MB of array"
