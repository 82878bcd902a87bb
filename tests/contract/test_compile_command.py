"""`kfp-custody compile`: what users take away, in every form, and what is refused."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from google.protobuf import json_format
from kfp import components as kfp_components
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.pipeline_spec import pipeline_spec_pb2
from typer.testing import CliRunner, Result

from kfp_custody.components import CATALOG
from kfp_custody.components._cli.compiling.choices import choices_of
from kfp_custody.components._cli.compiling.ir import compile_item
from kfp_custody.components._cli.compiling.targets import find
from kfp_custody.components._cli.main import app
from kfp_custody.components._shared.codes import CODES
from kfp_custody.components._shared.images import PREFIX, VERSION, image
from kfp_custody.components.model_training.trainers import ALGORITHMS

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = sorted(path.parent.name for path in ROOT.glob("pipelines/*/pipeline.py"))
DIGEST = "sha256:" + "ab" * 32
# What runs in a loop, or gathers it, is for KFP's own DSL.
ALONE = [name for name in CATALOG if name not in ("plan_shards", "mask_shard", "attest_shard", "merge_shards")]
PINS = {image(room): DIGEST for room in set(CATALOG.values())}

OWN = """\
from kfp import dsl

from kfp_custody.components import deploy_model, train_model


@dsl.component(base_image="python:3.11")
def mine(text: str) -> str:
    \"\"\"Say it again.\"\"\"
    return text


@dsl.pipeline(name="my-pipeline")
def my_pipeline(train_with: str = "xgboost", words: str = "x"):
    data = dsl.importer(artifact_uri="s3://bucket/data", artifact_class=dsl.Artifact)
    mine(text=words)
    train_model(dataset=data.output, attestation=data.output, run_id="r", algorithm=train_with)
    train_model(dataset=data.output, attestation=data.output, run_id="r", algorithm="random_forest")
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["compile", *map(str, arguments)])


def written(out: Path, *arguments: str | Path) -> dict[str, str]:
    """Compile and return every file: path below `out` -> text."""
    result = run(*arguments, "--out", out)
    assert result.exit_code == 0, result.output
    files = {str(path.relative_to(out)): path.read_text() for path in sorted(out.rglob("*")) if path.is_file()}
    assert {str(Path(line).relative_to(out)) for line in result.stdout.splitlines()} == set(files)
    return files


