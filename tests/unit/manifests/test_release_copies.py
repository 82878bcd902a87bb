"""Release copies of the manifests: the same objects, with our image by digest; only those are admitted."""

import json
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_custody.components._shared.images import PREFIX, image
from kube_api import FakeApi, fake_api
from kube_schemas import SCHEMAS, SHARED
from unit.manifests.rendered import MANIFESTS, OVERLAYS, ROOT, Object, render

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to render the overlays")
# A registry of one's own: its name has what an expression would read otherwise, and no tag is taken for its port.
ELSEWHERE, DIGEST = "registry.example.org:5000/ml", "sha256:" + "cd" * 32
WEBHOOK = "sha256:" + "ef" * 32
PINNED = f"{ELSEWHERE}/custody-serving@{DIGEST}"
NAMESPACE = "custody-production"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("release") / "manifests"
    runpy.run_path(str(ROOT / "scripts" / "pin_images.py"))["pin_manifests"](target, ELSEWHERE, DIGEST, WEBHOOK)
    return target


def rendered(copy: Path, overlay: str) -> list[Object]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(copy / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def images(found: Any) -> list[str]:
    """Every image that an object names, wherever."""
    if isinstance(found, list):
        return [name for each in found for name in images(each)]
    if not isinstance(found, dict):
        return []
    own = [
        value for key, value in found.items() if key in ("image", "CUSTODY_SERVING_IMAGE") and isinstance(value, str)
    ]
    return own + [name for each in found.values() for name in images(each)]


def test_the_sources_name_our_image_by_version_and_nothing_by_latest() -> None:
    named = {name for overlay in OVERLAYS for name in images(list(render(overlay)))}
    assert named == {image("serving")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_copy_differs_in_the_images_only_and_has_them_by_digest(copy: Path, overlay: str) -> None:
    found = rendered(copy, overlay)
    assert set(images(found)) <= {PINNED}
    assert len(images(found)) == len(images(list(render(overlay))))
    text = json.dumps(found)
    assert PREFIX not in text
    assert "ghcr[.]io" not in text
    back = text.replace(PINNED, image("serving")).replace("registry[.]example[.]org:5000/ml", "ghcr[.]io/kfp-custody")
    assert json.loads(back) == list(render(overlay))


def test_a_copy_has_the_webhook_by_its_own_digest(copy: Path) -> None:
    path = "components/retraining-webhook/deployment.yaml"
    here, there = (yaml.safe_load((root / path).read_text()) for root in (MANIFESTS, copy))
    assert images(here) == [image("retraining")]
    assert images(there) == [f"{ELSEWHERE}/custody-retraining@{WEBHOOK}"]


def test_a_copy_has_no_pipelines_since_those_are_beside_it(copy: Path) -> None:
    files = {str(path.relative_to(MANIFESTS)) for path in MANIFESTS.rglob("*") if path.is_file()}
    copied = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert files - copied == {name for name in files if name.startswith("pipelines/")}
    assert copied < files


@pytest.fixture(scope="module")
def api(copy: Path) -> Iterator[FakeApi]:
    with fake_api(schemas=[SCHEMAS, SHARED], policies=[copy / "components" / "admission" / "models.yaml"]) as api:
        labels = {"custody/models": "guarded"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
        api.api_client().call_api("/api/v1/namespaces", "POST", body=body, auth_settings=["BearerToken"])
        yield api


def refusal(api: FakeApi, server: Object) -> str:
    """Why a Server was not admitted, or nothing."""
    from kubernetes.client import ApiException

    path = f"/apis/mlops.seldon.io/v1alpha1/namespaces/{NAMESPACE}/servers"
    try:
        api.api_client().call_api(f"{path}?dryRun=All", "POST", body=server, auth_settings=["BearerToken"])
    except ApiException as error:
        return str(json.loads(error.body)["message"])
    return ""


def server(copy: Path) -> Object:
    (found,) = [each for each in rendered(copy, "seldon-v2") if each["kind"] == "Server"]
    return found


def changed(found: Object, **changes: Any) -> Object:
    found["spec"]["podSpec"].update(changes)
    return found


def test_only_servers_of_our_image_by_digest_are_admitted(copy: Path, api: FakeApi) -> None:
    assert refusal(api, server(copy)) == ""
    (tagged,) = [each for each in render("seldon-v2") if each["kind"] == "Server"]
    assert "by digest" in refusal(api, tagged)
    other = server(copy)
    other["spec"]["podSpec"]["containers"][0]["image"] = PINNED.replace("registry.", "registryx")
    assert "by digest" in refusal(api, other), "the dot of the registry's name is a dot"
    (container,) = server(copy)["spec"]["podSpec"]["containers"]
    agent = container | {"name": "agent", "image": "seldonio/seldon-agent:2.6.0"}
    assert "another container is replaced" in refusal(api, changed(server(copy), containers=[container, agent]))
    assert "container mlserver is not" in refusal(
        api, changed(server(copy), containers=[container | {"name": "rclone"}])
    )
    assert "init containers" in refusal(api, changed(server(copy), initContainers=[agent]))
    none = server(copy)
    del none["spec"]["podSpec"]
    assert "by digest" in refusal(api, none)
