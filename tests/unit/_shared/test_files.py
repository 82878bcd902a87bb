"""Nothing half-written is ever found."""

import os
from pathlib import Path

import pytest

from kfp_custody.components._shared.files import atomic_directory, write_atomic


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with atomic_directory(target) as partial:
        (partial / "data").write_bytes(b"rows")
        assert not target.exists()
    assert (target / "data").read_bytes() == b"rows"
    assert target.stat().st_mode & 0o777 == 0o755
    assert os.listdir(target.parent) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with atomic_directory(tmp_path / "out") as partial:
            (partial / "data").write_bytes(b"rows")
            raise error

    with pytest.raises(error):
        fail()
    assert os.listdir(tmp_path) == []


def test_an_empty_directory_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_directory(tmp_path / "out") as partial:
        (partial / "data").touch()
    assert (tmp_path / "out" / "data").exists()


def full_directory(target: Path) -> None:
    target.mkdir()
    (target / "old").write_bytes(b"somebody's")


def file(target: Path) -> None:
    target.write_bytes(b"somebody's")


def link(target: Path) -> None:
    (target.parent / "elsewhere").mkdir()
    target.symlink_to("elsewhere")


@pytest.mark.parametrize("occupy", [full_directory, file, link])
def test_what_is_somebody_elses_is_not_replaced(tmp_path: Path, occupy: object) -> None:
    target = tmp_path / "out"
    occupy(target)  # type: ignore[operator]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match="out"), atomic_directory(target) as partial:
        (partial / "data").touch()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_appears_whole_with_its_mode(tmp_path: Path) -> None:
    write_atomic(tmp_path / "deep" / "key", b"secret", mode=0o600)
    write_atomic(tmp_path / "deep" / "key", b"new", mode=0o600)
    assert (tmp_path / "deep" / "key").read_bytes() == b"new"
    assert (tmp_path / "deep" / "key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "deep") == ["key"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="out"):
        write_atomic(tmp_path / "out", b"x")
    write_atomic(tmp_path / "file", b"old")
    with pytest.raises(TypeError):
        write_atomic(tmp_path / "file", "no bytes")  # type: ignore[arg-type]
    assert (tmp_path / "file").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "out"]
