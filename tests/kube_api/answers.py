"""Refusals as Kubernetes words them: the answer's code and its Status document."""

from collections.abc import Mapping, Sequence
from typing import Any

from kube_api.kinds import Kind


class Refused(Exception):
    """A request that is answered with a Status of failure."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.details, self.headers = dict(details or {}), dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        # A schema error in an applied object has no reason: kubernetes/kubernetes#139253.
        return head | {"reason": self.reason, "details": self.details, "code": self.code}


def about(kind: Kind, name: str, causes: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """Return the details that name an object."""
    return {"name": name, "group": kind.group, "kind": kind.plural, **({"causes": list(causes)} if causes else {})}


def not_found(kind: Kind, name: str) -> Refused:
    return Refused(404, "NotFound", f'{kind.resource} "{name}" not found', about(kind, name))


def conflict(kind: Kind, name: str, why: str = "") -> Refused:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return Refused(409, "Conflict", message, about(kind, name))


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def invalid(kind: Kind, name: str, causes: Sequence[Mapping[str, str]]) -> Refused:
    """Return the refusal of an object that breaks its schema; each cause has reason, field and message."""
    said = [f"{cause['field']}: {cause['message']}" for cause in causes]
    listed = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    whole = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    details = about(kind, name, causes) | {"kind": kind.kind}
    return Refused(422, "Invalid", f'{whole} "{name}" is invalid: {listed}', details)
