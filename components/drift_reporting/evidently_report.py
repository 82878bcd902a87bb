"""Evidently's own HTML report over a sample, for readers who know it. No verdict is taken from it.

What Evidently 0.7 cannot take is left out and named in a notice: a column without a value on one side (it raises), and
one with very many categories (its cost grows with their square). The method is set for each column, because Evidently's
own choice changes with the number of rows.
"""

import os
import warnings
from collections.abc import Sequence

import numpy as np

from kfp_custody.components._shared.report import Section, page, paragraph, text
from kfp_custody.components._shared.scoring import Feature
from kfp_custody.components.drift_reporting.sampling import Column, Sample

_MOST_CATEGORIES = 200
_METHODS = {"number": "wasserstein", "category": "jensenshannon"}
_THRESHOLD = 0.1  # Evidently's own for both
_BODY = '<body>\n    <div id="root_'


def evidently_html(features: Sequence[Feature], reference: Sample, current: Sample) -> str:
    """Return Evidently's report of the sampled features, with a notice of what it is made from."""
    shown = [one for one in features if all(_showable(side.columns.get(one.name)) for side in (reference, current))]
    left_out = [feature.name for feature in features if feature not in shown]
    notice = (
        f"Evidently over a random sample of {reference.rows} of {reference.of} reference rows and {current.rows} of "
        f"{current.of} current rows. It drops missing and infinite values and knows no noise floor; the signed verdict "
        "is that of check_drift, over all rows."
    )
    if left_out:
        notice += f" Not shown here: {', '.join(left_out)}."
    if not shown:
        return page("Evidently", "", [Section("Nothing to show", paragraph(notice))])
    document = _render(shown, (reference, current))
    banner = f'<body>\n<p style="font:14px sans-serif;margin:1rem;color:#57606a">{text(notice)}</p>\n    <div id="root_'
    return document.replace(_BODY, banner, 1)


def _render(shown: Sequence[Feature], sides: tuple[Sample, Sample]) -> str:
    os.environ["DO_NOT_TRACK"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's deprecations say nothing about the data
        import pandas as pd
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        definition = DataDefinition(
            numerical_columns=[feature.name for feature in shown if feature.type == "number"],
            categorical_columns=[feature.name for feature in shown if feature.type == "category"],
        )
        reference, current = (
            Dataset.from_pandas(
                pd.DataFrame({feature.name: side.columns[feature.name] for feature in shown}),
                data_definition=definition,
            )
            for side in sides
        )
        drifts = [
            ValueDrift(column=feature.name, method=_METHODS[feature.type], threshold=_THRESHOLD) for feature in shown
        ]
        return str(Report(drifts).run(current, reference).get_html_str(as_iframe=False))


def _showable(values: Column | None) -> bool:
    if values is None:
        return False
    if values.dtype != object:
        return bool((~np.isnan(values)).any())
    return 0 < len(set(values) - {None}) <= _MOST_CATEGORIES
