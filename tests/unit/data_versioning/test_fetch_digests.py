"""What `dvc add` of the locked version wrote, fetched again: every digest is the same, also of 10,000 files."""

import json
from pathlib import Path

import yaml

from fetched_sources import Fetcher, dvc_project, write_files
from kfp_custody.components._shared.digests import list_tree

MANY = {f"part-{number % 97:02}/row {number}.csv": b"%d\n" % (number * number) for number in range(10_000)}
TREES: dict[str, dict[str, bytes] | bytes] = {
    "many": MANY,
    "names": {"ü/é.txt": b"1", "日本/データ.csv": b"2", "a b/c'd": b"3", "deep/er/est/x": b"", "Z": b"Z", "a": b"a"},
    "crlf.csv": b"a\r\nb\r\n",  # DVC 2 made its MD5 of text with other line ends
    "big.bin": bytes(range(256)) * 20_000,
    "empty": b"",
}


def test_what_dvc_added_comes_back_with_its_digests(tmp_path: Path, fetcher: Fetcher) -> None:
    commit = dvc_project(tmp_path / "project", tmp_path / "remote", TREES)
    repository = tmp_path / "project-git"
    entry = {"prefix": f"git+file://{tmp_path}/", "engine": "dvc", "remote": str(tmp_path / "remote")}
    fetcher.allow(entry)
    for name, content in TREES.items():
        one = Fetcher(tmp_path / f"fetched-{name}", fetcher.settings)
        done = one(f"git+file://{repository}//{name}", commit)
        files = {name: content} if isinstance(content, bytes) else content
        assert done.listing == list_tree(write_files(tmp_path / f"expected-{name}", files))
        (out,) = yaml.safe_load((repository / f"{name}.dvc").read_text())["outs"]
        record = json.loads((one.evidence / "fetch-manifest.json").read_bytes())
        if isinstance(content, bytes):
            assert record["files"][0]["md5"] == done.listing.entries[0].md5 == out["md5"]
            assert record["files"][0]["size"] == out["size"]
        else:
            assert out["nfiles"] == len(record["files"]) == len(content)
            assert out["size"] == sum(file["size"] for file in record["files"])
            listed = (tmp_path / "remote/files/md5" / out["md5"][:2] / out["md5"][2:]).read_bytes()
            assert {one["relpath"]: one["md5"] for one in json.loads(listed)} == {
                file["path"]: file["md5"] for file in record["files"]
            }
