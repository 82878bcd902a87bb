"""The components for Elyra: its rules, KFP's loader, and the stages really run by plain paths, as Elyra runs them."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from kfp import compiler, dsl
from kfp import components as kfp_components

from genuine_chain import RUN, Site
from kfp_custody.components import CATALOG
from kfp_custody.components._cli.compiling import elyra
from kfp_custody.components._shared.evidence import ATTESTATION, DECISION, MASKING
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("components/*/*elyra.yaml"))
POLICY = """\
version: 1
columns:
  name: {operator: hmac}
  amount: {operator: keep}
"""

# Elyra itself brings all of JupyterLab, so these are the rules of its parser, read in elyra 4.1.1
# (elyra/pipeline/kfp/kfp_component_parser.py and kfp_component_utils.py). All files were given to that very parser by
# hand, and it read from them what the tests below say.
TEXT = {"type": ["string", "null"]}
FIELDS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "description": TEXT, "type": TEXT, "default": {"type": "string"}},
        "required": ["name"],
    },
}
PARTS = {"type": "array", "items": {"type": ["string", "object"]}}
RULES = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "description": TEXT,
        "inputs": FIELDS,
        "outputs": FIELDS,
        "implementation": {
            "type": "object",
            "properties": {
                "container": {
                    "type": "object",
                    "properties": {"image": {"type": "string"}, "command": PARTS, "args": PARTS},
                    "required": ["image", "command"],
                }
            },
            "required": ["container"],
        },
    },
    "required": ["name", "implementation"],
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def by_way(document: dict[str, Any]) -> dict[str, set[str]]:
    """How the command takes each name: as inputValue, inputPath or outputPath."""
    ways: dict[str, set[str]] = {"inputValue": set(), "inputPath": set(), "outputPath": set()}
    for part in document["implementation"]["container"]["args"]:
        if isinstance(part, dict):
            ((way, name),) = (optional(part)[1] if "if" in part else part).items()
            ways[way].add(name)
    return ways


def optional(part: dict[str, Any]) -> list[Any]:
    """What stands in the command when an input is there that need not be."""
    then: list[Any] = part["if"]["then"]
    assert part["if"]["cond"] == {"isPresent": then[1]["inputPath"]}
    return then


def test_there_is_a_file_for_every_component_that_stands_alone() -> None:
    alone = set(CATALOG) - {"plan_shards", "mask_shard", "attest_shard", "merge_shards"}  # Elyra draws no loop
    assert {read(path)["name"] for path in FILES} == alone
    assert len(FILES) == len(alone)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_file_keeps_the_rules_of_elyras_parser(path: Path) -> None:
    document = read(path)
    jsonschema.validate(document, RULES)
    assert all(each["description"] for side in ("inputs", "outputs") for each in document.get(side, []))
    ways = by_way(document)
    inputs, outputs = ({each["name"] for each in document.get(side, [])} for side in ("inputs", "outputs"))
    assert ways["inputValue"] | ways["inputPath"] == inputs
    assert ways["outputPath"] == outputs
    ids = [name.lower().replace(" ", "_") for name in inputs | outputs]
    assert len(ids) == len(set(ids)), "Elyra makes ids of names in lower case"


def test_the_rules_can_refuse() -> None:
    for wrong in ({"implementation": {"container": {"image": "x"}}}, {"inputs": [{"name": "seed", "default": 7}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(read(FILES[0]) | wrong, RULES)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_kfp_loads_it_with_the_interface_of_the_component(path: Path) -> None:
    """Version 1 has neither our types nor capitals in the names of parameters; all else is the same."""
    loaded = kfp_components.load_component_from_file(str(path)).component_spec
    compiled = path.with_name(path.name.replace("elyra.yaml", "yaml") if "." in path.stem else "component.yaml")
    own = kfp_components.load_component_from_file(str(compiled)).component_spec
    for spec in (loaded, own):
        assert set(spec.inputs) == {each["name"] for each in read(path)["inputs"]}
    artifacts, own_artifacts = (
        {name for name, item in spec.inputs.items() if "@" in item.type} for spec in (loaded, own)
    )
    assert artifacts == own_artifacts
    defaults = {name: item.default for name, item in own.inputs.items() if name != "run_id"}
    assert {name: item.default for name, item in loaded.inputs.items() if name != "run_id"} == defaults
    assert set(loaded.outputs or {}) == {name.lower() for name in own.outputs or {}}


def test_what_elyra_draws_of_them_compiles_and_kfp_fills_in_the_run(tmp_path: Path) -> None:
    """Elyra passes every value, defaults too, as the task's own; only such a constant does KFP replace."""
    mask, attest = (
        kfp_components.load_component_from_file(str(ROOT / "components" / room / "elyra.yaml"))
        for room in ("pii_masking", "data_attestation")
    )

    @dsl.pipeline(name="drawn")
    def drawn() -> None:
        raw = dsl.importer(artifact_uri="s3://bucket/raw", artifact_class=dsl.Dataset)
        masked = mask(data=raw.output, run_id=elyra.RUN_ID, expected_sha256="", policy="card-transactions")
        attest(dataset=masked.outputs["masked"], masking=masked.outputs["evidence"], run_id=elyra.RUN_ID)

    compiler.Compiler().compile(drawn, str(tmp_path / "drawn.yaml"))
    tasks = read(tmp_path / "drawn.yaml")["root"]["dag"]["tasks"]
    assert str(dsl.PIPELINE_JOB_ID_PLACEHOLDER) == elyra.RUN_ID
    for name in ("mask-pii", "attest-dataset"):
        assert tasks[name]["inputs"]["parameters"]["run_id"] == {"runtimeValue": {"constant": elyra.RUN_ID}}


