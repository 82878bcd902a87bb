"""How fast free text is examined, beside stock Presidio: the same model, recognizers, entities and threshold, one run.

The peer is `AnalyzerEngine.analyze` called for one text after the other, as Presidio's documentation shows it. Both
sides look for the same and are compared text by text: start, end, entity and score of each finding. CPU seconds are
those of the processes that do the work.
"""

import os
import resource
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from _masking_notes import notes, table
from _table import Result, publish

from kfp_custody.components.pii_masking import detection
from kfp_custody.components.pii_masking.analysis.analyzer import BatchAnalyzer
from kfp_custody.components.pii_masking.detection import LANGUAGE, Detector
from kfp_custody.components.pii_masking.policy import Policy, Rule, load_policy

PEER = "AnalyzerEngine.analyze"
TEXTS, ROWS = 2_000, 500
WORKERS = 2
Findings = list[list[tuple[int, int, str, float]]]


def main() -> int:
    """Examine a table and unique notes with both."""
    rule = load_policy("card-transactions").rule("memo")
    Detector(Policy("benchmark", "0" * 64, (rule,)), 1)  # loads the model and the recognizers
    loaded = detection._analyzer
    assert loaded is not None
    engine, entities, threshold = loaded.engine, rule.options["entities"], rule.options["threshold"]

    def stock(texts: Sequence[str]) -> Findings:
        found = (engine.analyze(text, LANGUAGE, entities=entities, score_threshold=threshold) for text in texts)
        return [_plain(results) for results in found]

    def ours(sentences: bool) -> Callable[[Sequence[str]], Findings]:
        analyzer = BatchAnalyzer(engine, LANGUAGE, sentences=sentences)
        return lambda texts: [_plain(results) for results in analyzer.analyze(texts, entities, threshold)]

    exact, fast = ours(True), ours(False)
    columns = table(ROWS, seed=7)
    peer_cpu, expected = _cpu(lambda: [stock(cells) for cells in columns.values()])
    our_cpu, found = _cpu(lambda: [_distinct(exact, cells) for cells in columns.values()])
    cells = sum(map(_differing, expected, found))
    results = [
        Result(f"exact, {ROWS} rows of nine columns", peer_cpu / our_cpu, 1, "times less CPU", 4, peer_name=PEER),
        Result("  cells that differ", cells, None, f"of {9 * ROWS}", 0, most=True),
    ]
    texts = notes(TEXTS, seed=11)
    started = perf_counter()
    peer_cpu, plain = _cpu(lambda: stock(texts))
    peer_wall = perf_counter() - started
    for name, analyze, goal, most in (("exact", exact, 2, 0), ("fast", fast, 4, TEXTS // 1000)):
        our_cpu, found_in = _cpu(lambda analyze=analyze: analyze(texts))
        results += [
            Result(f"{name}, {TEXTS} unique notes", peer_cpu / our_cpu, 1, "times less CPU", goal, peer_name=PEER),
            Result("  notes that differ", _differing(plain, found_in), None, f"of {TEXTS}", most, most=True),
        ]
    results.append(
        Result(
            f"fast, {WORKERS} processes on {os.cpu_count()} processors",
            peer_wall / _pooled(rule, texts),
            1,
            "times less wall",
            7,
            peer_name=PEER,
        )
    )
    print(f"stock: {peer_cpu / TEXTS * 1000:.2f} CPU ms a note")
    return 0 if publish("masking_speed", results) else 1


def _pooled(rule: Rule, texts: list[str]) -> float:
    """Return the wall seconds of the room's own detector with a pool, start of the processes included."""
    with Detector(Policy("benchmark", "0" * 64, (rule,), "fast"), WORKERS) as detector:
        started = perf_counter()
        found = list(detector.find(rule, texts))
        seconds = perf_counter() - started
    assert len(found) == len(texts)
    return seconds


def _distinct(analyze: Callable[[Sequence[str]], Findings], cells: Sequence[str]) -> Findings:
    """Examine each distinct value once, as the room does."""
    values = list(dict.fromkeys(cells))
    found = dict(zip(values, analyze(values), strict=True))
    return [found[cell] for cell in cells]


def _plain(results: Sequence[Any]) -> list[tuple[int, int, str, float]]:
    return sorted((one.start, one.end, one.entity_type, one.score) for one in results)


def _differing(expected: Findings, found: Findings) -> int:
    return sum(a != b for a, b in zip(expected, found, strict=True))


def _cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result


if __name__ == "__main__":
    raise SystemExit(main())
