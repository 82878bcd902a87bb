"""Evidently's own HTML report over a sample, for readers who know it. The verdict is not taken from it.

What Evidently 0.7 cannot take is left out and named in a notice: a column without a value on one side (it raises), and
one with very many categories (its cost grows with their square). Method and threshold are set for each column, because
its defaults change with the number of rows.
"""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from kfp_custody.components._shared.report import Section, page, paragraph, text
from kfp_custody.components.drift_detection.checking import SCHEMA, Drift, Sample
from kfp_custody.components.drift_detection.columns import sample_rows
from kfp_custody.components.drift_detection.limits import Thresholds

SAMPLE_ROWS = 10_000
_MOST_CATEGORIES = 200
_BODY = '<body>\n    <div id="root_'


def evidently_html(drift: Drift, thresholds: Thresholds) -> str:
    """Return Evidently's report of the sampled features, worst first, with a notice of what it is made from."""
    samples = [_thinned(sample) for sample in drift.samples]
    names = [column.name for column in drift.columns if column.verdict != SCHEMA]
    shown = [name for name in names if all(_showable(sample[name]) for sample in samples)]
    left_out = [column.name for column in drift.columns if column.name not in shown]
    sizes = [len(next(iter(sample.values()), ())) for sample in samples]
    notice = (
        f"Evidently over a random sample of {sizes[0]} reference and {sizes[1]} current rows "
        f"(at most {SAMPLE_ROWS} a side). It drops missing and infinite values and knows no noise floor; "
        "the signed verdict is that of check_drift, over all rows."
    )
    if left_out:
        notice += f" Not shown here: {', '.join(left_out)}."
    if not shown:
        return page("Evidently", "", [Section("Nothing to show", paragraph(notice))])
    types = {column.name: column.type for column in drift.columns}
    document = _render(samples, shown, types, thresholds)
    banner = f'<body>\n<p style="font:14px sans-serif;margin:1rem;color:#57606a">{text(notice)}</p>\n    <div id="root_'
    return document.replace(_BODY, banner, 1)


def _render(samples: Sequence[Sample], shown: list[str], types: dict[str, str], thresholds: Thresholds) -> str:
    os.environ["DO_NOT_TRACK"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's deprecations say nothing about the data
        import pandas as pd
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        methods = {"number": ("wasserstein", "wasserstein"), "category": ("jensenshannon", "jensen_shannon")}
        drifts = []
        for name in shown:
            method, limit = methods[types[name]]
            drifts.append(ValueDrift(column=name, method=method, threshold=thresholds.column[limit].drift))
        definition = DataDefinition(
            numerical_columns=[name for name in shown if types[name] == "number"],
            categorical_columns=[name for name in shown if types[name] == "category"],
        )
        reference, current = (
            Dataset.from_pandas(pd.DataFrame({name: sample[name] for name in shown}), data_definition=definition)
            for sample in samples
        )
        return str(Report(drifts).run(current, reference).get_html_str(as_iframe=False))


def _thinned(sample: Sample) -> dict[str, np.ndarray[Any, Any]]:
    """Return at most SAMPLE_ROWS of a sample, infinite numbers as missing."""
    thinned = {}
    for name, values in sample.items():
        chosen = values[sample_rows(len(values), SAMPLE_ROWS)]
        thinned[name] = chosen if chosen.dtype == object else np.where(np.isinf(chosen), np.nan, chosen)
    return thinned


def _showable(values: np.ndarray[Any, Any]) -> bool:
    if values.dtype != object:
        return bool((~np.isnan(values)).any())
    return 0 < len(set(values) - {None}) <= _MOST_CATEGORIES
