"""What a server, or what stands in front of it, may answer: each a refusal of its own that says what to do."""

import socket
from pathlib import Path

import pytest
from kfp_api import Fault, KfpApi
from kfp_command import DATA, Command, call, refused

UPLOAD = ("upload", "fraud_detection")


@pytest.mark.parametrize(
    ("how", "code", "remedy"),
    [
        (400, "CUS-E477", "the server's reason"),
        (401, "CUS-E594", "--token-file"),
        (403, "CUS-E595", "kubeflow-edit"),
        (404, "CUS-E597", "deleted in the meantime"),
        (409, "CUS-E476", "run the command again"),
        (413, "CUS-E477", "Shorten --description"),
        (414, "CUS-E477", "Shorten --description"),
        (431, "CUS-E477", "Shorten --description"),
        (429, "CUS-E474", "Try again later"),
        (500, "CUS-E474", "ml-pipeline"),
        (503, "CUS-E474", "ml-pipeline"),
        ("login", "CUS-E475", "the session or token is missing"),
        ("redirect", "CUS-E475", "--cookies-file"),
        ("page", "CUS-E475", "add /pipeline"),
        ("sign-in", "CUS-E475", "the session or token is missing"),
        ("text", "CUS-E595", "kubeflow-edit"),
        ("drop", "CUS-E471", "kubectl port-forward"),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/pipelines", "/pipelines/upload_version"])
def test_each_bad_answer_has_its_own_refusal(
    api: KfpApi, custody: Command, path: str, how: int | str, code: str, remedy: str
) -> None:
    method = "POST" if path.endswith("upload_version") else "GET"
    api.faults.append(Fault(method, path, how, times=9, message="the server's own words"))
    if (how, path) == (404, "/healthz"):  # every server has this one
        code, remedy = "CUS-E475", "add /pipeline"
    said = refused(custody(*UPLOAD), code)
    assert remedy in said
    assert ("RBAC: access denied" in said) is (how == "text")
    assert code == "CUS-E475" or ("the server's own words" in said) is isinstance(how, int)
    assert method == "GET" or len([entry for entry in api.asked if entry[1].endswith(path)]) == 1
    assert f"{method} " in said
    assert path in said


def test_only_questions_are_asked_again(api: KfpApi, custody: Command) -> None:
    """A change whose answer was lost may have happened: asking again could make two runs."""
    api.faults += [Fault("GET", "/experiments", 503, times=2), Fault("POST", "/runs", 503, times=1)]
    refused(custody("submit", "fraud_detection", *DATA), "CUS-E474")
    assert len([entry for entry in api.asked if entry[1].endswith("/experiments") and entry[0] == "GET"]) == 3
    assert len(api.sent("POST", "/runs")) == 1


def test_questions_are_not_asked_without_end(api: KfpApi, custody: Command) -> None:
    api.faults.append(Fault("GET", "/healthz", 503, times=99))
    refused(custody(*UPLOAD), "CUS-E474")
    assert len(api.asked) == 3


def test_a_server_that_never_answers(api: KfpApi, custody: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from kfp_custody.components._shared.kfp_api import transport

    monkeypatch.setattr(transport, "TIMEOUT", (0.2, 0.2))
    api.faults.append(Fault("GET", "/healthz", "slow", times=9))
    assert "before you ask again" in refused(custody(*UPLOAD), "CUS-E472")


def test_nobody_listens(quiet_environment: None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        said = refused(call(*UPLOAD, "--host", f"http://127.0.0.1:{free.getsockname()[1]}"), "CUS-E471")
    assert "--host" in said


def test_a_name_that_is_not_known(quiet_environment: None) -> None:
    said = refused(call(*UPLOAD, "--host", "https://kubeflow.invalid/pipeline"), "CUS-E471")
    assert "its name is not known" in said


def test_the_address_of_the_dashboard(api: KfpApi, custody: Command) -> None:
    said = refused(custody(*UPLOAD, host=api.url.removesuffix("/pipeline")), "CUS-E475")
    assert "add /pipeline to --host" in said


@pytest.mark.parametrize(
    "host",
    [
        "kubeflow.example.org/pipeline",
        "localhost:8888",
        "ftp://kubeflow.example.org",
        "https://user:s3cr3t-pass@kubeflow.example.org",
        "https://kubeflow.example.org/pipeline/#/runs",
        "https://kubeflow.example.org?x=1",
        "http://",
        "https://kubeflow.example.org:port",
    ],
)
def test_what_is_no_address(quiet_environment: None, host: str) -> None:
    said = refused(call(*UPLOAD, "--host", host), "CUS-E591")
    assert "https://kubeflow.example.org/pipeline or http://localhost:8888" in said
    assert "s3cr3t" not in said


def test_no_address_at_all(quiet_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import kubernetes

    monkeypatch.setattr(kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    assert "Give --host" in refused(call(*UPLOAD), "CUS-E591")


@pytest.mark.parametrize("interval", ["soon", "0", "-1", "1e9"])
def test_an_interval_that_is_none(
    api: KfpApi, custody: Command, monkeypatch: pytest.MonkeyPatch, interval: str
) -> None:
    monkeypatch.setenv("CUSTODY_KFP_INTERVAL", interval)
    refused(custody(*UPLOAD), "CUS-E591")


def test_a_file_of_parameters_that_is_none(api: KfpApi, custody: Command, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    for text, code in (("a: 1\na: 2", "CUS-E107"), ("- a", "CUS-E144"), ("a: [", "CUS-E104")):
        path.write_text(text)
        refused(custody("submit", "fraud_detection", "--params-file", path), code)
    assert api.asked == []
