"""Trees and listings that could be taken for others, or that lead a reader elsewhere."""

import hashlib
import os
import shutil
import socket
import unicodedata
from pathlib import Path

import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree, read_listing, require_same
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused

A, B = "a" * 64, "b" * 64


def link_to_file(tree: Path) -> None:
    (tree / "link").symlink_to("data")


def link_instead_of_file(tree: Path) -> None:
    shutil.copy(tree / "data", tree.parent / "elsewhere")
    (tree / "data").unlink()
    (tree / "data").symlink_to(tree.parent / "elsewhere")


def link_to_folder(tree: Path) -> None:
    (tree / "link").symlink_to("/etc")


def broken_link(tree: Path) -> None:
    (tree / "link").symlink_to("nothing")


def fifo(tree: Path) -> None:
    os.mkfifo(tree / "pipe")


def unix_socket(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{os.open(tree, os.O_RDONLY | os.O_DIRECTORY)}/socket")  # a short path


def twin_files(tree: Path) -> None:
    (tree / "Data").write_bytes(b"other rows")


def twin_folders(tree: Path) -> None:
    for name in ("part/a", "Part/b"):
        (tree / name).parent.mkdir()
        (tree / name).write_bytes(b"x")


def twin_of_a_file_and_a_folder(tree: Path) -> None:
    (tree / "DATA").mkdir()
    (tree / "DATA" / "rows").write_bytes(b"x")


def twins_beyond_ascii(tree: Path) -> None:
    for name in ("ÄRGER.csv", "ärger.csv"):
        (tree / name).write_bytes(name.encode())


def empty_subfolder(tree: Path) -> None:
    (tree / "part" / "empty").mkdir(parents=True)


def only_empty_subfolder(tree: Path) -> None:
    (tree / "data").unlink()
    (tree / "empty").mkdir()


def named(name: bytes) -> object:
    def add(tree: Path) -> None:
        with open(os.fsencode(tree) + b"/" + name, "wb") as file:
            file.write(b"x")

    return add


REFUSED_TREES = [
    (link_to_file, codes.NOT_LISTABLE, "'link' is not a regular file"),
    (link_instead_of_file, codes.NOT_LISTABLE, "'data' is not a regular file"),
    (link_to_folder, codes.NOT_LISTABLE, "'link' is not a regular file"),
    (broken_link, codes.NOT_LISTABLE, "'link' is not a regular file"),
    (fifo, codes.NOT_LISTABLE, "'pipe' is not a regular file"),
    (unix_socket, codes.NOT_LISTABLE, "'socket' is not a regular file"),
    (twin_files, codes.NAME_TWINS, "'data' and 'Data'|'Data' and 'data'"),
    (twin_folders, codes.NAME_TWINS, "'part' and 'Part'|'Part' and 'part'"),
    (twin_of_a_file_and_a_folder, codes.NAME_TWINS, "'data' and 'DATA'|'DATA' and 'data'"),
    (twins_beyond_ascii, codes.NAME_TWINS, "[.]csv' and '"),
    (empty_subfolder, codes.NOT_LISTABLE, "'part/empty/' is not a regular file or a folder with files"),
    (only_empty_subfolder, codes.NOT_LISTABLE, "'empty/' is not a regular file or a folder with files"),
    (named(b"caf\xe9"), codes.NAME_UNSAFE, r"caf\\udce9': it is not UTF-8"),
    (
        named(unicodedata.normalize("NFD", "é").encode()),
        codes.NAME_UNSAFE,
        r"'e\\u0301': it is not in Unicode normal form C",
    ),
    (named(b"a\nb"), codes.NAME_UNSAFE, r"'a\\nb': it holds a control character or a backslash"),
    (named(b"a\rb"), codes.NAME_UNSAFE, r"'a\\rb': it holds a control character or a backslash"),
    (named(b"a\\b"), codes.NAME_UNSAFE, r"it holds a control character or a backslash"),
    (named(b"\x1b[2J"), codes.NAME_UNSAFE, r"'\\x1b\[2J': it holds a control character"),
]


@pytest.mark.parametrize(("spoil", "code", "said"), REFUSED_TREES)
def test_what_a_listing_cannot_bind_is_refused(tmp_path: Path, spoil: object, code: str, said: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "data").write_bytes(b"rows")
    assert list_tree(tree).entries
    spoil(tree)  # type: ignore[operator]
    with pytest.raises(InputRefused, match=said) as refusal:
        list_tree(tree)
    assert refusal.value.remedy
    assert refusal.value.code == code
    assert str(refusal.value).isascii()


# Two blocks that Wang Xiaoyun and others published in 2004 with the same MD5. DVC, whose identity of a file is its MD5,
# calls a dataset in which one replaced the other up to date.
BLOCK = (
    "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a085125e8f7cdc99f"
    "d91dbdf280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0e99f33420f577ee8ce54b67080a80d1e"
    "c69821bcb6a8839396f9652b6ff72a70"
)
TWIN = (
    "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f8955ad340609f4b30283e4888325f1415a085125e8f7cdc99f"
    "d91dbd7280373c5bd8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0e99f33420f577ee8ce54b67080280d1e"
    "c69821bcb6a8839396f965ab6ff72a70"
)


def test_a_twin_with_the_same_md5_is_another_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "data").write_bytes(bytes.fromhex(BLOCK))
    genuine = list_tree(tree)
    (tree / "data").write_bytes(bytes.fromhex(TWIN))
    assert hashlib.md5(bytes.fromhex(TWIN)).digest() == hashlib.md5(bytes.fromhex(BLOCK)).digest()
    with pytest.raises(EvidenceInvalid, match="changed 'data'") as refusal:
        require_same(genuine, list_tree(tree), "dataset")
    assert refusal.value.code == codes.BYTES