def refused(code: str, *arguments: str | Path) -> str:
    """Compile, demand a refusal with this code in three lines, and return it."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    lines = result.stderr.rstrip().splitlines()
    assert len(lines) == 3, result.stderr
    assert lines[0].startswith(f"REFUSED Misconfigured: [{code}] ")
    assert code in CODES
    assert lines[1].startswith("  evidence: ")
    assert lines[2].startswith("  remedy:   ")
    return result.stderr


def usage_error(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    return re.sub(r"\s+", " ", result.stderr)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


@pytest.fixture(autouse=True)
def no_module_is_left() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("custody_compiles_")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[str, str]]:
    """Everything that ships, without and with literals."""
    out = tmp_path_factory.mktemp("shipped")
    return {False: written(out / "plain"), True: written(out / "literals", "--literals")}


def documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


# --- what KFP runs ----------------------------------------------------------------------------------------------------


def test_what_ships_is_written_as_it_was_committed(shipped: dict[bool, dict[str, str]]) -> None:
    files = shipped[False]
    assert set(files) == {f"{name}.yaml" for name in (*CATALOG, *PIPELINES)}
    committed = {
        path.read_text()
        for path in (*ROOT.glob("components/*/*.yaml"), *ROOT.glob("pipelines/*/*.yaml"))
        if path.read_text().startswith("# PIPELINE DEFINITION")
    }
    assert set(files.values()) == committed


def test_what_kfp_writes_is_kept_byte_for_byte(tmp_path: Path) -> None:
    """The parts put together again are the file: so is what an option changes the only difference."""
    from kfp import compiler

    from kfp_custody.pipelines.fraud_detection.pipeline import fraud_detection

    compiler.Compiler().compile(fraud_detection, str(tmp_path / "kfp.yaml"))
    assert compile_item(fraud_detection).text() == (tmp_path / "kfp.yaml").read_text()


@pytest.mark.parametrize("asked", ["", ":my_pipeline", ":mine"])
def test_a_users_own_file_is_compiled(tmp_path: Path, own: Path, asked: str) -> None:
    files = written(tmp_path / "out", f"{own}{asked}")
    (name,) = files
    assert name == f"{asked.removeprefix(':') or 'my_pipeline'}.yaml"
    loaded = kfp_components.load_component_from_file(str(tmp_path / "out" / name))
    assert loaded.name == ("mine" if asked == ":mine" else "my-pipeline")


def test_a_users_file_may_import_what_lies_beside_it(tmp_path: Path, own: Path) -> None:
    (tmp_path / "mine_beside_it.py").write_text(OWN)
    own.write_text("from mine_beside_it import my_pipeline\n")
    assert "my_pipeline.yaml" in written(tmp_path / "out", f"{own}:my_pipeline")
    assert str(tmp_path) not in sys.path
    sys.modules.pop("mine_beside_it")


@pytest.mark.parametrize("form", ["ir", "gitops"])
def test_the_bytes_depend_on_nothing_but_the_arguments(tmp_path: Path, own: Path, form: str) -> None:
    """Neither on the hash seed, the folder, the home, nor on what KFP reads from the environment."""
    made = []
    for seed, folder in (("0", tmp_path), ("1", ROOT)):
        out = tmp_path / f"out-{seed}"
        caching = {"KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT": "true"} if seed == "1" else {}
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONHASHSEED": seed, **caching}
        subprocess.run(
            [
                *(sys.executable, "-m", "kfp_custody.components._cli.main", "compile", "fraud_detection", str(own)),
                *("--format", form, "--literals", "--out", str(out)),
            ],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
        made.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert made[0] == made[1]
    assert made[0]


# --- literals ---------------------------------------------------------------------------------------------------------


def differences(left: Any, right: Any, where: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """What `right` has more: path -> value; anything else that differs fails."""
    if not isinstance(left, dict) or not isinstance(right, dict):
        assert left == right, where
        return {}
    assert set(left) <= set(right), where
    found = {(*where, key): right[key] for key in set(right) - set(left)}
    for key, value in left.items():
        found |= differences(value, right[key], (*where, key))
    return found


@pytest.mark.parametrize("name", [*CATALOG, *PIPELINES])
def test_literals_are_all_that_is_different_and_the_schema_knows_them(
    shipped: dict[bool, dict[str, str]], name: str
) -> None:
    (spec, *platform), (said, *same) = (documents(shipped[literals][f"{name}.yaml"]) for literals in (False, True))
    assert same == platform
    added = differences(spec, said)
    assert {path[-1] for path in added} <= {"literals"}
    parameters = {path[-2].removeprefix("pipelinechannel--") for path in added}
    assert parameters == {
        "train_model": {"algorithm"},
        "deploy_model": {"target", "rollout"},
        **dict.fromkeys(("analyse_canary", "finish_rollout", "close_rollout"), {"target"}),
        "fraud_detection": {"algorithm", "target", "rollout", "train_algorithm", "deploy_target"},
        "promotion": {"target", "rollout", "deploy_rollout"},
        "start_retraining": {"action"},
        "drift_watch": {"action", "watch_action"},
    }.get(name, set())
    for path in added:
        assert path[-4:-1][:2] == ("inputDefinitions", "parameters")
    parsed = json_format.ParseDict(said, pipeline_spec_pb2.PipelineSpec())
    for key in parameters & set(spec["root"].get("inputDefinitions", {}).get("parameters", {})):
        shown = [value.string_value for value in parsed.root.input_definitions.parameters[key].literals]
        assert spec["root"]["inputDefinitions"]["parameters"][key]["defaultValue"] in shown


def test_one_parameter_gets_literals_in_exactly_one_place_more_than_its_component(
    shipped: dict[bool, dict[str, str]],
) -> None:
    (plain, *_), (with_them, *_) = (documents(shipped[literals]["train_model.yaml"]) for literals in (False, True))
    assert set(differences(plain, with_them)) == {
        ("components", "comp-train-model", "inputDefinitions", "parameters", "algorithm", "literals"),
        ("root", "inputDefinitions", "parameters", "algorithm", "literals"),
    }


def test_literals_are_what_the_stage_accepts(tmp_path: Path, own: Path) -> None:
    assert choices_of("model_training") == {"algorithm": tuple(ALGORITHMS)}
    assert choices_of("artifact_signing") == {}
    (text,) = written(tmp_path / "out", own, "--literals").values()
    parameters = documents(text)[0]["root"]["inputDefinitions"]["parameters"]
    assert parameters["train_with"]["literals"] == list(ALGORITHMS)
    assert "literals" not in parameters["words"]


def test_a_default_that_its_stage_would_refuse_is_refused(tmp_path: Path, own: Path) -> None:
    own.write_text(OWN.replace('train_with: str = "xgboost"', 'train_with: str = "deep"'))
    assert "train_with = 'deep'" in refused("CUS-E546", own, "--literals", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert written(tmp_path / "out", own)


# --- images -----------------------------------------------------------------------------------------------------------


def images_of(text: str) -> set[str]:
    executors = documents(text)[0]["deploymentSpec"]["executors"].values()
    return {executor["container"]["image"] for executor in executors if "container" in executor}


def pins_file(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "pins.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_site_names_images_by_its_registry_and_by_digest(tmp_path: Path) -> None:
    mirror = "registry.example.org:5000/ml-platform/custody"
    pins = pins_file(tmp_path, PINS)
    for options, wanted in (
        (("--image-prefix", mirror), f"{mirror}/custody-pii-masking:{VERSION}"),
        (("--pins", pins), f"{PREFIX}/custody-pii-masking@{DIGEST}"),
        (("--image-prefix", mirror, "--pins", pins), f"{mirror}/custody-pii-masking@{DIGEST}"),
    ):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        files = written(out, "mask_pii", "fraud_detection", *options)
        assert images_of(files["mask_pii.yaml"]) == {wanted}
        assert wanted in images_of(files["fraud_detection.yaml"])
        json_format.ParseDict(documents(files["fraud_detection.yaml"])[0], pipeline_spec_pb2.PipelineSpec())


def test_other_peoples_images_keep_their_place_and_need_a_pin_like_ours(tmp_path: Path, own: Path) -> None:
    (text,) = written(tmp_path / "out", own, "--image-prefix", "mirror.example.org").values()
    assert images_of(text) == {"python:3.11", f"mirror.example.org/custody-model-training:{VERSION}"}
    options = ("--pins", pins_file(tmp_path, PINS), "--out", tmp_path / "pinned")
    assert "python:3.11, with" in refused("CUS-E548", own, *options)
    pins = pins_file(tmp_path, PINS | {"python:3.11": DIGEST})
    (text,) = written(tmp_path / "pinned", own, "--pins", pins).values()
    assert images_of(text) == {f"python@{DIGEST}", f"{PREFIX}/custody-model-training@{DIGEST}"}


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        ("{", "CUS-E504", "JSON"),
        ('{"a": "b", "a": "c"}', "CUS-E507", "'a'"),
        ([], "CUS-E548", "no object"),
        ({}, "CUS-E548", "no object"),
        ({image("pii_masking"): "latest"}, "CUS-E548", "'latest'"),
        ({image("pii_masking"): 7}, "CUS-E548", "'7'"),
        ({image("pii_masking"): DIGEST.upper()}, "CUS-E548", "lower-case"),
        ({image("pii_masking"): DIGEST[:-1]}, "CUS-E548", "64"),
        ({image("pii_masking"): f"{DIGEST}\n"}, "CUS-E548", "64"),
        (PINS | {f"{PREFIX}/custody-pii-masking:9.9.9": DIGEST}, "CUS-E548", "9.9.9"),
        (PINS | {"docker.io/library/python:3.11": DIGEST}, "CUS-E548", "python"),
        ({image("policy_gate"): DIGEST}, "CUS-E548", "custody-pii-masking"),
    ],
)
def test_pins_that_do_not_fit_are_refused(tmp_path: Path, content: object, code: str, named: str) -> None:
    arguments = ("--pins", pins_file(tmp_path, content), "--out", tmp_path / "out")
    assert named in refused(code, "mask_pii", *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "prefix",
    ["", "https://ghcr.io/x", "ghcr.io/x/", "GHCR.io/x", "ghcr.io/x:1", "ghcr.io//x", "ghcr.io/x y", "$(id)", "-x"],
)
def test_a_prefix_that_is_no_registry_is_refused(tmp_path: Path, prefix: str) -> None:
    refused("CUS-E547", "mask_pii", f"--image-prefix={prefix}", "--out", tmp_path / "out")


def test_a_file_of_pins_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "--pins" in usage_error("mask_pii", "--pins", tmp_path / "none.json", "--out", tmp_path / "out")


# --- the other forms --------------------------------------------------------------------------------------------------


def test_elyra_gets_the_committed_components(tmp_path: Path) -> None:
    files = written(tmp_path / "out", "--format", "elyra")
    assert set(files) == {f"{name}.elyra.yaml" for name in ALONE}
    assert set(files.values()) == {path.read_text() for path in ROOT.glob("components/*/*elyra.yaml")}
    options = ("--format", "elyra", "--image-prefix", "mirror.example.org", "--pins", pins_file(tmp_path, PINS))
    (text,) = written(tmp_path / "mirrored", "mask_pii", *options).values()
    assert yaml.safe_load(text)["implementation"]["container"]["image"] == (
        f"mirror.example.org/custody-pii-masking@{DIGEST}"
    )


def test_gitops_gets_the_committed_manifests(tmp_path: Path) -> None:
    files = written(tmp_path / "out", "--format", "gitops")
    folder = ROOT / "manifests" / "pipelines"
    assert files == {path.name: path.read_text() for path in folder.iterdir()}


def test_the_manifests_are_those_of_kfps_own_compiler(tmp_path: Path) -> None:
    """But for what Argo CD is told."""
    from kfp import compiler

    from kfp_custody.pipelines.promotion.pipeline import promotion

    ours = written(tmp_path / "out", "promotion", "--format", "gitops")["promotion.yaml"]
    pipeline, version = documents(ours)
    del version["metadata"]["annotations"]
    options = KubernetesManifestOptions(
        pipeline_name="promotion",
        pipeline_version_name=version["metadata"]["name"],
        include_pipeline_manifest=True,
    )
    compiler.Compiler().compile(
        promotion, str(tmp_path / "kfp.yaml"), kubernetes_manifest_format=True, kubernetes_manifest_options=options
    )
    assert [pipeline, version] == documents((tmp_path / "kfp.yaml").read_text())


def test_another_pipeline_is_another_version_and_the_same_is_the_same(tmp_path: Path, own: Path) -> None:
    def version(folder: str, *options: str | Path) -> str:
        files = written(tmp_path / folder, own, "--format", "gitops", *options)
        return str(documents(files["my-pipeline.yaml"])[1]["metadata"]["name"])

    first = version("one")
    assert re.fullmatch(r"my-pipeline-[0-9a-f]{12}", first), "its version is not ours to say"
    assert version("two") == first
    names = {first, version("three", "--literals"), version("four", "--image-prefix", "mirror.example.org")}
    stamp = own.stat().st_mtime_ns
    own.write_text(OWN.replace('words: str = "x"', 'words: str = "y"'))
    os.utime(own, ns=(stamp, stamp))  # edited within a second: Python's cache would not see it
    assert len(names | {version("five")}) == 4


# Their schema of metadata.yaml and their checks, as read in kubeflow/pipelines-components (scripts/validate_metadata,
# scripts/validate_components, .github/scripts/check_imports), in our own words.
SEMVER = r"^(==|>=|<=|~=)?\d+\.\d+\.\d+$"
DEPENDENCIES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "version"],
        "properties": {"name": {"type": "string"}, "version": {"type": "string", "pattern": SEMVER}},
    },
}
METADATA = {
    "type": "object",
    "required": ["name", "stability", "dependencies", "lastVerified"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "stability": {"enum": ["alpha", "beta", "stable"]},
        "dependencies": {
            "type": "object",
            "required": ["kubeflow"],
            "additionalProperties": False,
            "properties": {
                "kubeflow": DEPENDENCIES
                | {"contains": {"properties": {"name": {"const": "Pipelines"}}, "required": ["name"]}},
                "external_services": DEPENDENCIES,
            },
        },
        "lastVerified": {},
        "tags": {"type": "array", "items": {"type": "string"}},
        "ci": {"type": "object"},
        "links": {"type": "object"},
    },
}
CATEGORIES = {"data_processing", "training", "evaluation", "deployment", "monitoring"}


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("catalog")
    written(out, "--format", "catalog", "--owner", "ada", "--owner", "alan")
    return out


def entry(entries: Path, name: str) -> Path:
    (folder,) = entries.glob(f"components/*/{name}")
    return folder


@pytest.mark.parametrize("name", ALONE)
def test_an_entry_of_the_catalog_keeps_its_rules(entries: Path, name: str) -> None:
    folder = entry(entries, name)
    assert folder.parent.name in CATEGORIES
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files >= {"component.py", "metadata.yaml", "README.md", "OWNERS", "tests/test_component_unit.py"}

    metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
    jsonschema.validate(metadata, METADATA)
    assert metadata["name"] == name
    order = [key for key in metadata if key not in ("tags", "ci", "links")]
    assert order == ["name", "stability", "dependencies", "lastVerified"]
    assert metadata["lastVerified"].tzinfo is not None, "a timestamp and no text"
    assert re.search(r"^approvers:\n- ada\n- alan$", (folder / "OWNERS").read_text(), flags=re.MULTILINE)

    tree = ast.parse((folder / "component.py").read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {(getattr(node, "module", None) or node.names[0].name).split(".")[0] for node in top} == {"kfp"}


@pytest.mark.parametrize("name", ALONE)
def test_an_entry_runs_the_same_body_in_the_same_image(entries: Path, name: str) -> None:
    from kfp_custody import components

    loaded = find(f"{entry(entries, name) / 'component.py'}:{name}").item
    ours = getattr(components, name)

    def body(component: Any) -> list[str]:
        source = Path(component.python_func.__code__.co_filename).read_text()
        (function,) = [
            node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name == name
        ]
        return [ast.unparse(statement) for statement in function.body]

    assert body(loaded) == body(ours)
    assert list(loaded.component_spec.inputs) == list(ours.component_spec.inputs)
    assert list(loaded.component_spec.outputs or {}) == list(ours.component_spec.outputs or {})
    assert loaded.component_spec.implementation.container.image == image(CATALOG[name])


def test_the_tests_of_the_entries_pass(entries: Path) -> None:
    for folder in (entries / "components", *(entries / "components").iterdir()):
        (folder / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "components"],
        cwd=entries,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{2 * len(ALONE)} passed" in done.stdout


def test_the_catalog_is_told_when_it_was_verified_and_no_clock_is_read(tmp_path: Path) -> None:
    options = ("mask_pii", "--format", "catalog", "--owner", "ada", "--verified", "2026-12-24T12:00:00+01:00")
    (text,) = [text for name, text in written(tmp_path, *options).items() if name.endswith("metadata.yaml")]
    assert "lastVerified: 2026-12-24T11:00:00Z\n" in text


def test_an_entry_names_the_image_of_the_site(tmp_path: Path) -> None:
    options = ("mask_pii", "--format", "catalog", "--owner", "ada", "--image-prefix", "quay.example.org/ml")
    files = written(tmp_path, *options)
    (text,) = [text for name, text in files.items() if name.endswith("/component.py")]
    assert f'base_image="quay.example.org/ml/custody-pii-masking:{VERSION}"' in text


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mask_cards", "mask-pii", "", "pii_masking", "fraud_detection.yaml", "../x"])
def test_an_unknown_name_is_refused_with_those_that_are_known(tmp_path: Path, name: str) -> None:
    text = refused("CUS-E543", name, "--out", tmp_path / "out")
    assert "mask_pii" in text
    assert "fraud_detection" in text


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import no_such_module_at_all\n", "ModuleNotFoundError"),
        ("def my_pipeline(:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("x = 1\n", "it defines no pipeline"),
        ("def my_pipeline(): ...\n", "it defines no pipeline"),
        ("from kfp_custody.pipelines.promotion.pipeline import promotion\n", "it defines no pipeline"),
        (OWN + OWN.replace("my_pipeline", "mine_too"), "it defines 2 pipelines: my_pipeline, mine_too"),
        (
            OWN.replace('"s3://bucket/data", artifact_class=dsl.Artifact', '"s3://b/d", artifact_class=dsl.Dataset'),
            "Inco",
        ),
        ("\0", "S"),
    ],
    ids=["module", "syntax", "exit", "error", "nothing", "plain", "imported", "two", "unsafe-wiring", "null-byte"],
)
def test_a_file_that_cannot_be_compiled_is_refused(tmp_path: Path, own: Path, source: str, named: str) -> None:
    own.write_text(source)
    assert named in refused("CUS-E544", own, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("asked", ["none.py", "none.py:my_pipeline", "own.py:other", "own.py:dsl", "folder.py"])
def test_a_file_or_function_that_is_not_there_is_refused(tmp_path: Path, own: Path, asked: str) -> None:
    (tmp_path / "folder.py").mkdir()
    refused("CUS-E544", tmp_path / asked, "--out", tmp_path / "out")


def test_no_file_is_replaced_and_then_none_is_written(tmp_path: Path) -> None:
    (tmp_path / "refuse.yaml").write_text("mine")
    assert "refuse.yaml exists" in refused("CUS-E545", "mask_pii", "refuse", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["refuse.yaml"]
    assert (tmp_path / "refuse.yaml").read_text() == "mine"


def test_two_of_one_name_are_refused(tmp_path: Path, own: Path) -> None:
    own.write_text(OWN.replace("def mine(", "def mask_pii(").replace("    mine(", "    mask_pii("))
    refused("CUS-E545", "mask_pii", f"{own}:mask_pii", "--out", tmp_path / "out")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("mask_pii", "--out", tmp_path / "file" / "below")
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("REFUSED ")
    assert str(tmp_path / "file") in result.stderr
    assert "--out" in usage_error("mask_pii", "--out", tmp_path / "file")
    assert "--out" in usage_error("mask_pii")


@pytest.mark.parametrize(
    ("form", "name"),
    [("elyra", "fraud_detection"), ("catalog", "fraud_detection"), ("gitops", "mask_pii")],
)
def test_a_form_that_does_not_have_it_is_refused(tmp_path: Path, form: str, name: str) -> None:
    owner = ("--owner", "ada") if form == "catalog" else ()
    assert name in refused("CUS-E543", name, "--format", form, *owner, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--format", "helm"), "--format"),
        (("--format", "catalog"), "--owner"),
        (("--owner", "ada"), "--owner"),
        (("--verified", "2026-12-24T12:00:00Z"), "--verified"),
        (("--format", "catalog", "--owner", "ada", "--verified", "yesterday"), "--verified"),
        (("--format", "elyra", "--literals"), "--literals"),
    ],
)
def test_options_that_do_not_go_together_are_named(tmp_path: Path, options: tuple[str, ...], named: str) -> None:
    assert named in usage_error("mask_pii", *options, "--out", tmp_path / "out")


# --- in shards --------------------------------------------------------------------------------------------------------


def test_a_pipeline_is_compiled_in_shards(tmp_path: Path) -> None:
    (text,) = written(tmp_path / "out", "fraud_detection", "--shards", "8").values()
    spec = next(yaml.safe_load_all(text))
    assert spec["pipelineInfo"]["name"] == "fraud-detection-in-8-shards"
    given = spec["root"]["dag"]["tasks"]["mask-in-shards"]["inputs"]["parameters"]
    assert given["numbers"]["runtimeValue"]["constant"] == list(range(8))


def test_as_many_shards_as_the_data_needs(tmp_path: Path) -> None:
    (text,) = written(tmp_path / "out", "fraud_detection", "--shards", "0").values()
    spec = next(yaml.safe_load_all(text))
    assert spec["pipelineInfo"]["name"] == "fraud-detection-in-shards"
    assert "plan-shards" in spec["root"]["dag"]["tasks"]


def test_one_shard_is_the_shipped_pipeline(tmp_path: Path, shipped: dict[bool, dict[str, str]]) -> None:
    (text,) = written(tmp_path / "out", "fraud_detection", "--shards", "1").values()
    assert text == shipped[False]["fraud_detection.yaml"]


@pytest.mark.parametrize("number", ["-1", "33"])
def test_a_number_of_shards_that_is_not_possible_is_refused(tmp_path: Path, number: str) -> None:
    refused("CUS-E563", "fraud_detection", "--shards", number, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["promotion", "mask_pii", "own.py"])
def test_what_cannot_be_sharded_is_refused(tmp_path: Path, name: str) -> None:
    said = refused("CUS-E543", name, "--shards", "2", "--out", tmp_path / "out")
    assert "fraud_detection" in said


def test_shards_of_nothing_in_particular_are_a_usage_error(tmp_path: Path) -> None:
    assert "name the pipeline" in usage_error("--shards", "2", "--out", tmp_path / "out")
