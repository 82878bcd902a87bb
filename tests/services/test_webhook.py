"""kfp-custody webhook: a real HTTP client, the command in a process of its own where it dies, a stand-in of KFP."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kfp_api import Fault, KfpApi
from kfp_command import Command, FileMaker

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.settings import load_watch_settings
from kfp_custody.components.retraining import webhook
from kfp_custody.components.retraining.once import Timing
from kfp_custody.components.retraining.webhook import MAX_BODY, SERVED_AT_ONCE, Webhook
from kube_api.certificates import certified

pytestmark = pytest.mark.services
TOKEN = "0123456789abcdef-a-token"
STARTED = "2026-01-31T02:00:00.123456789Z"
QUICK = Timing(lease=1.0, skew=1.0, poll=0.05, patience=0.0)


def alert(fingerprint: str = "a1b2c3d4e5f60718", **changes: object) -> dict[str, object]:
    labels = {"alertname": "CustodyDriftFailed", "model": "fraud-detection"}
    usual = {"status": "firing", "labels": labels, "annotations": {}, "startsAt": STARTED, "fingerprint": fingerprint}
    return {**usual, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", **changes}


def notification(*alerts: object, **changes: object) -> bytes:
    head = {"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "retrain"}
    return json.dumps({**head, "alerts": list(alerts), **changes}).encode()


@pytest.fixture(autouse=True)
def platform(
    api: KfpApi, custody: Command, pipeline_file: FileMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An uploaded pipeline, the file that maps alerts to it, and a token."""
    assert custody("upload", pipeline_file(), "--version", "one").exit_code == 0
    orders = [{"name": "small", "pipeline": "small", "version": "one", "parameters": {"text": "[[ScheduledTime]]"}}]
    alerts = [{"labels": {"alertname": "CustodyDriftFailed", "model": "fraud-detection"}, "order": "small"}]
    (tmp_path / "retraining.yaml").write_text(json.dumps({"version": 1, "orders": orders, "alerts": alerts}))
    monkeypatch.setenv("CUSTODY_RETRAINING", str(tmp_path / "retraining.yaml"))
    monkeypatch.setenv("CUSTODY_WATCH_STATE", str(tmp_path / "claims"))
    monkeypatch.setenv("KFP_HOST", api.url)
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "token").chmod(0o600)


