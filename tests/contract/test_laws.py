"""The laws of the house, for every room in the catalog. A new room is held to them without a line here."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_custody.components import CATALOG
from kfp_custody.components._cli.compiling.choices import choices_of
from kfp_custody.components._shared import images

ROOT = Path(__file__).resolve().parents[2]
ROOMS = list(dict.fromkeys(CATALOG.values()))
FUNCTIONS = list(CATALOG)
PIPELINES = sorted(path.parent.name for path in ROOT.glob("pipelines/*/pipeline.py"))
SOURCES = sorted(path for folder in ("components", "pipelines") for path in (ROOT / folder).rglob("*.py"))

# Each takes a second or more to import: a task that does not need them must not wait for them.
HEAVY = (
    *("dvc", "evidently", "kubernetes", "matplotlib", "mlflow", "mlserver", "model_signing", "pandas"),
    *("presidio_analyzer", "presidio_anonymizer", "scipy", "sigstore", "sklearn", "skops", "spacy", "xgboost"),
)
# Installed beside the server that loads a plug-in, and nowhere else.
SERVERS = ("mlserver", "bentoml", "triton_python_backend_utils")
# The one module of ours that imports KFP while a task runs: the types in the contract's signature.
ARTIFACT_TYPES = "kfp_custody.components._shared.artifacts"
PASSED_ONLY = re.compile(r"inputs\.parameter_values\['[^']*enforce-policy[^']*-Output'\] == 'PASSED'")
SECRET_LIKE = re.compile(r"secret|passw|token|credential|private|api_?key|access_?key", re.IGNORECASE)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module(path: Path) -> str:
    return ".".join(("kfp_custody", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def function(name: str) -> ast.FunctionDef:
    source = ROOT / "components" / CATALOG[name] / "component.py"
    return next(node for node in tree(source).body if isinstance(node, ast.FunctionDef) and node.name == name)


@cache
def compiled(path: Path) -> dict[str, Any]:
    return next(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def yaml_of(name: str) -> Path:
    room = CATALOG[name]
    first = next(other for other, home in CATALOG.items() if home == room)
    return ROOT / "components" / room / ("component.yaml" if name == first else f"{name}.yaml")


def interface(name: str) -> dict[str, Any]:
    (component,) = compiled(yaml_of(name))["components"].values()
    return component


def definitions(component: dict[str, Any], side: str, sort: str) -> dict[str, dict[str, Any]]:
    return component.get(f"{side}Definitions", {}).get(sort, {})


def pipeline(name: str) -> dict[str, Any]:
    return compiled(ROOT / "pipelines" / name / "pipeline.yaml")


def dags(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every graph of a pipeline by name: the root and what is nested under conditions and loops."""
    return {
        name: component["dag"]["tasks"]
        for name, component in {"root": spec["root"], **spec["components"]}.items()
        if "dag" in component
    }


# --- the shape of a room ----------------------------------------------------------------------------------------------


def test_every_folder_is_a_room_of_the_catalog() -> None:
    folders = {path.parent.name for path in ROOT.glob("components/*/component.py")}
    assert folders == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_its_five_files(room: str) -> None:
    folder = ROOT / "components" / room
    wanted = ["README.md", "__init__.py", "component.py", "component.yaml"]
    assert [name for name in wanted if not (folder / name).is_file()] == []
    logic = [path for path in folder.glob("*.py") if path.name not in ("__init__.py", "component.py")]
    assert logic, f"{room} has a contract and no logic"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_never_bears_the_name_of_a_room(name: str) -> None:
    assert name not in ROOMS, "the function would shadow the package"


@pytest.mark.parametrize("room", ROOMS)
def test_a_readme_has_the_headings_in_their_order(room: str) -> None:
    text = (ROOT / "components" / room / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+?)\s*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    wanted = ["Promise", "Refuses when", "Inputs and outputs", "Evidence left", "Example"]
    assert [heading for heading in headings if heading in wanted] == wanted


