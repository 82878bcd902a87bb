"""DVC sources: pointers of a real `dvc add`, objects of a real `dvc push`, and what an intruder may do to them."""

import hashlib
import json
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from dulwich import porcelain

from fetched_sources import (
    AUTHOR,
    WANG_FIRST,
    WANG_SECOND,
    Fetcher,
    commit_all,
    dvc_object,
    dvc_project,
    overwrite,
    write_files,
)
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.evidence import FETCHING
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject

TABLE = {"january.csv": b"a,b\n1,2\n", "part/übersicht 二.csv": b"a,b\n3,4\n", "part/empty": b"", "z": b"z" * 5000}
ONE = b"a,b\n5,6\n"


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass
class Project:
    repository: Path
    remote: Path
    commit: str

    def uri(self, path: str) -> str:
        return f"git+file://{self.repository}//{path}"

    @property
    def entry(self) -> dict[str, str]:
        return {"prefix": f"git+file://{self.repository.parent}/", "engine": "dvc", "remote": str(self.remote)}

    def commit_files(self, files: dict[str, bytes]) -> str:
        write_files(self.repository, files)
        return commit_all(self.repository)

    def folder_pointer(self, entries: object, path: str = "forged") -> str:
        """Commit a pointer to a folder whose list is this."""
        data = json.dumps(entries).encode()
        target = dvc_object(self.remote, f"{md5(data)}.dir")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        text = f"outs:\n- md5: {md5(data)}.dir\n  hash: md5\n  path: {path}\n"
        return self.commit_files({f"{path}.dvc": text.encode()})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("dvc")
    outputs = {"data/table": TABLE, "data/one.csv": ONE, "twin.bin": WANG_FIRST}
    commit = dvc_project(root / "project", root / "remote", outputs)
    return Project(root / "project-git", root / "remote", commit)


@pytest.fixture
def project(made: Project, tmp_path: Path, fetcher: Fetcher) -> Project:
    """A copy of its own for each test."""
    shutil.copytree(made.repository, tmp_path / "project-git")
    shutil.copytree(made.remote, tmp_path / "remote")
    copy = Project(tmp_path / "project-git", tmp_path / "remote", made.commit)
    fetcher.allow(copy.entry)
    return copy


def refused(fetcher: Fetcher, code: str, uri: str, revision: str) -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        fetcher(uri, revision)
    assert caught.value.code == code, caught.value
    assert fetcher.left() == []
    return caught.value


# --- what arrives -----------------------------------------------------------------------------------------------------


def test_a_folder_arrives_as_dvc_added_it(fetcher: Fetcher, project: Project, tmp_path: Path, trust: Trust) -> None:
    done = fetcher(project.uri("data/table"), project.commit)
    expected = list_tree(write_files(tmp_path / "expected", TABLE))
    assert list_tree(fetcher.data) == done.listing == expected
    verified = read_evidence(fetcher.evidence, FETCHING, trust, run_id="fraud-detection-test-run")
    assert require_subject(verified, fetcher.data, "data") == expected
    build = verified.predicate["buildDefinition"]
    assert build["externalParameters"] == {"uri": project.uri("data/table"), "revision": project.commit}
    source, pointer, sources = build["resolvedDependencies"]
    assert source["digest"] == {"gitCommit": project.commit}
    text = (project.repository / "data/table.dvc").read_bytes()
    assert pointer["digest"]["sha256"] == hashlib.sha256(text).hexdigest()
    assert f"md5: {pointer['digest']['md5']}.dir" in text.decode()
    assert sources["digest"]["sha256"] == hashlib.sha256((tmp_path / "allowed.yaml").read_bytes()).hexdigest()
    record = json.loads((fetcher.evidence / "fetch-manifest.json").read_bytes())
    assert {file["path"]: (file["sha256"], file["md5"], file["size"]) for file in record["files"]} == {
        name: (hashlib.sha256(data).hexdigest(), md5(data), len(data)) for name, data in TABLE.items()
    }
    assert record["commit"] == project.commit


