"""Which number of which evidence becomes which metric: the whole vocabulary, in one table.

A number that is not in the table is not published, so that no evidence can bring in a name of its own. Every metric is
a gauge with the labels model and kind (of evidence), and with one label more where FAMILIES names one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Family:
    """A metric: what it is, and the label of its own that tells apart what one check says; none where it has one."""

    help: str
    label: str = ""


RESULTS: Final = ("PASSED", "WARNED", "FAILED")
RESULT, LAST_RUN, ITEMS = "custody_check_result", "custody_check_last_run_timestamp_seconds", "custody_check_items"
COVERAGE: Final = ("checked", "skipped", "errors")

FAMILIES: Mapping[str, Family] = {
    RESULT: Family("1 for the result of the check's last run, 0 for the others", "result"),
    LAST_RUN: Family("When the check's last run ended, as its signed evidence says"),
    ITEMS: Family("What the check looked at, skipped, and could not look at for an error", "outcome"),
    "custody_drift_drifted_ratio": Family("Share of the features that drifted"),
    "custody_drift_columns": Family("Features, by what was found", "state"),
    "custody_drift_max_psi": Family("Largest population stability index of a feature"),
    "custody_drift_max_ks": Family("Largest Kolmogorov-Smirnov statistic of a feature"),
    "custody_drift_max_jensen_shannon": Family("Largest Jensen-Shannon distance of a feature, base 2"),
    "custody_drift_prediction_psi": Family("Population stability index of the model's scores"),
    "custody_drift_label_rate_delta": Family("Change of the share of positives"),
    "custody_drift_rows": Family("Rows that were compared", "side"),
    "custody_monitor_requests": Family("Requests in the window that was looked at"),
    "custody_monitor_rows": Family("Rows in the window that was looked at"),
    "custody_monitor_latency_seconds": Family("Latency of answers in the window", "percentile"),
    "custody_monitor_error_ratio": Family("Share of the window's requests that failed for the server's fault"),
    "custody_monitor_refused_ratio": Family("Share of the window's requests that did not fit the model"),
    "custody_monitor_confidence": Family("Confidence of answers in the window", "percentile"),
    "custody_monitor_prediction_psi": Family("Population stability index of the window's scores"),
    "custody_monitor_clients_seen": Family("Clients in the window"),
    "custody_monitor_clients": Family("Clients in the window, by what was found about them", "finding"),
    "custody_canary_requests": Family("Requests that the canary was judged by"),
    "custody_canary_errors": Family("Those of them that failed for the server's fault"),
}

_DRIFT = {
    "share_drifted": ("custody_drift_drifted_ratio", ""),
    "columns_drifted": ("custody_drift_columns", "drifted"),
    "columns_warned": ("custody_drift_columns", "warned"),
    "max_psi": ("custody_drift_max_psi", ""),
    "max_ks": ("custody_drift_max_ks", ""),
    "max_jensen_shannon": ("custody_drift_max_jensen_shannon", ""),
    "prediction_psi": ("custody_drift_prediction_psi", ""),
    "label_rate_delta": ("custody_drift_label_rate_delta", ""),
    "rows_reference": ("custody_drift_rows", "reference"),
    "rows_current": ("custody_drift_rows", "current"),
}

# Kind of evidence -> number in it -> metric, and the value of the metric's own label.
NUMBERS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "check-drift": _DRIFT,
    "check-profile-drift": _DRIFT,
    "monitor-inference": {
        "requests": ("custody_monitor_requests", ""),
        "rows": ("custody_monitor_rows", ""),
        "latency_p50": ("custody_monitor_latency_seconds", "50"),
        "latency_p90": ("custody_monitor_latency_seconds", "90"),
        "latency_p99": ("custody_monitor_latency_seconds", "99"),
        "error_ratio": ("custody_monitor_error_ratio", ""),
        "refused_ratio": ("custody_monitor_refused_ratio", ""),
        "confidence_p10": ("custody_monitor_confidence", "10"),
        "confidence_p50": ("custody_monitor_confidence", "50"),
        "prediction_psi": ("custody_monitor_prediction_psi", ""),
        "clients": ("custody_monitor_clients_seen", ""),
        "clients_near_duplicates": ("custody_monitor_clients", "near_duplicates"),
        "clients_over_budget": ("custody_monitor_clients", "over_budget"),
        "clients_out_of_distribution": ("custody_monitor_clients", "out_of_distribution"),
        "clients_unauthorised": ("custody_monitor_clients", "unauthorised"),
        "clients_probing": ("custody_monitor_clients", "probing"),
    },
    "enforce-policy": {},
    "deploy-model": {},
    "analyse-canary": {
        "canary_requests": ("custody_canary_requests", ""),
        "canary_errors": ("custody_canary_errors", ""),
    },
    "finish-rollout": {},
}

# Input of publish_metrics -> the kinds of evidence that it takes.
ACCEPTED: Mapping[str, tuple[str, ...]] = {
    "drift": ("check-drift", "check-profile-drift"),
    "monitoring": ("monitor-inference",),
    "decision": ("enforce-policy",),
    "deployment": ("deploy-model",),
    "canary": ("analyse-canary",),
    "rollout": ("finish-rollout",),
}
