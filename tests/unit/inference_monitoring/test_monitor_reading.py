"""What each kind of log tells, and that nothing else is taken for it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from log_lines import MODEL, TIME, door, event, monitored, pair, verdicts

from kfp_custody.components._shared.request_logs import line_time, parse_line
from kfp_custody.components.inference_monitoring.clients import digest, is_open, model_of
from kfp_custody.components.inference_monitoring.payloads import read_answer, read_table
from kfp_custody.components.inference_monitoring.reading import Call, Half, read_line
from kfp_custody.components.inference_monitoring.reporting import metrics
from kfp_custody.components.seldon_deployment.door.envoy import _access_log
from kfp_custody.components.seldon_deployment.serving.request_log import RequestLog


def told(document: dict[str, Any]) -> Call:
    found = read_line(document)
    assert isinstance(found, Call)
    return found


def test_our_door_writes_what_is_read_here() -> None:
    fields = _access_log(Path("x"))["typed_config"]["log_format"]["json_format"]
    assert set(fields) == set(door())
    call = told(door(7, status=503, milliseconds=250))
    assert (call.view, call.client, call.status, call.seconds) == ("door", "spiffe://bank.example/client/7", 503, 0.25)


def test_our_model_server_writes_what_is_read_here(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "log")
    log.answered(MODEL, "1", "id", {"a": [1.0, 2.0]}, [0.125, 0.5], 0.003)
    log.refused(MODEL, "1", None, 0.001)
    answered, refused = (told(parse_line(line)) for line in (tmp_path / "log").read_bytes().splitlines())
    assert (answered.view, answered.status, answered.rows, answered.seconds) == ("server", 200, 2, 0.003)
    assert (list(answered.scores), answered.models, answered.client) == ([0.125, 0.5], (MODEL,), None)
    assert (refused.status, refused.rows, refused.scores) == (400, 0, [])


def test_the_usual_names_of_envoy() -> None:
    line = {"start_time": TIME, "path": "/v2/models/m/infer?x=1", "response_code": 0, "duration": 7, "identity": "-"}
    call = told(line)
    assert (call.path, call.status, call.seconds, call.client) == ("/v2/models/m/infer", None, 0.007, None)


@pytest.mark.parametrize(
    ("code", "status"),
    [(0, 200), (3, 400), (7, 403), (16, 401), (8, 429), (14, 503), (13, 500), (99, 500), (None, 200)],
)
def test_codes_of_grpc_count_as_the_status_that_means_the_same(code: int | None, status: int) -> None:
    assert told(door(grpc_status=code)).status == status


def test_a_pair() -> None:
    call = told(pair((1.5, None, "pos"), 3, 0.75, seconds=0.5, status=200))
    assert call.table is not None
    assert (call.client, call.rows, list(call.scores), call.seconds) == ("client-3", 1, [0.75], 0.5)
    assert (call.table.names, list(map(list, call.table.rows))) == (("v0", "v1", "v2"), [[1.5, None, "pos"]])


def test_halves_of_events_of_seldon_kserve_and_kafka() -> None:
    seldon = read_line(event("request", "r1", {"data": {"names": ["a", "b"], "ndarray": [[1, 2], [3, 4]]}}))
    assert isinstance(seldon, Half)
    assert (seldon.id, seldon.is_request, seldon.call.client, seldon.call.rows) == ("r1", True, "http://gateway/", 2)
    kserve = read_line(
        {
            "headers": {
                "ce-type": ["org.kubeflow.serving.inference.response"],
                "ce-id": "r1",
                "ce-time": TIME,
                "ce-inferenceservicename": MODEL,
            },
            "body": json.dumps({"predictions": [[0.9, 0.1]]}),
        }
    )
    assert isinstance(kserve, Half)
    assert (kserve.is_request, list(kserve.call.scores), kserve.call.models) == (False, [0.1], (MODEL,))
    kafka = read_line(
        {
            "headers": {"ce_type": "io.seldon.serving.inference.request", "ce_requestid": "r", "ce_time": TIME},
            "body": {"instances": [{"b": 1, "a": 2}]},
        }
    )
    assert isinstance(kafka, Half)
    assert kafka.call.table is not None
    assert (kafka.call.table.names, kafka.call.client) == (("a", "b"), None)


def test_the_client_of_an_event_is_the_certificate_that_a_proxy_verified() -> None:
    forwarded = "By=spiffe://a/b;URI=spiffe://x/first,By=spiffe://a/c;Hash=00;URI=spiffe://x/last"
    body = {"instances": [[1.0]]}
    half = read_line(event("request", "r", body, **{"X-Forwarded-Client-Cert": forwarded, "Ce-Subject": "s"}))
    assert isinstance(half, Half)
    assert half.call.client == "spiffe://x/last"
    half = read_line(event("request", "r", body, **{"Ce-Subject": "s"}))
    assert isinstance(half, Half)
    assert half.call.client == "s"


def test_feedback_is_no_inference() -> None:
    assert read_line({"headers": {"Ce-Type": "io.seldon.serving.feedback", "Ce-Time": TIME}, "body": {}}) is None


TABLES = [
    ({"inputs": [{"name": "x", "shape": [2, 2], "data": [1, 2, 3, 4]}]}, ("[0]", "[1]"), [[1, 2], [3, 4]]),
    ({"inputs": [{"name": "x", "shape": [2, 2], "data": [[1, 2], [3, 4]]}]}, ("[0]", "[1]"), [[1, 2], [3, 4]]),
    ({"inputs": [{"name": "x", "shape": [2], "data": [1, 2]}]}, ("x",), [[1], [2]]),
    ({"data": {"tensor": {"shape": [1, 2], "values": [1, 2]}}}, ("[0]", "[1]"), [[1, 2]]),
    ({"data": {"ndarray": [1, 2]}}, ("[0]", "[1]"), [[1, 2]]),
    ({"instances": [[1], [2]]}, ("[0]",), [[1], [2]]),
]


@pytest.mark.parametrize(("body", "names", "rows"), TABLES, ids=str)
def test_rows_of_every_protocol(body: dict[str, Any], names: tuple[str, ...], rows: list[list[int]]) -> None:
    table = read_table(body)
    assert (table.names, list(map(list, table.rows))) == (names, rows)


ANSWERS = [
    ({"outputs": [{"name": "predict", "datatype": "INT64", "shape": [2], "data": [0, 1]}]}, 2, []),
    ({"outputs": [{"name": "predict_proba", "datatype": "FP64", "shape": [1, 2], "data": [0.25, 0.75]}]}, 1, [0.75]),
    ({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [0.2, 0.3, 0.5]}]}, 1, []),
    ({"outputs": [{"name": "amount", "datatype": "FP64", "shape": [1], "data": [17.0]}]}, 1, []),
    ({"data": {"ndarray": [[0.25, 0.75], [0.5, 0.5]]}}, 2, [0.75, 0.5]),
    ({"data": {"tensor": {"shape": [1, 1], "values": [0.5]}}}, 1, [0.5]),
    ({"predictions": [1, 0]}, 2, []),
    ({"error": "what was wrong"}, 0, []),
]


@pytest.mark.parametrize(("body", "rows", "scores"), ANSWERS, ids=str)
def test_answers_of_every_protocol(body: dict[str, Any], rows: int, scores: list[float]) -> None:
    found = read_answer(body)
    assert (found.rows, list(found.scores), found.failed) == (rows, scores, "error" in body)


MALFORMED: list[Any] = [
    {},
    {"time": TIME},
    door(path=7),
    door(status="200"),
    door(status=True),
    door(milliseconds=-1),
    door(milliseconds=1e300),
    door(time="2026-11-01T10:00:00"),
    door(time="yesterday"),
    door(time=1),
    {"time": TIME, "model": MODEL, "outcome": "lost", "seconds": 1},
    {"time": TIME, "model": MODEL, "outcome": "answered", "seconds": 1, "scores": [2.0]},
    {"time": TIME, "model": MODEL, "outcome": "answered", "seconds": 1, "scores": "0.5"},
    pair(request={}),
    pair(request={"inputs": []}),
    pair(request={"inputs": {}}),
    pair(request={"inputs": [{"name": "x", "shape": [1, 3], "data": [1, 2]}]}),
    pair(request={"inputs": [{"name": "x", "shape": [1, 0], "data": []}]}),
    pair(request={"inputs": [{"name": 1, "shape": [1], "data": [1]}]}),
    pair(request={"inputs": [{"name": "x", "shape": [1], "data": [1]}] * 2}),
    pair(request={"inputs": [{"name": "x", "shape": [1], "data": 1}]}),
    pair(request={"inputs": [{"name": n, "shape": [1], "data": [1] * m} for n, m in (("x", 1), ("y", 2))]}),
    pair(request={"instances": [[1], [1, 2]]}),
    pair(request={"instances": 5}),
    pair(request={"data": {"ndarray": [[[1]]]}}),
    pair(({"a": 1},)),
    pair(([[1]],)),
    pair(response={}),
    pair(response={"outputs": [{}]}),
    pair(response={"outputs": [{"name": "y", "datatype": "FP64", "shape": [10**9], "data": []}]}),
    pair(response="no json"),
    pair(client=5),
    event("request", "", {"instances": [[1]]}),
    event("request", "r", 5),
    event("request", "r", {"instances": [[1]]}, time="never"),
    event("request", "r", {"instances": [[1]]}, **{"Ce-Type": 5}),
]


@pytest.mark.parametrize("document", MALFORMED, ids=lambda document: json.dumps(document)[:100])
def test_a_malformed_line_is_counted_and_ends_nothing(document: dict[str, Any]) -> None:
    found = monitored([document, door()])
    assert (found.lines.checked, found.lines.errors) == (1, 1)
    assert found.verdict == "FAILED", "one of two lines is too much"


LINES = [b"", b"\\n", b"[]", b"5", b"null", b'"x"', b"{", b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000, None]
LINES += [b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b'{"time": ' + b"9" * 5000 + b"}"]


@pytest.mark.parametrize("line", LINES, ids=lambda line: str(line)[:30])
def test_what_is_no_json_object_is_counted(line: bytes | None) -> None:
    assert monitored([line]).lines.errors == 1


@pytest.mark.parametrize(
    "time", [TIME, "2026-11-01T11:00:00+01:00", "2026-11-01T10:00:00.000000000Z", "2026-11-01T10:00Z"]
)
def test_times(time: str) -> None:
    assert line_time({"time": time}) == 1_793_527_200.0


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_the_calendar(time: str) -> None:
    assert abs(line_time({"time": time})) > 1e10


def test_figures_are_those_of_the_outermost_log() -> None:
    server = {"time": TIME, "model": MODEL, "outcome": "answered", "seconds": 0.002, "rows": 1, "scores": [0.1]}
    both = [door(milliseconds=20), door(status=503), door(status=429), server, server]
    found = metrics(monitored(both))
    assert (found["requests"], found["rows"], found["clients"]) == (3, 2, 1)
    assert (found["error_ratio"], found["refused_ratio"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found["latency_p99"] == pytest.approx(0.02, rel=0.003)
    inner = metrics(monitored([server, server]))
    assert inner["latency_p50"] == pytest.approx(0.002, rel=0.003)
    assert "error_ratio" not in inner, "the server does not log an answer that failed"
    assert {"clients_unauthorised", "clients_near_duplicates", "prediction_psi"} & set(inner) == set()


def test_lines_of_another_model_are_skipped() -> None:
    other = pair()
    other["response"]["model_name"] = "other"
    lines = [door(), door(path="/v2/models/other/infer"), door(path=f"/v2/models/{MODEL}"), other, pair()]
    found = monitored(lines)
    assert (found.lines.checked, found.lines.skipped) == (2, 3)
    assert (found.views["door"].requests, found.views["payload"].requests) == (1, 1)


@pytest.mark.parametrize(
    ("path", "model", "asks", "is_for_clients"),
    [
        ("/v2/models/m/infer", "m", True, True),
        ("/v2/models/m/versions/3/infer", "m", True, True),
        ("/v1/models/m:predict", "m", True, True),
        ("/v2/models/m/ready", "m", False, True),
        ("/inference.GRPCInferenceService/ModelInfer", None, True, True),
        ("/inference.GRPCInferenceService/ServerLive", None, False, True),
        ("/v2/health/ready", None, False, True),
        ("/v2/repository/index", None, False, False),
        ("/v2/repository/models/m/unload", None, False, False),
        ("/inference.GRPCInferenceService/RepositoryModelLoad", None, False, False),
        ("/metrics", None, False, False),
        ("", None, False, False),
    ],
)
def test_paths(path: str, model: str | None, asks: bool, is_for_clients: bool) -> None:
    assert (*model_of(path), is_open(path)) == (model, asks, is_for_clients)


def test_who_is_turned_away_and_who_tries_closed_paths() -> None:
    lines = [door(1, status=403)] * 9 + [door(2, status=401, path="/v2/models/other/infer")] * 10
    lines += [door(3, status=403, path="/v2/repository/index"), door(4, status=404, path="/v2/models/old/infer")]
    lines += [door(5)] * 200
    found = monitored(lines)
    assert found.clients["unauthorised"] == {digest("spiffe://bank.example/client/2"): 10}
    assert found.clients["probing"] == {digest("spiffe://bank.example/client/3"): 1}
    assert verdicts(found)["unauthorised"] == verdicts(found)["probing"] == found.verdict == "WARNED"


def test_a_budget_is_by_the_hour_and_for_those_who_have_a_name() -> None:
    rows = {"data": {"names": ["a"], "ndarray": [[float(number)] for number in range(700)]}}
    named, nobody = (
        [pair(request=rows, client=name, response={"predictions": [0.5] * 700, "model_name": MODEL})] * 3
        for name in ("busy", None)
    )
    found = monitored(named + nobody, hours=2.0)
    assert found.clients["budget"] == {digest("busy"): 2100}
    assert monitored(named + nobody, hours=3.0).clients["budget"] == {}
    assert monitored(named, hours=0.01).clients["budget"] == {digest("busy"): 2100}, "never less than an hour's"


def test_nan_in_a_score_is_no_probability() -> None:
    assert read_answer({"predictions": [math.nan]}).scores == ()
