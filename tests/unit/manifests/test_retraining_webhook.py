"""The webhook's objects: what kustomize makes of them in an overlay, and that they agree with the command."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kfp_custody.components._cli.main import app
from kfp_custody.components._shared import settings
from kfp_custody.components.retraining.orders import load_orders
from kube_schemas import faults
from unit.manifests.rendered import MANIFESTS, Object
from unit.manifests.test_serving_overlays import not_restricted

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to render the overlays")
NAMESPACE = "custody-training"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    """The training namespace with the webhook, as an operator would add it: kind -> the webhook's object."""
    copy = shutil.copytree(MANIFESTS, tmp_path_factory.mktemp("manifests") / "manifests")
    path = copy / "overlays/promotion-namespace/training/kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**document, "components": ["../../../components/retraining-webhook"]}))
    command = ["kubectl", "kustomize", str(path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    found = {each["kind"]: each for each in rendered if each["metadata"]["name"] == "custody-webhook"}
    return {**found, "ServiceAccounts": {each["metadata"]["name"] for each in rendered if "Account" in each["kind"]}}  # type: ignore[dict-item]


def pod(objects: dict[str, Object]) -> Object:
    return objects["Deployment"]["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def test_every_object_is_there_and_valid(objects: dict[str, Object]) -> None:
    assert set(objects) - {"ServiceAccounts"} == {"Deployment", "Service", "NetworkPolicy"}
    for kind in ("Deployment", "Service", "NetworkPolicy"):
        assert faults(objects[kind]) == []
        assert objects[kind]["metadata"]["namespace"] == NAMESPACE


def test_it_is_restricted_and_writes_nowhere(objects: dict[str, Object]) -> None:
    (container,) = pod(objects)["containers"]
    assert not_restricted(pod(objects)) == []
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "limits" in container["resources"]
    writable = {each["name"] for each in container["volumeMounts"] if not each.get("readOnly")}
    assert writable == {"tmp"}


def test_it_runs_as_who_may_start_runs(objects: dict[str, Object]) -> None:
    assert pod(objects)["serviceAccountName"] == "custody-watch"
    assert "custody-watch" in objects["ServiceAccounts"]


def test_the_command_takes_its_options_and_finds_its_files(objects: dict[str, Object]) -> None:
    (container,) = pod(objects)["containers"]
    assert container["command"][2:] == ["-m", "kfp_custody.components._cli.main", "webhook"]
    names = [each.partition("=")[0] for each in container["args"]]
    known = CliRunner().invoke(app, ["webhook", "--help"], terminal_width=200).output
    assert [name for name in names if name not in known] == []
    mounts = [Path(each["mountPath"]) for each in container["volumeMounts"]]
    files = [Path(each.partition("=")[2]) for each in container["args"] if "=/" in each]
    assert [path for path in (*files, settings._PROJECTED_TOKEN) if path.parent not in mounts] == []
    assert {each["name"] for each in container["env"]} <= {"CUSTODY_WATCH_STATE"}
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod(objects)["volumes"]}


def test_the_service_and_the_policy_lead_to_its_port_and_nowhere_else(objects: dict[str, Object]) -> None:
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    policy, (port,) = objects["NetworkPolicy"]["spec"], objects["Service"]["spec"]["ports"]
    (container,) = pod(objects)["containers"]
    assert objects["Service"]["spec"]["selector"] == labels
    assert policy["podSelector"]["matchLabels"] == labels
    (own,) = container["ports"]
    assert (port["targetPort"], f"--port={own['containerPort']}") == (own["name"], "--port=9099")
    (ingress,) = policy["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": own["containerPort"]}]
    assert all(set(peer) == {"namespaceSelector", "podSelector"} for peer in ingress["from"])
    assert all(rule["to"] and rule["ports"] for rule in policy["egress"])


def test_the_retraining_file_as_shipped_starts_nothing_and_its_example_is_well_formed(tmp_path: Path) -> None:
    path = MANIFESTS / "base/runs/retraining.yaml"
    assert load_orders(path).orders == {}
    text = path.read_text()
    example = [line.removeprefix("# ") for line in text.split("orders: []\n")[1].splitlines()]
    (tmp_path / "retraining.yaml").write_text("version: 1\norders:\n" + "\n".join(example))
    found = load_orders(tmp_path / "retraining.yaml")
    assert found.for_alert({"alertname": "CustodyDriftFailed", "model": "fraud-detection"})
