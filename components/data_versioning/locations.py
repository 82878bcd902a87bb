"""The URI of a dataset, read strictly: what two readers could understand differently is refused.

A URI is compared with the sources file as it is written, so nothing in it may have a second spelling: no user, query or
fragment, no percent signs in a Git address, no empty, `.` or `..` parts, a host in lower case. Of a refused URI only
its scheme is shown: somebody may have pasted a password.
"""

import re
from dataclasses import dataclass

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused

_HOST = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[1-9][0-9]{0,4})?"
_LOOPBACK = r"(?:127\.0\.0\.1|localhost)(?::[1-9][0-9]{0,4})?"
_FORMS = {
    "git+https": re.compile(_HOST),
    "git+http": re.compile(_LOOPBACK),  # unencrypted only to this machine
    "git+file": re.compile(""),
    "s3": re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "gs": re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
    "abfss": re.compile(r"[a-z0-9$][a-z0-9-]{1,61}[a-z0-9]@[a-z0-9]{3,24}\.dfs\.core\.[a-z.]+"),
    "file": re.compile(""),
}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\?#]")


@dataclass(frozen=True)
class Location:
    """A place: scheme, host (of an object store: the bucket, or `container@account...`), path without slashes around.

    Of Git, `path` is the repository's and `inner` is the path inside it.
    """

    scheme: str
    host: str
    path: str
    inner: str = ""

    @property
    def is_git(self) -> bool:
        """Whether it is a path in a Git repository."""
        return self.scheme.startswith("git+")

    @property
    def base(self) -> str:
        """The URI without the path inside a repository: what the sources file is compared with."""
        return f"{self.scheme}://{self.host}/{self.path}"

    @property
    def uri(self) -> str:
        """The whole URI, in its one spelling."""
        return f"{self.base}//{self.inner}" if self.inner else self.base

    def below(self, other: "Location") -> bool:
        """Tell whether it is the other place or inside it, whole parts of the path compared."""
        same = (self.scheme, self.host) == (other.scheme, other.host)
        return same and (not other.path or f"{self.path}/".startswith(f"{other.path}/"))


def parse_location(uri: str) -> Location:
    """Read the URI of a dataset.

    Raises:
        InputRefused: it is of no known form.
    """
    place = _parse(uri, "a dataset's URI")
    if place.is_git:
        repository, mark, inner = place.path.partition("//")
        place = Location(place.scheme, place.host, repository, inner)
        if not mark or not inner or not repository:
            raise _refused(uri, "a path inside the repository is missing: git+https://host/repo.git//path")
    _check_parts(place.path, place.inner, uri)
    if place.scheme in ("file", "s3", "gs", "abfss") and not place.path and place.scheme == "file":
        raise _refused(uri, "it names the whole file system")
    return place


def parse_prefix(uri: str) -> Location:
    """Read a prefix of the sources file, or a remote: a place without a path inside a repository.

    Raises:
        InputRefused: it is of no known form.
    """
    place = _parse(uri, "a place")
    _check_parts(place.path, "", uri)
    return place


def _parse(uri: str, what: str) -> Location:
    if uri.startswith("/"):
        uri = f"file://{uri}"
    scheme, mark, rest = uri.partition("://")
    form = _FORMS.get(scheme) if mark else None
    if form is None:
        raise _refused(uri, f"{what} starts with none of {', '.join(f'{name}://' for name in _FORMS)} or /")
    host, slash, path = rest.partition("/")
    if not form.fullmatch(host) or _UNSAFE.search(path) or (scheme.startswith("git+") and "%" in path):
        raise _refused(uri, "a host, bucket or path is malformed, or there is a user, query or fragment in it")
    if scheme in ("file", "git+file") and not slash:
        raise _refused(uri, "the path is not absolute")
    return Location(scheme, host, path.removesuffix("/"))


def _check_parts(path: str, inner: str, uri: str) -> None:
    for text in filter(None, (path, inner)):
        if any(part in ("", ".", "..") for part in text.split("/")):
            raise _refused(uri, "a part of the path is empty, . or ..")


def _refused(uri: str, why: str) -> InputRefused:
    scheme = uri.partition("://")[0]
    return InputRefused(
        "The URI of the data cannot be used.",
        evidence=f"{scheme if scheme in _FORMS else 'unknown scheme'}: {why}",
        remedy="See the room's README for the forms; a user or password never belongs into a URI.",
        code=codes.SOURCE_URI,
    )
