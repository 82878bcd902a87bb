"""The locked door beside the overlays: what kustomize makes of both, and that the example door lets nobody in."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from kfp_custody.components._cli.main import app
from kfp_custody.components.seldon_deployment.door.rendering import FORMS
from kfp_custody.components.seldon_deployment.door.spec import load_door
from kube_schemas import faults, unverified
from unit.manifests.rendered import MANIFESTS, OVERLAYS, Object, render, render_lines
from unit.seldon_deployment.test_door_objects import GOOD, admitted

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to render the overlays")
DOOR, MODELS = MANIFESTS / "door" / "door.yaml", "custody-production"
README = (MANIFESTS / "README.md").read_text()
# Where models are served behind closed policies, and where not: there a door is refused.
BESIDE = ("seldon-v2", "seldon-v1", "kserve", "standalone-kfp")
NOT_BESIDE = sorted(set(OVERLAYS) - set(BESIDE))
BOTH = [(overlay, form) for overlay in BESIDE for form in FORMS]
Key = tuple[str, str, str]


def key(document: Object) -> Key:
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def example(overlay: str, form: str) -> list[str]:
    """The kustomization that the README shows, for another overlay and another door."""
    block = README.split("## The locked door", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]
    assert "overlays/seldon-v2" in block
    assert "components/door-istio" in block
    return block.replace("overlays/seldon-v2", f"overlays/{overlay}").replace("door-istio", f"door-{form}").splitlines()


@cache
def together(overlay: str, form: str) -> dict[Key, Object]:
    with TemporaryDirectory() as folder:
        made = render_lines(example(overlay, form), Path(folder))
    found = {key(each): each for each in made}
    assert len(found) == len(made)
    return found


def door(form: str, *options: str) -> Result:
    result = CliRunner().invoke(app, ["door", str(DOOR), "--for", form, "--namespace", MODELS, *options])
    assert result.exit_code == 0, result.output
    return result


@cache
def printed(form: str) -> tuple[Object, ...]:
    return tuple(yaml.safe_load_all(door(form).stdout))


def component(form: str) -> Path:
    return MANIFESTS / "components" / f"door-{form}"


# --- the same as the command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_the_component_holds_what_the_command_prints(form: str) -> None:
    files = [yaml.safe_load_all((component(form) / name).read_text()) for name in ("closed.yaml", "objects.yaml")]
    assert tuple(document for file in files for document in file) == printed(form)


@pytest.mark.parametrize("form", FORMS)
def test_a_user_writes_the_same_component_and_replaces_none(form: str, tmp_path: Path) -> None:
    out = tmp_path / "door"
    door(form, "--out", str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in component(form).iterdir()
    }
    again = CliRunner().invoke(app, ["door", str(DOOR), "--for", form, "--out", str(out)])
    assert again.exit_code == 2
    assert "would be replaced" in again.output


def test_every_gateway_has_its_component_and_none_is_left_of_another() -> None:
    assert {path.name for path in (MANIFESTS / "components").glob("door-*")} == {f"door-{form}" for form in FORMS}


# --- beside an overlay ------------------------------------------------------------------------------------------------


def holds(whole: Any, part: Any) -> bool:
    """Whether every field of `part` stands in `whole` with the same value."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and holds(whole[name], part[name]) for name in part)
    return bool(whole == part)


@pytest.mark.parametrize(("overlay", "form"), BOTH)
def test_overlay_and_door_render_together_and_lose_nothing(overlay: str, form: str) -> None:
    found, before, added = together(overlay, form), {key(each): each for each in render(overlay)}, printed(form)
    assert set(found) == set(before) | {key(each) for each in added}
    assert [key(each) for each in added if not holds(found[key(each)], each)] == []
    patched = {key(each) for each in yaml.safe_load_all((component(form) / "closed.yaml").read_text())}
    assert patched == set(before) & {key(each) for each in added}
    assert all(found[each] == before[each] for each in set(before) - patched)
    namespace, quota = found["Namespace", "", MODELS], found["ResourceQuota", MODELS, "models"]
    assert namespace["metadata"]["labels"]["custody/models"] == "guarded"
    assert quota["spec"] == before["ResourceQuota", MODELS, "models"]["spec"], "the example takes nothing away"


@pytest.mark.parametrize(("overlay", "form"), BOTH)
def test_what_the_door_adds_is_valid_in_every_version_of_kubernetes(overlay: str, form: str) -> None:
    changed = [each for each in together(overlay, form).values() if each not in render(overlay)]
    assert len(changed) == len(printed(form))
    assert [each for each in changed if faults_of(json.dumps(each))] == []
    without_schema = {each["apiVersion"] for each in changed if unverified(each)}
    assert without_schema == ({"configuration.konghq.com/v1"} if form == "kong" else set()), "Kong's are not at hand"


@cache
def faults_of(document: str) -> list[str]:
    return faults(json.loads(document))


