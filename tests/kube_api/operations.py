"""The verbs: what a request does to the store."""

import copy
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from kube_api.admission import Attempt, Policies
from kube_api.answers import Refused, about, bad_request, conflict, invalid, not_found
from kube_api.fields import Manager, applied, merge, now, updated
from kube_api.kinds import BUILT_IN, NAMESPACE, Kind
from kube_api.rbac import Rbac
from kube_api.requests import Request, unsupported
from kube_api.schemas import Schemas
from kube_api.selectors import fields_match, labels_match
from kube_api.store import Object, Store

MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
JSON_OR_YAML = ("application/json", "application/yaml")
_OF_SERVER = ("uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp")


@dataclass(frozen=True)
class Answer:
    code: int
    body: Object
    warnings: tuple[str, ...] = ()


class Operations:
    """What is allowed, valid and admitted is written; everything else is `Refused`."""

    def __init__(self, store: Store, schemas: Schemas, policies: Policies, rbac: Rbac) -> None:
        self._store, self._schemas, self._policies, self._rbac = store, schemas, policies, rbac

    def answer(self, request: Request, kind: Kind) -> Answer:
        """Carry out a request other than a watch."""
        if not request.name and request.verb in ("update", "patch", "delete"):
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        with self._store.transaction():
            match request.verb:
                case "get":
                    return Answer(200, self._found(request, kind))
                case "list":
                    return Answer(200, self._list(request, kind))
                case "create":
                    return self._create(request, kind)
                case "update":
                    return self._update(request, kind)
                case "delete":
                    return self._delete(request, kind)
            return self._patch(request, kind)

    def watch(self, request: Request, kind: Kind, send: Callable[[Object], None]) -> None:
        """Send what is there (unless a version to start after is given), then every change until the time is over."""
        asked = request.query.get("resourceVersion") or "0"
        if not asked.isdigit():
            raise bad_request(f'resourceVersion: Invalid value: "{asked}"')
        end, since = time.monotonic() + float(request.query.get("timeoutSeconds") or 1800), int(asked)
        if not since:
            with self._store.transaction():
                since, items = self._store.version, self._list(request, kind)["items"]
            for item in items:
                send({"type": "ADDED", "object": item})
        while not self._store.closed and (left := end - time.monotonic()) > 0:
            try:
                changes = self._store.after(since, left)
            except Refused as expired:
                send({"type": "ERROR", "object": expired.body})
                return
            for change in changes:
                since = change.version
                here = change.kind == kind and request.namespace in ("", change.object["metadata"].get("namespace", ""))
                is_in = here and change.type != "DELETED" and _selected(request, change.object)
                was_in = here and change.before is not None and _selected(request, change.before)
                if is_in or was_in:
                    event = ("MODIFIED" if was_in else "ADDED") if is_in else "DELETED"
                    send({"type": event, "object": change.object})

    def _found(self, request: Request, kind: Kind) -> Object:
        found = self._store.get(kind, request.namespace, request.name)
        if found is None:
            raise not_found(kind, request.name)
        return found

    def _list(self, request: Request, kind: Kind) -> Object:
        items = [each for each in self._store.list(kind, request.namespace) if _selected(request, each)]
        head = {"apiVersion": kind.api_version, "kind": f"{kind.kind}List"}
        return {**head, "metadata": {"resourceVersion": str(self._store.version)}, "items": items}

    def _create(self, request: Request, kind: Kind) -> Answer:
        body = self._body(request, kind)
        metadata = body["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        if not (name := metadata.get("name")):
            why = {"reason": "FieldValueRequired", "message": "Required value: name or generateName is required"}
            raise invalid(kind, "", [why | {"field": "metadata.name"}])
        if self._store.get(kind, request.namespace, name):
            message = f'{kind.resource} "{name}" already exists'
            raise Refused(409, "AlreadyExists", message, about(kind, name))
        return self._write(request, kind, name, None, body, Manager(request.manager, "Update"))

    def _update(self, request: Request, kind: Kind) -> Answer:
        old, body = self._found(request, kind), self._body(request, kind)
        if not body["metadata"].get("resourceVersion") and kind.group not in BUILT_IN:
            why = {"reason": "FieldValueInvalid", "field": "metadata.resourceVersion"}
            message = "Invalid value: 0x0: must be specified for an update"
            raise invalid(kind, request.name, [why | {"message": message}])
        return self._write(
            request, kind, request.name, old, body, Manager(request.manager, "Update", request.subresource)
        )

    def _patch(self, request: Request, kind: Kind) -> Answer:
        if request.content_type == APPLY:
            return self._apply(request, kind)
        if request.content_type != MERGE:
            raise unsupported(f"{MERGE}, {APPLY}")
        old = self._found(request, kind)
        new = merge(old, request.body)
        _same_name(request, new)
        return self._write(
            request, kind, request.name, old, new, Manager(request.manager, "Update", request.subresource)
        )

    def _apply(self, request: Request, kind: Kind) -> Answer:
        if not request.query.get("fieldManager"):
            raise bad_request(
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
            )
        config = self._body(request, kind)
        if "managedFields" in config["metadata"]:
            raise bad_request("metadata.managedFields must be nil")
        old = self._store.get(kind, request.namespace, request.name)
        if old is None:
            if request.subresource:
                raise not_found(kind, request.name)
            self._rbac.require(request.user, "create", kind, request.namespace, request.name)
        self._schemas.typed(kind, request.name, config)
        version = config["metadata"].get("resourceVersion")
        if request.subresource:
            config = {"status": config.get("status")}
        config = {key: value for key, value in config.items() if request.subresource or key != "status"}
        manager = Manager(request.manager, "Apply", request.subresource)
        live = old or {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}}
        new = applied(live, config, manager, force=request.query.get("force") in ("true", "True", "1"))
        if version:
            new["metadata"]["resourceVersion"] = version
        return self._write(request, kind, request.name, old, new, manager)

    def _delete(self, request: Request, kind: Kind) -> Answer:
        old = self._found(request, kind)
        metadata = old["metadata"]
        for key, wanted in (request.body.get("preconditions") or {}).items():
            if metadata.get(key) != wanted:
                field = {"uid": "UID", "resourceVersion": "ResourceVersion"}[key]
                why = f"{field} in precondition: {wanted}, {field} in object meta: {metadata.get(key)}"
                raise conflict(kind, request.name, f"Precondition failed: {why}")
        self._admit(request, kind, request.name, None, old)
        if metadata.get("finalizers"):
            old["metadata"].setdefault("deletionTimestamp", now())
            return Answer(200, old if request.dry_run else self._store.put(kind, request.namespace, request.name, old))
        if not request.dry_run:
            self._store.put(kind, request.namespace, request.name, None)
        details = about(kind, request.name) | {"uid": metadata["uid"]}
        return Answer(
            200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    def _body(self, request: Request, kind: Kind) -> Object:
        """Return the object sent, which must be of the kind, the name and the namespace that the address says."""
        if request.content_type not in (*JSON_OR_YAML, APPLY):
            raise unsupported(", ".join(JSON_OR_YAML))
        body = request.body
        if (body.get("apiVersion"), body.get("kind")) != (kind.api_version, kind.kind):
            found = f"{body.get('apiVersion')}, Kind={body.get('kind')}"
            raise bad_request(f"the object provided ({found}) is not {kind.api_version}, Kind={kind.kind}")
        body.setdefault("metadata", {})
        if kind.namespaced and not request.namespace:
            raise bad_request("an empty namespace may not be set during creation")
        _same_name(request, body)
        if kind.namespaced:
            body["metadata"].setdefault("namespace", request.namespace)
            if self._store.list(NAMESPACE) and not self._store.get(NAMESPACE, "", request.namespace):
                raise not_found(NAMESPACE, request.namespace)
        return body

    def _write(
        self, request: Request, kind: Kind, name: str, old: Object | None, new: Object, manager: Manager
    ) -> Answer:
        version = new["metadata"].get("resourceVersion")
        if old and version and version != old["metadata"]["resourceVersion"]:
            raise conflict(kind, name)
        new = _isolated(request.subresource, old, new)
        lost = self._schemas.complete(kind, new)
        if lost and request.query.get("fieldValidation") == "Strict":
            fields = ", ".join(f'unknown field "{field}"' for field in lost)
            whole = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
            raise bad_request(f"{whole}: strict decoding error: {fields}")
        told = lost if request.query.get("fieldValidation") != "Ignore" else []
        warnings = tuple(f'unknown field "{field}"' for field in told)
        if manager.operation == "Update":
            new = updated(old, new, manager)
        _stamp(kind, name, request.namespace, old, new)
        self._schemas.check(kind, name, new, old)
        self._admit(request, kind, name, new, old)
        if new == old or request.dry_run:
            return Answer(200 if old else 201, new, warnings)
        finished = old and new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers")
        written = self._store.put(kind, request.namespace, name, None if finished else new)
        return Answer(200 if old else 201, written, warnings)

    def _admit(self, request: Request, kind: Kind, name: str, new: Object | None, old: Object | None) -> None:
        operation = "DELETE" if new is None else "UPDATE" if old else "CREATE"
        around = self._store.get(NAMESPACE, "", request.namespace) if kind.namespaced else None
        place = (kind, request.subresource, request.namespace, name, request.user)
        self._policies.check(Attempt(operation, *place, new, old, around, request.dry_run))


def _same_name(request: Request, body: Object) -> None:
    for field, wanted in (("name", request.name), ("namespace", request.namespace)):
        found = body["metadata"].get(field) or wanted
        if wanted and found != wanted:
            raise bad_request(f"the {field} of the object ({found}) does not match the {field} on the URL ({wanted})")


def _selected(request: Request, document: Object) -> bool:
    metadata = document["metadata"]
    wanted = request.query.get("labelSelector", ""), request.query.get("fieldSelector", "")
    return labels_match(wanted[0], metadata.get("labels") or {}) and fields_match(wanted[1], metadata)


def _isolated(subresource: str, old: Object | None, new: Object) -> Object:
    """Let a write to /status change the status alone, and any other write all but the status."""
    if subresource:
        kept = copy.deepcopy(old or {})
        kept["metadata"]["managedFields"] = new["metadata"].get("managedFields", [])
        status = {"status": new["status"]} if "status" in new else {}
        return {key: value for key, value in kept.items() if key != "status"} | status
    rest = {key: value for key, value in copy.deepcopy(new).items() if key != "status"}
    return rest | ({"status": old["status"]} if old and "status" in old else {})


def _stamp(kind: Kind, name: str, namespace: str, old: Object | None, new: Object) -> None:
    """Set what only the server sets; the generation counts changes of anything but metadata and status."""
    metadata = new["metadata"]
    for field in _OF_SERVER:
        metadata.pop(field, None)
    metadata |= {"name": name, **({"namespace": namespace} if kind.namespaced else {})}
    if old is None:
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        return
    metadata |= {field: old["metadata"][field] for field in _OF_SERVER if field in old["metadata"]}
    if any(old.get(key) != new.get(key) for key in (old.keys() | new.keys()) - {"metadata", "status"}):
        metadata["generation"] += 1