def test_a_single_file_lies_in_a_folder_under_its_own_name(fetcher: Fetcher, project: Project) -> None:
    done = fetcher(project.uri("data/one.csv"), project.commit)
    assert [path.name for path in fetcher.data.iterdir()] == ["one.csv"]
    assert (fetcher.data / "one.csv").read_bytes() == ONE
    assert done.metadata() == {
        "sha256": list_tree(fetcher.data).sha256,
        "commit": project.commit,
        "engine": "dvc",
        "files": 1.0,
        "bytes": float(len(ONE)),
    }


def test_an_output_of_a_stage_is_found_in_the_lock(fetcher: Fetcher, project: Project) -> None:
    out = f"{{path: out/o.csv, hash: md5, md5: {md5(ONE)}}}"
    lock = f"schema: '2.0'\nstages:\n  make:\n    cmd: x\n    outs: [{out}]\n"
    commit = project.commit_files({"data/dvc.lock": lock.encode()})
    fetcher(project.uri("data/out/o.csv"), commit)
    assert (fetcher.data / "o.csv").read_bytes() == ONE


def test_ten_thousand_files_arrive_in_seconds(fetcher: Fetcher, project: Project) -> None:
    entries = []
    for number in range(10_000):
        data = b"row %d\n" % number
        target = dvc_object(project.remote, md5(data))
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
        entries.append({"md5": md5(data), "relpath": f"{number % 100:02}/{number}.csv"})
    done = fetcher(project.uri("forged"), project.folder_pointer(entries))
    assert len(done.listing.entries) == 10_000
    assert done.listing == list_tree(fetcher.data)


# --- which commit -----------------------------------------------------------------------------------------------------


def test_a_branch_and_tags_become_the_full_commit(fetcher: Fetcher, project: Project) -> None:
    repository = str(project.repository)
    porcelain.tag_create(repository, b"light")
    porcelain.tag_create(repository, b"annotated", author=AUTHOR, message=b"of data", annotated=True)
    branch = porcelain.active_branch(repository).decode()
    for name in (branch, "light", "annotated", f"refs/heads/{branch}", "refs/tags/annotated"):
        assert fetcher(project.uri("data/one.csv"), name).commit == project.commit
        shutil.rmtree(fetcher.root / "out")


def test_a_tag_of_the_name_of_a_branch_must_be_told_apart(fetcher: Fetcher, project: Project) -> None:
    branch = porcelain.active_branch(str(project.repository)).decode()
    porcelain.tag_create(str(project.repository), branch.encode())
    later = project.commit_files({"later": b"x"})
    refusal = refused(fetcher, "CUS-E132", project.uri("data/one.csv"), branch)
    assert "both refs/heads/" in refusal.evidence
    assert fetcher(project.uri("data/one.csv"), f"refs/heads/{branch}").commit == later
    shutil.rmtree(fetcher.root / "out")
    assert fetcher(project.uri("data/one.csv"), f"refs/tags/{branch}").commit == project.commit


@pytest.mark.parametrize("revision", ["", "no-such-branch", "HEAD~1", "refs/heads/none", "-x", "a..b", "@", "x.lock"])
def test_a_revision_that_names_no_commit_is_refused(fetcher: Fetcher, project: Project, revision: str) -> None:
    refused(fetcher, "CUS-E132", project.uri("data/one.csv"), revision)


def test_an_abbreviated_commit_is_refused(fetcher: Fetcher, project: Project) -> None:
    refusal = refused(fetcher, "CUS-E132", project.uri("data/one.csv"), project.commit[:12])
    assert "abbreviated" in refusal.evidence


def test_a_commit_that_is_not_there_is_refused(fetcher: Fetcher, project: Project) -> None:
    refused(fetcher, "CUS-E266", project.uri("data/one.csv"), "ab" * 20)


def test_a_tree_is_no_commit(fetcher: Fetcher, project: Project) -> None:
    from dulwich.repo import Repo

    with Repo(str(project.repository)) as repo:
        tree = repo[project.commit.encode()].tree.decode()
    refused(fetcher, "CUS-E132", project.uri("data/one.csv"), tree)


