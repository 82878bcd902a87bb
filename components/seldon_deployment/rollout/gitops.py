"""Deploying by a commit: a service's objects in a Git repository, which Argo CD, Flux or a person applies.

    <CUSTODY_GITOPS_PATH>/<service>/    the files of `git_files.py`

What is committed is what would have been applied (`ClusterTarget.settle`). The commit is made on the one that was read,
and the branch is moved only from there; when somebody else was faster, everything is read and made again. The same
deployment again finds its files and commits nothing.
"""

import random
import re
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import Gitops
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.kubernetes_api import Objects
from kfp_custody.components.seldon_deployment.rollout.cluster import ClusterTarget
from kfp_custody.components.seldon_deployment.rollout.git_branch import Again, Branch, bad_object, git_settings
from kfp_custody.components.seldon_deployment.rollout.git_files import Files

if TYPE_CHECKING:
    from dulwich.objects import ShaFile
    from dulwich.repo import Repo

ATTEMPTS = 5
PAUSE = 0.25  # seconds before the second attempt; each pause is up to twice the one before
_AUTHOR = b"kfp-custody <kfp-custody@localhost>"
_FOLDER, _FILE = 0o040000, 0o100644
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Committed:
    """Where a service's objects are: repository (without credentials), branch, commit, and SHA-256 (hex) by path.

    `model` is what the version is called, `url` where it answers once somebody has applied them. `made` is False when
    the branch had these very files before.
    """

    repository: str
    branch: str
    commit: str
    files: Mapping[str, str]
    model: str
    url: str
    made: bool


class Repository:
    """The repository that the settings name, for one service."""

    def __init__(
        self, settings: Gitops, name: str, namespace: str, service: Callable[[Objects], ClusterTarget], deadline: float
    ) -> None:
        """Check the settings; nothing is read yet.

        Args:
            settings: repository, branch, folder, token.
            name: the service's name, which is that of its folder.
            namespace: what the objects belong to.
            service: makes the target that renders into a folder.
            deadline: moment of the monotonic clock after which there is no other attempt.

        Raises:
            Misconfigured: the settings name no repository, branch or folder, or the token cannot be read.
        """
        if not _PATH.fullmatch(settings.path):
            raise git_settings(
                f"CUSTODY_GITOPS_PATH is {settings.path[:80]!a}",
                "Name a folder of the repository by letters, digits, dots, dashes and slashes, such as clusters/prod.",
            )
        self._branch, self._deadline = Branch(settings, deadline), deadline
        self._namespace, self._service, self._name = namespace, service, name
        self._folder = f"{settings.path}/{name}"

    def commit(self, admitted: Admitted, run_id: str) -> Committed:
        """Commit what makes an admitted model the one that is served, unless the branch says so already.

        Raises:
            ServiceUnreachable: the server does not answer, or others moved the branch at every attempt.
            Misconfigured: there is no such repository or branch, it may not be moved, or something is in the way.
            EvidenceInvalid: the state that is committed there was changed by somebody else, or cannot be read.
        """
        attempt = 1
        while True:
            try:
                return self._attempt(admitted, run_id)
            except Again as error:
                pause = PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311  (no secret)
                if attempt == ATTEMPTS or time.monotonic() + pause >= self._deadline:
                    raise ServiceUnreachable(
                        "The deployment could not be committed; nothing was ever overwritten.",
                        evidence=f"{self._branch.repository}, branch {self._branch.name}: {error}; {attempt} attempts",
                        remedy="Check that the Git server is reachable from this task, and who else commits to the "
                        "branch. Then deploy again: what was committed after all is found, and not committed twice.",
                        code=error.code,
                    ) from error
            time.sleep(pause)
            attempt += 1

    def _attempt(self, admitted: Admitted, run_id: str) -> Committed:
        from dulwich.repo import Repo

        with tempfile.TemporaryDirectory(prefix="custody-git-") as scratch, Repo.init_bare(scratch) as repo:
            tree = _Tree(repo, self._branch.repository, self._branch.fetch(repo))
            files = Files(self._namespace, self._folder, tree.folder(self._folder))
            service = self._service(files)
            model = service.settle(admitted, run_id)
            before, after = files.ours(), files.written()
            tip = tree.tip
            if after != before:
                tip = tree.commit(self._folder, before, after, self._message(admitted, run_id, model))
                self._branch.push(tree.tip, tip, tree.new)
            digests = {f"{self._folder}/{name}": sha256_bytes(data) for name, data in sorted(after.items())}
            where = (self._branch.repository, self._branch.name, tip.decode())
            return Committed(*where, digests, model, service.url, made=tip != tree.tip)

    def _message(self, admitted: Admitted, run_id: str, model: str) -> str:
        lines = {
            "Model": f"sha256:{admitted.digest}",
            "Signature": f"sha256:{admitted.signature_sha256}",
            "Decision": f"sha256:{admitted.decision_sha256}",
            "Run": ascii(run_id)[1:-1],  # a parameter: no line of its own
        }
        trailers = "".join(f"{name}: {value}\n" for name, value in lines.items())
        return f"Deploy {model} as {self._name}\n\n{trailers}"


