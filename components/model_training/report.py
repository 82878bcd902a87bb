"""The HTML report of a training: figures, curves, features and what was left out. No value of the data."""

from collections.abc import Mapping, Sequence

from kfp_custody.components._shared.report import Section, Series, line_chart, page, table
from kfp_custody.components._shared.scoring import Feature
from kfp_custody.components.model_training.metrics import Evaluation


def render(
    evaluation: Evaluation,
    metrics: Mapping[str, float],
    rounds: Mapping[str, Sequence[float]],
    features: Sequence[Feature],
    dropped: Mapping[str, str],
    facts: Mapping[str, str],
) -> str:
    """Return the report as one self-contained page.

    Args:
        evaluation: On the test part.
        metrics: All scalars.
        rounds: Scalars of each boosting round by name; may be empty.
        features: What the model sees.
        dropped: Columns left out, with the reason.
        facts: Digests and identities, by name.
    """
    sections = [
        Section(
            "Figures on the test part",
            table(("metric", "value"), [(name, _figure(value)) for name, value in metrics.items()]),
        ),
        Section("Curves", f'<div class="grid">{"".join(_charts(evaluation))}</div>'),
        Section("Confusion matrix", _confusion(evaluation)),
        Section(f"Features ({len(features)})", table(("column", "type", "categories"), [_row(f) for f in features])),
        Section(f"Columns left out ({len(dropped)})", table(("column", "reason"), list(dropped.items()))),
        Section("Chain of custody", table(("what", "value"), list(facts.items()))),
    ]
    if rounds:
        sections.insert(2, Section("Boosting rounds", f'<div class="grid">{_rounds(rounds)}</div>'))
    summary = (
        "The model was trained on bytes that were checked against their attestation before the first row was read."
    )
    return page("Model training", "", sections, summary)


def _charts(evaluation: Evaluation) -> list[str]:
    unit = (0.0, 1.0)
    roc = Series(f"AUC {evaluation.metrics['roc_auc']:.4f}", evaluation.roc.xs, evaluation.roc.ys)
    pr = Series(f"average precision {evaluation.metrics['average_precision']:.4f}", evaluation.pr.xs, evaluation.pr.ys)
    mean, share = zip(*evaluation.calibration, strict=True)
    bins = Series(f"Brier score {evaluation.metrics['brier']:.4g}", mean, share)
    return [
        line_chart(
            [roc],
            title="ROC",
            x_label="false positive rate",
            y_label="recall",
            x_range=unit,
            y_range=unit,
            diagonal=True,
        ),
        line_chart(
            [pr], title="Precision and recall", x_label="recall", y_label="precision", x_range=unit, y_range=unit
        ),
        line_chart(
            [bins],
            title="Calibration: ten equally wide bins",
            x_label="mean probability",
            y_label="share",
            x_range=unit,
            y_range=unit,
            diagonal=True,
        ),
    ]


def _rounds(rounds: Mapping[str, Sequence[float]]) -> str:
    """Return a chart for each metric, with a line for each part."""
    charts = []
    for metric in sorted({name.partition("/")[2] for name in rounds}):
        lines = [Series(name, range(len(ys)), ys) for name, ys in rounds.items() if name.partition("/")[2] == metric]
        charts.append(line_chart(lines[:4], title=f"{metric} by round", x_label="round", y_label=metric))
    return "".join(charts)


def _confusion(evaluation: Evaluation) -> str:
    header = ("", "decided 0", "decided 1")
    return table(header, [(f"is {value}", *row) for value, row in enumerate(evaluation.confusion)])


def _figure(value: float) -> str:
    return str(int(value)) if value > 1 else f"{value:.4g}"


def _row(feature: Feature) -> tuple[str, str, str]:
    return feature.name, feature.type, str(len(feature.categories)) if feature.type == "category" else ""
