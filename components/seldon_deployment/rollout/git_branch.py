"""One branch of a Git repository, read and moved on through dulwich: no git program, no checkout, no hook, no config.

Fetched is the newest commit alone, without its history. Pushed are exactly the new objects, and only when the branch is
still where it was read: the server compares and refuses otherwise. Never by force.
"""

import ipaddress
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.closed_http import ClosedPool
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import Gitops
from kfp_custody.components._shared.signers.private_files import read_private_text

if TYPE_CHECKING:
    from dulwich.client import GitClient
    from dulwich.objects import ShaFile
    from dulwich.repo import Repo

MAX_PACK = 256 * 1024**2  # bytes of the newest commit's files: a repository of manifests is small
_READ = 60.0  # seconds that a server may be silent
_FOLDERS = re.compile(r"(/[\w.~%+-]+)+/?", re.ASCII)


class Again(Exception):
    """The branch moved meanwhile, or the server did not answer: worth another attempt. The code is of the refusal."""

    def __init__(self, why: str, code: str) -> None:
        """Keep the reason and its code (`codes.py`)."""
        super().__init__(why)
        self.code = code


class Branch:
    """The branch that the settings name."""

    def __init__(self, settings: Gitops, deadline: float) -> None:
        """Check the settings and read the token; nothing is asked yet.

        Args:
            settings: repository, branch, and what to log in with.
            deadline: moment of the monotonic clock after which nothing is waited for.

        Raises:
            Misconfigured: the repository, the branch or the token file is no such thing.
        """
        from dulwich.refs import check_ref_format

        self.name, self.repository = settings.branch, require_repository(settings.repository)
        self._ref, self._deadline = f"refs/heads/{settings.branch}".encode(), deadline
        if not settings.branch.isascii() or not check_ref_format(self._ref):  # type: ignore[arg-type]
            raise git_settings("CUSTODY_GITOPS_BRANCH is no name of a branch", "Give its name, such as main.")
        self._local = self.repository.startswith("file:")
        self._token = _token(settings)
        self._client, self._path = self._connect(settings.user)

    def fetch(self, into: "Repo") -> bytes:
        """Fetch the newest commit with all of its files into a repository; return the commit's name.

        Raises:
            Again: the server did not answer.
            Misconfigured: there is no such repository or branch, or the token is not accepted.
            EvidenceInvalid: what the server sends cannot be read.
        """
        from dulwich.object_store import ObjectStoreGraphWalker

        tip = b""

        def wants(refs: Any, depth: int | None = None) -> list[Any]:
            nonlocal tip
            tip = refs.get(self._ref) or self._no_branch()
            return [tip]

        file, commit, abort = into.object_store.add_pack()
        arrived = 0

        def take(data: bytes) -> int:
            nonlocal arrived
            arrived += len(data)
            if arrived > MAX_PACK:
                raise Misconfigured(
                    "The repository is larger than one of manifests may be.",
                    evidence=f"{self.repository}: the files of its branch {self.name} have more than {MAX_PACK} bytes",
                    remedy="Name a repository that holds what is deployed, and nothing else.",
                    code=codes.GIT_CONTENT,
                )
            return file.write(data)

        try:
            with self._refusals():
                self._require_bare()
                self._client.fetch_pack(self._path, wants, ObjectStoreGraphWalker([], lambda _: []), take, depth=1)
        except BaseException:
            abort()
            raise
        try:
            commit()
        except _damaged(KeyError, ValueError, AssertionError) as error:
            raise bad_object(self.repository, type(error).__name__) from error
        return tip

    def push(self, base: bytes, tip: bytes, objects: "Sequence[ShaFile]") -> None:
        """Move the branch from one commit to the next.

        Args:
            base: the commit that was read.
            tip: its child.
            objects: everything that is new, the child among them.

        Raises:
            Again: the branch is not there any more, or the server did not answer: nobody knows whether it moved it.
            Misconfigured: the server does not let this token push there.
        """
        from dulwich.pack import pack_objects_to_data

        def update(refs: dict[Any, Any]) -> dict[Any, Any]:
            if refs.get(self._ref) != base:
                self._moved()
            return {self._ref: tip}

        def pack(*_: Any, **__: Any) -> Any:
            return pack_objects_to_data(list(objects))

        with self._refusals():
            status = self._client.send_pack(self._path, update, pack).ref_status
        if status is None or (self._ref not in status and not self._local):
            raise Again("the server does not say what became of the push", codes.GIT_SILENT)
        why = status.get(self._ref)
        if why is None:
            return
        with self._refusals():
            if self._client.get_refs(self._path).refs.get(self._ref) != base:  # type: ignore[call-overload]
                self._moved()
        raise self._denied(f"the server answered {self._shown(why)}")

    def _connect(self, user: str) -> "tuple[GitClient, bytes]":
        from dulwich.client import LocalGitClient, Urllib3HttpGitClient

        parts = urlsplit(self.repository)
        if self._local:
            return LocalGitClient(quiet=True), parts.path.encode()
        server = f"{parts.scheme}://{parts.netloc}/"
        client = Urllib3HttpGitClient(
            server,
            pool_manager=_TimedPool(server, self._deadline),
            thin_packs=False,
            quiet=True,
            username=user if self._token else None,
            password=self._token,
        )
        return client, parts.path.encode()

    def _require_bare(self) -> None:
        from dulwich.repo import Repo

        if self._local:
            with Repo(self._path.decode()) as there:
                if not there.bare:
                    raise git_settings(
                        f"{self.repository} has a work tree, which would not follow its branch",
                        "Name a bare repository, or a server's.",
                    )

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn dulwich's errors into what another attempt may help, and what a person has to look at."""
        from dulwich.client import HTTPUnauthorized
        from dulwich.errors import GitProtocolError, HangupException, NotGitRepository, SendPackError
        from dulwich.file import FileLocked
        from urllib3.exceptions import HTTPError

        try:
            yield
            return
        except NotGitRepository:
            refusal: Exception = git_settings(
                f"there is no repository at {self.repository}, or it is not shown to this token",
                "Correct CUSTODY_GITOPS_REPOSITORY, or let the token read and push there.",
            )
        except HTTPUnauthorized:
            refusal = self._denied("the server answered 401")
        except _damaged(KeyError) as error:
            refusal = bad_object(self.repository, type(error).__name__)
        except FileLocked:
            refusal = Again("another deployment holds the branch", codes.GIT_MOVED)
        except SendPackError:
            refusal = Again("the server could not unpack what was sent", codes.GIT_SILENT)
        except (GitProtocolError, HangupException, HTTPError, ValueError, AssertionError) as error:
            status = re.search(r"unexpected http resp (\d{3})", str(error))
            why = f"it answered {status[1]}" if status else type(error.__cause__ or error).__name__
            refusal = self._denied(why) if why.endswith("403") else Again(why, codes.GIT_SILENT)
        raise refusal  # not chained: dulwich's errors repeat the server's words, and it has seen the token

    def _moved(self) -> NoReturn:
        raise Again("the branch moved while the commit was made", codes.GIT_MOVED)

    def _no_branch(self) -> NoReturn:
        raise git_settings(
            f"{self.repository} has no branch {self.name!a}",
            "Make the branch with a first commit, or correct CUSTODY_GITOPS_BRANCH.",
        )

    def _denied(self, why: str) -> Misconfigured:
        return Misconfigured(
            "The Git server does not let this stage commit the deployment; the branch is as it was.",
            evidence=f"{self.repository}, branch {self.name}: {why}",
            remedy="Check the token in CUSTODY_GITOPS_TOKEN_FILE, that it may push to the branch, and the rules and "
            "hooks that protect the branch.",
            code=codes.GIT_DENIED,
        )

    def _shown(self, text: str) -> str:
        """Return words of the server, which has seen the token."""
        return "with words that are not repeated" if self._token and self._token in text else f"{text[:200]!a}"


