"""What `scripts/compile.py` writes of monitoring: the rules as an object of the operator, and dashboards.

Source of the rules is rules.yml; of the dashboards, the table below. A panel is a title, a unit, and queries with their
legends; `model` is a variable of each dashboard.
"""

from pathlib import Path

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, GridPos, VariableRefresh

MARK = "# Written by make compile from rules.yml: change it there.\n"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2
_MODEL = 'model=~"$model"'
# Seldon Core v2 serves <name> as <name>-<8 digits>_<number>.
_SERVED = 'model=~"($model)(-[0-9a-f]{8})?(_[0-9]+)?"'
_DOOR = 'envoy_http_conn_manager_prefix!="admin"'

Panel = tuple[str, str, list[tuple[str, str]]]
DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "custody-checks": (
        "Custody: checks",
        [
            ("Results", "none", [(f"custody_check_result{{{_MODEL}}} == 1", "{{model}} {{kind}}: {{result}}")]),
            (
                "Age of the last run",
                "s",
                [(f"time() - custody_check_last_run_timestamp_seconds{{{_MODEL}}}", "{{model}} {{kind}}")],
            ),
            (
                "Features that drifted",
                "percentunit",
                [(f"custody_drift_drifted_ratio{{{_MODEL}}}", "{{model}} {{kind}}")],
            ),
            (
                "Drift of the scores (PSI)",
                "none",
                [
                    (f"custody_drift_prediction_psi{{{_MODEL}}}", "{{model}} {{kind}}"),
                    (f"custody_monitor_prediction_psi{{{_MODEL}}}", "{{model}} {{kind}}"),
                    ("custody:objective_prediction_psi", "limit"),
                ],
            ),
            (
                "Largest distances of a feature",
                "none",
                [
                    (f"custody_drift_max_psi{{{_MODEL}}}", "{{model}} PSI"),
                    (f"custody_drift_max_ks{{{_MODEL}}}", "{{model}} Kolmogorov-Smirnov"),
                    (f"custody_drift_max_jensen_shannon{{{_MODEL}}}", "{{model}} Jensen-Shannon"),
                ],
            ),
            (
                "Share of positives, change",
                "percentunit",
                [(f"custody_drift_label_rate_delta{{{_MODEL}}}", "{{model}}")],
            ),
            ("Clients, by finding", "none", [(f"custody_monitor_clients{{{_MODEL}}}", "{{model}} {{finding}}")]),
            (
                "Not looked at",
                "none",
                [(f'custody_check_items{{{_MODEL},outcome!="checked"}}', "{{model}} {{kind}} {{outcome}}")],
            ),
        ],
    ),
    "custody-serving": (
        "Custody: models in service",
        [
            (
                "Requests",
                "reqps",
                [
                    (
                        "sum by (model, outcome) "
                        f"(rate(custody_inference_requests_total{{{_SERVED}}}[$__rate_interval]))",
                        "{{model}} {{outcome}}",
                    )
                ],
            ),
            (
                "Latency",
                "s",
                [
                    (
                        f"histogram_quantile({quantile}, sum by (model, le) "
                        f"(rate(custody_inference_seconds_bucket{{{_SERVED}}}[$__rate_interval])))",
                        f"{{{{model}}}} p{quantile * 100:.0f}",
                    )
                    for quantile in (0.5, 0.9, 0.99)
                ]
                + [
                    ("custody:door_latency_seconds:p99_rate5m", "door p99"),
                    ("custody:objective_latency_seconds", "objective"),
                ],
            ),
            (
                "Errors",
                "percentunit",
                [
                    ("custody:door_errors:ratio_rate5m", "door"),
                    (f"custody:seldon_errors:ratio_rate5m{{{_SERVED}}}", "Seldon {{model}}"),
                    (f"custody_monitor_error_ratio{{{_MODEL}}}", "logs {{model}}"),
                    ("custody:objective_error_ratio", "objective"),
                ],
            ),
            (
                "Answers with a confidence of 0.6 or less",
                "percentunit",
                [(f"custody:inference_low_confidence:ratio_rate1h{{{_SERVED}}}", "{{model}}")],
            ),
            (
                "Mean score",
                "none",
                [
                    (
                        f"sum by (model) (rate(custody_inference_score_sum{{{_SERVED}}}[$__rate_interval])) "
                        f"/ sum by (model) (rate(custody_inference_score_count{{{_SERVED}}}[$__rate_interval]))",
                        "{{model}}",
                    )
                ],
            ),
            (
                "Values that were missing or not learned",
                "none",
                [
                    (
                        f"sum by (model, feature) (rate(custody_input_gaps_total{{{_SERVED}}}[$__rate_interval]))",
                        "{{model}} {{feature}}",
                    )
                ],
            ),
            (
                "Refused at the door",
                "reqps",
                [
                    (f"sum(rate(envoy_http_jwt_authn_denied{{{_DOOR}}}[$__rate_interval]))", "401: no valid token"),
                    (f"sum(rate(envoy_http_rbac_denied{{{_DOOR}}}[$__rate_interval]))", "403: identity, model or path"),
                ],
            ),
            (
                "Models that the server refused",
                "none",
                [("sum(increase(custody_models_refused_total[$__rate_interval]))", "refused")],
            ),
        ],
    ),
}


def monitoring(folder: Path) -> dict[Path, str]:
    """Return the text of every generated file of the folder that holds rules.yml."""
    made = {folder / "prometheusrule.yaml": prometheus_rule((folder / "rules.yml").read_text(encoding="utf-8"))}
    return made | {folder / "dashboards" / f"{uid}.json": grafana_dashboard(uid) for uid in DASHBOARDS}


def prometheus_rule(rules: str) -> str:
    """Return plain rules as a PrometheusRule."""
    labels = {"app.kubernetes.io/part-of": "kfp-custody"}
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "custody", "labels": labels},
        "spec": yaml.safe_load(rules),
    }
    return MARK + yaml.safe_dump(document, sort_keys=False, width=120)


def grafana_dashboard(uid: str) -> str:
    """Return a dashboard of the table as Grafana's JSON."""
    title, panels = DASHBOARDS[uid]
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["kfp-custody"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-7d", "now")
        .refresh("1m")
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("model")
            .datasource(_SOURCE)
            .query("label_values(custody_check_result, model)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".+")
        )
    )
    for number, (name, unit, queries) in enumerate(panels):
        place = GridPos(h=_HEIGHT, w=_WIDTH, x=number % _COLUMNS * _WIDTH, y=number // _COLUMNS * _HEIGHT)
        panel = timeseries.Panel().id(number + 1).title(name).unit(unit).datasource(_SOURCE).grid_pos(place)
        panel.legend(common.VizLegendOptions().show_legend(True))
        for ref, (expression, legend) in zip("ABCDE", queries, strict=False):
            panel.with_target(prometheus.Dataquery().ref_id(ref).expr(expression).legend_format(legend))
        built.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"
