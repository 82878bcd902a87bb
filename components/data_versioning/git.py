"""One commit of a Git repository, read through dulwich: no git program, no checkout, no hook, no filter, no config.

From a server only the commit that is asked for is fetched, without its history, where the server lets one ask for it.
Every object that is read is hashed again and must be what its name says.
"""

import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.closed_http import ClosedPool
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, PolicyRefused
from kfp_custody.components.data_versioning.credentials import read_fields
from kfp_custody.components.data_versioning.locations import Location
from kfp_custody.components.data_versioning.objects import Interrupted, denied, missing
from kfp_custody.components.data_versioning.retrying import again
from kfp_custody.components.data_versioning.sources import Source

if TYPE_CHECKING:
    from dulwich.repo import Repo

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ABBREVIATED = re.compile(r"[0-9a-f]{4,39}")
_PACK = 1024**3  # bytes of a pack that are taken: pointers are small
_ENTRIES = 1_000_000  # of trees that are walked; trees can name each other so that few bytes stand for endlessly many
_TAGS = 8  # tags of tags
_FOLDER, _FILES = 0o040000, (0o100644, 0o100755)


class Commit:
    """A commit whose tree can be read."""

    def __init__(self, repo: "Repo", name: str, sha: bytes) -> None:
        """Follow tags to the commit.

        Raises:
            InputRefused: the name is of no commit.
            EvidenceInvalid: an object is missing or not what its name says.
        """
        self._repo = repo
        for _ in range(_TAGS):
            found = self._object(sha)
            if found.type_name != b"tag":
                break
            sha = found.object[1]
        if found.type_name != b"commit":
            raise _revision(name, "it names no commit")
        self.sha = sha.decode()
        self._tree = found.tree

    def file(self, path: str) -> bytes | None:
        """Return the bytes of a file; None when there is nothing at the path.

        Raises:
            InputRefused: it is a folder, a link or a submodule.
        """
        entry = self._entry(path)
        return None if entry is None else self._blob(path, *entry)

    def files(self, path: str) -> Iterator[tuple[str, bytes]]:
        """Yield every file at and below a path, with its path relative to it (of a single file: its name).

        Raises:
            InputRefused: there is nothing, or a link or a submodule is among them.
        """
        entry = self._entry(path)
        if entry is None:
            raise pointer_refused(path, self.sha, "there is nothing at this path")
        if entry[0] != _FOLDER:
            yield path.rsplit("/", 1)[-1], self._blob(path, *entry)
            return
        seen, pending = 0, [("", entry[1])]
        while pending:
            folder, tree = pending.pop()
            for name, mode, sha in self._children(tree):
                seen += 1
                if seen > _ENTRIES:
                    raise pointer_refused(path, self.sha, f"more than {_ENTRIES} entries are below it")
                if mode == _FOLDER:
                    pending.append((f"{folder}{name}/", sha))
                else:
                    yield folder + name, self._blob(f"{path}/{folder}{name}", mode, sha)

    def _entry(self, path: str) -> tuple[int, bytes] | None:
        mode, sha = _FOLDER, self._tree
        for part in path.split("/"):
            if mode != _FOLDER:
                return None
            found = [(mode, sha) for name, mode, sha in self._children(sha) if name == part]
            if not found:
                return None
            mode, sha = found[0]
        return mode, sha

    def _children(self, sha: bytes) -> Iterator[tuple[str, int, bytes]]:
        from dulwich.errors import ObjectFormatException

        try:
            for entry in self._object(sha, b"tree").items():
                yield os.fsdecode(entry.path), entry.mode, entry.sha
        except ObjectFormatException as error:
            raise _bad_object(sha, "it is no tree") from error

    def _blob(self, path: str, mode: int, sha: bytes) -> bytes:
        if mode not in _FILES:
            raise InputRefused(
                "The commit has a folder, a symbolic link or a submodule where a file should be.",
                evidence=f"{path!a} has mode {mode:06o} in commit {self.sha}",
                remedy="Name a file; replace a link with a copy of the file that it points to.",
                code=codes.NOT_LISTABLE,
            )
        return bytes(self._object(sha, b"blob").as_raw_string())

    def _object(self, sha: bytes, kind: bytes | None = None) -> Any:
        from dulwich.errors import ChecksumMismatch, ObjectFormatException

        try:
            found = self._repo.object_store[sha]  # type: ignore[index]
            raw = found.as_raw_string()
        except KeyError as error:
            raise _bad_object(sha, "it is not there") from error
        except (ObjectFormatException, ChecksumMismatch, zlib.error, AssertionError, ValueError) as error:
            raise _bad_object(sha, f"it cannot be read ({type(error).__name__})") from error
        head = b"%s %d\0" % (found.type_name, len(raw))
        if hashlib.sha1(head + raw, usedforsecurity=False).hexdigest().encode() != sha:
            raise _bad_object(sha, "its bytes are others")
        if kind is not None and found.type_name != kind:
            raise _bad_object(sha, f"it is no {kind.decode()}")
        return found


