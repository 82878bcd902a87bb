"""The detection profile `accurate`: what it adds, what it refuses, and that nothing else changes its findings."""

from pathlib import Path
from typing import Any

import pytest

from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured
from kfp_custody.components.pii_masking import detection
from kfp_custody.components.pii_masking.accurate import model
from kfp_custody.components.pii_masking.accurate.model import STRIDE, WINDOW, TokenModel, windows
from kfp_custody.components.pii_masking.accurate.profile import again, joined
from kfp_custody.components.pii_masking.accurate.rules import find_by_rules
from kfp_custody.components.pii_masking.detection import Detector
from kfp_custody.components.pii_masking.policy import Policy, Rule, load_policy
from kfp_custody.components.pii_masking.spans import Span

ENTITIES = ["PERSON", "LOCATION", "STREET_ADDRESS", "PHONE_NUMBER", "ORGANIZATION", "ID_NUMBER"]
PHRASE = "Thank you for the quiet afternoon and the long letter about the weather. "


@pytest.fixture(scope="module")
def loaded() -> TokenModel:
    return TokenModel()


def detector(workers: int = 1, profile: str = "accurate", **options: Any) -> tuple[Rule, Detector]:
    rule = Rule("memo", "free_text", {"entities": ENTITIES, "threshold": 0.35, "phone_regions": ["US"]} | options)
    return rule, Detector(Policy("p", "0" * 64, (rule,), profile=profile), workers)


def found(texts: list[str], **options: Any) -> list[set[tuple[str, str]]]:
    rule, detecting = detector(**options)
    with detecting:
        spans = list(detecting.find(rule, texts))
    return [
        {(span.label, text[span.start : span.end]) for span in each} for text, each in zip(texts, spans, strict=True)
    ]


def test_it_finds_what_the_standard_profile_does_not() -> None:
    texts = ["the parcel for siobhan o'rourke is at flat 4, 12 High St, Leeds, LS1 4AB, says Mrs Okonkwo"]
    accurate, standard = found(texts)[0], found(texts, profile="standard", entities=ENTITIES[:-1])[0]
    assert [text for label, text in accurate if label == "STREET_ADDRESS"] == ["4, 12 High St, Leeds, LS1 4AB"]
    assert ("PERSON", "Okonkwo") in accurate
    assert any(label == "PERSON" and "siobhan" in text for label, text in accurate)
    assert not any("siobhan" in text for _, text in standard)


def test_only_the_entities_of_the_rule_are_added() -> None:
    text = "Mrs Okonkwo, 12 High St, Leeds LS1 4AB, passport 533401922"
    assert {label for label, _ in found([text], entities=["PERSON"])[0]} == {"PERSON"}
    assert found([text], entities=["ID_NUMBER"])[0] == {("ID_NUMBER", "533401922")}


def test_neighbours_processes_and_order_change_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        f"{PHRASE * (number % 3)}call Ngozi Adeyemi{number} in Lagos at 0803 555 {1000 + number}"
        for number in range(40)
    ]
    alone = [found([text])[0] for text in texts[:5]]
    together = found(texts)
    assert together[:5] == alone
    monkeypatch.setattr(detection, "POOL_FROM", 1)
    monkeypatch.setattr(detection, "SLICE", 7)
    assert found(texts, workers=2) == together
    assert found(texts[::-1]) == together[::-1]


def test_every_piece_of_a_long_text_is_examined(loaded: TokenModel) -> None:
    for repeats in (0, 12, 13, 14, 15, 30, 200):
        text = PHRASE * repeats + "Yours, Bartholomew Fitzgerald"
        kinds = {text[each.start : each.end] for each in loaded.find(text)}
        assert {"Bartholomew", "Fitzgerald"} <= kinds, repeats
    assert loaded.find("") == loaded.find("  ") == []


@pytest.mark.parametrize("pieces", [1, WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + STRIDE, 1000, 10_007])
def test_windows_hold_every_piece_and_overlap(pieces: int) -> None:
    starts = list(windows(pieces))
    held = {piece for start in starts for piece in range(start, min(start + WINDOW, pieces))}
    assert held == set(range(pieces))
    assert all(later - earlier == STRIDE < WINDOW for earlier, later in zip(starts, starts[1:], strict=False))


