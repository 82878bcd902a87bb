"""door and rollout: the objects of a door file, and what a service serves."""

import json
from pathlib import Path

import pytest
import yaml
from releases import run

from kfp_custody.components.seldon_deployment.rollout.state import Rollout, Version, write_state
from kube_schemas import faults
from unit.seldon_deployment.test_door_objects import DOCUMENT


@pytest.fixture
def door_file(tmp_path: Path) -> Path:
    (tmp_path / "door.yaml").write_text(json.dumps(DOCUMENT))
    return tmp_path / "door.yaml"


@pytest.mark.parametrize(
    ("form", "kind"), [("istio", "AuthorizationPolicy"), ("gateway-api", "HTTPRoute"), ("kong", "KongPlugin")]
)
def test_a_door_is_printed_as_objects(door_file: Path, form: str, kind: str) -> None:
    result = run("door", str(door_file), "--for", form, "--namespace", "models")
    assert result.exit_code == 0, result.output
    objects = list(yaml.safe_load_all(result.stdout))
    assert {"Namespace", "NetworkPolicy", "ResourceQuota", kind} <= {each["kind"] for each in objects}
    assert [fault for each in objects for fault in faults(each)] == []
    assert "models" in {each["metadata"].get("namespace") for each in objects}


def test_a_door_file_that_leaves_something_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "door.yaml").write_text(json.dumps(DOCUMENT | {"addresses": ["0.0.0.0/0"]}))
    result = run("door", str(tmp_path / "door.yaml"), "--for", "istio")
    assert result.exit_code == 2
    assert "whole world" in result.output
    assert "apiVersion" not in result.stdout


def test_a_rollout_is_shown_and_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTODY_SERVING_DIR", str(tmp_path))
    assert run("rollout", "status", "fraud-detection").stdout == "stable  none\ncanary  none\n"
    home = tmp_path / "services" / "fraud-detection"
    home.mkdir(parents=True)
    old, new = (Version(digit * 64, "a" * 64, "b" * 64) for digit in "12")
    (home / "rollout.json").write_text(write_state(Rollout("fraud-detection", old, new, 25, "run-7")))
    shown = run("rollout", "status", "fraud-detection").stdout
    assert shown == f"stable  sha256:{'1' * 64}\ncanary  sha256:{'2' * 64}\nweight  25 % of run run-7\n"
    (home / "rollout.json").write_text("{}")
    damaged = run("rollout", "status", "fraud-detection")
    assert damaged.exit_code == 1
    assert "changed by somebody else" in damaged.output


@pytest.mark.parametrize("command", ["status", "back", "stop"])
@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "Fraud", ""])
def test_a_name_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    monkeypatch.setenv("CUSTODY_SERVING_DIR", str(tmp_path / "serving"))
    result = run("rollout", command, name)
    assert result.exit_code == 2
    assert "name" in result.output
    assert not list(tmp_path.iterdir())


def test_going_back_where_nothing_is_tried_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTODY_SERVING_DIR", str(tmp_path))
    assert run("rollout", "back", "fraud-detection").stdout == "there was no canary\n"
    assert not list(tmp_path.rglob("door.json"))


def test_a_place_that_there_is_not_is_refused() -> None:
    result = run("rollout", "status", "fraud-detection", "--target", "sagemaker")
    assert result.exit_code == 2
    assert "target" in result.output
