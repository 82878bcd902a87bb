"""How exactly personal data is found in free text by the profile `accurate`, beside stock Presidio.

Both examine the same generated texts (`_accuracy_set`), of the held-out half of the templates only. A character of
personal data counts as found when any finding covers it, under whatever name; white space and titles (Mr, Dr.) do not
count either way. F2 weighs recall four times as much as precision. Ours is what the room masks in a text whose row says
nothing: the detector's findings and the forms that are looked for in every text. The peer is Presidio as it comes: its
default registry and settings, no threshold, the same small spaCy model.

Declared columns do not depend on detection: of every generated value, nothing may be in the output.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter

import _accuracy_set as generated
import pyarrow as pa
import pyarrow.parquet as pq
from _masking import mask
from _table import Result, publish

from kfp_custody.components.pii_masking.detection import MODEL, Detector
from kfp_custody.components.pii_masking.patterns import find_in_prose
from kfp_custody.components.pii_masking.policy import Policy, Rule

SEED, EACH, ROWS = 20261126, 20, 400
PEER = "stock Presidio"
GOAL_F2 = 0.88
ENTITIES = """
PERSON|LOCATION|STREET_ADDRESS|ORGANIZATION|PHONE_NUMBER|EMAIL_ADDRESS|CREDIT_CARD|IBAN_CODE|US_SSN|
IP_ADDRESS|URL|DATE_TIME|US_PASSPORT|US_DRIVER_LICENSE|US_BANK_NUMBER|ID_NUMBER
""".replace("\n", "").split("|")
DECLARED = {name: getattr(generated, name) for name in ("email", "iban", "card", "ssn", "ip")}
OPERATORS = ("{operator: hmac}", "{operator: redact}", "{operator: mask}", "{operator: encrypt}")
Places = list[set[int]]


def main() -> int:
    """Generate, examine, compare."""
    texts = list(generated.examples(SEED, EACH))
    started = perf_counter()
    ours = _ours([each.text for each in texts])
    between = perf_counter()
    peer = _stock([each.text for each in texts])
    print(f"{len(texts)} texts: ours {between - started:.1f} s, peer {perf_counter() - between:.1f} s")
    results = [*_overall(texts, ours, peer), *_by_kind(texts, ours, peer), *_declared()]
    return 0 if publish("masking_accuracy", results) else 1


def _ours(texts: list[str]) -> Places:
    rule = Rule(
        "text", "free_text", {"entities": ENTITIES, "threshold": 0.35, "phone_regions": ["US", "GB", "DE", "FR"]}
    )
    with Detector(Policy("benchmark", "0" * 64, (rule,), profile="accurate"), 1) as detector:
        found = list(detector.find(rule, texts))
    return [_places([*spans, *find_in_prose(text)]) for text, spans in zip(texts, found, strict=True)]


def _stock(texts: list[str]) -> Places:
    import tldextract
    from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    model = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": MODEL}]}
    engine = BatchAnalyzerEngine(AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=model).create_engine()))
    found = engine.analyze_iterator(texts, "en", batch_size=256)
    return [_places((each.start, each.end, each.entity_type) for each in spans) for spans in found]


def _places(spans: Iterable[tuple[int, int, str]]) -> set[int]:
    return {place for start, end, _ in spans for place in range(start, end)}


def _counted(example: generated.Example, *kinds: str) -> set[int]:
    """Return the characters that count, of all kinds or of some."""
    chosen = [span for span in example.spans if (span[2] in kinds if kinds else span[2] != "TITLE")]
    return {place for place in _places(chosen) if not example.text[place].isspace()}


def _overall(texts: Sequence[generated.Example], ours: Places, peer: Places) -> Iterable[Result]:
    figures = []
    for found in (ours, peer):
        right = said = known = 0
        for example, places in zip(texts, found, strict=True):
            ignored = _counted(example, "TITLE")
            shown = {place for place in places - ignored if not example.text[place].isspace()}
            right += len(shown & _counted(example))
            said += len(shown)
            known += len(_counted(example))
        precision, recall = right / said, right / known
        figures.append((precision, recall, 5 * precision * recall / (4 * precision + recall)))
    for name, mine, theirs in zip(("precision", "recall", "F2"), *figures, strict=True):
        yield Result(
            f"characters, {name}",
            mine,
            theirs,
            f"{len(texts)} texts",
            GOAL_F2 if name == "F2" else None,
            peer_name=PEER,
        )


def _by_kind(texts: Sequence[generated.Example], ours: Places, peer: Places) -> Iterable[Result]:
    known: Counter[str] = Counter()
    found: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for example, *both in zip(texts, ours, peer, strict=True):
        for kind in {span[2] for span in example.spans} - {"TITLE"}:
            places = _counted(example, kind)
            known[kind] += len(places)
            for counter, shown in zip(found, both, strict=True):
                counter[kind] += len(places & shown)
    for kind, total in sorted(known.items()):
        mine, theirs = (counter[kind] / total for counter in found)
        yield Result(f"character recall, {kind}", mine, theirs, f"of {total}", peer_name=PEER)


def _declared() -> Iterable[Result]:
    """Mask a table by its schema, once with each operator, and look for every value in every cell."""
    rng = random.Random(SEED)  # noqa: S311  (data of a benchmark)
    table = pa.table({name: [make(rng) for _ in range(ROWS)] for name, make in DECLARED.items()})
    left: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        pq.write_table(table, root / "raw.parquet")
        for number, operator in enumerate(OPERATORS):
            policy = root / f"policy-{number}.yaml"
            policy.write_text("version: 1\ncolumns:\n" + "".join(f"  {name}: {operator}\n" for name in DECLARED))
            masked = mask(root / "raw.parquet", root / f"work-{number}", str(policy))
            cells = "\x1f".join(cell for column in masked.columns for cell in column.to_pylist())
            left.update({name: sum(value in cells for value in table[name].to_pylist()) for name in DECLARED})
    total = ROWS * len(OPERATORS)
    for name in DECLARED:
        yield Result(f"declared column masked, {name}", 1 - left[name] / total, None, f"of {total}", 1.0)


if __name__ == "__main__":
    raise SystemExit(main())
