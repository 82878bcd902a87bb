"""The wheel alone, in an empty environment: catalog, compiled files, and a user's own pipeline that runs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kfp_custody.components import CATALOG

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")

IMPORT = """
from importlib.resources import files

from kfp.components import load_component_from_text
from kfp_custody import components
from kfp_custody.components import mask_pii, train_model

assert "site-packages" in components.__file__, components.__file__
print(mask_pii.name, train_model.name)
for room in files("kfp_custody.components").iterdir():
    for file in room.iterdir() if room.is_dir() else ():
        if file.name.endswith(".yaml") and file.read_text().startswith("# PIPELINE DEFINITION"):
            print("loaded", load_component_from_text(file.read_text()).name)
pipeline = files("kfp_custody.pipelines") / "fraud_detection" / "pipeline.yaml"
print("loaded", load_component_from_text(pipeline.read_text()).name)
"""

# A shop with a masker of its own, our attestation, and a plain component of theirs after it.
PIPELINE = """
import sys

from kfp import compiler, dsl, local
from kfp.dsl import Artifact, Input, Output
from kfp_custody.components import attest_dataset
from kfp_custody.components._shared.artifacts import MaskedDataset, TestResult


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def own_masking(dataset: Output[MaskedDataset], masking: Output[TestResult], run_id: str):
    from pathlib import Path

    from kfp_custody.components._shared.digests import list_tree, sha256_bytes
    from kfp_custody.components._shared.evidence import MASKING, resource, test_result, write_evidence
    from kfp_custody.components._shared.settings import load_settings
    from kfp_custody.components._shared.signers.loading import load_signer

    folder = Path(dataset.path)
    folder.mkdir(parents=True)
    (folder / "rows.csv").write_text("customer,amount\\nc-1,10\\n")
    listing = list_tree(folder)
    statement = test_result(
        MASKING,
        listing,
        result="PASSED",
        run_id=run_id,
        configuration=[resource("input", sha256_bytes(b"raw"))],
        passed=["own masking"],
    )
    write_evidence(Path(masking.path), statement, load_signer(load_settings().signer_uri("pii_masking")), listing)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def announce(attestation: Input[Artifact]) -> str:
    with open(attestation.path + "/SHA256SUMS") as sums:
        return "attested " + sums.read().split()[1]


@dsl.pipeline(name="a-users-own")
def own_pipeline(run_id: str) -> str:
    masked = own_masking(run_id=run_id)
    attested = attest_dataset(dataset=masked.outputs["dataset"], masking=masked.outputs["masking"], run_id=run_id)
    return announce(attestation=attested.outputs["attestation"]).output


compiler.Compiler().compile(own_pipeline, "own.yaml")
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root="outputs", raise_on_error=True)
print(own_pipeline(run_id="run-of-the-wheel-test").output)
"""


# A stage whose extra was not installed.
BARE = """
from kfp import dsl, local
from kfp_custody.components import mask_pii


@dsl.pipeline(name="bare")
def bare(data_uri: str):
    raw = dsl.importer(artifact_uri=data_uri, artifact_class=dsl.Dataset)
    mask_pii(data=raw.output, run_id="r")


local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root="outputs", raise_on_error=False)
bare(data_uri="raw.csv")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves files beside what it builds
    for name in ("components", "pipelines"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source], folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    """The interpreter of an environment that holds the wheel, what it depends on, and nothing else."""
    folder = wheel.parent
    python = folder / "venv" / "bin" / "python"
    lock = ROOT / "images" / "locks" / "local.txt"
    run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], folder)
    run([UV, "pip", "install", "--python", python, "--constraint", lock, "--compile-bytecode", wheel], folder)
    return python


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """Run a command outside the repository and without what would lead back to it."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "CUSTODY_"))
    }
    done = subprocess.run(command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_holds_every_file_of_ours_and_nothing_else(wheel: Path) -> None:
    wanted = {
        f"kfp_custody/{path.relative_to(ROOT)}"
        for name in ("components", "pipelines")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".md", ".svg")
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_the_catalog_and_every_compiled_file_are_in_the_wheel(python: Path, tmp_path: Path) -> None:
    printed = run([python, "-c", IMPORT], tmp_path).splitlines()
    assert printed[0] == "mask-pii train-model"
    names = {name.replace("_", "-") for name in (*CATALOG, "fraud_detection")}
    assert {line.removeprefix("loaded ").replace("_", "-") for line in printed[1:]} == names


@pytest.mark.usefixtures("settings")
def test_a_users_own_pipeline_compiles_and_runs(python: Path, tmp_path: Path) -> None:
    script = tmp_path / "own_pipeline.py"
    script.write_text(PIPELINE)
    custody = {name: value for name, value in os.environ.items() if name.startswith("CUSTODY_")}
    printed = run([python, script], tmp_path, **custody)
    assert printed.splitlines()[-1] == "attested rows.csv"
    assert (tmp_path / "own.yaml").is_file()
    (bundle,) = (tmp_path / "outputs").rglob("attest-dataset.sigstore.json")
    assert (bundle.parent / "SHA256SUMS").read_text().endswith("  rows.csv\n")


def test_a_stage_without_its_extra_says_what_to_install(python: Path, tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("a\n1\n")
    (tmp_path / "bare.py").write_text(BARE)
    printed = run([python, "bare.py"], tmp_path)
    assert "REFUSED Misconfigured: [CUS-E523] A library that this stage needs is not installed." in printed
    assert "pip install 'kfp-custody[local]'" in printed
    assert "Traceback" not in printed[printed.index("REFUSED") :]
