"""A stand-in of the KFP API, and the command that talks to it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from kfp_api import KfpApi, serving
from kfp_command import Command, FileMaker, call

FROM_OUTSIDE = (
    *("KFP_HOST", "KF_PIPELINES_ENDPOINT", "KFP_NAMESPACE", "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "SSL_CERT_FILE"),
    *("CUSTODY_KFP_TOKEN_FILE", "KF_PIPELINES_SA_TOKEN_PATH", "CUSTODY_KFP_COOKIES_FILE", "KF_PIPELINES_UI_ENDPOINT"),
)


@pytest.fixture
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of this test alone, and a short interval between two looks."""
    for name in FROM_OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUSTODY_KFP_INTERVAL", "0.01")


@pytest.fixture
def api(quiet_environment: None) -> Iterator[KfpApi]:
    """A server for one user, whose clock goes on by a second for whatever is made."""
    server = KfpApi()
    server.now = itertools.count(1_800_000_000).__next__
    with serving(server):
        yield server


@pytest.fixture
def custody(api: KfpApi) -> Command:
    """The command, with the server as its host."""

    def custody(*arguments: str | Path, host: str | None = None) -> Result:
        return call(*arguments, "--host", host or api.url)

    return custody


@pytest.fixture
def pipeline_file(tmp_path: Path) -> FileMaker:
    """Write a small compiled pipeline with a parameter of each kind."""

    def write(name: str = "small", image: str = "python:3.11", head: str = "", **parameters: object) -> Path:
        root = {
            "dag": {"tasks": {"say": {"componentRef": {"name": "comp-say"}, "taskInfo": {"name": "say"}}}},
            "inputDefinitions": {
                "parameters": parameters or {"text": {"parameterType": "STRING", "defaultValue": "x"}}
            },
        }
        spec = {
            "pipelineInfo": {"name": name, "description": f"The pipeline {name}."},
            "schemaVersion": "2.1.0",
            "sdkVersion": "kfp-2.17.0",
            "components": {"comp-say": {"executorLabel": "exec-say"}},
            "deploymentSpec": {"executors": {"exec-say": {"container": {"image": image, "command": ["true"]}}}},
            "root": root,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(head + yaml.safe_dump(spec))
        return path

    return write