def test_a_model_file_that_was_changed_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    real = Path(str(metadata.distribution(model.PACKAGE).locate_file(model.FOLDER)))
    for name in model.DIGESTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((real / name).read_bytes())
    monkeypatch.setattr(model, "FOLDER", str(tmp_path))
    TokenModel()
    data = bytearray((tmp_path / "onnx/model_q4.onnx").read_bytes())
    data[-1] ^= 1
    (tmp_path / "onnx/model_q4.onnx").write_bytes(data)
    with pytest.raises(EvidenceInvalid) as refusal:
        TokenModel()
    assert model.DIGESTS["onnx/model_q4.onnx"] in refusal.value.evidence
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises((Misconfigured, EvidenceInvalid)):
        TokenModel()


def test_without_the_model_the_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PACKAGE", "arcjet-sensitive-info-none")
    with pytest.raises(Misconfigured) as refusal:
        detector()
    assert "arcjet-sensitive-info-none" in refusal.value.evidence
    assert "pii-masking-accurate" in refusal.value.remedy


def test_its_facts_name_the_profile_and_the_models_files() -> None:
    _, accurate = detector()
    _, standard = detector(profile="standard", entities=["PERSON"])
    assert accurate.facts is not None
    assert standard.facts is not None
    added = {
        name: accurate.facts.versions[name] for name in accurate.facts.versions if name not in standard.facts.versions
    }
    assert added["profile"] == "accurate"
    assert added[f"{model.PACKAGE} files"].startswith("sha256:")


def test_id_numbers_are_unknown_to_the_standard_profile() -> None:
    with pytest.raises(Misconfigured):
        detector(profile="standard")


@pytest.mark.parametrize(
    ("text", "label", "expected"),
    [
        ("see Dr. van der Berg today", "PERSON", None),
        ("see Dr. Amara Okafor today", "PERSON", "Amara Okafor"),
        ("to 221B Baker Street, now", "STREET_ADDRESS", "221B Baker Street"),
        ("P.O. Box 4471", "STREET_ADDRESS", "P.O. Box 4471"),
        ("Hauptstraße 12", "STREET_ADDRESS", "Hauptstraße 12"),
        ("at SW1A 1AA.", "LOCATION", "SW1A 1AA"),
        ("Austin, TX 78701", "LOCATION", "TX 78701"),
        ("ring 020 7946 0958 soon", "PHONE_NUMBER", "020 7946 0958"),
        ("mobile: 555-0199 99", "PHONE_NUMBER", "555-0199 99"),
        ("passport no. X1234567", "ID_NUMBER", "X1234567"),
        ("the patient was calm", "ID_NUMBER", None),
        ("release 10.4.22 of 12 units", "PHONE_NUMBER", None),
    ],
)
def test_rules(text: str, label: str, expected: str | None) -> None:
    spans = [text[span.start : span.end] for span in find_by_rules(text) if span.label == label]
    assert (expected in spans) if expected else spans == []


def test_parts_of_an_address_become_one() -> None:
    text = "12 High St, Leeds, LS1 4AB and Paris"
    spans = [
        Span(0, 10, "STREET_ADDRESS"),
        Span(12, 17, "LOCATION"),
        Span(19, 26, "LOCATION"),
        Span(31, 36, "LOCATION"),
    ]
    assert joined(text, spans) == [Span(0, 26, "STREET_ADDRESS"), Span(31, 36, "LOCATION")]


def test_names_are_looked_for_again() -> None:
    text = "Ada Byron wrote. Byron's letter; ADA too, the ada language not"
    spans = again(text, [Span(0, 9, "PERSON")])
    assert [text[span.start : span.end] for span in spans] == ["Ada", "Byron", "Byron's", "ADA"]


@pytest.mark.parametrize(
    ("detection_key", "refused"),
    [
        ("{profile: accurate, mode: fast}", False),
        ("{profile: best}", True),
        ("{engine: dlp}", True),
        ("{engine: google_dlp, profile: accurate}", True),
    ],
)
def test_the_policy_names_the_profile(tmp_path: Path, detection_key: str, refused: bool) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\ndetection: {detection_key}\ncolumns: {{id: {{operator: keep}}}}\n")
    if refused:
        with pytest.raises(Misconfigured):
            load_policy(str(path))
    else:
        policy = load_policy(str(path))
        assert (policy.profile, policy.mode, policy.engine) == ("accurate", "fast", "presidio")
