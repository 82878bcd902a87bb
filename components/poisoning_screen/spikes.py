"""One value again and again in a column that hardly repeats, whose rows bear another label than they look like."""

from collections.abc import Mapping

import numpy as np

from kfp_custody.components.poisoning_screen.chance import as_far
from kfp_custody.components.poisoning_screen.findings import Check, unknown
from kfp_custody.components.poisoning_screen.limits import PASSED, RepeatedValues
from kfp_custody.components.poisoning_screen.rows import Floats, Integers

NAME = "repeated_values"


def repeated(columns: Mapping[str, Floats], repeats: int) -> dict[str, list[Integers]]:
    """Return, for each column that has any, the rows of every value that far more rows have than is usual in it.

    Usual is the number of rows that share the value of a row in the middle: one in a measurement, some in a date or an
    age. So many times that is far more.
    """
    found = {}
    for name, values in columns.items():
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        ordered = ordered[: int(np.count_nonzero(~np.isnan(ordered)))]  # NaN sorts last
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if ordered.size else order[:0]
        lengths = np.diff(np.append(starts, ordered.size))
        usual = float(np.median(np.repeat(lengths, lengths))) if ordered.size else 1.0
        groups = [order[starts[one] : starts[one] + lengths[one]] for one in np.flatnonzero(lengths >= repeats * usual)]
        if groups:
            found[name] = groups
    return found


def judge(
    columns: Mapping[str, Floats],
    groups: Mapping[str, list[Integers]],
    expected: Floats | None,
    labels: Integers,
    limits: RepeatedValues,
) -> Check:
    """Judge whether rows with a repeated value have the label that the rest of them announces.

    Args:
        columns: Columns of many values.
        groups: Rows of repeated values, by column.
        expected: Probability of label 1 by what the repeated values cannot have taught; None when there is none.
        labels: 0 or 1, shape (rows,).
        limits: From the file.
    """
    if not columns:
        return unknown(NAME, "no column of many values")
    every = [(name, rows) for name, those in groups.items() for rows in those]
    if every and expected is None:
        return unknown(NAME, f"{len(every)} repeated values, and no model to say which labels their rows should have")
    found: list[tuple[str, Integers]] = []
    for name, rows in every:
        assert expected is not None, "no expectation"  # noqa: S101  (for mypy: a bug of ours)
        announced, positives = float(expected[rows].mean()), int(labels[rows].sum())
        lifted = abs(positives / rows.size - announced) >= limits.lift
        if lifted and as_far(positives, rows.size, announced) * len(every) < limits.alpha:
            found.append((name, rows))
    found.sort(key=lambda one: -one[1].size)
    where = f", in {', '.join(dict.fromkeys(name for name, _ in found))}" if found else ""
    reason = f"{len(found)} of {len(every)} repeated values have other labels than announced{where}"
    those = np.concatenate([rows for _, rows in found]) if found else labels[:0]
    those = those[np.sort(np.unique(those, return_index=True)[1])]
    metrics = {"repeated_values": float(len(every)), "spikes": float(len(found)), "spike_rows": float(those.size)}
    return Check(NAME, limits.result if found else PASSED, reason, metrics, those)
