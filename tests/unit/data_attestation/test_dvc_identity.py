"""DVC's identity is what DVC itself computes, and what was pushed comes back byte for byte."""

import contextlib
import hashlib
import io
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from genuine_chain import write_tree
from kfp_custody.components._shared.digests import Listing, list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured, ServiceUnreachable
from kfp_custody.components.data_attestation.dvc_identity import DvcIdentity, dvc_identity
from kfp_custody.components.data_attestation.dvc_remote import push

FILES = {
    "data.parquet": b"rows" * 1000,
    "empty": b"",
    "part/deep/more.parquet": b"more",
    "part.x": b"sorts before part/ in bytes",
    "ä.txt": b"umlaut",
    "\ufb01": b"sorts after an emoji by UTF-16 but before it by bytes",
    "\U0001f600": b"emoji",
    "a b 'c'": b"quotes",
}


@pytest.fixture(autouse=True)
def cache_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")


def dvc_add(work: Path, path: Path) -> bytes:
    """Let DVC add a copy of a file or directory; returns the pointer file that it writes."""
    from dvc.repo import Repo

    work.mkdir()
    copy = shutil.copytree if path.is_dir() else shutil.copyfile
    copy(path, work / path.name)
    with contextlib.redirect_stdout(io.StringIO()), Repo.init(str(work), no_scm=True) as repo:
        repo.add(str(work / path.name))
    return (work / f"{path.name}.dvc").read_bytes()


def test_a_directory_is_named_as_dvc_names_it_and_comes_back(tmp_path: Path) -> None:
    from dvc.repo import Repo

    dataset = write_tree(tmp_path / "dataset", FILES)
    identity = dvc_identity(dataset, list_tree(dataset, md5=True))
    assert identity.pointer("dataset") == dvc_add(tmp_path / "added", dataset)
    assert (identity.files, identity.size) == (len(FILES), sum(map(len, FILES.values())))

    remote = tmp_path / "remote"
    remote.mkdir()
    assert push(dataset, str(remote), identity.md5) == len(FILES) + 1
    assert push(dataset, str(remote), identity.md5) == 0

    pulled = tmp_path / "pulled"
    pulled.mkdir()
    (pulled / "dataset.dvc").write_bytes(identity.pointer("dataset"))
    with (
        contextlib.redirect_stdout(io.StringIO()),
        Repo.init(str(pulled), no_scm=True) as repo,
        repo.config.edit() as config,
    ):
        config["remote"]["custody"] = {"url": str(remote)}
        config["core"]["remote"] = "custody"
    with Repo(str(pulled)) as repo:
        repo.pull()
    assert list_tree(pulled / "dataset") == list_tree(dataset)


def test_one_file_is_named_as_dvc_names_it(tmp_path: Path) -> None:
    path = tmp_path / "month.parquet"
    path.write_bytes(b"rows" * 500_000)
    identity = dvc_identity(path, list_tree(path, md5=True))
    assert identity.files is None
    assert identity.pointer("month.parquet") == dvc_add(tmp_path / "added", path)


def test_both_names_come_from_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changed between two readings would give an attestation of one and a DVC identity of the other."""
    dataset = write_tree(tmp_path / "dataset", FILES)
    read: Counter[int] = Counter()
    readv = os.readv

    def counted(descriptor: int, buffers: Sequence[bytearray]) -> int:
        count = readv(descriptor, buffers)
        read[os.fstat(descriptor).st_ino] += count
        return count

    monkeypatch.setattr(os, "readv", counted)
    listing = list_tree(dataset, md5=True)
    identity = dvc_identity(dataset, listing)
    assert dict(read) == {(dataset / name).stat().st_ino: len(data) for name, data in FILES.items()}
    monkeypatch.undo()
    assert listing == list_tree(dataset)
    assert [entry.md5 for entry in listing.entries] == [
        hashlib.md5((dataset / entry.name).read_bytes()).hexdigest() for entry in listing.entries
    ]
    assert identity.size == sum(read.values())


def test_a_listing_without_md5_names_nothing(tmp_path: Path) -> None:
    dataset = write_tree(tmp_path / "dataset", FILES)
    with pytest.raises(AssertionError, match="without MD5"):
        dvc_identity(dataset, list_tree(dataset))


def test_the_pointer_says_what_dvc_needs() -> None:
    assert DvcIdentity("d41d.dir", 7, 2).pointer("dataset").decode().splitlines() == [
        "outs:",
        "- md5: d41d.dir",
        "  size: 7",
        "  nfiles: 2",
        "  hash: md5",
        "  path: dataset",
    ]


def test_other_bytes_are_not_pushed(tmp_path: Path) -> None:
    dataset = write_tree(tmp_path / "dataset", {"data": b"rows"})
    with pytest.raises(EvidenceInvalid, match=r"dataset expected md5:00\.dir, DVC read md5:[0-9a-f]{32}\.dir"):
        push(dataset, str(tmp_path / "remote"), "00.dir")
    assert not (tmp_path / "remote").exists()


@pytest.mark.parametrize(
    ("remote", "kind", "said"),
    [
        ("nosuch://bucket", Misconfigured, "nosuch://bucket: ConfigError"),
        ("s3://key:secret@bucket/x", Misconfigured, r"s3://\*\*\*@bucket/x: ImportError"),
        ("/proc/nowhere", ServiceUnreachable, "/proc/nowhere: FileNotFoundError"),
    ],
)
def test_a_remote_that_takes_nothing_is_said(tmp_path: Path, remote: str, kind: type[Exception], said: str) -> None:
    dataset = write_tree(tmp_path / "dataset", {"data": b"rows"})
    md5 = dvc_identity(dataset, list_tree(dataset, md5=True)).md5
    with pytest.raises(kind, match=said) as refusal:
        push(dataset, remote, md5)
    assert "secret" not in str(refusal.value)


def test_sorting_is_by_characters_not_by_bytes(tmp_path: Path) -> None:
    """DVC sorts by code points; so does UTF-8, but not UTF-16: the order must not depend on the listing's."""
    dataset = write_tree(tmp_path / "dataset", FILES)
    listing = list_tree(dataset, md5=True)
    shuffled = Listing(tuple(reversed(listing.entries)))
    assert dvc_identity(dataset, shuffled) == dvc_identity(dataset, listing)
