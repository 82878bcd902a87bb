"""The processors of a container are those of its limit."""

import os
from pathlib import Path

import pytest

from kfp_custody.components._shared.processors import processors

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("0 100000\n", 1),
        ("150000 100000\n", min(2, ALL)),
        ("100000000 100000\n", ALL),
        ("max 100000\n", ALL),
        ("", ALL),
        ("\n1\n2\n3", ALL),
    ],
)
def test_the_limit_counts_where_there_is_one(tmp_path: Path, text: str, count: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert processors(tmp_path / "cpu.max") == count


def test_without_a_container_the_machine_counts(tmp_path: Path) -> None:
    assert processors(tmp_path / "none") == ALL
