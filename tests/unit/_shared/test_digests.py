"""Listings: what sha256sum prints, strictly read, and nothing that could make two trees look alike."""

import hashlib
import shlex
import subprocess
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfp_custody.components._shared.digests import (
    Entry,
    Listing,
    list_tree,
    read_listing,
    read_tree,
    require_same,
    sha256_bytes,
    sha256_file,
)
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused

A, B = "a" * 64, "b" * 64


def test_the_identity_is_what_the_shell_computes(tmp_path: Path) -> None:
    """in-toto's dirHash1, by coreutils."""
    names = [
        "z",
        "a b",
        "B",
        "é/ü.txt",
        "é.txt",
        "a/b/c",
        "a-b",
        "a.b",
        "日本",
        "😀",
        "\ufb01",
        "-x",
        "'q\"",
        ".git/HEAD",
        "$x",
    ]
    for number, name in enumerate(names):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(b"x" * number)
    listing = list_tree(tmp_path / "tree")
    files = r"find . -type f | cut -c3- | LC_ALL=C sort | xargs -d '\n' sha256sum --"
    shell = f"cd {shlex.quote(str(tmp_path / 'tree'))} && {files}"
    assert subprocess.run(["sh", "-c", shell], capture_output=True, check=True).stdout == listing.text
    assert listing.sha256 == hashlib.sha256(listing.text).hexdigest()
    assert listing.size == sum(range(len(names)))
    (tmp_path / "SHA256SUMS").write_bytes(listing.text)
    subprocess.run(["sha256sum", "--strict", "--quiet", "-c", "../SHA256SUMS"], cwd=tmp_path / "tree", check=True)
    assert [(e.name, e.sha256) for e in read_listing(listing.text, "x").entries] == [
        (e.name, e.sha256) for e in listing.entries
    ]


@pytest.mark.parametrize("batch", [1, 200_000, 2**60])
def test_the_listing_is_the_same_however_the_work_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    contents = {f"{name % 3}/{name:02d}": bytes([name]) * (name * 10_000) for name in range(40)}
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr("kfp_custody.components._shared.digests._BATCH", batch)
    monkeypatch.setattr("kfp_custody.components._shared.digests._BUFFER", 65_536)
    assert list_tree(tmp_path).entries == tuple(
        Entry(name, hashlib.sha256(contents[name]).hexdigest(), len(contents[name])) for name in sorted(contents)
    )


def test_one_file_is_listed_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "month.parquet").write_bytes(b"rows")
    assert list_tree(tmp_path / "month.parquet").entries == (Entry("month.parquet", sha256_bytes(b"rows"), 4),)


def test_names_count_as_well_as_contents(tmp_path: Path) -> None:
    for folder, name in (("one", "model.pkl"), ("two", "model.pkm")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"x")
    assert list_tree(tmp_path / "one").sha256 != list_tree(tmp_path / "two").sha256


def test_an_empty_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(InputRefused, match="tree/: 0 files"):
        list_tree(tmp_path / "tree")


def test_a_tree_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="'tree' does not exist"):
        list_tree(tmp_path / "tree")


def test_a_root_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "data").write_bytes(b"rows")
    (tmp_path / "tree").symlink_to("real")
    with pytest.raises(InputRefused, match="'tree' is not a regular file"):
        list_tree(tmp_path / "tree")


def test_hashing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"rows")
    (tmp_path / "link").symlink_to("data")
    assert sha256_file(tmp_path / "data") == hashlib.sha256(b"rows").hexdigest()
    with pytest.raises(OSError, match="symbolic link"):
        sha256_file(tmp_path / "link")


def listed(**files: str) -> Listing:
    return Listing(tuple(Entry(name, digest) for name, digest in sorted(files.items())))


def test_a_tree_in_memory_is_what_was_listed(tmp_path: Path) -> None:
    files = {"a": b"1", "part/ü": b"", "part/deep/b": b"x" * 100_000, "Z": b"\0"}
    for name, data in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(data)
    listing, read = read_tree(tmp_path / "tree")
    assert listing == list_tree(tmp_path / "tree")
    assert read == files
    (tmp_path / "tree" / "a").write_bytes(b"2")
    assert read["a"] == b"1"
    (tmp_path / "tree" / "link").symlink_to("a")
    with pytest.raises(InputRefused):
        read_tree(tmp_path / "tree")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputRefused):
        read_tree(tmp_path / "nothing")


def test_the_same_tree_is_the_same() -> None:
    require_same(listed(a=A, b=B), listed(a=A, b=B), "dataset")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (listed(a=A, b=A), f"changed 'b' (expected {B}, found {A})"),
        (listed(a=A), "missing 'b'"),
        (listed(a=A, b=B, c=A), "unexpected 'c'"),
        (listed(a=A, c=B), "missing 'b'; unexpected 'c'"),
        (listed(c=A, d=A, e=A), "missing 'a'; missing 'b'; unexpected 'c'; and 2 more"),
    ],
)
def test_a_difference_names_the_artifact_the_file_and_both_digests(found: Listing, said: str) -> None:
    expected = listed(a=A, b=B)
    with pytest.raises(EvidenceInvalid, match=r"^\[CUS-E215\] masked dataset:") as refusal:
        require_same(expected, found, "masked dataset")
    assert said in refusal.value.evidence
    assert f"expected sha256:{expected.sha256}, found sha256:{found.sha256}" in refusal.value.evidence


def clean(name: str) -> bool:
    parts = name.split("/")
    return unicodedata.normalize("NFC", name) == name and not any(part in ("", ".", "..") for part in parts)


LETTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\")
NAMES = st.lists(st.text(LETTERS, min_size=1, max_size=8), min_size=1, max_size=3).map("/".join).filter(clean)


def a_tree(files: dict[str, str]) -> bool:
    """Tell whether a tree can have these files: no file is a folder, no two names differ in case alone."""
    parts = [name.split("/") for name in files]
    paths = {"/".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}
    folders = {"/".join(part[:length]) for part in parts for length in range(1, len(part))}
    return not folders & set(files) and len({path.casefold() for path in paths}) == len(paths)


DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)


@settings(deadline=None)
@given(st.dictionaries(NAMES, DIGESTS, min_size=1, max_size=8).filter(a_tree))
def test_reading_gives_what_was_listed(files: dict[str, str]) -> None:
    entries = (Entry(name, digest) for name, digest in files.items())
    listing = Listing(tuple(sorted(entries, key=lambda entry: entry.name.encode())))
    assert read_listing(listing.text, "x") == listing


@settings(deadline=None)
@given(st.dictionaries(NAMES, DIGESTS, min_size=1, max_size=3), st.integers(0, 500), st.binary(max_size=3))
def test_there_is_one_way_to_write_a_listing(files: dict[str, str], at: int, junk: bytes) -> None:
    """Whatever is accepted is byte for byte what its entries would be written as."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items())).encode()
    spoilt = text[: at % len(text)] + junk + text[at % len(text) + len(junk) :]
    with suppress(EvidenceInvalid):
        assert read_listing(spoilt, "x").text == spoilt
