"""Screening: every check over the same rows, and the verdict that they come to."""

from dataclasses import dataclass

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import Scorer
from kfp_custody.components.poisoning_screen import disagreement, floods, label_errors, rules, spikes
from kfp_custody.components.poisoning_screen.findings import Check, unknown
from kfp_custody.components.poisoning_screen.label_errors import Window
from kfp_custody.components.poisoning_screen.limits import FAILED, PASSED, UNKNOWN, WARNED, Limits
from kfp_custody.components.poisoning_screen.rows import Floats, Rows

_ALONE = "no trusted model was given"


@dataclass(frozen=True)
class Trusted:
    """A model of an earlier window, and that window where it was given."""

    scorer: Scorer
    window: Rows | None = None


@dataclass(frozen=True)
class Screened:
    """What came out, for rows of a dataset."""

    rows: Rows
    checks: tuple[Check, ...]
    verdict: str

    def names(self, verdict: str) -> list[str]:
        """Return the names of the checks with a verdict."""
        return [check.name for check in self.checks if check.verdict == verdict]


def screen(rows: Rows, limits: Limits, trusted: Trusted | None = None) -> Screened:
    """Make every check that can be made.

    Args:
        rows: The rows to screen.
        limits: From the file.
        trusted: A model that was trained before, on data that was attested.
    """
    names, matrix = rows.matrix()
    folds = limits.label_errors.folds
    probabilities = label_errors.out_of_fold(matrix, rows.labels, folds)
    columns = floods.continuous(rows.numbers)
    groups = spikes.repeated(columns, limits.repeated_values.repeats)
    window = _out_of_fold(trusted.window if trusted else None, folds)
    checks = [label_errors.judge(probabilities, rows.labels, window, limits.label_errors)]
    scores: Floats | None = None
    if trusted is None:
        checks += [unknown(name, _ALONE) for name in (disagreement.NAME, disagreement.RATE, rules.NAME)]
    else:
        try:
            scores = trusted.scorer.score(rows.inputs(trusted.scorer.features))
        except InputRefused as error:
            why = f"the trusted model cannot score the rows: {error.evidence}"
            checks += [
                Check(name, FAILED, why, failed=True) for name in (disagreement.NAME, disagreement.RATE, rules.NAME)
            ]
        else:
            checks += [
                disagreement.disagreement(scores, rows.labels, window, limits.trusted_disagreement),
                disagreement.base_rate(scores, rows.labels, window, limits.base_rate),
                rules.judge(names, matrix, scores, rows.labels, limits.rules),
            ]
    expected = scores
    if scores is None and groups:  # models that do not see the columns: they would have learned the values
        expected = label_errors.out_of_fold(rows.matrix(without=list(groups))[1], rows.labels, folds)
    checks.append(floods.judge(columns, limits.near_duplicates))
    checks.append(spikes.judge(columns, groups, expected, rows.labels, limits.repeated_values))
    return Screened(rows, tuple(checks), _verdict(checks, limits))


def _out_of_fold(window: Rows | None, folds: int) -> Window | None:
    if window is None:
        return None
    probabilities = label_errors.out_of_fold(window.matrix()[1], window.labels, folds)
    return None if probabilities is None else Window(window.labels, probabilities)


def _verdict(checks: list[Check], limits: Limits) -> str:
    found = {check.verdict for check in checks}
    silent = any(check.verdict == UNKNOWN and check.name in limits.must_judge for check in checks)
    return FAILED if FAILED in found else WARNED if WARNED in found or silent else PASSED
