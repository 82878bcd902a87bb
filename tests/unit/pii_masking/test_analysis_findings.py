"""Findings of many texts at once against Presidio's own, one text at a time: spans, entities and scores."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from kfp_custody.components.pii_masking import detection
from kfp_custody.components.pii_masking.analysis import analyzer as analysis
from kfp_custody.components.pii_masking.analysis.analyzer import BatchAnalyzer
from kfp_custody.components.pii_masking.analysis.encoder import UnknownArchitecture
from kfp_custody.components.pii_masking.analysis.lemmas import PossibleLemmas
from kfp_custody.components.pii_masking.analysis.requirements import Requirement, count_digits, requirement
from kfp_custody.components.pii_masking.detection import LANGUAGE, Detector
from kfp_custody.components.pii_masking.policy import Policy, Rule

THRESHOLD = 0.35
PARTS = [
    "call", "called", "calling", "my phone number is", "mobile", "credit card", "cards", "visa",
    "account number", "wire", "social security", "ssn", "SSN:", "passport", "driver's license", "iban",
    "transfer to", "born", "on", "ip address", "logged in from", "mail", "write to", "Dr. Maria Lopez",
    "John O'Brien", "in New York.", "Boston", "of Siemens AG", "next Friday", "12/31/2024", "2024-02-30",
    "31.12.24", "10:30", "4111 1111 1111 1111", "4111111111111112", "5105-1051-0510-5100", "078-05-1120",
    "123-45-6789", "DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "+1 212-555-0187", "(212) 555 0187",
    "030 901820", "020 7946 0958", "10.0.0.1", "2001:db8::1", "a@b.example", "ada@example.com",
    "https://example.com/a?b", "A1234567", "123456789", "00:1B:44:11:3A:B7",
    "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "12 North Main Street", "AB1234567", "\n\n", "  ", ",", ";", "é", "😀",
    "9434765919", "x" * 30, "7.5 %", "$ 300",
]  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Any:
    rule = Rule(
        "memo", "free_text", {"entities": ["PERSON", "ORGANIZATION"], "phone_regions": ["US", "GB", "DE", "FR"]}
    )
    Detector(Policy("p", "0" * 64, (rule,)), 1)
    assert detection._analyzer is not None
    return detection._analyzer.engine


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = random.Random(5)
    return ["", " ", *(" ".join(rng.choices(PARTS, k=rng.randrange(1, 14))) for _ in range(150))]


def plain(results: Sequence[Any]) -> list[tuple[int, int, str, float]]:
    return sorted((one.start, one.end, one.entity_type, one.score) for one in results)


def differing(engine: Any, analyzer: BatchAnalyzer, texts: list[str], threshold: float = THRESHOLD) -> int:
    entities = engine.get_supported_entities(LANGUAGE)
    expected = [plain(engine.analyze(text, LANGUAGE, entities=entities, score_threshold=threshold)) for text in texts]
    assert sum(map(len, expected)) > 3 * len(texts)
    found = [plain(results) for results in analyzer.analyze(texts, entities, threshold)]
    assert len(found) == len(texts)
    return sum(a != b for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("threshold", [0.01, THRESHOLD])
def test_findings_are_exactly_those_of_presidio(engine: Any, texts: list[str], threshold: float) -> None:
    assert differing(engine, BatchAnalyzer(engine, LANGUAGE), texts, threshold) == 0


def test_findings_do_not_depend_on_the_batch(engine: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    entities = engine.get_supported_entities(LANGUAGE)
    whole = [plain(found) for found in BatchAnalyzer(engine, LANGUAGE).analyze(texts, entities, THRESHOLD)]
    monkeypatch.setattr(analysis, "BATCH", 7)
    assert [plain(found) for found in BatchAnalyzer(engine, LANGUAGE).analyze(texts, entities, THRESHOLD)] == whole


def test_spacy_itself_runs_a_model_of_another_architecture(
    engine: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: Any) -> None:
        raise UnknownArchitecture

    monkeypatch.setattr(analysis, "EntityDecoder", unknown)
    assert differing(engine, BatchAnalyzer(engine, LANGUAGE), texts[:60]) == 0


def test_without_sentences_nothing_but_names_across_their_ends_differs(engine: Any, texts: list[str]) -> None:
    entities = engine.get_supported_entities(LANGUAGE)
    exact, fast = (
        [
            {(start, end, entity) for start, end, entity, _ in plain(found)}
            for found in BatchAnalyzer(engine, LANGUAGE, sentences=each).analyze(texts, entities, 0.01)
        ]
        for each in (True, False)
    )
    changed = [before ^ after for before, after in zip(exact, fast, strict=True) if before != after]
    assert len(changed) < len(texts) / 5  # these texts are no prose
    assert {entity for spans in changed for *_, entity in spans} <= {
        "PERSON", "LOCATION", "ORGANIZATION", "NRP", "DATE_TIME",
    }  # fmt: skip


# --- what is left out ------------------------------------------------------------------------------------------------


def test_requirements_are_read_off_the_expressions() -> None:
    assert requirement(r"\b\d{3}-\d{2}-\d{4}\b") == Requirement(9, 11, frozenset("-"))
    assert requirement(r"(a|[0-9]{2})?x@y[.]z") == Requirement(0, 5, frozenset("@."))
    assert requirement(r"(?<!\d)(?:[A-Z]\d+|\d{5,})(?=#)") == Requirement(1, 2, frozenset())
    assert requirement(r"\p{L}+ only the other engine reads this \d") == Requirement()


def test_a_text_that_no_expression_needs_is_never_one_that_it_matches(engine: Any) -> None:
    """Each expression of each recognizer, on texts made of pieces that these expressions are about."""
    patterns = [pattern.regex for each in engine.registry.recognizers for pattern in getattr(each, "patterns", ())]
    flags = regex.DOTALL | regex.MULTILINE | regex.IGNORECASE
    rules = [(regex.compile(text, flags), requirement(text)) for text in patterns]
    assert sum(need != Requirement() for _, need in rules) > 30
    rng = random.Random(9)
    alphabet = "0123456789٣- :./@abzAZ_#+"
    matches = 0
    for _ in range(4_000):
        pieces = rng.choices(PARTS, k=2) + ["".join(rng.choices(alphabet, k=rng.randrange(1, 30)))]
        text = rng.choice(("", " ")).join(pieces)
        digits = count_digits(text)
        for expression, need in rules:
            if expression.search(text):
                matches += 1
                assert need.holds(text, digits), (expression.pattern[:60], text)
    assert matches > 2_000


def test_every_lemma_that_spacy_gives_is_a_possible_one(engine: Any) -> None:
    nlp = engine.nlp_engine.get_nlp(LANGUAGE)
    sentences = (
        "She called and was calling; calls were made. Mice ran, geese flew, he better knew the worst of it.",
        "The cards' numbers, the phones and the banks wired transfers. Passports were issued, licences suspended.",
        "They're driving; I'd driven. Drivers' licenses, driver's license. Accounting for accounts, saved savings.",
    )
    for doc in nlp.pipe(sentences):
        for token in doc:
            lemma = token.lemma_.lower()
            assert PossibleLemmas(nlp, [lemma])([token.text]), (token.text, lemma)
    assert not PossibleLemmas(nlp, ["phone"])(["the", "weather", "is", "fine"])
    assert PossibleLemmas(nlp, ["phone"])(["telephones"])


def test_without_sentences_nothing_is_parsed(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_: Any, docs: Any) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(BatchAnalyzer, "_parse", parse)
    text = "Maria Lopez of Boston called from her phone, 212-555-0187"
    (found,) = BatchAnalyzer(engine, LANGUAGE, sentences=False).analyze([text], ["PERSON", "PHONE_NUMBER"], 0.01)
    assert (45, 57, "PHONE_NUMBER") in {(start, end, entity) for start, end, entity, _ in plain(found)}
    assert {score for *_, entity, score in plain(found) if entity == "PHONE_NUMBER"} == {0.75}  # raised by "phone"


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abcXYZ 019-.:@\n", max_size=60))
def test_any_text_is_examined_as_presidio_does(text: str) -> None:
    assert detection._analyzer is not None
    engine, entities = (
        detection._analyzer.engine,
        ["PERSON", "PHONE_NUMBER", "DATE_TIME", "IP_ADDRESS", "US_SSN", "URL"],
    )
    stock = engine.analyze(text, LANGUAGE, entities=entities, score_threshold=0.01)
    (ours,) = detection._analyzer.analyze([text], entities, 0.01)
    assert plain(ours) == plain(stock)