LISTINGS = [
    (b"", codes.LISTING, "it is empty or its last line is cut off"),
    (b"\n", codes.LISTING, "line 1 is no"),
    (f"{A}  a".encode(), codes.LISTING, "last line is cut off"),
    (f"{A}  a\n{B}  b".encode(), codes.LISTING, "last line is cut off"),
    (f"{A}  a\n{B[:40]}".encode(), codes.LISTING, "last line is cut off"),
    (f"{A}  a\n{B[:40]}\n".encode(), codes.LISTING, "line 2 is no"),
    (f"{A}  a\r\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A} a\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A} *a\n".encode(), codes.LISTING, "line 1 is no"),
    (f"\\{A}  a\\nb\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  ../a\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  a/../b\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  ./a\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  /etc/passwd\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  a//b\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  a/\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  ..\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  a\\b\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  a\x00b\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  e\u0301\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A.upper()}  a\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A[:-1]}  a\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}a  a\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  a\n\n{B}  b\n".encode(), codes.LISTING, "line 2 is no"),
    (f"# comment\n{A}  a\n".encode(), codes.LISTING, "line 1 is no"),
    (f"{A}  a\n{B}  a\n".encode(), codes.LISTING, "not sorted or not unique"),
    (f"{A}  a\n{A}  a\n".encode(), codes.LISTING, "not sorted or not unique"),
    (f"{A}  b\n{B}  a\n".encode(), codes.LISTING, "not sorted or not unique"),
    (f"{A}  \ufb01\n{B}  \U0001f600\n{B}  z\n".encode(), codes.LISTING, "not sorted or not unique"),
    (f"{A}  Data\n{B}  data\n".encode(), codes.LISTING, "names differ only in case"),
    (f"{A}  Part/a\n{B}  part/b\n".encode(), codes.LISTING, "names differ only in case"),
    (f"{A}  a\n{B}  a/b\n".encode(), codes.LISTING, "a file is also a folder"),
    (f"{A}  A/b\n{B}  a\n".encode(), codes.LISTING, "names differ only in case"),
    (A.encode() + b"  caf\xe9\n", codes.LISTING, "it is not UTF-8"),
    ("\ufeff".encode() + f"{A}  a\n".encode(), codes.LISTING, "line 1 is no"),
]


@pytest.mark.parametrize(("text", "code", "said"), LISTINGS)
def test_a_listing_of_any_other_form_is_refused(text: bytes, code: str, said: str) -> None:
    with pytest.raises(EvidenceInvalid, match=said) as refusal:
        read_listing(text, "evidence/SHA256SUMS")
    assert refusal.value.code == code
    assert "evidence/SHA256SUMS" in refusal.value.evidence
