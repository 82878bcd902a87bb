"""What a consumer reads is what was verified, whatever happens to the path."""

from pathlib import Path

import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.verified_copies import verified_file, verified_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.parquet").write_bytes(b"a" * 3_000_000)
    (root / "deep" / "er" / "ü.txt").write_bytes(b"")
    return root


def test_a_copy_is_the_tree_and_is_gone_afterwards(tree: Path, tmp_path: Path) -> None:
    listing = list_tree(tree)
    with verified_tree(tree, listing, "dataset", tmp_path) as copy:
        assert list_tree(copy) == listing
        assert copy.stat().st_mode & 0o077 == 0  # nobody else reaches it
        (tree / "a.parquet").write_bytes(b"other")
        assert list_tree(copy) == listing
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_file_of_its_own(tree: Path, tmp_path: Path) -> None:
    file = tree / "a.parquet"
    with verified_tree(file, list_tree(file), "dataset", tmp_path) as copy:
        assert [path.name for path in copy.iterdir()] == ["a.parquet"]


def test_what_was_not_verified_is_not_copied(tree: Path, tmp_path: Path) -> None:
    listing = list_tree(tree)
    (tree / "more.parquet").write_bytes(b"more")
    with verified_tree(tree, listing, "dataset", tmp_path) as copy:
        assert list_tree(copy) == listing


@pytest.mark.parametrize("change", ["other bytes", "shorter", "longer"])
def test_changed_bytes_are_refused_and_the_copy_is_gone(tree: Path, tmp_path: Path, change: str) -> None:
    listing, file = list_tree(tree), tree / "a.parquet"
    old = file.read_bytes()
    file.write_bytes({"other bytes": b"b" + old[1:], "shorter": old[:-1], "longer": old + b"a"}[change])
    with (
        pytest.raises(EvidenceInvalid, match=r"changed 'a\.parquet'") as caught,
        verified_tree(tree, listing, "dataset", tmp_path),
    ):
        pass
    assert caught.value.code == codes.BYTES
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_link_in_the_place_of_a_file_is_not_followed(tree: Path, tmp_path: Path) -> None:
    listing, file = list_tree(tree), tree / "a.parquet"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), verified_tree(tree, listing, "dataset", tmp_path):
        pass


def test_no_path_leads_to_the_copy_of_a_file(tree: Path, tmp_path: Path) -> None:
    file = tree / "a.parquet"
    before = sorted(tmp_path.rglob("*"))
    with verified_file(file, list_tree(file), "dataset", tmp_path) as copy:
        assert sorted(tmp_path.rglob("*")) == before
        file.write_bytes(b"other")
        assert copy.read() == b"a" * 3_000_000