# --- what runs inside a task ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=named)
def test_no_init_imports_anything_of_ours(path: Path) -> None:
    imported = [
        getattr(node, "module", None) or node.names[0].name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert [name for name in imported if name.split(".")[0] not in sys.stdlib_module_names] == []


@pytest.mark.parametrize("room", [*ROOMS, "_shared"])
def test_logic_imports_inside_a_task_and_without_its_heavy_libraries(room: str) -> None:
    """In a task kfp.dsl has no `component`: a module that reaches a component.py at import time dies here."""
    logic = [
        module(path)
        for path in sorted((ROOT / "components" / room).rglob("*.py"))
        if path.name != "component.py" and not is_a_plugin(path) and module(path) != ARTIFACT_TYPES
    ]
    code = f"import sys, {', '.join(logic)}\nprint(*sorted(set({[*HEAVY, 'kfp']!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "_KFP_RUNTIME": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def is_a_plugin(path: Path) -> bool:
    """A module that subclasses a server's classes at its top is loaded by that server alone, never by a stage."""
    return any(
        isinstance(node, ast.ImportFrom | ast.Import)
        and (getattr(node, "module", None) or node.names[0].name).split(".")[0] in SERVERS
        for node in tree(path).body
    )


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", ROOMS)
def test_a_contract_avoids_what_kfp_cannot_read(room: str) -> None:
    source = tree(ROOT / "components" / room / "component.py")
    imports = [node for node in source.body if isinstance(node, ast.ImportFrom)]
    assert "__future__" not in [node.module for node in imports], "annotations would reach KFP as text"
    aliased = [name.asname for node in imports for name in node.names if name.asname]
    assert aliased == [], "KFP embeds the name it reads in the signature"
    unions = [
        ast.unparse(annotation)
        for node in source.body
        if isinstance(node, ast.FunctionDef)
        for annotation in (*(argument.annotation for argument in node.args.args), node.returns)
        if isinstance(annotation, ast.BinOp)
    ]
    assert unions == [], "KFP reads Optional[X], not X | None"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_body_only_adapts(name: str) -> None:
    """At most 15 statements, and no branch, format or default among them."""
    docstring, *body = function(name).body
    assert isinstance(docstring, ast.Expr)
    nodes = [node for statement in body for node in ast.walk(statement)]
    assert sum(isinstance(node, ast.stmt) for node in nodes) <= 15
    decisions = (ast.If, ast.IfExp, ast.BoolOp, ast.Try, ast.Match, ast.JoinedStr)
    assert [ast.unparse(node) for node in nodes if isinstance(node, decisions)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_input_and_output_is_described(name: str) -> None:
    silent = [
        f"{side} {key}"
        for side in ("input", "output")
        for sort in ("parameters", "artifacts")
        for key, definition in definitions(interface(name), side, sort).items()
        if not definition.get("description", "").strip()
    ]
    assert silent == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_parameter_asks_for_a_secret(name: str) -> None:
    """KFP logs every parameter and shows it in its interface."""
    parameters = definitions(interface(name), "input", "parameters")
    assert [key for key in parameters if SECRET_LIKE.search(key)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_closed_vocabulary_is_described_and_holds_the_default(name: str) -> None:
    """What the KFP UI offers is what the room accepts, and the description names it to those who see no list."""
    parameters = definitions(interface(name), "input", "parameters")
    for key, values in choices_of(CATALOG[name]).items():
        if key not in parameters:  # the room's vocabulary, which another function of it needs
            others = [each for each in FUNCTIONS if CATALOG[each] == CATALOG[name]]
            assert any(key in definitions(interface(each), "input", "parameters") for each in others)
            continue
        assert parameters[key]["defaultValue"] in values
        assert [value for value in values if value not in parameters[key]["description"]] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_value_is_returned_singly(name: str) -> None:
    """kfp.local takes a condition on a named output to be false, silently; on the single one it works.

    A plan is no verdict: nobody asks a condition of it.
    """
    values = definitions(interface(name), "output", "parameters")
    assert set(values) <= ({"numbers", "shards"} if name == "plan_shards" else {"Output"})


def test_the_gate_returns_one_string() -> None:
    values = definitions(interface("enforce_policy"), "output", "parameters")
    assert {key: value["parameterType"] for key, value in values.items()} == {"Output": "STRING"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_image_is_named_after_its_room_and_tagged_with_the_version(name: str) -> None:
    room = CATALOG[name].replace("_", "-")
    (executor,) = compiled(yaml_of(name))["deploymentSpec"]["executors"].values()
    assert executor["container"]["image"] == f"{images.PREFIX}/custody-{room}:{declared_version()}"
    assert not any("pip install" in part for part in executor["container"]["command"]), "a task installs nothing"


def test_the_version_is_said_once() -> None:
    assert declared_version() == images.VERSION


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]  # type: ignore[no-any-return]


def declared_version() -> str:
    return str(project()["version"])


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_an_extra_for_its_image(room: str) -> None:
    assert room.replace("_", "-") in project()["optional-dependencies"]


# --- the pipelines ----------------------------------------------------------------------------------------------------


def test_there_is_a_pipeline() -> None:
    assert "fraud_detection" in PIPELINES


@pytest.mark.parametrize("name", PIPELINES)
def test_no_task_is_served_from_the_cache(name: str) -> None:
    """A cache hit hands on an artifact that nobody has looked at in this run."""
    cached = [
        task
        for tasks in dags(pipeline(name)).values()
        for task, body in tasks.items()
        if body.get("cachingOptions", {}).get("enableCache")
    ]
    assert cached == []


@pytest.mark.parametrize("name", PIPELINES)
def test_pipeline_parameters_are_short_public_and_described(name: str) -> None:
    parameters = definitions(pipeline(name)["root"], "input", "parameters")
    assert [key for key in parameters if SECRET_LIKE.search(key)] == []
    assert [key for key, value in parameters.items() if not value.get("description", "").strip()] == []
    assert [key for key, value in parameters.items() if value["parameterType"] in ("STRUCT", "LIST")] == []
    assert [key for key, value in parameters.items() if len(json.dumps(value.get("defaultValue", ""))) > 200] == []


@pytest.mark.parametrize("name", PIPELINES)
def test_a_run_form_is_short_and_in_the_order_of_the_stages(name: str) -> None:
    """The form shows the parameters in alphabetical order and without descriptions: the first word is the stage."""
    parameters = definitions(pipeline(name)["root"], "input", "parameters")
    assert len(parameters) <= (18 if name in ("promotion", "drift_watch") else 12)  # these name pieces of evidence
    assert {key.partition("_")[0] for key in parameters} <= {"data", "mask", "train", "gate", "deploy", "promote"} | {
        *("canary", "watch")
    }
    assert [key for key in parameters if not key.partition("_")[2]] == []
    assert definitions(pipeline(name)["root"], "input", "artifacts") == {}, "the form cannot give an artifact"


@pytest.mark.parametrize("name", PIPELINES)
def test_nothing_is_deployed_but_under_a_passed_verdict(name: str) -> None:
    graphs = dags(pipeline(name))
    conditions = {
        body["componentRef"]["name"]: body.get("triggerPolicy", {}).get("condition", "")
        for tasks in graphs.values()
        for body in tasks.values()
    }
    homes = {
        graph
        for graph, tasks in graphs.items()
        for body in tasks.values()
        if body["componentRef"]["name"].startswith("comp-deploy-model")
    }
    homes_of = {body["componentRef"]["name"]: graph for graph, tasks in graphs.items() for body in tasks.values()}
    for graph in homes:
        above = [graph]
        while above[-1] in homes_of:
            above.append(homes_of[above[-1]])
        assert any(PASSED_ONLY.fullmatch(conditions.get(each, "")) for each in above), f"{graph}: {conditions[graph]}"


@pytest.mark.parametrize("name", PIPELINES)
def test_a_run_fails_when_the_gate_says_no(name: str) -> None:
    tasks = [body["componentRef"]["name"] for graph in dags(pipeline(name)).values() for body in graph.values()]
    assert "comp-enforce-policy" not in tasks or "comp-refuse" in tasks


# --- the house --------------------------------------------------------------------------------------------------------


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_the_tooling_is_smaller_than_a_tenth_of_the_goods() -> None:
    scripts, components = (
        sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py"))
        for folder in ("scripts", "components")
    )
    assert scripts * 10 < components, f"scripts/ has {scripts} lines, components/ {components}"


def tracked_files() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_no_file_says_where_packages_come_from() -> None:
    """Where packages are fetched is the business of the machine that fetches them; a lock holds hashes only."""
    index = re.compile(rb"pypi\.(?:org|python)|python" + rb"hosted|--(?:extra-)?index-url[ =]|--find-links[ =]")
    assert [named(path) for path in tracked_files() if path != Path(__file__) and index.search(path.read_bytes())] == []


@pytest.mark.parametrize("lock", sorted((ROOT / "images/locks").glob("*.txt")), ids=named)
def test_a_lock_holds_names_versions_and_hashes_only(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    entries = re.split(r"\n(?=[a-zA-Z0-9])", text.strip())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert [entry.splitlines()[0] for entry in entries if not re.match(r"\S+==\S+", entry)] == []