def require_repository(address: str | None) -> str:
    """Return the address of a repository, as it may be shown: https, http to this machine, or file.

    Raises:
        Misconfigured: it is missing or of another form; it is not shown, for it may hold a password.
    """
    if not address:
        raise git_settings("CUSTODY_GITOPS_REPOSITORY is not set", "Set it to https://git.example.org/team/models.git.")
    url = f"file://{address}" if address.startswith("/") else address
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", 0
    served = parts.scheme == "https" and host or parts.scheme == "http" and _is_loopback(host)
    plain = _FOLDERS.fullmatch(parts.path) and not {".", ".."} & set(parts.path.split("/"))
    # Nothing but these three parts, and none of what urlsplit drops silently.
    exact = url == f"{parts.scheme}://{parts.netloc}{parts.path}" and "@" not in parts.netloc
    if not plain or not exact or port == 0 or not (served or (parts.scheme == "file" and not parts.netloc)):
        raise git_settings(
            "CUSTODY_GITOPS_REPOSITORY is no https://host/path without user, password and query, no http to this "
            "machine, and no path of one on it",
            "Set it to the address alone, such as https://git.example.org/team/models.git; the token belongs in the "
            "file that CUSTODY_GITOPS_TOKEN_FILE names.",
        )
    return url.rstrip("/")


