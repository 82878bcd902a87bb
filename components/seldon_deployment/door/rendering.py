"""A door file in the words of a gateway: as objects to print, or as a kustomize component to apply beside an overlay.

An overlay that serves models has closed their namespace already (manifests/base/model-servers). In the component, what
closes it is a patch, which kustomize refuses when there is nothing to patch: no door stands in an open field.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from kfp_custody.components.seldon_deployment.door import gateway_api, istio, kong
from kfp_custody.components.seldon_deployment.door.objects import Object, Place, closed, ways
from kfp_custody.components.seldon_deployment.door.spec import Door

FORMS: Mapping[str, Callable[[Door, Place], list[Object]]] = {
    "istio": istio.render,
    "gateway-api": gateway_api.render,
    "kong": kong.render,
}
# Where the gateway's pods usually run: the one namespace, beside the callers' own, that reaches the models.
GATEWAYS: Mapping[str, str] = {"istio": "istio-system", "gateway-api": "istio-system", "kong": "kong"}
MARK = "# DOOR MANIFEST"
_COMPONENT = """\
# The locked door for {form}. List it under `components` beside an overlay that serves models in {namespace}.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
resources:
  - objects.yaml
patches:
  - path: closed.yaml
"""


def as_text(door: Door, place: Place, form: str) -> str:
    """Return all objects of a door: the closed namespace, the ways into it, and the door itself."""
    return _text([*closed(door, place), *ways(door, place), *FORMS[form](door, place)])


def as_component(door: Door, place: Place, form: str) -> dict[str, str]:
    """Return the same objects as a component of kustomize: file name -> text."""
    parts = {"closed.yaml": closed(door, place), "objects.yaml": [*ways(door, place), *FORMS[form](door, place)]}
    said = f"{MARK}: written from a door file by `kfp-custody door`; change that file, and write it again.\n"
    files = {name: said + _text(objects) for name, objects in parts.items()}
    return files | {"kustomization.yaml": said + _COMPONENT.format(form=form, namespace=place.namespace)}


class _Plain(yaml.SafeDumper):
    """Writes a value that stands in two places twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(objects: Iterable[Object]) -> str:
    return yaml.dump_all(objects, Dumper=_Plain, sort_keys=False, width=120)
