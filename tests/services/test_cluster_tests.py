"""The tests of `make test-cluster` about rollouts, run against the fake API: they pass, and they fail when they must.

The rollout itself is tried in `test_seldon_end_to_end.py`, where something serves.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kube_api import FakeApi, fake_api
from kube_schemas import SCHEMAS, SHARED
from services.test_cluster_rollouts import ACCOUNT, NAMESPACE, TOKEN, roles

pytestmark = pytest.mark.services
ROOT = Path(__file__).resolve().parents[2]
POLICY: list[dict[str, Any]] = [
    {
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "stores"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["mlops.seldon.io"],
                        "apiVersions": ["*"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["models"],
                    }
                ]
            },
            "validations": [{"expression": "object.spec.storageUri.startsWith('gs://')", "message": "not our store"}],
        },
    },
    {
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "stores"},
        "spec": {"policyName": "stores", "validationActions": ["Deny"]},
    },
]


def run(tests: str, folder: Path, **environment: str) -> tuple[int, str]:
    """Run the cluster's tests as `make test-cluster` does; return pytest's code and what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUSTODY_", "KUBE"))}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cluster", "tests/cluster/test_rollouts.py", "-k", tests]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--basetemp={folder}/pytest"],
        cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def settings(api: FakeApi, folder: Path) -> dict[str, str]:
    config = api.kubeconfig(folder / "kubeconfig", TOKEN)
    uri = "s3://custody-models/fraud-detection/1"
    return {"KUBECONFIG": str(config), "CUSTODY_NAMESPACE": NAMESPACE, "CUSTODY_TEST_MODEL_URI": uri}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api(schemas=[SCHEMAS, SHARED], roles=roles(), tokens={TOKEN: ACCOUNT}) as served:
        yield served


def test_they_pass_and_leave_nothing(api: FakeApi, tmp_path: Path) -> None:
    code, said = run("accepted or account", tmp_path, **settings(api, tmp_path))
    assert code == 0, said
    assert re.search(r"^2 passed", said, re.MULTILINE), said
    assert api.store.version == 0
    tried = {each.plural for each in api.requests if each.dry_run}
    assert tried == {"models", "experiments", "seldondeployments", "inferenceservices"}
    assert {each.method for each in api.requests if not each.dry_run} == {"GET", "POST"}, "POST is the review of access"


def test_an_object_that_is_not_admitted_is_named_with_the_reason(tmp_path: Path) -> None:
    with fake_api(schemas=[SCHEMAS], roles=roles(), policies=POLICY, tokens={TOKEN: ACCOUNT}) as api:
        code, said = run("accepted", tmp_path, **settings(api, tmp_path))
    assert code == 1
    assert "Model (seldon-v2): HTTP 422" in said
    assert "not our store" in said
    assert "SeldonDeployment (" not in said


def test_a_verb_that_lacks_is_named(tmp_path: Path) -> None:
    with fake_api(roles=roles(without="experiments:delete"), tokens={TOKEN: ACCOUNT}) as api:
        code, said = run("account", tmp_path, **settings(api, tmp_path))
    assert code == 1
    assert "the account may not delete experiments.mlops.seldon.io\n" in said


def test_what_is_not_set_is_a_failure_and_no_skip(tmp_path: Path) -> None:
    code, said = run("test", tmp_path)
    assert code == 1
    assert re.search(r"^1 failed, 2 errors", said, re.MULTILINE), said
    assert len(re.findall(r"^KUBECONFIG is not set; the head of test_rollouts says", said, re.MULTILINE)) == 3, said
