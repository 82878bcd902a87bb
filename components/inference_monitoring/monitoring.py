"""Go through the lines of a window once, then judge what they tell."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.profiles import NumberProfile, Profile
from kfp_custody.components._shared.request_logs import LineFault, parse_line
from kfp_custody.components.inference_monitoring.chance import at_least
from kfp_custody.components.inference_monitoring.clients import Clients, model_of
from kfp_custody.components.inference_monitoring.drift import (
    UNKNOWN,
    Features,
    Measured,
    Reference,
    measure,
    quartiles_of,
    reference_of,
)
from kfp_custody.components.inference_monitoring.joining import Joiner
from kfp_custody.components.inference_monitoring.limits import FAILED, PASSED, WARNED, Limits
from kfp_custody.components.inference_monitoring.misuse import Examined, examine
from kfp_custody.components.inference_monitoring.reading import DOOR, PAYLOAD, SERVER, VIEWS, Call, Half, read_line
from kfp_custody.components.inference_monitoring.spool import Spool
from kfp_custody.components.inference_monitoring.tallies import View


@dataclass
class Lines:
    """What became of the lines: told something, were of another model or a copy, could not be read.

    `missing` halves of events never came.
    """

    checked: int = 0
    skipped: int = 0
    errors: int = 0
    duplicates: int = 0
    missing: int = 0

    @property
    def unreadable(self) -> float:
        """Share of the lines that could not be read."""
        return self.errors / max(self.checked + self.skipped + self.errors, 1)


@dataclass(frozen=True)
class Check:
    """A check by its name: its verdict (UNKNOWN: the logs tell nothing about it), and why, in words without names."""

    name: str
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Monitored:
    """Everything that was found. `clients`: by check, the digests of clients with how much of it."""

    verdict: str
    checks: tuple[Check, ...]
    lines: Lines
    views: Mapping[str, View]
    view: View | None
    scored: View | None
    prediction: Measured
    reference: Reference | None
    features: tuple[Measured, ...]
    clients: Mapping[str, Mapping[str, float]]
    clients_seen: int

    def names(self, *verdicts: str) -> list[str]:
        """Return the names of the checks with one of these verdicts."""
        return [check.name for check in self.checks if check.verdict in verdicts]


class Monitor:
    """Takes lines one by one."""

    def __init__(
        self, model: str, limits: Limits, profile: Profile | None, scores: NumberProfile | None, folder: Path
    ) -> None:
        """Begin with nothing.

        Args:
            model: Name of the model; lines that name another one are skipped.
            limits: Limits.
            profile: Of the data that the model was trained on, if there is one.
            scores: Profile of the model's scores, if there is one.
            folder: A folder of the stage's own, for rows; it must be empty.
        """
        self._model, self._limits, self._profile = model, limits, profile
        self._reference = reference_of(scores) if scores else None
        rule = limits.measures["latency_p99"]
        cuts = self._reference.cuts if self._reference else None
        self._views = {view: View((rule.warn, rule.fail), cuts) for view in VIEWS}
        self._lines, self._joiner, self._clients = Lines(), Joiner(), Clients()
        self._spool, self._features = Spool(folder), Features(profile)
        self._left: Counter[int] = Counter()  # rows of a client in forms of which there are too many

    def add_all(self, lines: Iterable[bytes | None]) -> None:
        """Take lines; None is one that could not be read."""
        for line in lines:
            try:
                if line is None:
                    raise LineFault("it is too long")
                told = read_line(parse_line(line))
                if isinstance(told, Half):
                    for call in self._joiner.add(told, line):
                        self._take(call)
                elif told is not None:
                    self._take(told)
                self._lines.checked += told is not None
                self._lines.skipped += told is None
            except LineFault:
                self._lines.errors += 1

    def finish(self, hours: float, unreadable: int) -> Monitored:
        """Judge.

        Args:
            hours: How long the window is.
            unreadable: Lines that whoever collected them could not read.
        """
        for call in self._joiner.rest():
            self._take(call)
        self._lines.errors += unreadable
        self._lines.skipped += self._joiner.duplicates
        self._lines.checked -= self._joiner.duplicates
        self._lines.duplicates, self._lines.missing = self._joiner.duplicates, self._joiner.missing
        examined = examine(self._spool, self._limits, quartiles_of(self._profile), self._features.add)
        examined.alone.update(self._left)
        return self._judged(hours, examined)

    def _take(self, call: Call) -> None:
        number = None if call.view == SERVER else self._clients.number(call.client or "")
        if number is not None:
            self._clients.turned_away(number, call)
        models, asks = call.models, True
        if call.view == DOOR:
            named, asks = model_of(call.path or "")
            models = (named,) if named else ()
        if not asks or (models and self._model not in models):
            self._lines.checked -= call.lines
            self._lines.skipped += call.lines
            return
        try:
            self._spool_rows(call, number)
        except LineFault:
            self._lines.checked -= call.lines
            self._lines.errors += call.lines
            return
        self._views[call.view].add(call)
        if number is not None:
            self._clients.count(number, call)

    def _spool_rows(self, call: Call, number: int | None) -> None:
        """Keep rows that were answered, or whose answer nobody logged; what was refused taught nobody anything."""
        if call.table is None or number is None or call.status not in (None, 200):
            return
        if not self._spool.add(call.table, number, call.time):
            self._left[number] += len(call.table.rows)

    def _judged(self, hours: float, examined: Examined) -> Monitored:
        views = self._views
        view = next((views[name] for name in VIEWS if views[name].requests), None)
        scored = next((views[name] for name in (PAYLOAD, SERVER) if views[name].scores.total), None)
        prediction = self._prediction(scored)
        features = tuple(self._features.measured(self._limits))
        clients = self._misuse(hours, examined)
        checks = (
            *self._traffic(view, scored),
            Check("prediction", prediction.verdict, _moved("the scores", prediction)),
            self._moved_features(features),
            *self._misused(clients, examined, any(views[name].requests for name in (DOOR, PAYLOAD))),
        )
        return Monitored(
            self._verdict(checks),
            checks,
            self._lines,
            views,
            view,
            scored,
            prediction,
            self._reference,
            features,
            clients,
            len(self._clients),
        )

    def _verdict(self, checks: tuple[Check, ...]) -> str:
        """Return the worst of the checks; what must be judged and could not be warns."""
        verdicts = {check.verdict for check in checks}
        verdicts.add(self._limits.measures["unreadable"].verdict(self._lines.unreadable))
        if any(check.verdict == UNKNOWN and check.name in self._limits.must_judge for check in checks):
            verdicts.add(WARNED)
        return next((verdict for verdict in (FAILED, WARNED) if verdict in verdicts), PASSED)

    def _traffic(self, view: View | None, scored: View | None) -> tuple[Check, ...]:
        confidence = Check(
            "confidence", PASSED if scored else UNKNOWN
        )  # a number to look at; no limit is right for all
        if view is None:
            return (*(Check(name, UNKNOWN) for name in ("requests", "latency", "errors", "refused")), confidence)
        limits, timed = self._limits.measures, view.seconds
        total = timed.total  # counts what was still to be counted, so it comes first
        slow = {limit: self._exceeds(count, total, 0.01) for limit, count in timed.over.items()}
        late = limits["latency_p99"]
        verdict = FAILED if slow[late.fail] else WARNED if slow[late.warn] else PASSED
        reason = "the slowest hundredth of the answers takes too long" if verdict != PASSED else ""
        told = view is not self._views[SERVER]  # that one never hears of an answer that failed
        return (
            Check("requests", PASSED),
            Check("latency", verdict if total else UNKNOWN, reason),
            self._ratio(
                "errors", view.errors, view.known if told else 0, "error_ratio", "answers are the server's fault"
            ),
            self._ratio("refused", view.refused, view.known, "refused_ratio", "requests were refused"),
            confidence,
        )

    def _ratio(self, name: str, count: int, total: int, limit: str, what: str) -> Check:
        if not total:
            return Check(name, UNKNOWN)
        rule = self._limits.measures[limit]
        for verdict, bound in ((FAILED, rule.fail), (WARNED, rule.warn)):
            if self._exceeds(count, total, bound):
                return Check(name, verdict, f"{count} of {total} {what}")
        return Check(name, PASSED)

    def _exceeds(self, count: int, total: int, share: float) -> bool:
        """Tell whether a share is reached, and chance would not have taken it there."""
        return count >= share * total and at_least(count, total, min(share, 1.0)) < self._limits.alpha

    def _prediction(self, scored: View | None) -> Measured:
        if scored is None or self._reference is None:
            return Measured("scores", UNKNOWN)
        return measure(
            "scores", self._reference.counts, scored.scores.cells, self._limits, self._limits.alpha, "prediction_psi"
        )

    def _moved_features(self, features: tuple[Measured, ...]) -> Check:
        judged = [feature for feature in features if feature.verdict != UNKNOWN]
        if not judged:
            return Check("features", UNKNOWN)
        drifted = sum(feature.verdict == FAILED for feature in judged)
        warned = sum(feature.verdict == WARNED for feature in judged)
        reason = f"of {len(judged)} features {drifted} drifted and {warned} warn"
        if drifted >= self._limits.drifted_share * len(judged):
            return Check("features", FAILED, reason)
        return Check("features", WARNED, reason) if drifted or warned else Check("features", PASSED)

    def _misuse(self, hours: float, examined: Examined) -> dict[str, dict[str, float]]:
        """Return by check the clients that did it, by digest, with how much."""
        limits, digests = self._limits, self._clients.digests()
        found: dict[str, Mapping[int, float]] = {
            "near_duplicates": {n: trace.near / trace.tested for n, trace in examined.near_duplicates.items()},
            "budget": self._clients.above(limits.budget.most * max(hours, 1.0)),
            "out_of_distribution": {n: trace.far / trace.rows for n, trace in examined.out_of_distribution.items()},
            "unauthorised": _reaching(self._clients.unauthorised, limits.unauthorised.most),
            "probing": _reaching(self._clients.probing, limits.probing.most),
        }
        return {
            check: {digests[number]: float(much) for number, much in sorted(those.items(), key=lambda one: -one[1])}
            for check, those in found.items()
        }

    def _misused(self, clients: Mapping[str, Mapping[str, float]], examined: Examined, told: bool) -> tuple[Check, ...]:
        limits = self._limits
        known = {
            "near_duplicates": (limits.near_duplicates.result, examined.judged > 0),
            "budget": (limits.budget.result, told and len(self._clients) > 0),
            "out_of_distribution": (limits.out_of_distribution.result, examined.judged > 0),
            "unauthorised": (
                limits.unauthorised.result,
                self._views[DOOR].requests > 0 or bool(clients["unauthorised"]),
            ),
            "probing": (limits.probing.result, self._views[DOOR].requests > 0 or bool(clients["probing"])),
        }
        alone = sum(rows >= limits.near_duplicates.queries for rows in examined.alone.values())
        checks = {
            name: Check(name, result, f"{len(clients[name])} clients")
            if clients[name]
            else Check(name, PASSED if judged else UNKNOWN)
            for name, (result, judged) in known.items()
        }
        if alone and checks["near_duplicates"].verdict == PASSED:
            reason = f"rows of {alone} clients have a form that few others use, and were not compared"
            checks["near_duplicates"] = Check("near_duplicates", WARNED, reason)
        return tuple(checks.values())


def _reaching(counts: Mapping[int, int], least: int) -> dict[int, float]:
    return {number: float(count) for number, count in counts.items() if count >= least}


def _moved(what: str, found: Measured) -> str:
    return f"{what} moved, PSI {found.psi:.3g}" if found.verdict in (FAILED, WARNED) else ""