@pytest.mark.parametrize("overlay", NOT_BESIDE)
@pytest.mark.parametrize("form", FORMS)
def test_no_door_is_put_where_no_models_are_closed_in(overlay: str, form: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        render_lines(example(overlay, form), tmp_path)
    assert "no resource matches strategic merge patch" in refusal.value.stderr
    assert MODELS in refusal.value.stderr


@pytest.mark.parametrize("form", FORMS)
def test_a_third_overlay_may_stand_beside_them(form: str, tmp_path: Path) -> None:
    lines = [line for each in example("kserve", form) for line in (each, each.replace("kserve", "multi-user-profile"))]
    made = {key(each) for each in render_lines(list(dict.fromkeys(lines)), tmp_path)}
    assert made == set(together("kserve", form)) | {key(each) for each in render("multi-user-profile")}


# --- what is open -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_no_host_is_a_wildcard_and_no_address_the_whole_world(form: str) -> None:
    text = door(form).stdout
    assert ":latest" not in text
    assert not re.search(r"\b0\.0\.0\.0/|::/0", text)
    hosts = re.findall(r"^ *(?:- )?(?:hosts?|hostnames?): *(\S*)((?:\n *- \S+)*)", text, re.MULTILINE)
    named = {
        name.strip("- \n") for one, several in hosts for name in (one, *several.splitlines()) if name.strip("- \n")
    }
    assert named
    assert not [name for name in named if "*" in name]


@pytest.mark.parametrize("form", FORMS)
def test_no_secret_is_made_but_every_one_that_is_wanted_is_in_the_readme(form: str) -> None:
    assert not {"Secret", "ConfigMap"} & {each["kind"] for each in printed(form)}
    section = README.split("## The locked door", 1)[1].split("\n## ", 1)[0]
    (row,) = [line for line in section.splitlines() if line.startswith(f"| `door-{form}`")]
    assert wanted(printed(form)) == set(re.findall(r"`((?:custody|client)-[a-z0-9-]+)`", row))


def wanted(value: Any) -> set[str]:
    """The names of Secrets and ConfigMaps that objects refer to."""
    if isinstance(value, (list, tuple)):
        return set().union(*map(wanted, value))
    if not isinstance(value, dict):
        return set()
    found = {each for name in ("credentialName", "secretName") if (each := value.get(name))}
    found |= {each["name"] for name in ("certificateRefs", "caCertificateRefs") for each in value.get(name, ())}
    found |= set(value["credentials"]) if value.get("kind") == "KongConsumer" else set()
    return found.union(*map(wanted, value.values()))


# --- the example lets nobody in ---------------------------------------------------------------------------------------


def test_whatever_must_be_set_is_marked_and_can_be_nobodys() -> None:
    lines = [line for line in DOOR.read_text().splitlines() if line and not line.startswith("#")]
    free = ("version:", "tokens:", "audiences:", "clients:", "models:", "resources:")
    assert [line for line in lines if "REPLACE" not in line and not line.strip(" -").startswith(free)] == []
    spec = load_door(DOOR)
    # RFC 2606 and RFC 5737: nobody has a name below .invalid, and nobody an address of 192.0.2.0/24.
    assert spec.server_name.endswith(".invalid")
    assert spec.trust_domain.endswith(".invalid")
    assert re.fullmatch(r"https://[A-Za-z.]+\.invalid", spec.tokens.issuer)
    assert spec.tokens.jwks
    assert spec.tokens.jwks.startswith(spec.tokens.issuer)
    assert spec.addresses == ("192.0.2.0/24",)
    assert all(client.subject == "REPLACE" for client in spec.clients)


def test_by_istio_nobody_comes_in_until_the_door_file_says_who() -> None:
    objects = list(printed("istio"))
    stranger = {**GOOD, "address": "192.0.2.7"}
    assert not admitted(objects, "istio-system", stranger)
    assert not admitted(objects, MODELS, stranger)
    spec = load_door(DOOR)
    (client,) = spec.clients
    named = {"principal": client.identity.removeprefix("spiffe://"), "token": f"{spec.tokens.issuer}/{client.subject}"}
    assert admitted(objects, "istio-system", stranger | named), "the rule is there: only nobody is whom it names"
    assert admitted(objects, MODELS, stranger | named)


def test_by_the_gateway_api_and_kong_nothing_is_listened_to() -> None:
    gateway = next(each for each in printed("gateway-api") if each["kind"] == "Gateway")
    assert gateway["spec"]["gatewayClassName"] == "REPLACE"
    plugins = {each["metadata"]["name"]: each for each in printed("kong") if each["kind"] == "KongPlugin"}
    assert plugins["addresses"]["config"]["allow"] == ["192.0.2.0/24"]
    for ingress in (each for each in printed("kong") if each["kind"] == "Ingress"):
        assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["replace.invalid"]
        assert {"addresses", "tokens"} <= set(ingress["metadata"]["annotations"]["konghq.com/plugins"].split(","))


def test_callers_of_the_example_come_from_the_gateway_alone() -> None:
    for form, home in {"istio": "istio-system", "gateway-api": "istio-system", "kong": "kong"}.items():
        assert callers(printed(form)) == [home]
    assert callers(yaml.safe_load_all(door("kong", "--gateway-namespace", "edge").stdout)) == ["edge"]


def callers(objects: Iterable[Object]) -> list[str]:
    """The namespaces that the policy `callers` lets in."""
    (policy,) = [each for each in objects if key(each) == ("NetworkPolicy", MODELS, "callers")]
    (rule,) = policy["spec"]["ingress"]
    return [each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for each in rule["from"]]
