"""What is in an image and what is not, read from running containers and from the engine."""

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from building import ROOT, base, build, layers, saved

from kfp_custody.components._shared.images import PREFIX, VERSION, image

pytestmark = pytest.mark.containers
InImage = Callable[..., tuple[int, str]]

PROGRAMS = """
import os
folders = [base + name for base in ("", "/usr", "/usr/local", "/opt/custody") for name in ("/bin", "/sbin")]
print(*sorted({name for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)}))
"""
PRIVILEGED = """
import os, stat
for folder, _, names in os.walk("/"):
    if not folder.startswith(("/proc", "/sys")):
        for name in names:
            mode = os.lstat(os.path.join(folder, name)).st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                print(os.path.join(folder, name))
"""
INSTALLED = """
import importlib.metadata, json
print(json.dumps(sorted({d.metadata["Name"].lower() + "==" + d.version for d in importlib.metadata.distributions()})))
"""
UNCOMPILED = """
import os
for folder, _, names in os.walk("/opt/custody/lib"):
    compiled = set(os.listdir(folder + "/__pycache__")) if os.path.isdir(folder + "/__pycache__") else set()
    for name in names:
        if name.endswith(".py") and name[:-3] + ".cpython-311.pyc" not in compiled:
            print(os.path.join(folder, name))
"""


def test_no_program_stays_but_what_kfp_starts_a_task_with(in_image: InImage, name: str) -> None:
    status, said = in_image(name, PROGRAMS)
    assert status == 0, said
    programs = set(said.split())
    assert {"sh", "mktemp", "python3"} <= programs
    assert [p for p in programs if not re.fullmatch(r"sh|dash|mktemp|ldconfig(\.real)?|python(3(\.11)?)?", p)] == []


def test_nothing_runs_with_more_rights_than_its_caller(in_image: InImage, name: str) -> None:
    assert in_image(name, PRIVILEGED) == (0, "")


def test_no_installer_and_no_build_tool_can_be_imported(in_image: InImage, name: str) -> None:
    tools = ("pip", "setuptools", "uv", "wheel", "ensurepip")
    code = f"import importlib.util as u; print([n for n in {tools} if u.find_spec(n)])"
    # In the stage's environment, and in the Python of the base below it.
    below = f"import subprocess, sys; sys.exit(subprocess.call([sys._base_executable, '-I', '-c', {code!r}]))"
    assert in_image(name, code) == (0, "[]\n")
    assert in_image(name, below) == (0, "[]\n")


def test_kfps_executor_is_there_without_the_rest_of_kfp(in_image: InImage, name: str) -> None:
    code = (
        "import os; os.environ['_KFP_RUNTIME'] = 'true'; import importlib.util as u, kfp.dsl.executor_main;"
        "print([each for each in ('kfp_server_api', 'kfp_pipeline_spec') if u.find_spec(each)])"
    )
    # The one stage that starts runs asks the server for it.
    expected = ["kfp_server_api"] if name == image("retraining") else []
    assert in_image(name, code) == (0, f"{expected}\n")


def test_the_bill_of_materials_names_exactly_what_is_installed(engine: Any, in_image: InImage, name: str) -> None:
    status, said = in_image(name, INSTALLED)
    assert status == 0, said
    status, sbom = in_image(name, "print(open('/opt/custody/sbom.cdx.json').read())")
    assert status == 0
    document = json.loads(sbom)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert sorted({f"{c['name'].lower()}=={c['version']}" for c in document["components"]}) == json.loads(said)
    room = name.removeprefix(f"{PREFIX}/custody-").partition(":")[0]
    assert json.loads((ROOT / f"build/images/{room}.sbom.cdx.json").read_text()) == document


def test_the_installed_libraries_are_the_locked_ones(in_image: InImage, name: str) -> None:
    room = name.removeprefix(f"{PREFIX}/custody-").partition(":")[0]
    locks = [(ROOT / f"images/locks/{lock}.txt").read_text() for lock in (room, "kfp")]
    locked = {line.split(" ")[0] for text in locks for line in text.splitlines() if re.match(r"^[a-z0-9].*==", line)}
    installed = {normal(one) for one in json.loads(in_image(name, INSTALLED)[1])}
    # A requirement on paper only: it is what builds packages.
    assert installed - {f"kfp-custody=={VERSION}"} == {
        normal(one) for one in locked if not one.startswith("setuptools==")
    }