def test_a_forged_git_object_is_refused(fetcher: Fetcher, project: Project) -> None:
    """A pointer that was written over in the repository's own store: the commit stays, its blob does not."""
    import zlib

    text = (project.repository / "data/one.csv.dvc").read_bytes()
    sha = hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()
    forged = text.replace(md5(ONE).encode(), md5(TABLE["january.csv"]).encode())
    path = project.repository / ".git/objects" / sha[:2] / sha[2:]
    overwrite(path, zlib.compress(b"blob %d\0" % len(forged) + forged))
    refused(fetcher, "CUS-E266", project.uri("data/one.csv"), project.commit)


# --- what an intruder does to the remote ------------------------------------------------------------------------------


def tampered(remote: Path) -> None:
    overwrite(dvc_object(remote, md5(TABLE["january.csv"])), b"a,b\n9,9\n")


def swapped(remote: Path) -> None:
    first, second = (dvc_object(remote, md5(TABLE[name])) for name in ("january.csv", "part/übersicht 二.csv"))
    one, other = first.read_bytes(), second.read_bytes()
    overwrite(first, other)
    overwrite(second, one)


def truncated(remote: Path) -> None:
    overwrite(dvc_object(remote, md5(TABLE["z"])), TABLE["z"][:-1])


def missing(remote: Path) -> None:
    dvc_object(remote, md5(TABLE["z"])).unlink()


def linked(remote: Path) -> None:
    path = dvc_object(remote, md5(TABLE["z"]))
    path.rename(remote / "elsewhere")
    path.symlink_to(remote / "elsewhere")


def list_of(remote: Path) -> Path:
    (found,) = remote.rglob("*.dir")
    return found


def extra(remote: Path) -> None:
    entries = json.loads(list_of(remote).read_bytes())
    overwrite(list_of(remote), json.dumps([*entries, {"md5": md5(ONE), "relpath": "extra.csv"}]).encode())


def list_missing(remote: Path) -> None:
    list_of(remote).unlink()


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (tampered, "CUS-E264"),
        (swapped, "CUS-E264"),
        (truncated, "CUS-E264"),
        (missing, "CUS-E261"),
        (linked, "CUS-E113"),
        (extra, "CUS-E264"),
        (list_missing, "CUS-E261"),
    ],
)
def test_a_changed_remote_is_refused_and_nothing_is_left(
    fetcher: Fetcher, project: Project, attack: Callable[[Path], None], code: str
) -> None:
    attack(project.remote)
    refused(fetcher, code, project.uri("data/table"), project.commit)


def test_a_truncated_single_file_is_told_by_its_size(fetcher: Fetcher, project: Project) -> None:
    overwrite(dvc_object(project.remote, md5(ONE)), ONE[:-1])
    refused(fetcher, "CUS-E263", project.uri("data/one.csv"), project.commit)


def test_a_twin_with_the_same_md5_is_caught_by_the_pin_and_by_nothing_else(fetcher: Fetcher, project: Project) -> None:
    """DVC's pointer knows the MD5 alone, so the commit cannot tell twins apart; the SHA-256 of the listing does."""
    assert md5(WANG_FIRST) == md5(WANG_SECOND)
    assert WANG_FIRST != WANG_SECOND
    honest = fetcher(project.uri("twin.bin"), project.commit).listing.sha256
    shutil.rmtree(fetcher.root / "out")
    overwrite(dvc_object(project.remote, md5(WANG_FIRST)), WANG_SECOND)
    assert fetcher(project.uri("twin.bin"), project.commit).listing.sha256 != honest
    shutil.rmtree(fetcher.root / "out")
    refused(fetcher, "CUS-E265", project.uri("twin.bin"), f"{project.commit}@sha256:{honest}")


# --- hostile repositories ---------------------------------------------------------------------------------------------


