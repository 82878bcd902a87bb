"""The three ways onto Kubeflow that the README shows, walked as they stand there, against a stand-in of the KFP API."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from kfp_api import KfpApi

from kfp_custody.components._shared import settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PIPELINES = "tests/cluster/test_reference_pipelines.py"  # test_cluster_tests.py has the stand-ins of the rollouts


def blocks(heading: str, language: str) -> list[str]:
    """Return the blocks of a language under a heading, up to the next one (a comment in a block is no heading)."""
    text = README.partition(f"\n{heading}\n")[2]
    assert text, f"the README has no heading {heading}"
    parts = re.split(r"^(```\w*\n.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for part in parts:
        if block := re.fullmatch(r"```(\w*)\n(.*?)^```", part, re.MULTILINE | re.DOTALL):
            found += [block[2]] if block[1] == language else []
        elif re.search(r"^#+ ", part, re.MULTILINE):
            break
    assert found, f"there is no block of {language} under {heading}"
    return found


def walk(script: str, api: KfpApi, folder: Path) -> str:
    """Run a block as a user would paste it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "KFP_HOST": api.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_set_at_first_are_settings() -> None:
    (block,) = blocks("## Run it on Kubeflow", "sh")
    names = re.findall(r"\b([A-Z][A-Z_]+)=", block) + re.findall(r"or (CUSTODY_[A-Z_]+)", block)
    assert len(names) == 4
    assert [name for name in names if name not in (settings.__doc__ or "")] == []


def test_in_the_ui(api: KfpApi, tmp_path: Path) -> None:
    (block,) = blocks("### In the KFP UI", "sh")
    said = walk(block, api, tmp_path)
    link = re.search(r"pipelines/details/([\w-]+)/version/([\w-]+)", said)
    assert link
    pipeline, version = api.state.pipelines[link[1]], api.state.versions[link[2]]
    form = version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert [name for name in form if f"| `{name}` |" not in pipeline["description"]] == []
    # What the form sends when the two fields are filled in that the README names.
    experiment = requests.post(f"{api.url}/apis/v2beta1/experiments", json={"display_name": "cards"}, timeout=10).json()
    run = {
        "display_name": "from the form",
        "experiment_id": experiment["experiment_id"],
        "pipeline_version_reference": {"pipeline_id": link[1], "pipeline_version_id": link[2]},
        "runtime_config": {"parameters": {"data_uri": "s3://a", "data_current_uri": "s3://b"}},
    }
    started = requests.post(f"{api.url}/apis/v2beta1/runs", json=run, timeout=10)
    assert started.status_code == 200, started.text


def test_with_the_dsl(api: KfpApi, tmp_path: Path) -> None:
    (code,), (block,) = (blocks("### With the Python DSL", language) for language in ("python", "sh"))
    (tmp_path / "my_pipeline.py").write_text(code)
    subprocess.run([sys.executable, "my_pipeline.py"], cwd=tmp_path, check=True, capture_output=True)
    api.progress = ["RUNNING", "SUCCEEDED"]
    said = walk(block, api, tmp_path)
    assert said.splitlines()[-1].endswith("SUCCEEDED")
    (run,) = api.state.runs.values()
    assert run["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "my-masking"
    assert run["runtime_config"]["parameters"] == {"data_uri": "s3://bucket/2026-01"}
    mounts = run["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(mounts) == {"exec-mask-pii", "exec-attest-dataset"}


def test_on_a_schedule(api: KfpApi, tmp_path: Path) -> None:
    scheduled, keyed = blocks("### On a schedule", "sh")
    said = walk(scheduled, api, tmp_path).splitlines()
    assert [line for line in said if line.startswith("schedule ")] == [
        line for line in said if re.match(r"schedule nightly (created|paused|enabled again)", line)
    ]
    (entry,) = api.state.recurring.values()
    assert entry["status"] == "ENABLED"
    at = datetime(2026, 1, 31, 2, tzinfo=UTC)
    run = api.state.runs[api.fire(entry["recurring_run_id"], at)]
    assert run["runtime_config"]["parameters"]["data_current_uri"] == "s3://bucket/2026-01-31"
    before = len(api.state.runs)
    walk(keyed, api, tmp_path)
    assert "nothing was started" in walk(keyed, api, tmp_path)
    assert len(api.state.runs) == before + 1


def test_a_schedule_that_is_walked_again_stays_one(api: KfpApi, tmp_path: Path) -> None:
    scheduled, _ = blocks("### On a schedule", "sh")
    walk(scheduled, api, tmp_path)
    assert "unchanged" in walk(scheduled, api, tmp_path)
    assert len(api.state.recurring) == 1


@pytest.mark.parametrize("host", [True, False])
def test_the_cluster_tests_themselves(api: KfpApi, tmp_path: Path, host: bool) -> None:
    """They run against whatever KFP_HOST names, the stand-in included, and fail where it names nothing."""
    (tmp_path / "promotion.yaml").write_text(
        "".join(
            f"promote_{name}: x\n"
            for name in (
                *("run_id", "dataset_uri", "masking_uri", "attestation_uri", "provenance_uri"),
                *("model_uri", "current_uri", "current_masking_uri", "drift_uri", "source_uri", "current_source_uri"),
            )
        )
    )
    api.progress = ["RUNNING", "SUCCEEDED"] * 2
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "cluster", PIPELINES, "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={
            **os.environ,
            "KFP_HOST": api.url if host else "",
            "CUSTODY_TEST_DATA": "s3://bucket/2026-01",
            "CUSTODY_TEST_DATA_CURRENT": "s3://bucket/2026-02",
            "CUSTODY_TEST_PROMOTION_PARAMS": str(tmp_path / "promotion.yaml"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if host else 1), done.stdout[-3000:]
    assert ("3 passed" if host else "KFP_HOST is not set") in done.stdout
    assert "skipped" not in done.stdout