def normal(requirement: str) -> str:
    package, _, version = requirement.partition("==")
    return f"{re.sub(r'[-_.]+', '-', package).lower()}=={version}"


def test_every_module_is_compiled(in_image: InImage, name: str) -> None:
    status, said = in_image(name, UNCOMPILED)
    assert status == 0, said
    # Templates and code for other versions of Python, which no Python 3.11 can compile.
    assert len(said.splitlines()) <= 3, said


def test_an_image_says_what_it_is(engine: Any, name: str) -> None:
    config = engine.images.get(name).attrs["Config"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    revision = labels["org.opencontainers.image.revision"]
    assert revision in ("", head.strip()), "the image is of another commit: make images"
    assert f"CUSTODY_SOURCE_REVISION={revision}" in config["Env"]
    assert config["User"] == "65532:65532"
    assert labels["org.opencontainers.image.base.name"] == base()
    serving = name == image("serving")
    assert bool(config["Entrypoint"]) == serving  # KFP gives a stage its command


def test_no_layer_holds_the_configuration_of_the_build(engine: Any, tmp_path: Path) -> None:
    for line in engine.images.get(image("policy_gate")).history():
        assert "BEGIN CERTIFICATE" not in line["CreatedBy"]
    folder = saved(engine, image("policy_gate"), tmp_path)
    names: list[str] = []
    for layer in json.loads((folder / "manifest.json").read_text())[0]["Layers"][1:]:
        with tarfile.open(folder / layer) as tar:
            names += tar.getnames()
    assert [n for n in names if n.startswith("run/secrets") or n.endswith(("pip.conf", "uv.toml"))] == []


def test_two_builds_make_the_same_layers(engine: Any, tmp_path: Path) -> None:
    """But for the layer that takes programs away: the engine stamps its marks of removed files with the time."""
    canary = "canary-7d1f0a64"
    settings = tmp_path / "pip.conf"
    settings.write_text(f"# {canary}\n[global]\n")
    again = [f"localhost/again-{n}" for n in (1, 2)]
    for prefix in again:
        done = build("artifact-signing", "--no-cache", "--prefix", prefix, PIP_CONFIG_FILE=str(settings))
        assert done.returncode == 0, done.stderr
    first, second = (f"{prefix}/custody-artifact-signing:{VERSION}" for prefix in again)
    (libraries, _, ours), (libraries_again, _, ours_again) = layers(engine, first), layers(engine, second)
    assert (libraries, ours) == (libraries_again, ours_again)
    contents = []
    for number, one in enumerate((first, second)):
        (folder := tmp_path / str(number)).mkdir()
        manifest = json.loads((saved(engine, one, folder) / "manifest.json").read_text())
        for layer in manifest[0]["Layers"][-3:]:  # what was mounted for the build is in none of ours
            assert canary.encode() not in (folder / layer).read_bytes()
        with tarfile.open(folder / manifest[0]["Layers"][-2]) as tar:
            contents.append([(m.name, m.type, m.size, m.mode, m.uid, m.gid) for m in tar])
    assert contents[0] == contents[1]
    for one in (first, second):
        engine.images.remove(one)


def test_another_base_needs_another_argument_and_nothing_else(engine: Any, in_image: InImage) -> None:
    """The other tests' base has Debian's Python in /usr/bin, this one in /usr/local, as the public image does."""
    other = "localhost/python-official:3.11"
    command = [sys.executable, str(ROOT / "tests/containers/local_base.py"), "official", other]
    subprocess.run(command, check=True)
    done = build("policy-gate", "--base-image", other, "--prefix", "localhost/official")
    assert done.returncode == 0, done.stderr
    name = f"localhost/official/custody-policy-gate:{VERSION}"
    assert engine.images.get(other).attrs["Id"] != engine.images.get(base()).attrs["Id"]
    where = "import sys; print(sys.base_prefix)"
    assert in_image(name, where) == (0, "/usr/local\n")
    assert in_image(image("policy_gate"), where) == (0, "/usr\n")
    test_no_program_stays_but_what_kfp_starts_a_task_with(in_image, name)
    test_nothing_runs_with_more_rights_than_its_caller(in_image, name)
    test_no_installer_and_no_build_tool_can_be_imported(in_image, name)
    test_kfps_executor_is_there_without_the_rest_of_kfp(in_image, name)
    loads = "import kfp_custody.components.policy_gate.gate, cel_expr_python, model_signing.verifying, sigstore.verify"
    assert in_image(name, loads) == (0, "")
