"""Sources to fetch from, for tests: a sources file, a Git repository, and datasets that DVC itself added and pushed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from dulwich import porcelain

from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.data_versioning.fetching import FetchedDataset, fetch

RUN = "fraud-detection-test-run"
AUTHOR = b"Tester <tester@example.org>"

# Two blocks of 128 bytes with one MD5: the pair that X. Wang, D. Feng, X. Lai and H. Yu published in 2004
# (https://eprint.iacr.org/2004/199), as it is commonly reproduced.
WANG_FIRST = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a"
    "085125e8f7cdc99fd91dbdf280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
)
WANG_SECOND = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f8955ad340609f4b30283e4888325f1415a"
    "085125e8f7cdc99fd91dbd7280373c5bd8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
)


@dataclass
class Fetcher:
    """Fetches with a sources file of its own; what it writes is in `data` and `evidence`."""

    root: Path
    settings: Settings

    @property
    def data(self) -> Path:
        return self.root / "out" / "data"

    @property
    def evidence(self) -> Path:
        return self.root / "out" / "evidence"

    def allow(self, *entries: Mapping[str, Any]) -> None:
        path = self.root / "allowed.yaml"
        path.write_text(yaml.safe_dump({"version": 1, "sources": list(entries)}))
        self.settings = replace(self.settings, sources=path)

    def __call__(self, uri: str, revision: str = "") -> FetchedDataset:
        return fetch(uri, revision, self.data, self.evidence, RUN, self.settings)

    def left(self) -> list[str]:
        """Names of what is there after a refusal: nothing should be."""
        out = self.root / "out"
        return sorted(os.listdir(out)) if out.exists() else []


def secret_file(path: Path, text: str) -> str:
    """Write a secret; return its URI."""
    path.write_text(text)
    path.chmod(0o600)
    return f"file:{path}"


def write_files(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write a tree of files."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def commit_all(root: Path, message: str = "data") -> str:
    """Commit everything below a folder, which becomes a repository when it is none; return the full commit."""
    if not (root / ".git").exists():
        porcelain.init(str(root))
    names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and ".git" not in path.parts]
    porcelain.add(str(root), [str(root / name) for name in names])
    return porcelain.commit(str(root), message=message.encode(), author=AUTHOR, committer=AUTHOR).decode()


def dvc_project(root: Path, remote: Path, outputs: Mapping[str, Mapping[str, bytes] | bytes]) -> str:
    """Add outputs with DVC itself, push them to a folder, and commit the pointers; return the full commit.

    The pointers stay in `root`; the data does not.
    """
    import shutil

    from dvc.config import Config
    from dvc.repo import Repo

    (root / ".dvc").mkdir(parents=True)
    with Config.init(str(root / ".dvc")).edit("repo") as config:
        config["core"]["no_scm"] = True
        config["core"]["site_cache_dir"] = str(root.parent / "dvc-site")
        config["core"]["remote"] = "test"
        config["remote"]["test"] = {"url": str(remote)}
    for name, content in outputs.items():
        if isinstance(content, bytes):
            write_files(root, {name: content})
        else:
            write_files(root / name, content)
    with Repo(str(root)) as repo:
        repo.add([str(root / name) for name in outputs])
        repo.push()
    for name in outputs:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    pointers = root.parent / f"{root.name}-git"
    for path in root.rglob("*.dvc"):
        if path.is_file():
            write_files(pointers, {str(path.relative_to(root)): path.read_bytes()})
    return commit_all(pointers)


def dvc_object(remote: Path, md5: str) -> Path:
    """Return where DVC keeps an object of a remote in a folder."""
    return remote / "files" / "md5" / md5[:2] / md5[2:]


def overwrite(path: Path, data: bytes) -> None:
    """Write over a file that DVC made read-only."""
    path.chmod(0o644)
    path.write_bytes(data)