@contextmanager
def serving(tmp_path: Path, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve in this process; yields the port."""
    settings = load_watch_settings(tmp_path / "trust.yaml")
    with Webhook(("127.0.0.1", 0), tmp_path / "token", settings, tls, QUICK) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with serving(tmp_path) as found:
        yield found


def post(
    port: int,
    body: bytes = b"",
    token: str | None = TOKEN,
    path: str = "/retrain",
    method: str = "POST",
    **more: str,
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    sent = {**({"Authorization": f"Bearer {token}"} if token is not None else {}), **more}
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data) if data else None


# --- what is started --------------------------------------------------------------------------------------------------


def test_a_firing_alert_starts_its_pipeline_once(api: KfpApi, port: int) -> None:
    assert post(port, notification(alert())) == (200, {"STARTED": 1})
    assert post(port, notification(alert())) == (200, {"ALREADY": 1})
    (body,) = api.sent("POST", "/runs")
    assert body["runtime_config"]["parameters"] == {"text": "20260131020000"}
    assert post(port, notification(alert("ffff"), alert())) == (200, {"STARTED": 1, "ALREADY": 1})
    again = alert(startsAt="2026-02-01T02:00:00Z")
    assert post(port, notification(again)) == (200, {"STARTED": 1}), "it ended, and began again"
    assert len(api.state.runs) == 3


def test_what_is_resolved_or_not_mapped_starts_nothing(api: KfpApi, port: int) -> None:
    other = alert(labels={"alertname": "CustodyDriftFailed", "model": "another"})
    assert post(port, notification(alert(status="resolved"), other)) == (200, {"IGNORED": 2})
    assert post(port, notification()) == (200, {})
    assert api.state.runs == {}


def test_three_at_once_start_one(api: KfpApi, port: int) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: post(port, notification(alert())), range(3)))
    assert len(api.state.runs) == 1
    # Who comes while it is being started is asked to ask again, and then learns that it is done.
    assert [status for status, _ in answers].count(200) >= 1
    assert {status for status, _ in answers} <= {200, 503}
    assert post(port, notification(alert())) == (200, {"ALREADY": 1})


# --- who may ask, and what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "ä" * 20])
def test_nobody_without_the_token_learns_or_starts_anything(api: KfpApi, port: int, token: str | None) -> None:
    sent = token.encode().decode("latin-1") if token else token
    for path in ("/retrain", "/other"):
        assert post(port, notification(alert()), sent, path) == (401, {"error": "not authorised"})
    assert api.state.runs == {}


@pytest.mark.parametrize("scheme", ["Basic", "", "Token"])
def test_the_token_is_a_bearers(api: KfpApi, port: int, scheme: str) -> None:
    assert post(port, notification(alert()), None, Authorization=f"{scheme} {TOKEN}")[0] == 401
    assert api.state.runs == {}


def test_a_token_is_replaced_without_a_restart(port: int, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another-token-0123456789")
    assert post(port, notification())[0] == 401
    assert post(port, notification(), "another-token-0123456789") == (200, {})
    (tmp_path / "token").chmod(0o644)
    assert post(port, notification(), "another-token-0123456789")[0] == 503


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_post_is_answered(port: int, method: str) -> None:
    assert post(port, method=method) == (405, {"error": "POST only"})


@pytest.mark.parametrize("path", ["/", "/retrain/", "/retrain?x=1", "/RETRAIN", "/api/v2/alerts"])
def test_another_path_is_none(api: KfpApi, port: int, path: str) -> None:
    assert post(port, notification(alert()), path=path) == (404, {"error": "no such path"})
    assert api.state.runs == {}


def test_a_body_that_is_too_large_is_not_read(api: KfpApi, port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", "/retrain")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Length", str(MAX_BODY + 1))
    connection.endheaders()  # and not a byte of it
    assert connection.getresponse().status == 413
    assert post(port, b"x", **{"Content-Length": "9" * 30})[0] == 413
    assert post(port, b"x", **{"Content-Length": "-1"})[0] == 411
    assert post(port, b"0\r\n\r\n", **{"Transfer-Encoding": "chunked"})[0] == 411
    assert api.state.runs == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 5000,
        notification(alert(), version="3"),
        notification(alert(), version=4),
        notification(alert(), alerts={}),
        notification("x"),
        notification(alert(labels=["a"])),
        notification(alert(labels={"alertname": 1})),
        notification(alert(fingerprint="")),
        notification(alert("f" * 129)),
        notification(alert(fingerprint=None)),
        notification(alert(startsAt=3)),
        notification(alert(status="pending")),
        notification(*[alert()] * 1001),
        notification(alert())[:-1] + b',"version":"4"}',
    ],
)
def test_what_is_no_notification_starts_nothing(api: KfpApi, port: int, body: bytes) -> None:
    assert post(port, body)[0] == 400
    assert api.state.runs == {}


@pytest.mark.parametrize("started", ["yesterday", "", "2999-01-01T00:00:00Z", "0001-01-01T00:00:00Z["])
def test_an_alert_without_a_real_start_starts_nothing(api: KfpApi, port: int, started: str) -> None:
    assert post(port, notification(alert(startsAt=started), alert("other"))) == (503, {"CUS-E554": 1, "STARTED": 1})
    assert len(api.state.runs) == 1


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [503, 429, "drop", "lost"])
def test_a_server_that_is_down_makes_alertmanager_repeat(api: KfpApi, port: int, how: int | str) -> None:
    api.faults.append(Fault("POST", "/runs", how))
    status, said = post(port, notification(alert(), alert("other")))
    assert status == 503
    assert said.pop("STARTED") == 1, "the other one is started all the same"
    assert re.fullmatch(r"CUS-E4\d\d", next(iter(said)))
    deadline = time.monotonic() + 20
    while (answer := post(port, notification(alert(), alert("other"))))[0] == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer == (200, {"ALREADY": 1, "ADOPTED" if how == "lost" else "STARTED": 1})
    assert len(api.state.runs) == 2


def test_a_silent_server_and_a_wrong_version_are_said_by_code_alone(
    api: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path) as port:
        text = (tmp_path / "retraining.yaml").read_text()
        (tmp_path / "retraining.yaml").write_text(text.replace('"one"', '"two"'))
        assert post(port, notification(alert())) == (503, {"CUS-E597": 1})
        monkeypatch.setenv("KFP_HOST", "http://127.0.0.1:9")
        assert post(port, notification(alert())) == (503, {"CUS-E471": 1})
    logged = capsys.readouterr().err
    assert "version two" in logged
    assert TOKEN not in logged
    assert api.state.runs == {}


def dribble(connection: socket.socket) -> None:
    """Send one header line after another, each in time."""
    for _ in range(100):
        connection.sendall(b"X-A: b\r\n")
        time.sleep(0.1)


def test_who_is_slow_or_says_nothing_is_ended_and_holds_nobody_up(
    api: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "READ_SECONDS", 1.0)
    with serving(tmp_path) as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(SERVED_AT_ONCE - 1)]
        slow = socket.create_connection(("127.0.0.1", port))
        slow.sendall(b"POST /retrain HTTP/1.1\r\n")
        begun = time.monotonic()
        with pytest.raises(OSError, match=r".+"):
            dribble(slow)
        assert time.monotonic() - begun < 5
        for connection in idle:
            connection.settimeout(5)
            assert connection.recv(100) == b""
        assert post(port, notification(alert())) == (200, {"STARTED": 1})
        slow.close()
        for connection in idle:
            connection.close()


def test_more_than_are_served_at_once_are_turned_away(tmp_path: Path) -> None:
    with serving(tmp_path) as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(SERVED_AT_ONCE)]
        time.sleep(0.3)
        with pytest.raises((OSError, http.client.HTTPException)):
            post(port, notification(alert()))
        for connection in idle:
            connection.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                assert post(port, notification(alert())) == (200, {"STARTED": 1})
                break
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        else:
            raise AssertionError("places are not given back")


def test_it_speaks_tls_and_waits_for_nobodys_handshake(api: KfpApi, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    ca, context = certified(folder)
    with serving(tmp_path, context) as port:
        mute = socket.create_connection(("127.0.0.1", port))
        client = ssl.create_default_context(cafile=str(ca))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=client)
        connection.request("POST", "/retrain", notification(alert()), {"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (200, {"STARTED": 1})
        connection.close()
        with pytest.raises((OSError, http.client.HTTPException)):
            post(port, notification(alert()))
        mute.close()


# --- the command ------------------------------------------------------------------------------------------------------


@contextmanager
def command(tmp_path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command in a process of its own; yields it and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kfp_custody.components._cli.main", "webhook", "--port", "0", *options]
        + ["--token-file", str(tmp_path / "token")],
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    )
    try:
        assert process.stderr
        line = process.stderr.readline()
        yield process, int(re.search(r"127\.0\.0\.1:(\d+)/retrain", line)[1])  # type: ignore[index]
    finally:
        process.kill()
        process.wait()


def test_a_restart_in_the_middle_starts_one(api: KfpApi, tmp_path: Path) -> None:
    begun = threading.Event()

    def before(method: str, path: str) -> None:
        if (method, path) == ("POST", "/runs"):
            begun.set()
            api.before = lambda method, path: None
            time.sleep(0.5)  # the process is killed meanwhile; the server goes on

    api.before = before
    with command(tmp_path) as (process, port), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, port, notification(alert()))
        assert begun.wait(20)
        process.kill()
        with pytest.raises((OSError, http.client.HTTPException)):
            asked.result()
    for _ in range(200):
        if api.state.runs:
            break
        time.sleep(0.02)
    assert len(api.state.runs) == 1
    with serving(tmp_path) as again:
        assert post(again, notification(alert()))[0] == 503, "its claim is held for three minutes"
    settings = load_watch_settings(tmp_path / "trust.yaml")
    for path in (tmp_path / "claims").glob("*.json"):  # as if these had passed
        path.write_text(re.sub(r'"until":"[^"]*"', '"until":"2026-01-31T02:03:00Z"', path.read_text()))
    assert settings.folder == tmp_path / "claims"
    with serving(tmp_path) as again:
        assert post(again, notification(alert())) == (200, {"ADOPTED": 1})
    assert len(api.state.runs) == 1


def test_it_ends_when_it_is_told_to_and_finishes_what_it_began(api: KfpApi, tmp_path: Path) -> None:
    begun = threading.Event()

    def before(method: str, path: str) -> None:
        if (method, path) == ("POST", "/runs"):
            begun.set()
            time.sleep(0.5)

    api.before = before
    with command(tmp_path) as (process, port), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, port, notification(alert()))
        assert begun.wait(20)
        process.send_signal(signal.SIGTERM)
        assert asked.result() == (200, {"STARTED": 1})
        assert process.wait(20) == 0
        assert process.stderr
        logged = process.stderr.read()
    assert "STARTED small run" in logged
    assert logged.rstrip().endswith("stopped")


def test_what_it_cannot_work_with_is_refused_at_once(custody: Command, tmp_path: Path) -> None:
    from kfp_command import call, refused

    settings = load_watch_settings(tmp_path / "trust.yaml")
    (tmp_path / "token").write_text("short")
    with pytest.raises(Misconfigured, match="too short"):
        Webhook(("127.0.0.1", 0), tmp_path / "token", settings)
    (tmp_path / "token").unlink()
    refused(call("webhook", "--token-file", tmp_path / "token"), "CUS-E534")
    (tmp_path / "tls.pem").write_text("no certificate")
    pair = ("--tls-cert", tmp_path / "tls.pem", "--tls-key", tmp_path / "tls.pem")
    refused(call("webhook", "--token-file", tmp_path / "token", *pair), "CUS-E555")
    assert call("webhook", "--token-file", tmp_path / "token", *pair[:2]).exit_code == 2