@dataclass
class _Tree:
    """The files of a commit, and what a new commit on it consists of."""

    repo: "Repo"
    repository: str
    tip: bytes
    new: "list[ShaFile]" = field(default_factory=list)

    def folder(self, path: str) -> dict[str, bytes]:
        """Return the regular files of a folder, by name; none when it is not there.

        Raises:
            Misconfigured: a link, a file or a submodule is on the way, or a link lies among the files.
        """
        tree = self._load(self._root(), b"tree")
        walked = ""
        for part in path.split("/"):
            walked = f"{walked}/{part}" if walked else part
            found = _entry(tree, part)
            if found is None:
                return {}
            if found[0] != _FOLDER:
                raise _in_the_way(self.repository, walked, found[0])
            tree = self._load(found[1], b"tree")
        files = {}
        for entry in tree.items():
            name = entry.path.decode("utf-8", "backslashreplace")
            if stat.S_ISREG(entry.mode):
                files[name] = bytes(self._load(entry.sha, b"blob").as_raw_string())
            elif entry.mode != _FOLDER:
                raise _in_the_way(self.repository, f"{path}/{name}", entry.mode)
        return files

    def commit(self, path: str, before: Mapping[str, bytes], after: Mapping[str, bytes], message: str) -> bytes:
        """Make a commit on the tip in which a folder's files are others; return its name."""
        from dulwich.objects import Commit, ObjectID

        done = Commit()
        done.tree = self._changed(self._root(), path.split("/"), before, after)
        done.parents = [ObjectID(self.tip)]
        done.author = done.committer = _AUTHOR
        done.author_time = done.commit_time = int(time.time())
        done.author_timezone = done.commit_timezone = 0
        done.encoding, done.message = b"UTF-8", message.encode()
        self.new.append(done)
        return bytes(done.id)

    def _changed(
        self, sha: bytes | None, parts: list[str], before: Mapping[str, bytes], after: Mapping[str, bytes]
    ) -> bytes:
        """Return the name of a tree that is another one with the files below it changed."""
        from dulwich.objects import Blob, ObjectID, Tree

        tree = Tree() if sha is None else self._load(sha, b"tree").copy()
        if parts:
            found = _entry(tree, parts[0])
            below = self._changed(found[1] if found else None, parts[1:], before, after)
            tree[parts[0].encode()] = (_FOLDER, ObjectID(below))
        else:
            for name in set(before) - set(after):
                del tree[name.encode()]
            for name, data in after.items():
                found = _entry(tree, name)
                if found is not None and not stat.S_ISREG(found[0]):
                    raise _in_the_way(self.repository, name, found[0])
                if before.get(name) != data:
                    blob = Blob.from_string(data)
                    tree[name.encode()] = (_FILE, blob.id)
                    self.new.append(blob)
        self.new.append(tree)
        return bytes(tree.id)

    def _root(self) -> bytes:
        return bytes(self._load(self.tip, b"commit").tree)

    def _load(self, sha: bytes, kind: bytes) -> Any:
        from dulwich.errors import ChecksumMismatch, ObjectFormatException

        try:
            found: Any = self.repo.object_store[sha]  # type: ignore[index]
            if found.type_name != kind:
                raise bad_object(self.repository, f"object {sha.decode()} is no {kind.decode()}")
            if kind == b"tree":
                found.items()  # reads it, where it can be refused
        except (KeyError, ChecksumMismatch, ObjectFormatException, AssertionError, ValueError) as error:
            raise bad_object(self.repository, f"object {sha.decode()}: {type(error).__name__}") from error
        return found


def _entry(tree: Any, name: str) -> tuple[int, bytes] | None:
    return tree[name.encode()] if name.encode() in tree else None  # noqa: SIM401  (a Tree has no get)


def _in_the_way(repository: str, path: str, mode: int) -> Misconfigured:
    kinds = {0o120000: "a symbolic link", 0o160000: "a submodule", _FOLDER: "a folder"}
    return Misconfigured(
        "Something in the repository is in the way of the files; it is left as it is.",
        evidence=f"{repository}: {path!a} is {kinds.get(mode, 'a file')} (mode {mode:06o})",
        remedy="Remove it, or set CUSTODY_GITOPS_PATH to a folder without links and submodules on the way.",
        code=codes.GIT_CONTENT,
    )