def git_settings(evidence: str, remedy: str) -> Misconfigured:
    """Return the refusal of settings that name no repository, branch or folder."""
    return Misconfigured(
        "The repository that deployments are committed to is not configured, or wrong; nothing was committed.",
        evidence=evidence,
        remedy=remedy,
        code=codes.GIT_SETTINGS,
    )


def bad_object(repository: str, why: str) -> EvidenceInvalid:
    """Return the refusal of objects that cannot be read."""
    return EvidenceInvalid(
        "The repository that deployments are committed to holds something that cannot be read.",
        evidence=f"{repository}: {why}",
        remedy="Check it with git fsck, and what stands between the server and this task.",
        code=codes.GIT_OBJECT,
    )


def _damaged(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what dulwich raises of objects that are not what they should be."""
    from dulwich.errors import ChecksumMismatch, ObjectFormatException

    return ChecksumMismatch, ObjectFormatException, zlib.error, *more


def _token(settings: Gitops) -> str | None:
    if settings.token_file is None:
        return None
    token = read_private_text(settings.token_file, "token for Git", "CUSTODY_GITOPS_TOKEN_FILE")
    if not token.isascii() or not settings.user.isascii() or not settings.user.isprintable() or ":" in settings.user:
        raise git_settings(
            f"{settings.token_file} or CUSTODY_GITOPS_USER is not one line of ASCII, or the user has a colon",
            "Write the token into the file and nothing else, and the user that the Git server's manual names.",
        )
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _TimedPool(ClosedPool):
    """Waits no longer than until the deadline, however slowly a server answers."""

    def __init__(self, url: str, deadline: float) -> None:
        super().__init__(url)
        self._deadline = deadline

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> Any:  # type: ignore[override]
        import urllib3

        left = self._left()
        timeout = urllib3.Timeout(connect=min(10.0, left), read=min(_READ, left))
        answer = super().urlopen(method, url, redirect, **{**options, "timeout": timeout})
        answer.read = self._timed(answer.read1)
        return answer

    def _timed(self, some: Callable[..., bytes]) -> Callable[..., bytes]:
        """Return a `read` that gives up between two pieces, and not only when nothing comes at all."""

        def read(amount: int | None = None, **_: Any) -> bytes:
            parts = []
            while amount is None or amount > 0:
                self._left()
                data = some(amount) if amount is not None else some()
                if not data:
                    break
                parts.append(data)
                amount = None if amount is None else amount - len(data)
            return b"".join(parts)

        return read

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ServiceUnreachable(
                "The deployment could not be committed in time.",
                evidence=f"{', '.join(sorted(self._allowed))} answers too slowly",
                remedy="Check the Git server; give the stage more timeout_seconds. Then deploy again.",
                code=codes.GIT_SILENT,
            )
        return left