@contextmanager
def open_commit(location: Location, revision: str, source: Source) -> Iterator[Commit]:
    """Yield the commit that a revision names; it can be read inside the block.

    Raises:
        InputRefused: the revision names no commit, or more than one.
        EvidenceInvalid: no repository, an object that is not what its name says, or a server that sends elsewhere.
        PolicyRefused: a folder that leads out of what is allowed.
        ServiceUnreachable: the server does not answer.
        Misconfigured: it does not accept the credentials.
    """
    if location.scheme == "git+file":
        with _local(location, source) as repo:
            refs = {name.decode(): sha for name, sha in repo.get_refs().items()}
            yield Commit(repo, revision, _resolve(revision, refs))
        return
    with tempfile.TemporaryDirectory(prefix="custody-git-") as scratch:
        from dulwich.repo import Repo

        with Repo.init_bare(scratch) as repo:
            yield Commit(repo, revision, _Remote(location, source).fetch(repo, revision))


@contextmanager
def _local(location: Location, source: Source) -> "Iterator[Repo]":
    from dulwich.errors import NotGitRepository
    from dulwich.repo import Repo

    allowed = os.path.realpath(Path("/", source.prefix.path))
    try:
        repo = Repo(str(Path("/", location.path)))
    except NotGitRepository as error:
        raise missing(location.base, "the repository") from error
    with repo:
        if os.path.commonpath([allowed, os.path.realpath(repo.controldir())]) != allowed:
            raise PolicyRefused(
                "The repository is not where the platform allows it.",
                evidence=f"{location.base} leads out of file://{allowed}",
                remedy="Name the repository itself, and have the platform's team allow it.",
                code=codes.SOURCE_NOT_ALLOWED,
            )
        yield repo


class _Remote:
    """A repository on a server."""

    def __init__(self, location: Location, source: Source) -> None:
        from dulwich.client import Urllib3HttpGitClient

        server = f"{location.scheme.removeprefix('git+')}://{location.host}/"
        self._name, self._path = location.base, location.path
        given = read_fields(source.git_credentials, ("username", "password")) if source.git_credentials else {}
        self._client: Urllib3HttpGitClient = Urllib3HttpGitClient(
            server,
            pool_manager=ClosedPool(server),
            thin_packs=False,
            quiet=True,
            username=given.get("username"),
            password=given.get("password"),
        )

    def fetch(self, repo: "Repo", revision: str) -> bytes:
        """Fetch what a revision names into an empty repository; return the name of the object."""
        from dulwich.errors import GitProtocolError

        if not _COMMIT.fullmatch(revision):
            refs = again(self._refs, self._name)
            sha = _resolve(revision, refs)
            again(lambda: self._fetch(repo, [sha]), self._name)
            return sha
        sha = revision.encode()
        with suppress(GitProtocolError):
            again(lambda: self._fetch(repo, [sha]), self._name)
        if not _has(repo, sha):  # a server that gives only what a branch or tag names: all of that, with its history
            refs = again(self._refs, self._name)
            again(lambda: self._fetch(repo, sorted(set(refs.values())), depth=None), self._name)
        if not _has(repo, sha):
            raise _revision(revision, "the server has no such commit")
        return sha

    def _refs(self) -> dict[str, bytes]:
        with self._refusals():
            found = self._client.get_refs(self._path).refs
        return {name.decode(): sha for name, sha in found.items() if sha is not None and not name.endswith(b"^{}")}

    def _fetch(self, repo: "Repo", wants: list[bytes], depth: int | None = 1) -> None:
        from dulwich.object_store import ObjectStoreGraphWalker

        file, commit, abort = repo.object_store.add_pack()
        arrived = 0

        def take(data: bytes) -> int:
            nonlocal arrived
            arrived += len(data)
            if arrived > _PACK:
                raise InputRefused(
                    "The commit is larger than a commit of pointers may be.",
                    evidence=f"{self._name}: more than {_PACK} bytes",
                    remedy="Keep the data in DVC or Git LFS, and only pointers in Git.",
                    code=codes.SOURCE_SIZE,
                )
            return file.write(data)

        try:
            with self._refusals():
                self._client.fetch_pack(
                    self._path,
                    lambda *_, **__: wants,  # type: ignore[arg-type]
                    ObjectStoreGraphWalker([], lambda _: []),
                    take,
                    depth=depth,
                )
        except BaseException:
            abort()
            raise
        _index(commit)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn dulwich's errors into what another attempt may help, and what a person has to look at."""
        from dulwich.client import HTTPUnauthorized
        from dulwich.errors import GitProtocolError, HangupException, NotGitRepository
        from urllib3.exceptions import HTTPError

        try:
            yield
        except NotGitRepository as error:
            raise missing(self._name, "the repository") from error
        except HTTPUnauthorized:
            # Not chained: it holds the address as it was asked for.
            refusal = denied(self._name, "the repository", "401")
        except HangupException as error:
            raise Interrupted("the connection ended early", codes.STORE_SILENT) from error
        except HTTPError as error:
            raise Interrupted(type(error).__name__, codes.STORE_SILENT) from error
        except GitProtocolError as error:
            status = re.search(r"unexpected http resp (\d{3})", str(error))
            if isinstance(error.__cause__, HTTPError):
                raise Interrupted(type(error.__cause__).__name__, codes.STORE_SILENT) from error
            if status and status[1] == "403":
                raise denied(self._name, "the repository", "403") from error
            if status:
                raise Interrupted(f"the server answered {status[1]}", codes.STORE_FAILING) from error
            raise
        else:
            return
        raise refusal


