"""Refusals before anything is touched, and the small parts around the server."""

import dataclasses
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from kfp_custody.components._shared.errors import InputRefused, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.scoring import Feature, Signature, load_scorer
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.seldon_deployment import process
from kfp_custody.components.seldon_deployment.child import is_alive
from kfp_custody.components.seldon_deployment.deployment import Outputs, deploy
from kfp_custody.components.seldon_deployment.local_server import stop
from kfp_custody.components.seldon_deployment.serving.inputs import Tensor, read_columns
from kfp_custody.components.seldon_deployment.smoke import require_answer, smoke_request
from kfp_custody.components.seldon_deployment.v2_client import Reply, call, score
from unit.seldon_deployment.signed_models import write_model

SIGNATURE = Signature(
    "xgboost-ubj",
    "model.ubj",
    (Feature("a", "number"), Feature("b", "category", ("x", "y")), Feature("c", "category")),
    "label",
    0.5,
    frozenset(),
)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("target", "sagemaker"),
        ("target", ""),
        ("name", "Fraud"),
        ("name", "fraud_detection"),
        ("name", "../fraud"),
        ("name", "-fraud"),
        ("name", "f" * 55),
        ("name", ""),
        ("timeout_seconds", 0),
        ("timeout_seconds", -5),
        ("timeout_seconds", 3601),
        ("model_uri", "s3://bucket/x"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything(
    tmp_path: Path, settings: Settings, parameter: str, value: object
) -> None:
    arguments = {"run_id": "r", "name": "fraud", "target": "local", "timeout_seconds": 5} | {parameter: value}
    outputs = Outputs(tmp_path / "e", tmp_path / "r", tmp_path / "p")
    with pytest.raises(Misconfigured, match=parameter):
        deploy(tmp_path / "model", tmp_path / "decision", outputs, settings, **arguments)  # type: ignore[arg-type]
    assert not settings.serving_dir.exists()


@pytest.mark.parametrize("configured", [None, "platform", "sagemaker"])
def test_a_platform_that_does_not_say_where_to_deploy_is_refused(
    tmp_path: Path, settings: Settings, configured: str | None
) -> None:
    outputs = Outputs(tmp_path / "e", tmp_path / "r", tmp_path / "p")
    platform = dataclasses.replace(settings, deploy_target=configured)
    with pytest.raises(Misconfigured, match="CUSTODY_DEPLOY_TARGET"):
        deploy(
            tmp_path / "model",
            tmp_path / "decision",
            outputs,
            platform,
            run_id="r",
            name="fraud",
            target="platform",
            timeout_seconds=5,
        )


def test_a_smoke_request_fits_the_signature_it_was_built_from() -> None:
    request = smoke_request(SIGNATURE)
    tensors = [Tensor(i["name"], i["datatype"], tuple(i["shape"]), i["data"]) for i in request["inputs"]]
    assert read_columns(tensors, SIGNATURE.features) == {"a": [0.0], "b": ["x"], "c": [None]}


def answer(probability: object = (0.3,), label: object = (0,), version: str = "v") -> Reply:
    outputs = [{"name": "probability", "data": list(probability)}, {"name": "label", "data": list(label)}]  # type: ignore[call-overload]
    return Reply(200, {"model_version": version, "outputs": outputs})


def test_a_smoke_answer_is_returned_as_it_is() -> None:
    assert require_answer(answer(), "v")["model_version"] == "v"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, None),
        Reply(400, {"error": "no"}),
        Reply(200, None),
        Reply(200, {"model_version": "v", "outputs": []}),
        answer(version="older"),
        answer(probability=(1.2,)),
        answer(probability=(None,)),
        answer(probability=(0.3, 0.3)),
        answer(probability=("0.3",)),
        answer(label=(2,)),
    ],
)
def test_anything_else_is_no_answer(reply: Reply) -> None:
    with pytest.raises(InputRefused, match="smoke"):
        require_answer(reply, "v")


def test_the_test_models_are_models(tmp_path: Path) -> None:
    assert [feature.name for feature in load_scorer(write_model(tmp_path / "model")).features][0] == "amount"


def test_nobody_listening_is_said_so() -> None:
    with pytest.raises(ServiceUnreachable, match="did not answer"):
        score("http://127.0.0.1:9/v2/models/x", [{}])


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "127.0.0.1:80"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(Misconfigured):
        call("GET", url)


def test_stopping_where_nothing_was_served_does_nothing(tmp_path: Path) -> None:
    assert stop(tmp_path / "nothing") is False
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("record", ["", "{}", '{"pid": 1}', "[]", "{"])
def test_a_damaged_record_is_not_guessed_at(tmp_path: Path, record: str) -> None:
    (tmp_path / "server.json").write_text(record)
    with pytest.raises(Misconfigured, match="damaged"):
        process.running(tmp_path)


def test_a_process_is_known_by_number_start_and_boot(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "30"]) as child:
        try:
            started = int(Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            record = {
                "pid": child.pid, "started": started, "boot": boot, "token": "t",
                "http_port": 1, "grpc_port": 2, "metrics_port": 3, "trust_file": "/t",
            }  # fmt: skip

            def known(**changes: object) -> bool:
                (tmp_path / "server.json").write_text(json.dumps(record | changes))
                return process.running(tmp_path) is not None

            assert known()
            assert not known(started=started - 1)
            assert not known(boot="another boot")
            assert not known(pid=os.getpid())
        finally:
            child.kill()
            while is_alive(process.Server(**record)) and time.sleep(0.01) is None:  # type: ignore[arg-type]
                pass
        assert not known(), "a process that only waits to be reaped is gone"
