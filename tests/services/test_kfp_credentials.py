"""Who asks, in which namespace, and that nothing of it is ever shown or sent where it can be read."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kfp_api import Fault, KfpApi, serving
from kfp_command import DATA, Command, call, refused
from test_opa import Authority

CANARY = "canary-token-0f3a9c"
COOKIE = f"oauth2_proxy_kubeflow={CANARY}; other=1"
UPLOAD = ("upload", "fraud_detection")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{CANARY}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def cookies(tmp_path: Path) -> Path:
    path = tmp_path / "cookies"
    path.write_text(COOKIE)
    path.chmod(0o600)
    return path


@pytest.fixture
def many(quiet_environment: None) -> Iterator[KfpApi]:
    """A server for many users, of whom one is known."""
    server = KfpApi(multi_user=True)
    server.tokens = {CANARY: {"team-a"}}
    with serving(server):
        yield server


def test_a_token_from_a_file(many: KfpApi, token: Path) -> None:
    where = ("--host", many.url, "--token-file", token, "--namespace", "team-a")
    assert call(*UPLOAD, *where).exit_code == 0
    assert call("submit", "fraud_detection", *DATA, *where).exit_code == 0
    (pipeline,), (experiment,) = many.state.pipelines.values(), many.state.experiments.values()
    assert (pipeline["namespace"], experiment["namespace"]) == ("team-a", "team-a")
    assert {headers["authorization"] for _, _, headers, _ in many.asked} == {f"Bearer {CANARY}"}


@pytest.mark.parametrize("variable", ["CUSTODY_KFP_TOKEN_FILE", "KF_PIPELINES_SA_TOKEN_PATH"])
@pytest.mark.parametrize("host", ["KFP_HOST", "KF_PIPELINES_ENDPOINT"])
def test_everything_from_the_environment(
    many: KfpApi, token: Path, monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    monkeypatch.setenv(host, many.url)
    monkeypatch.setenv(variable, str(token))
    monkeypatch.setenv("KFP_NAMESPACE", "team-a")
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://ui.example.org/pipeline")
    done = call(*UPLOAD)
    assert done.exit_code == 0
    assert "https://ui.example.org/pipeline/#/pipelines/details/" in done.stdout


def test_a_token_is_read_again_while_a_run_is_followed(many: KfpApi, token: Path) -> None:
    """Projected tokens are replaced within the hour."""
    many.progress = ["RUNNING"] * 3 + ["SUCCEEDED"]
    many.tokens["second"] = {"team-a"}

    def before(method: str, path: str) -> None:
        if path.startswith("/runs/"):
            many.tokens.pop(CANARY, None) if (token.read_text() == "second") else token.write_text("second")

    many.before = before
    where = ("--host", many.url, "--token-file", token, "--namespace", "team-a")
    assert call("submit", "fraud_detection", *DATA, "--wait", *where).exit_code == 0


def test_a_session(many: KfpApi, cookies: Path) -> None:
    many.tokens, many.session = {}, COOKIE
    where = ("--host", many.url, "--namespace", "team-a")
    assert call(*UPLOAD, *where, "--cookies-file", cookies).exit_code == 0
    refused(call(*UPLOAD, *where), "CUS-E594")


def test_no_namespace_on_a_server_for_many(many: KfpApi, token: Path) -> None:
    said = refused(call(*UPLOAD, "--host", many.url, "--token-file", token), "CUS-E596")
    assert "--namespace" in said


def test_the_namespace_of_others(many: KfpApi, token: Path) -> None:
    said = refused(call(*UPLOAD, "--host", many.url, "--token-file", token, "--namespace", "team-b"), "CUS-E595")
    assert "Namespace team-b" in said


def test_schedules_are_those_of_the_namespace(many: KfpApi, token: Path) -> None:
    many.tokens[CANARY].add("team-b")
    cron = ("--name", "nightly", "--cron", "0 0 2 * * *")
    for namespace in ("team-a", "team-b"):
        where = ("--host", many.url, "--token-file", token, "--namespace", namespace)
        call(*UPLOAD, *where)
        assert call("schedule", "set", "fraud_detection", *cron, *DATA, *where).exit_code == 0
        assert len(call("schedule", "list", *where).stdout.splitlines()) == 1
    assert [entry["status"] for entry in many.state.recurring.values()] == ["ENABLED", "ENABLED"]


def test_a_shared_pipeline_is_found_from_every_namespace(many: KfpApi, token: Path) -> None:
    where = ("--host", many.url, "--token-file", token, "--namespace", "team-a")
    call(*UPLOAD, *where, "--version", "v1")
    for entry in many.state.pipelines.values():
        entry["namespace"] = ""
    assert call("submit", "fraud_detection", "--version", "v1", *DATA, *where).exit_code == 0


def test_a_namespace_is_not_sent_to_a_server_for_one(api: KfpApi, custody: Command) -> None:
    """Such a server refuses it; the same command line works for both kinds."""
    assert custody(*UPLOAD, "--namespace", "team-a").exit_code == 0


# --- what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        (CANARY.encode(), 0o644, "CUS-E533"),
        (b"", 0o600, "CUS-E534"),
        (b"two\nlines", 0o600, "CUS-E534"),
        (f"{CANARY}ü".encode(), 0o600, "CUS-E592"),
        (b"\xff\xfe", 0o600, "CUS-E534"),
        (None, 0o600, "CUS-E534"),
    ],
    ids=["open-to-others", "empty", "two-lines", "not-ascii", "no-text", "missing"],
)
@pytest.mark.parametrize("option", ["--token-file", "--cookies-file"])
def test_a_secret_file_that_cannot_be_used(
    api: KfpApi, custody: Command, tmp_path: Path, option: str, content: bytes | None, mode: int, code: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    said = refused(custody(*UPLOAD, option, path), code)
    assert CANARY not in said
    assert api.asked == []


def test_cookies_that_are_none(api: KfpApi, custody: Command, token: Path) -> None:
    assert "Cookie header" in refused(custody(*UPLOAD, "--cookies-file", token), "CUS-E592")


@pytest.mark.parametrize(
    "host", ["http://kubeflow.example.org/pipeline", "http://10.0.0.1", "http://localhost.evil.org"]
)
@pytest.mark.parametrize("option", ["--token-file", "--cookies-file"])
def test_nothing_secret_is_sent_unencrypted(
    quiet_environment: None, token: Path, cookies: Path, host: str, option: str
) -> None:
    path = token if option == "--token-file" else cookies
    assert "https://" in refused(call(*UPLOAD, "--host", host, option, path), "CUS-E593")


def test_the_service_inside_of_the_cluster_is_no_open_network(quiet_environment: None, token: Path) -> None:
    """Its name does not resolve here; that it was looked up is what shows that it was allowed."""
    host = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    refused(call(*UPLOAD, "--host", host, "--token-file", token), "CUS-E471")


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["option", "environment", "nothing"])
def test_its_certificate_must_be_of_a_trusted_authority(
    quiet_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    authority = Authority(tmp_path)
    with serving(KfpApi(), tls=authority.context("127.0.0.1")) as api:
        if given == "environment":
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        done = call(*UPLOAD, "--host", api.url, *(("--ca-cert", authority.file) if given == "option" else ()))
        if given == "nothing":
            assert "--ca-cert" in refused(done, "CUS-E473")
            assert api.asked == []
        else:
            assert done.exit_code == 0, done.stderr


def test_https_where_there_is_only_http(api: KfpApi, custody: Command) -> None:
    refused(custody(*UPLOAD, host=api.url.replace("http:", "https:")), "CUS-E473")


def test_an_authority_that_is_not_there(api: KfpApi, custody: Command, tmp_path: Path) -> None:
    refused(custody(*UPLOAD, "--ca-cert", tmp_path / "ca.pem"), "CUS-E592")


def test_an_authority_that_is_none(api: KfpApi, custody: Command, token: Path) -> None:
    refused(custody(*UPLOAD, "--ca-cert", token), "CUS-E592")


# --- a process of its own ---------------------------------------------------------------------------------------------


def process(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "kfp_custody.components._cli.main", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_secret_is_shown_whatever_happens(many: KfpApi, token: Path, cookies: Path) -> None:
    """The server repeats the token in its error, as a proxy that logs headers may."""
    where = ("--host", many.url, "--token-file", token, "--cookies-file", cookies, "--namespace", "team-a")
    for fault in (None, Fault("GET", "/pipelines", 500, 9, f"header {CANARY}"), Fault("POST", "/pipelines", "drop")):
        many.faults = [fault] if fault else []
        done = process(*UPLOAD, *where)
        assert CANARY not in done.stdout + done.stderr
    many.tokens, many.faults = {"another": set()}, []
    done = process(*UPLOAD, *where)
    assert "[CUS-E594]" in done.stderr
    assert "Bearer *** is not accepted" in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_nothing_is_written_into_the_home_directory_nor_read_from_it(many: KfpApi, token: Path, tmp_path: Path) -> None:
    """kfp.Client would read a namespace from there, and in a pod write it back."""
    context = tmp_path / "home" / ".config" / "kfp" / "context.json"
    context.parent.mkdir(parents=True)
    context.write_text('{"namespace": "team-b", "client_authentication_cookie": "stale=1"}')
    before = sorted(path for path in (tmp_path / "home").rglob("*"))
    where = ("--host", many.url, "--token-file", token, "--namespace", "team-a")
    done = process("submit", "fraud_detection", *DATA, *where, HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert sorted(path for path in (tmp_path / "home").rglob("*")) == before
    assert context.read_text().startswith('{"namespace": "team-b"')
    assert not any("Cookie" in headers for _, _, headers, _ in many.asked)
    assert done.stderr == ""


def test_without_an_address_the_kubeconfig_says_where(quiet_environment: None, tmp_path: Path) -> None:
    """As kfp.Client does: through the proxy of the cluster's API server, with the kubeconfig's credentials."""
    authority = Authority(tmp_path)
    proxy = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
    with serving(KfpApi(base=proxy), tls=authority.context("127.0.0.1")) as api:
        api.tokens = {CANARY: set()}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [
                {
                    "name": "c",
                    "cluster": {
                        "server": api.url.removesuffix(proxy),
                        "certificate-authority": str(authority.file),
                    },
                }
            ],
            "users": [{"name": "u", "user": {"token": CANARY}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        done = process(*UPLOAD, KUBECONFIG=str(tmp_path / "kubeconfig"))
        assert done.returncode == 0, done.stderr
        assert len(api.state.versions) == 1
        assert CANARY not in done.stdout


def test_help_and_wrong_parameters_do_not_wait_for_kfp() -> None:
    """kfp takes a second to import."""
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom kfp_custody.components._cli.main import app\n"
        "for line in (['submit', '--help'], ['schedule', 'set', '--help'], ['submit', 'fraud_detection']):\n"
        "    CliRunner().invoke(app, line)\n"
        "print('kfp' in sys.modules, 'kubernetes' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
