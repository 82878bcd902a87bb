"""The compiled files: they load, they are what the code says, and they refuse an insecure order of the stages."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, dsl
from kfp import components as kfp_components
from kfp.dsl.types.type_utils import InconsistentTypeException
from kfp.pipeline_spec import pipeline_spec_pb2

from kfp_custody import components
from kfp_custody.components._shared import artifacts

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path
    for path in ROOT.glob("*/*/*.yaml")
    if path.parts[-3] in ("components", "pipelines") and path.read_bytes().startswith(b"# PIPELINE DEFINITION")
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- the files --------------------------------------------------------------------------------------------------------


def test_there_is_a_file_for_every_component_and_pipeline() -> None:
    pipelines = list(ROOT.glob("pipelines/*/pipeline.py"))
    assert len(FILES) == len(components.CATALOG) + len(pipelines)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_file_loads_as_a_component(path: Path) -> None:
    loaded = kfp_components.load_component_from_file(str(path))
    assert loaded.name.replace("-", "_") in {*components.CATALOG, path.parent.name}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_file_is_a_pipeline_spec(path: Path) -> None:
    """ParseDict refuses a field that the published schema does not know."""
    document, *platforms = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    spec = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    assert spec.schema_version == "2.1.0"
    assert spec.root.dag.tasks
    for platform in platforms:
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_committed_files_are_what_the_code_says(seed: str, tmp_path: Path) -> None:
    """Byte for byte, in any process, from any folder, whatever the environment says of caching."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "compile.py"), "--check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": seed, "KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_file_is_named_left_alone_and_then_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = (ROOT / "README.md", ROOT / "SECURITY.md", *ROOT.glob("*/*/README.md"))
    doors = (ROOT / "manifests/door/door.yaml", *ROOT.glob("manifests/components/door-*/*.yaml"))
    monitoring = [path for path in ROOT.glob("manifests/components/monitoring/**/*") if path.is_file()]
    others = (*ROOT.glob("components/*/*elyra.yaml"), *ROOT.glob("manifests/pipelines/*.yaml"), *doors, *monitoring)
    for path in (*FILES, *others, *documents, *ROOT.glob("pipelines/*/pipeline.py")):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = load_script("compile")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    room = components.CATALOG["mask_pii"]
    stale = tmp_path / "components" / room / "component.yaml"
    original = stale.read_bytes()
    edited = original.replace(b"mask_pii", b"mask_nothing")
    assert edited != original
    stale.write_bytes(edited)

    assert script.main(["--check"]) == 1
    assert f"components/{room}/component.yaml" in capsys.readouterr().err
    assert stale.read_bytes() == edited
    assert script.main([]) == 0
    assert stale.read_bytes() == original

    manifest = next(path for path in others if path.parent.name == "pipelines" and path.name != "kustomization.yaml")
    copies = [tmp_path / path.relative_to(ROOT) for path in (manifest, doors[-1])]
    for source in (stale, stale.with_name("elyra.yaml"), *copies):
        removed = source.with_name("of_a_component_that_was_removed.yaml")
        shutil.copy(source, removed)
        assert script.main(["--check"]) == 1
        assert str(removed.relative_to(tmp_path)) in capsys.readouterr().err
        removed.unlink()

    door_file = tmp_path / doors[0].relative_to(ROOT)
    door_file.write_text(door_file.read_text().replace("models: [fraud-detection]", "models: [churn]"))
    assert script.main(["--check"]) == 1
    named = capsys.readouterr().err
    for form in ("istio", "gateway-api", "kong"):
        assert f"manifests/components/door-{form}/objects.yaml" in named


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


# --- the order of the stages ------------------------------------------------------------------------------------------


def from_python(name: str) -> Any:
    return getattr(components, name)


def from_yaml(name: str) -> Any:
    return kfp_components.load_component_from_file(str(yaml_of(name)))


def yaml_of(name: str) -> Path:
    room = components.CATALOG[name]
    first = next(other for other, home in components.CATALOG.items() if home == room)
    return ROOT / "components" / room / ("component.yaml" if name == first else f"{name}.yaml")