def test_the_repositorys_own_configuration_is_never_asked(fetcher: Fetcher, project: Project) -> None:
    """.dvc/config and .lfsconfig point to a server here, which counts connections: none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        port = server.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        hostile = f"[core]\n  remote = evil\n['remote \"evil\"']\n  url = {url}\n".encode()
        files = {".dvc/config": hostile, ".lfsconfig": f"[lfs]\n  url = {url}\n".encode(), ".gitmodules": hostile}
        pointer = (project.repository / "data/one.csv.dvc").read_bytes() + b"  remote: evil\n"
        commit = project.commit_files({**files, "data/one.csv.dvc": pointer})
        fetcher(project.uri("data/one.csv"), commit)
        with pytest.raises(TimeoutError):
            server.accept()
    assert threading.active_count() < 20


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "", "a//b", ".", "a\nb", "a\\b", "e\u0301"])
def test_a_name_that_leads_elsewhere_is_refused(fetcher: Fetcher, project: Project, name: str) -> None:
    commit = project.folder_pointer([{"md5": md5(ONE), "relpath": name}])
    refused(fetcher, "CUS-E114", project.uri("forged"), commit)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a", "A")])
def test_names_of_no_tree_are_refused(fetcher: Fetcher, project: Project, names: tuple[str, str]) -> None:
    commit = project.folder_pointer([{"md5": md5(ONE), "relpath": name} for name in names])
    refused(fetcher, "CUS-E115", project.uri("forged"), commit)


@pytest.mark.parametrize(
    "entries",
    [[], {}, [1], [{"md5": md5(ONE)}], [{"relpath": "a"}], [{"md5": f"{md5(ONE)}.dir", "relpath": "a"}],
     [{"md5": "../" * 10 + "aa", "relpath": "a"}]],
    ids=str,
)  # fmt: skip
def test_a_list_that_is_none_is_refused(fetcher: Fetcher, project: Project, entries: object) -> None:
    refused(fetcher, "CUS-E133", project.uri("forged"), project.folder_pointer(entries))


POINTERS = {
    "of DVC 2": f"outs:\n- md5: {md5(ONE)}\n  path: p\n",
    "of another path": f"outs:\n- md5: {md5(ONE)}\n  hash: md5\n  path: q\n",
    "of another folder": f"wdir: ..\nouts:\n- md5: {md5(ONE)}\n  hash: md5\n  path: p\n",
    "twice": f"outs:\n- &a\n  md5: {md5(ONE)}\n",
    "no yaml": "outs: [",
    "a list": "- outs\n",
    "upper case": f"outs:\n- md5: {md5(ONE).upper()}\n  hash: md5\n  path: p\n",
    "climbing": "outs:\n- md5: ../../../../etc/passwd\n  hash: md5\n  path: p\n",
    "no size": f"outs:\n- md5: {md5(ONE)}\n  hash: md5\n  size: big\n  path: p\n",
}


@pytest.mark.parametrize("case", POINTERS)
def test_a_pointer_that_is_none_is_refused(fetcher: Fetcher, project: Project, case: str) -> None:
    commit = project.commit_files({"p.dvc": POINTERS[case].encode()})
    refused(fetcher, "CUS-E133", project.uri("p"), commit)


def test_a_path_without_a_pointer_is_refused(fetcher: Fetcher, project: Project) -> None:
    refused(fetcher, "CUS-E133", project.uri("data/none"), project.commit)


def test_a_pointer_that_is_a_link_is_refused(fetcher: Fetcher, project: Project) -> None:
    (project.repository / "p.dvc").symlink_to("data/one.csv.dvc")
    commit = commit_all(project.repository)
    refused(fetcher, "CUS-E113", project.uri("p"), commit)


def test_a_repository_that_is_a_link_out_of_what_is_allowed_is_refused(
    fetcher: Fetcher, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "repo").symlink_to(project.repository)
    fetcher.allow({**project.entry, "prefix": f"git+file://{tmp_path}/allowed/"})
    refused(fetcher, "CUS-E321", f"git+file://{tmp_path}/allowed/repo//data/one.csv", project.commit)


def test_more_than_is_allowed_is_refused(fetcher: Fetcher, project: Project) -> None:
    fetcher.allow({**project.entry, "max_bytes": 5000})
    refused(fetcher, "CUS-E134", project.uri("data/table"), project.commit)
