"""The engine google_dlp: Google's own client against a gRPC server in this process.

The server speaks the service's messages and answers as a test says; what Google's detectors find is not tested here.
"""

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import dlp_v2
from google.cloud.dlp_v2.services.dlp_service.transports import DlpServiceGrpcTransport
from securesystemslib.signer import Signer

from kfp_custody.components._shared.errors import CustodyError, InputRefused, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.pii_masking import google_dlp
from kfp_custody.components.pii_masking.detection import Detector
from kfp_custody.components.pii_masking.google_dlp import DlpDetector, batches, likelihood
from kfp_custody.components.pii_masking.masking import mask_dataset
from kfp_custody.components.pii_masking.policy import Policy, Rule
from kfp_custody.components.pii_masking.spans import Span

pytestmark = pytest.mark.services
SECRET = "Zoë Müller"
Request = dlp_v2.InspectContentRequest
Response = dlp_v2.InspectContentResponse
Answer = Callable[[Request, grpc.ServicerContext], Response]


class Server:
    """The service: requests as they came in, and a function that answers."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answer: Answer = find_names

    def inspect(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return self.answer(request, context)


def texts_of(request: Any) -> list[str]:
    return [row.values[0].string_value for row in request.item.table.rows]


def finding(row: int, start: int, end: int, kind: str = "PERSON_NAME", *, by_bytes: bool = False) -> dict[str, Any]:
    place = {"record_location": {"table_location": {"row_index": row}}}
    name = "byte_range" if by_bytes else "codepoint_range"
    return {"info_type": {"name": kind}, "location": {name: {"start": start, "end": end}, "content_locations": [place]}}


def answered(*findings: dict[str, Any], truncated: bool = False) -> Any:
    return Response({"result": {"findings": list(findings), "findings_truncated": truncated}})


def find_names(request: Any, context: grpc.ServicerContext) -> Any:
    texts = texts_of(request)
    starts = ((row, text.find(SECRET)) for row, text in enumerate(texts))
    return answered(*(finding(row, start, start + len(SECRET)) for row, start in starts if start >= 0))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    serving = Server()
    handler = grpc.unary_unary_rpc_method_handler(
        serving.inspect, request_deserializer=Request.deserialize, response_serializer=Response.serialize
    )
    real = grpc.server(ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", 524_288)])
    service = {"InspectContent": handler}
    real.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("google.privacy.dlp.v2.DlpService", service)])
    port = real.add_insecure_port("127.0.0.1:0")
    real.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        transport = DlpServiceGrpcTransport(channel=channel, credentials=AnonymousCredentials())
        monkeypatch.setattr(google_dlp, "_connect", lambda: dlp_v2.DlpServiceClient(transport=transport))
        monkeypatch.setenv(google_dlp.PARENT, "projects/shop/locations/europe-west3")
        monkeypatch.setattr(google_dlp, "FIRST_WAIT", 0.01)
        yield serving
    real.stop(None).wait()


def rule(**options: Any) -> Rule:
    return Rule("memo", "free_text", {"entities": ["PERSON", "EMAIL_ADDRESS"], "threshold": 0.4} | options)


def find(texts: list[str], **options: Any) -> list[tuple[Span, ...]]:
    given = rule(**options)
    return list(DlpDetector([given]).find(given, texts))


def test_what_is_asked_and_what_comes_back(server: Server) -> None:
    given = rule()
    with Detector(Policy("p", "0" * 64, (given,), engine="google_dlp")) as detector:
        spans = list(detector.find(given, ["nothing", f"𝒜 call {SECRET} today"]))
    assert spans == [(), (Span(7, 17, "PERSON"),)]
    assert detector.facts is not None
    assert detector.facts.versions["engine"] == "google_dlp"
    [asked] = server.requests
    assert asked.parent == "projects/shop/locations/europe-west3"
    assert [each.name for each in asked.inspect_config.info_types] == ["PERSON_NAME", "EMAIL_ADDRESS"]
    assert asked.inspect_config.min_likelihood.name == "POSSIBLE"
    assert asked.inspect_config.include_quote is False
    assert texts_of(asked) == ["nothing", f"𝒜 call {SECRET} today"]


def test_a_dataset_is_masked_and_looked_at_again(
    server: Server, tmp_path: Path, settings: Settings, signer: Signer, run_id: str
) -> None:
    (tmp_path / "policy.yaml").write_text(
        "version: 1\ndetection: {engine: google_dlp}\ncolumns:\n  owner: {operator: redact}\n"
        "  memo: {operator: free_text, entities: [PERSON], threshold: 0.4}\n"
    )
    # The service finds the name; the row's own identifier and the address are found here.
    (tmp_path / "raw.csv").write_text(f"owner,memo\nC-48151623,{SECRET} of C-48151623 at 10.1.2.3\n")
    mask_dataset(
        tmp_path / "raw.csv", tmp_path / "masked", tmp_path / "evidence", tmp_path / "report.html", run_id,
        str(tmp_path / "policy.yaml"), "", signer, settings,
    )  # fmt: skip
    masked = pq.read_table(tmp_path / "masked" / "data.parquet")
    assert masked["memo"].to_pylist() == ["<PERSON> of <OWNER> at <IP_ADDRESS>"]
    report = json.loads(next((tmp_path / "evidence").rglob("report.json")).read_bytes())
    assert report["detector"]["model"] == "google_dlp"


def test_byte_ranges_are_turned_into_characters(server: Server) -> None:
    text = f"𝒜 {SECRET}!"
    start, end = len("𝒜 ".encode()), len(f"𝒜 {SECRET}".encode())
    server.answer = lambda *_: answered(finding(0, start, end, by_bytes=True))
    assert find([text]) == [(Span(2, 12, "PERSON"),)]
    server.answer = lambda *_: answered(finding(0, 1, end, by_bytes=True))  # in the middle of a character
    with pytest.raises(ServiceUnreachable):
        find([text])


@pytest.mark.parametrize(
    "bad", [finding(1, 0, 3), finding(0, 3, 3), finding(0, 0, 99), finding(0, 0, 3, "SOMETHING_ELSE"), {}]
)
def test_a_finding_that_cannot_be_placed_is_a_refusal(server: Server, bad: dict[str, Any]) -> None:
    server.answer = lambda *_: answered(bad)
    with pytest.raises(ServiceUnreachable):
        find(["some text"])


def test_a_truncated_answer_is_asked_again_in_halves(server: Server) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        return answered(truncated=True) if len(texts_of(request)) > 2 else find_names(request, context)

    server.answer = answer
    texts = [f"{'x' * number} {SECRET}" for number in range(7)]
    assert find(texts) == [(Span(number + 1, number + 11, "PERSON"),) for number in range(7)]
    server.answer = lambda *_: answered(truncated=True)
    with pytest.raises(InputRefused) as refusal:
        find(texts)
    assert SECRET not in str(refusal.value)


def test_requests_stay_within_the_limits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(find(["ü" * 90_000] * 9)) == 9
    assert [len(texts_of(request)) for request in server.requests] == [2, 2, 2, 2, 1]
    assert all(request._pb.ByteSize() < 500_000 for request in server.requests)
    monkeypatch.setattr(google_dlp, "MAX_CELLS", 3)
    assert [len(batch) for batch in batches("memo", ["a"] * 7)] == [3, 3, 1]
    with pytest.raises(InputRefused):
        find(["ü" * 200_000])


@pytest.mark.parametrize("status", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
def test_a_busy_service_is_asked_again(server: Server, status: grpc.StatusCode) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if len(server.requests) < 3:
            context.abort(status, "later")
        return find_names(request, context)

    server.answer = answer
    assert find([SECRET]) == [(Span(0, 10, "PERSON"),)]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "times"),
    [
        (grpc.StatusCode.UNAVAILABLE, None),
        (grpc.StatusCode.PERMISSION_DENIED, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, 1),
        (grpc.StatusCode.INTERNAL, 1),
    ],
)
def test_an_error_is_a_refusal_that_quotes_nothing(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: grpc.StatusCode,
    times: int | None,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(google_dlp, "DEADLINE", 0.5)
    server.answer = lambda request, context: context.abort(status, f"cannot read {texts_of(request)[0]}")
    with pytest.raises(ServiceUnreachable) as refusal:
        find([SECRET])
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is refusal.value.__context__ is None
    assert SECRET not in caplog.text
    assert len(server.requests) == times if times else len(server.requests) > 1


@pytest.mark.parametrize("parent", ["", "projects/shop", "projects/shop/locations/", "projects/a/locations/b/x"])
def test_where_it_runs_has_to_be_said(server: Server, monkeypatch: pytest.MonkeyPatch, parent: str) -> None:
    monkeypatch.setenv(google_dlp.PARENT, parent)
    with pytest.raises(Misconfigured) as refusal:
        DlpDetector([rule()])
    assert google_dlp.PARENT in refusal.value.evidence


def test_unknown_entities_are_refused(server: Server) -> None:
    with pytest.raises(CustodyError) as refusal:
        DlpDetector([rule(entities=["PERSON", "ID_NUMBER"])])
    assert isinstance(refusal.value, Misconfigured)
    assert "ID_NUMBER" in refusal.value.evidence


def test_thresholds_and_likelihoods() -> None:
    given = [0.05, 0.2, 0.35, 0.4, 0.6, 0.79, 0.8, 1.0]
    assert [likelihood(each) for each in given] == [
        "VERY_UNLIKELY", "UNLIKELY", "UNLIKELY", "POSSIBLE", "LIKELY", "LIKELY", "VERY_LIKELY", "VERY_LIKELY",
    ]  # fmt: skip