@pytest.fixture(params=[from_python, from_yaml], ids=["python", "yaml"])
def component(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    return request.param  # type: ignore[no-any-return]


def task(component: Any, **given: Any) -> Any:
    """Call a component with `given` by artifact type; every other required input gets something of its own type.

    `given` maps the name of an artifact type to what is wired to the input of that type.
    """
    arguments = {}
    for name, spec in component.component_spec.inputs.items():
        title = str(spec.type).partition("@")[0]
        short = title.removeprefix("system.")
        if spec.optional and short not in given:
            continue
        if short in given:
            arguments[name] = given.pop(short)
        elif "." in title:
            kind = getattr(artifacts, short, None) or getattr(dsl, short)
            imported = dsl.importer(artifact_uri=f"s3://bucket/{name}", artifact_class=kind, reimport=False)
            arguments[name] = imported.output
        else:
            arguments[name] = {"String": "x", "Integer": 1, "Float": 1.0, "Boolean": True}[title]
    assert not given, f"{component.name} has no input of type {', '.join(given)}"
    return component(**arguments)


def output(made: Any, kind: str) -> Any:
    """Return a task's output of an artifact type."""
    (found,) = [channel for channel in made.outputs.values() if str(channel.channel_type).startswith(f"system.{kind}@")]
    return found


def compile_pipeline(body: Callable[[], object], tmp_path: Path) -> dict[str, Any]:
    @dsl.pipeline(name="wiring")
    def wiring() -> None:
        body()

    target = tmp_path / "wiring.yaml"
    compiler.Compiler().compile(wiring, str(target))
    document: dict[str, Any] = yaml.safe_load(target.read_text())
    return document


def test_the_right_order_compiles(component: Callable[[str], Any], tmp_path: Path) -> None:
    def chain() -> None:
        masked = task(component("mask_pii"))
        dataset, masking = output(masked, "MaskedDataset"), output(masked, "TestResult")
        attested = task(component("attest_dataset"), MaskedDataset=dataset, TestResult=masking)
        attestation = output(attested, "DatasetAttestation")
        trained = task(component("train_model"), MaskedDataset=dataset, DatasetAttestation=attestation)
        model, provenance = output(trained, "TrainedModel"), output(trained, "TrainingProvenance")
        signed = task(component("sign_model"), TrainedModel=model, TrainingProvenance=provenance)
        decided = task(component("enforce_policy"), SignedModel=output(signed, "SignedModel"))
        task(
            component("deploy_model"),
            SignedModel=output(signed, "SignedModel"),
            Decision=output(decided, "Decision"),
        )

    spec = compile_pipeline(chain, tmp_path)
    assert {"mask-pii", "attest-dataset", "train-model", "sign-model", "enforce-policy", "deploy-model"} <= set(
        spec["root"]["dag"]["tasks"]
    )


def test_training_on_unmasked_data_does_not_compile(component: Callable[[str], Any], tmp_path: Path) -> None:
    def unmasked() -> None:
        raw = dsl.importer(artifact_uri="s3://bucket/raw", artifact_class=dsl.Dataset, reimport=False)
        task(component("train_model"), MaskedDataset=raw.output)

    with pytest.raises(InconsistentTypeException, match=r"system\.Dataset@.*incompatible.*system\.MaskedDataset@"):
        compile_pipeline(unmasked, tmp_path)


def test_signing_before_training_does_not_compile(component: Callable[[str], Any], tmp_path: Path) -> None:
    def untrained() -> None:
        masked = task(component("mask_pii"))
        task(component("sign_model"), TrainedModel=output(masked, "MaskedDataset"))

    with pytest.raises(InconsistentTypeException, match=r"system\.MaskedDataset@.*incompatible.*system\.TrainedModel@"):
        compile_pipeline(untrained, tmp_path)


def test_deploying_an_ungated_model_does_not_compile(component: Callable[[str], Any], tmp_path: Path) -> None:
    """Neither with another stage's evidence in the decision's place ..."""

    def ungated() -> None:
        signed = task(component("sign_model"))
        drift = task(component("check_drift"))
        task(
            component("deploy_model"),
            SignedModel=output(signed, "SignedModel"),
            Decision=output(drift, "TestResult"),
        )

    with pytest.raises(InconsistentTypeException, match=r"system\.TestResult@.*incompatible.*system\.Decision@"):
        compile_pipeline(ungated, tmp_path)


def test_deploying_without_a_decision_does_not_compile(component: Callable[[str], Any], tmp_path: Path) -> None:
    """... nor with nothing in its place ..."""

    def undecided() -> None:
        deploy = component("deploy_model")
        signed = dsl.importer(artifact_uri="s3://b/m", artifact_class=artifacts.SignedModel, reimport=False)
        (model,) = inputs_of(deploy, "SignedModel")
        values = {name: "x" for name, spec in deploy.component_spec.inputs.items() if spec.type == "String"}
        deploy(**{**values, model: signed.output})

    (decision,) = inputs_of(component("deploy_model"), "Decision")
    with pytest.raises(TypeError, match=rf"missing.*required.*{decision}"):
        compile_pipeline(undecided, tmp_path)


def test_deploying_an_unsigned_model_does_not_compile(component: Callable[[str], Any], tmp_path: Path) -> None:
    """... nor a model that was only trained."""

    def unsigned() -> None:
        trained = task(component("train_model"))
        task(component("deploy_model"), SignedModel=output(trained, "TrainedModel"))

    with pytest.raises(InconsistentTypeException, match=r"system\.TrainedModel@.*incompatible.*system\.SignedModel@"):
        compile_pipeline(unsigned, tmp_path)


def inputs_of(component: Any, kind: str) -> list[str]:
    return [
        name
        for name, spec in component.component_spec.inputs.items()
        if str(spec.type).startswith(f"system.{kind}@") and not spec.optional
    ]
