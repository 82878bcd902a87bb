"""ValidatingAdmissionPolicies with their bindings; without parameters, `authorizer` and match policies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kube_api.answers import Refused, about
from kube_api.documents import Source, documents
from kube_api.expressions import Undecided, evaluate
from kube_api.kinds import Kind
from kube_api.rbac import groups
from kube_api.selectors import selector_matches

_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}


@dataclass(frozen=True)
class Attempt:
    """What is about to be written: CREATE, UPDATE or DELETE."""

    operation: str
    kind: Kind
    subresource: str
    namespace: str
    name: str
    user: str
    new: dict[str, Any] | None
    old: dict[str, Any] | None
    namespace_object: dict[str, Any] | None
    dry_run: bool

    @property
    def variables(self) -> dict[str, Any]:
        request = {
            "operation": self.operation,
            "name": self.name,
            "namespace": self.namespace,
            "subResource": self.subresource,
            "kind": {"group": self.kind.group, "version": self.kind.version, "kind": self.kind.kind},
            "resource": {"group": self.kind.group, "version": self.kind.version, "resource": self.kind.plural},
            "userInfo": {"username": self.user, "groups": groups(self.user)},
            "dryRun": self.dry_run,
        }
        return {"request": request, "object": self.new, "oldObject": self.old, "namespaceObject": self.namespace_object}


class Policies:
    """Policies that a binding with the action Deny puts into force."""

    def __init__(self, sources: Iterable[Source]) -> None:
        found = list(documents(sources, "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"))
        policies = {each["metadata"]["name"]: each for each in found if not each["kind"].endswith("Binding")}
        bindings = [each for each in found if each["kind"].endswith("Binding")]
        self._bound = [
            (binding, policies[binding["spec"]["policyName"]])
            for binding in bindings
            if "Deny" in binding["spec"]["validationActions"]
        ]

    def check(self, attempt: Attempt) -> None:
        """Refuse what a policy denies; an error in one denies as well, unless it says failurePolicy: Ignore."""
        for binding, policy in self._bound:
            spec, limits = policy["spec"], binding["spec"].get("matchResources", {})
            if not (_matches(spec["matchConstraints"], attempt) and _matches(limits, attempt)):
                continue
            try:
                denial = _denial(spec, attempt)
            except Undecided as error:
                denial = None if spec.get("failurePolicy") == "Ignore" else ("Invalid", f"evaluation failed: {error}")
            if denial:
                reason, message = denial
                names = f"'{policy['metadata']['name']}' with binding '{binding['metadata']['name']}'"
                text = f'{attempt.kind.resource} "{attempt.name}" is forbidden: ValidatingAdmissionPolicy {names}'
                details = about(attempt.kind, attempt.name, [{"message": message}])
                raise Refused(_CODES[reason], reason, f"{text} denied request: {message}", details)


def _denial(spec: Mapping[str, Any], attempt: Attempt) -> tuple[str, str] | None:
    data = attempt.variables
    if not all(evaluate(each["expression"], data) is True for each in spec.get("matchConditions", ())):
        return None
    data["variables"] = {}
    for each in spec.get("variables", ()):
        try:
            data["variables"] = data["variables"] | {each["name"]: evaluate(each["expression"], data)}
        except Undecided:
            continue  # an error only for an expression that uses it, as variables are lazy
    for each in spec["validations"]:
        if evaluate(each["expression"], data) is not True:
            told = evaluate(each["messageExpression"], data) if "messageExpression" in each else ""
            message = told or each.get("message") or f"failed expression: {each['expression']}"
            return each.get("reason", "Invalid"), message
    return None


def _matches(constraints: Mapping[str, Any], attempt: Attempt) -> bool:
    labels = ((attempt.namespace_object or {}).get("metadata") or {}).get("labels") or {}
    labels = labels | {"kubernetes.io/metadata.name": attempt.namespace}
    if not selector_matches(constraints.get("namespaceSelector") or {}, labels):
        return False
    both = [((each or {}).get("metadata") or {}).get("labels") or {} for each in (attempt.new, attempt.old)]
    if not any(selector_matches(constraints.get("objectSelector") or {}, each) for each in both):
        return False
    rules = constraints.get("resourceRules")
    excluded = any(_concerns(rule, attempt) for rule in constraints.get("excludeResourceRules", ()))
    return not excluded and (not rules or any(_concerns(rule, attempt) for rule in rules))


def _concerns(rule: Mapping[str, Any], attempt: Attempt) -> bool:
    kind, below = attempt.kind, f"/{attempt.subresource}" if attempt.subresource else ""
    asked = {
        "apiGroups": {kind.group, "*"},
        "apiVersions": {kind.version, "*"},
        "operations": {attempt.operation, "*"},
        "resources": {kind.plural + below, f"*{below}", "*/*", f"{kind.plural}/*"},
        "resourceNames": {attempt.name},
    }
    return all(names & set(rule[key]) for key, names in asked.items() if rule.get(key))
