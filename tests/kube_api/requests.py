"""A request, taken apart."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from kube_api.answers import Refused, bad_request
from kube_api.kinds import Kind

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>[^/]+))?)?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Request:
    """What was asked, by whom; `kind` is None for a path of discovery or of nothing that is served."""

    method: str
    path: str
    verb: str
    group: str
    plural: str
    namespace: str
    name: str
    subresource: str
    user: str
    query: dict[str, str]
    content_type: str
    agent: str
    text: bytes
    kind: Kind | None

    @property
    def dry_run(self) -> bool:
        return self.query.get("dryRun") == "All" or (self.method == "DELETE" and "All" in self.body.get("dryRun", ()))

    @property
    def manager(self) -> str:
        return self.query.get("fieldManager") or self.agent.split("/")[0] or "unknown"

    @property
    def body(self) -> dict[str, Any]:
        try:
            found = json.loads(self.text) if self.text.lstrip()[:1] in (b"{", b"[") else yaml.safe_load(self.text)
        except (ValueError, yaml.YAMLError) as error:
            raise bad_request(f"the object provided is unrecognized: {error}") from error
        if not isinstance(found or {}, dict):
            raise bad_request("the object provided is unrecognized (must be of type Object)")
        return found or {}


def parse(method: str, target: str, headers: Any, text: bytes, user: str, kinds: tuple[Kind, ...]) -> Request:
    """Return the request; only `status` is known as a subresource."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    match = _PATH.fullmatch(parts.path.rstrip("/"))
    groups = match.groupdict() if match else dict.fromkeys(_PATH.groupindex)
    found = {key: value or "" for key, value in groups.items()}
    named = (found["group"], found.pop("version"), found["plural"])
    watching = query.get("watch") in ("true", "True", "1")
    return Request(
        **found,
        method=method,
        path=parts.path,
        verb=_VERBS.get(method) or ("get" if found["name"] or not match else "watch" if watching else "list"),
        user=user,
        query=query,
        content_type=headers.get("Content-Type", "").split(";")[0],
        agent=headers.get("User-Agent", ""),
        text=text,
        kind=next((kind for kind in kinds if (kind.group, kind.version, kind.plural) == named), None),
    )


def unsupported(accepted: str) -> Refused:
    message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return Refused(415, "UnsupportedMediaType", message)
