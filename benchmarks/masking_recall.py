"""How much of the known personal data the masking room masks, beside stock Presidio on the same memos.

A month is generated together with the key of the personal data in its memos, masked by the room as the pipeline does
it, and the masked memos are compared with the key. A span counts as masked only when no word of it (two letters or
digits and more) is left in the memo, whoever found it and under whatever name; words that the memo holds outside of
the personal data as well may stay as often as they stand there.

The peer is Presidio as it comes: all recognizers of its default registry, the same spaCy model, the same threshold,
the memo alone. Ours knows the row and has a policy, so this compares two ways of using Presidio, not two detectors.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import perf_counter

import pyarrow as pa
import pyarrow.parquet as pq
from _masking import mask
from _table import Result, publish

from kfp_custody.components.pii_masking.detection import MODEL
from kfp_custody.components.pii_masking.policy import load_policy
from kfp_custody.pipelines.fraud_detection.memos import ENTITIES
from kfp_custody.pipelines.fraud_detection.sample_data import write_month
from kfp_custody.pipelines.fraud_detection.tables import DIRECT_IDENTIFIERS, FILE

POLICY = "card-transactions"
PEER = "stock Presidio"
CELL_ROWS = 300
"""Rows whose identifiers the peer is given cell by cell."""

GOALS = {
    "all kinds": 0.96,
    "PERSON": 0.92,
    "PHONE_NUMBER": 0.99,
    "EMAIL_ADDRESS": 1.0,
    "CREDIT_CARD": 1.0,
    "IBAN_CODE": 1.0,
    "IP_ADDRESS": 1.0,
    "ADDRESS": 0.97,
    "DATE_OF_BIRTH": 0.99,
}
"""Floors. What has a form (card, account, e-mail, internet address) has to be found always; names of
people other than the row's own need a language model, and the small one misses some."""

Key = dict[str, list[dict[str, str]]]
Texts = Mapping[str, str | None]
_WORD = re.compile(r"[^\W_]{2,}")
_PLACEHOLDER = re.compile(r"<[A-Z0-9_]+>")


def main() -> int:
    """Generate, mask, compare."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        month = write_month(root / "month")
        raw, key = pq.read_table(month.dataset / FILE), _key(month.pii_key)
        started = perf_counter()
        masked = mask(month.dataset, root / "work", POLICY)
        print(f"masked {raw.num_rows} rows with {month.memos} memos in {perf_counter() - started:.1f} s")
    memos = dict(zip(raw["transaction_id"].to_pylist(), raw["memo"].to_pylist(), strict=True))
    ours = dict(zip(masked["transaction_id"].to_pylist(), masked["memo"].to_pylist(), strict=True))
    started = perf_counter()
    presidio = StockPresidio(threshold=load_policy(POLICY).rule("memo").options["threshold"])
    peer = dict(zip(key, presidio.mask([memos[name] for name in key]), strict=True))
    print(f"peer: the same memos in {perf_counter() - started:.1f} s")
    cells = raw.slice(0, CELL_ROWS)
    by_peer = pa.table({name: presidio.mask(cells[name].to_pylist()) for name in DIRECT_IDENTIFIERS})
    results = [
        *_recall(key, memos, ours, peer),
        _left_alone(key, memos, ours, peer),
        Result(
            f"direct identifiers left, first {CELL_ROWS} rows",
            _survivors(cells, masked.slice(0, CELL_ROWS)),
            _survivors(cells, by_peer),
            "cells",
            goal=0,
            most=True,
            peer_name=PEER,
        ),
        Result("direct identifiers left, all rows", _survivors(raw, masked), None, "cells", goal=0, most=True),
    ]
    return 0 if publish("masking_recall", results) else 1


class StockPresidio:
    """Presidio's analyzer and anonymizer with nothing changed but the spaCy model and the threshold."""

    def __init__(self, threshold: float) -> None:
        """Load the model; the e-mail recognizer's list of domains is the one in the package, not a download."""
        import tldextract
        from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
        from presidio_anonymizer import AnonymizerEngine

        tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
        model = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": MODEL}]}
        nlp = NlpEngineProvider(nlp_configuration=model).create_engine()
        self._analyzer = BatchAnalyzerEngine(AnalyzerEngine(nlp_engine=nlp, default_score_threshold=threshold))
        self._anonymizer = AnonymizerEngine()

    def mask(self, texts: list[str]) -> list[str]:
        """Return the texts with everything replaced that was found."""
        distinct = list(dict.fromkeys(texts))
        found = self._analyzer.analyze_iterator(distinct, "en", batch_size=256)
        masked = {
            text: self._anonymizer.anonymize(text, results).text for text, results in zip(distinct, found, strict=True)
        }
        return [masked[text] for text in texts]


def _key(path: Path) -> Key:
    rows = map(json.loads, path.read_text().splitlines())
    return {row["transaction_id"]: row["spans"] for row in rows}


def _words(text: str | None) -> Counter[str]:
    """Count the words left in a masked text."""
    return Counter(_WORD.findall(_PLACEHOLDER.sub(" ", text or "")))


def _recall(key: Key, memos: Texts, ours: Texts, peer: Texts) -> Iterable[Result]:
    """Yield the share of known spans of which no word is left, over all and by kind."""
    known: Counter[str] = Counter()
    masked: dict[str, Counter[str]] = {"ours": Counter(), "peer": Counter()}
    for name, spans in key.items():
        innocent = _words(memos[name])
        for span in spans:
            innocent -= _words(span["text"])
        left = {"ours": _words(ours[name]) - innocent, "peer": _words(peer[name]) - innocent}
        for span in spans:
            known[span["entity"]] += 1
            for who, words in left.items():
                masked[who][span["entity"]] += not (words & _words(span["text"]))
    for entity in ("all kinds", *ENTITIES):
        counts = known, masked["ours"], masked["peer"]
        total, mine, theirs = (each.total() if entity == "all kinds" else each[entity] for each in counts)
        yield Result(
            f"memo recall, {entity}", mine / total, theirs / total, f"of {total}", GOALS.get(entity), peer_name=PEER
        )


def _left_alone(key: Key, memos: Texts, ours: Texts, peer: Texts) -> Result:
    """Measure the other side of the coin: how many memos without personal data stay as they were."""
    plain = [name for name, spans in key.items() if not spans]
    shares = [sum(texts[name] == memos[name] for name in plain) / len(plain) for texts in (ours, peer)]
    return Result("memos without personal data left alone", *shares, f"of {len(plain)}", peer_name=PEER)


def _survivors(raw: pa.Table, masked: pa.Table) -> int:
    """Count the identifiers that stand, whole, in any structured column of their own masked row."""
    columns = [masked[name].cast(pa.string()).to_pylist() for name in masked.column_names if name != "memo"]
    rows = ["\x1f".join(cell or "" for cell in cells) for cells in zip(*columns, strict=True)]
    return sum(
        value in row for name in DIRECT_IDENTIFIERS for value, row in zip(raw[name].to_pylist(), rows, strict=True)
    )


if __name__ == "__main__":
    raise SystemExit(main())