def _has(repo: "Repo", sha: bytes) -> bool:
    return sha in repo.object_store  # type: ignore[operator]


def _index(commit: Any) -> None:
    """Let dulwich compute the name of every object of a pack from its bytes."""
    from dulwich.errors import ChecksumMismatch, ObjectFormatException

    try:
        commit()
    except (ChecksumMismatch, ObjectFormatException, zlib.error, AssertionError, KeyError, ValueError) as error:
        raise EvidenceInvalid(
            "A Git server sent a pack that cannot be read.",
            evidence=type(error).__name__,
            remedy="Find out what stands between the server and this task; check the repository with git fsck.",
            code=codes.GIT_OBJECT,
        ) from error


def _resolve(revision: str, refs: Mapping[str, bytes]) -> bytes:
    """Return the object that a name stands for, when it is one."""
    if _COMMIT.fullmatch(revision):
        return revision.encode()
    names = [revision] if revision.startswith("refs/") else [f"refs/heads/{revision}", f"refs/tags/{revision}"]
    found = [name for name in names if name in refs]
    if len(found) > 1:
        raise _revision(revision, f"it is both {' and '.join(found)}")
    if not found and _ABBREVIATED.fullmatch(revision):
        raise _revision(revision, "it is no branch or tag, and abbreviated commits are not taken")
    if not found:
        raise _revision(revision, "there is no such branch or tag")
    return refs[found[0]]


def pointer_refused(path: str, commit: str, why: str) -> InputRefused:
    """Return the refusal of a path that does not lead to data."""
    return InputRefused(
        "There is no data to fetch at this path of the commit.",
        evidence=f"{path!a} in commit {commit}: {why}",
        remedy="Correct the path after // or the revision; dvc add and git lfs track make pointers that are read.",
        code=codes.SOURCE_POINTER,
    )


def _revision(revision: str, why: str) -> InputRefused:
    return InputRefused(
        "The revision does not name exactly one commit.",
        evidence=f"{revision!a}: {why}",
        remedy="Give the full commit, or refs/heads/... or refs/tags/... where a branch and a tag have one name.",
        code=codes.SOURCE_REVISION,
    )


def _bad_object(sha: bytes, why: str) -> EvidenceInvalid:
    return EvidenceInvalid(
        "A Git object is not what its name says.",
        evidence=f"object {sha.decode('ascii', 'backslashreplace')}: {why}",
        remedy="Check the repository with git fsck, and find out who changed it.",
        code=codes.GIT_OBJECT,
    )
