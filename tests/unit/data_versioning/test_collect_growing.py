"""Logs that somebody writes to while they are collected: growing is no fault, rotating is one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.data_versioning import collecting
from kfp_custody.components.data_versioning.collecting import CollectedLogs, collect

LINE = b'{"time": "2026-11-01T10:00:00Z", "number": %d}\n'
LINES = [LINE % number for number in range(1000)]
Act = Callable[[Path], None]


class Collector:
    """Collects from a folder in which something happens before or after the reading."""

    def __init__(self, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.settings, self.monkeypatch = root, settings, monkeypatch
        self.folder = root / "logs"
        self.folder.mkdir()
        (self.folder / "requests.jsonl").write_bytes(b"".join(LINES))
        (root / "sources.yaml").write_text(
            f"version: 1\nsources:\n  - {{prefix: {self.folder}/, engine: local, max_bytes: 1_000_000}}\n"
        )

    def __call__(self, before: Act = lambda _: None, after: Act = lambda _: None) -> CollectedLogs:
        receive = collecting.receive

        def between(*arguments: Any) -> Any:
            before(self.folder)
            done = receive(*arguments)
            after(self.folder)
            return done

        self.monkeypatch.setattr(collecting, "receive", between)
        window = ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")
        return collect(str(self.folder), *window, self.root / "out" / "l", self.root / "out" / "e", "r", self.settings)

    def kept(self) -> bytes:
        return (self.root / "out" / "l" / "requests.jsonl").read_bytes()


@pytest.fixture
def collector(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Collector:
    return Collector(tmp_path, settings, monkeypatch)


def grow(folder: Path) -> None:
    with open(folder / "requests.jsonl", "ab") as file:
        file.write(b"more" * 100_000)


def add(folder: Path) -> None:
    (folder / "another.jsonl").write_bytes(LINES[0])


def rotate(folder: Path) -> None:
    os.rename(folder / "requests.jsonl", folder / "requests.jsonl.1")
    (folder / "requests.jsonl").write_bytes(b"".join(LINES) * 2)


def truncate(folder: Path) -> None:
    os.truncate(folder / "requests.jsonl", 10)


def remove(folder: Path) -> None:
    (folder / "requests.jsonl").unlink()


@pytest.mark.parametrize("act", [grow, add])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_comes_after_the_listing_is_left_for_the_next_time(collector: Collector, act: Act, when: str) -> None:
    done = collector(**{when: act})
    assert collector.kept() == b"".join(LINES)
    assert (done.files, done.lines.kept, done.lines.unreadable) == (1, 1000, 0)


@pytest.mark.parametrize("act", [rotate, truncate, remove])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_may_be_missing_or_come_twice_is_refused(collector: Collector, act: Act, when: str) -> None:
    with pytest.raises(EvidenceInvalid) as caught:
        collector(**{when: act})
    assert caught.value.code in (codes.OBJECT_CHANGED, codes.OBJECT_MISSING)
    assert list((collector.root / "out").iterdir()) == []


def test_a_line_that_is_being_written_is_unfinished_and_no_fault(collector: Collector) -> None:
    with open(collector.folder / "requests.jsonl", "ab") as file:
        file.write(LINES[0][:20])
    lines = collector().lines
    assert (lines.kept, lines.unreadable, lines.unfinished) == (1000, 0, 1)


def test_a_last_line_without_an_end_is_whole_when_it_can_be_read(collector: Collector) -> None:
    with open(collector.folder / "requests.jsonl", "ab") as file:
        file.write(LINES[0].strip())
    assert collector().lines.kept == 1001
    assert collector.kept().endswith(LINES[0])


def test_a_symbolic_link_is_not_followed(collector: Collector) -> None:
    (collector.folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(InputRefused, match=codes.NOT_LISTABLE):
        collector()