# --- the stages, by plain paths ---------------------------------------------------------------------------------------


def as_elyra_calls(function: str, values: dict[str, str], paths: dict[str, Path]) -> list[str]:
    """The command of the file, with values and paths in the places that KFP would put them."""
    (path,) = [path for path in FILES if read(path)["name"] == function]
    container = read(path)["implementation"]["container"]
    given = {each["name"]: each["default"] for each in read(path)["inputs"] if "default" in each} | values
    words = []
    parts: list[Any] = [*container["command"]]
    for part in container["args"]:
        if not isinstance(part, dict) or "if" not in part:
            parts.append(part)
        elif part["if"]["cond"]["isPresent"] in paths:
            parts += optional(part)
    for part in parts:
        if isinstance(part, str):
            words.append(part)
        else:
            ((way, name),) = part.items()
            words.append(given[name] if way == "inputValue" else str(paths[name]))
    assert words[0] == "python3"
    return [sys.executable, *words[1:]]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env={**os.environ}, capture_output=True, text=True, check=False)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    pq.write_table(pa.table({"name": ["Ada Lovelace", "Alan Turing"], "amount": [1.0, 2.0]}), tmp_path / "raw")
    return tmp_path / "raw"


def masking(tmp_path: Path, raw: Path, run_id: str) -> tuple[list[str], dict[str, Path]]:
    made = {name: tmp_path / "made" / name / "data" for name in ("masked", "evidence", "report", "metrics")}
    values = {"run_id": run_id, "policy": str(tmp_path / "policy.yaml")}
    return as_elyra_calls("mask_pii", values, {"data": raw, **made}), made


def test_two_stages_run_by_plain_paths_leave_the_evidence_of_a_pipeline(
    tmp_path: Path, raw: Path, settings: Settings, trust: Trust, run_id: str
) -> None:
    command, made = masking(tmp_path, raw, run_id)
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    require_subject(read_evidence(made["evidence"], MASKING, trust, run_id=run_id), made["masked"], "masked")
    assert "PASSED" in made["report"].read_text()
    assert json.loads(made["metrics"].read_text())["rows"] == 2.0, "metadata has nowhere else to go"

    attestation = tmp_path / "made" / "attestation"
    paths = {"dataset": made["masked"], "masking": made["evidence"], "attestation": attestation}
    done = run(as_elyra_calls("attest_dataset", {"run_id": run_id}, paths), tmp_path)
    assert done.returncode == 0, done.stderr
    verified = read_evidence(attestation, ATTESTATION, trust, run_id=run_id)
    require_subject(verified, made["masked"], "masked")


def test_a_refusal_ends_it_with_three_lines_and_no_output(
    tmp_path: Path, raw: Path, settings: Settings, run_id: str
) -> None:
    command, made = masking(tmp_path, raw, run_id)
    (tmp_path / "policy.yaml").write_text("version: 1\ncolumns: {}\n")
    done = run(command, tmp_path)
    assert done.returncode == 1
    assert "REFUSED " in done.stderr
    assert "remedy:" in done.stderr
    assert not any(path.exists() for path in made.values())


def test_a_run_id_that_nobody_filled_in_is_refused(tmp_path: Path, raw: Path, settings: Settings) -> None:
    """Else all runs would have the same, and evidence of one would do for another."""
    command, made = masking(tmp_path, raw, "{{$.pipeline_job_uuid}}")
    done = run(command, tmp_path)
    assert done.returncode == 1
    assert "The id of the run was not filled in." in done.stderr
    assert not made["masked"].exists()


def test_a_value_that_a_stage_returns_is_written_to_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path / "site")
    chain = site.chain()
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    made = {name: tmp_path / "made" / name for name in ("decision", "report", "Output")}
    places = {name: path for name, path in dataclasses.asdict(chain).items() if path}
    done = run(as_elyra_calls("enforce_policy", {"run_id": RUN}, {**places, **made}), tmp_path)
    assert done.returncode == 0, done.stderr
    assert made["Output"].read_text() == "PASSED"
    assert read_evidence(made["decision"], DECISION, site.trust, run_id=RUN).result == "PASSED"


@pytest.mark.parametrize("arguments", [[], ["mask_cards"], ["mask_pii"], ["train_model", "--seed", "seven"]])
def test_wrong_arguments_are_named(tmp_path: Path, arguments: list[str]) -> None:
    done = run([sys.executable, "-m", "kfp_custody.components._cli.by_path", *arguments], tmp_path)
    assert done.returncode == 2
    assert "usage: by_path" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_needs_no_kfp_to_read_its_arguments(tmp_path: Path) -> None:
    """The image has KFP's executor alone; the SDK's other libraries are not there."""
    code = "import kfp_custody.components._cli.by_path, sys; print('kfp' in sys.modules, 'typer' in sys.modules)"
    assert run([sys.executable, "-c", code], tmp_path).stdout.split() == ["False", "False"]
