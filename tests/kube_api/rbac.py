"""Who may what, by Roles and their bindings."""

from collections.abc import Iterable
from typing import Any

from kube_api.answers import Refused, about
from kube_api.documents import Source, documents
from kube_api.kinds import Kind

ADMIN = "kubernetes-admin"


class Rbac:
    """Roles and bindings; None allows everything, an empty list nothing. ADMIN may always everything."""

    def __init__(self, sources: Iterable[Source] | None) -> None:
        self._open = sources is None
        found = list(documents(sources or (), "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"))
        for each in found:
            if not each["kind"].startswith("Cluster") and not each["metadata"].get("namespace"):
                raise ValueError(f"{each['kind']} {each['metadata']['name']} has no namespace: render it first")
        self._rules = {_key(each): each.get("rules") or [] for each in found if each["kind"].endswith("Role")}
        self._bindings = [each for each in found if each["kind"].endswith("Binding")]

    def require(self, user: str, verb: str, kind: Kind, namespace: str, name: str, subresource: str = "") -> None:
        """Refuse with 403 and the API server's words."""
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        if self.allows(user, verb, kind.group, resource, namespace, name):
            return
        what = f'{kind.resource} "{name}"' if name else kind.resource
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        why = f'User "{user}" cannot {verb} resource "{resource}" in API group "{kind.group}" {where}'
        raise Refused(403, "Forbidden", f"{what} is forbidden: {why}", about(kind, name))

    def allows(self, user: str, verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
        """Tell whether a user may; `resource` is `plural` or `plural/subresource`."""
        if self._open or user == ADMIN:
            return True
        for binding in self._bindings:
            home = binding["metadata"].get("namespace", "")
            reference = (binding["roleRef"]["kind"], binding["roleRef"]["name"])
            in_scope = binding["kind"] == "ClusterRoleBinding" or (home == namespace and namespace != "")
            if in_scope and any(_is(subject, user) for subject in binding.get("subjects") or ()):
                rules = self._rules.get((*reference, home if reference[0] == "Role" else ""), ())
                if any(_covers(rule, verb, group, resource, name) for rule in rules):
                    return True
        return False


def _key(role: dict[str, Any]) -> tuple[str, str, str]:
    return role["kind"], role["metadata"]["name"], role["metadata"].get("namespace", "")


def _is(subject: dict[str, Any], user: str) -> bool:
    match subject["kind"]:
        case "ServiceAccount":
            return user == f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
        case "Group":
            return subject["name"] in groups(user)
    return bool(subject["name"] == user)


def groups(user: str) -> list[str]:
    """Return the groups of a user that follow from the name."""
    prefix, _, rest = user.partition("system:serviceaccount:")
    accounts = ["system:serviceaccounts", f"system:serviceaccounts:{rest.split(':')[0]}"] if rest and not prefix else []
    return [*accounts, "system:authenticated"]


def _covers(rule: dict[str, Any], verb: str, group: str, resource: str, name: str) -> bool:
    wanted = {"verbs": {verb}, "apiGroups": {group}, "resources": {resource}}
    if "/" in resource:
        wanted["resources"].add(f"*/{resource.split('/')[1]}")
    names = rule.get("resourceNames") or [name]  # for a list or a POST the name is "", which no rule names
    return name in names and all((each | {"*"}) & set(rule.get(key) or ()) for key, each in wanted.items())
