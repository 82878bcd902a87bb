"""The reference pipelines on a real cluster: `make test-cluster KFP_HOST=https://kubeflow.example.org/pipeline`.

This has not been run on a cluster where the project is developed, because none can run there. It needs what the README
says about a namespace (trust file, settings, signing and masking keys), the component images, and two months of data
that its pods can read. The rest comes from the environment, as for the command: KFP_NAMESPACE and so on.

| variable | meaning |
|---|---|
| KFP_HOST | the server |
| CUSTODY_TEST_DATA | address of the training month |
| CUSTODY_TEST_DATA_CURRENT | address of the present month |
| CUSTODY_TEST_PARAMS | optional: file with more parameters for fraud_detection, such as deploy_target |
| CUSTODY_TEST_PROMOTION_PARAMS | file with the parameters of promotion, for a run that is finished |
"""

import os
import subprocess
import sys
import uuid

import pytest

pytestmark = pytest.mark.cluster
HOURS = 3 * 3600


def setting(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set; the head of {__name__} says what a cluster test needs", pytrace=False)
    return value


def custody(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kfp_custody.components._cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=HOURS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def version_of(uploaded: str) -> str:
    """Return the name in `<pipeline> version <name> uploaded`."""
    return uploaded.split()[2]


@pytest.fixture(autouse=True)
def server() -> str:
    return setting("KFP_HOST")


def test_fraud_detection_ends_with_a_deployed_model() -> None:
    """The run only succeeds when the gate's decision is PASSED: its refuse task fails it otherwise."""
    data = ("--param", f"data_uri={setting('CUSTODY_TEST_DATA')}")
    current = ("--param", f"data_current_uri={setting('CUSTODY_TEST_DATA_CURRENT')}")
    file = os.environ.get("CUSTODY_TEST_PARAMS")
    version = version_of(custody("upload", "fraud_detection"))
    started = ("submit", "fraud_detection", "--version", version, *data, *current, "--experiment", "custody-tests")
    key = ("--key", f"test-{uuid.uuid4()}")
    more = ("--params-file", file) if file else ()
    said = custody(*started, *more, *key, "--wait", "--timeout", str(HOURS))
    assert said.splitlines()[-1].endswith(" SUCCEEDED")
    assert "nothing was started" in custody(*started, *more, *key)


def test_promotion_decides_about_a_finished_run() -> None:
    file = setting("CUSTODY_TEST_PROMOTION_PARAMS")
    version = version_of(custody("upload", "promotion"))
    said = custody(
        *("submit", "promotion", "--version", version, "--params-file", file, "--experiment", "custody-tests"),
        *("--wait", "--timeout", str(HOURS)),
    )
    assert said.splitlines()[-1].endswith(" SUCCEEDED")


def test_a_schedule_is_set_and_taken_away() -> None:
    name = f"custody-test-{uuid.uuid4()}"
    custody("upload", "fraud_detection")
    data = ("--param", "data_uri=s3://none", "--param", "data_current_uri=s3://none")
    setup = ("schedule", "set", "fraud_detection", "--name", name, "--cron", "0 0 0 1 1 *", *data)
    try:
        assert "created" in custody(*setup)
        assert "unchanged" in custody(*setup)
    finally:
        assert "paused" in custody("schedule", "pause", name)
