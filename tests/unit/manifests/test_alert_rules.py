"""Every alert fires when it should and not before, says what it means, and rests on metrics that are exported."""

import re
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from kfp_custody.components.metrics_publishing.exposition import exposition
from kfp_custody.components.seldon_deployment.serving import telemetry
from kube_schemas import faults, unverified
from unit.manifests.promql import metric_names
from unit.manifests.rendered import MANIFESTS
from unit.metrics_publishing.test_metric_series import every_check

MONITORING = MANIFESTS / "components" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
# Of the door: tests/services/test_door_metrics.py asks a real Envoy. Of Seldon Core: as the rollouts count by it.
ENVOY = {
    *("envoy_http_downstream_rq_xx", "envoy_http_jwt_authn_denied", "envoy_http_rbac_denied"),
    "envoy_http_downstream_rq_time_bucket",
}
SELDON = {"seldon_model_infer_total"}

LAST_RUN, RESULT = "custody_check_last_run_timestamp_seconds", "custody_check_result"
ADMIN, DOOR = {"envoy_http_conn_manager_prefix": "admin"}, {"envoy_http_conn_manager_prefix": "door"}
OURS = {"model": "fraud", "kind": "monitor-inference"}
Series = dict[str, str]


def of(name: str, **labels: str) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


@dataclass
class Case:
    """Series with which an alert fires at a time and with which it does not, and what is said of it when it fires."""

    alert: str
    firing: Series
    quiet: Series
    at: str = "1m"
    quiet_at: str = ""
    interval: str = "1m"
    labels: dict[str, str] = field(default_factory=dict)
    value: str = ""


def client_case(alert: str, finding: str) -> Case:
    name = of("custody_monitor_clients", **OURS, finding=finding)
    others = {
        of("custody_monitor_clients", **OURS, finding=other): "9x5"
        for other in ("near_duplicates", "over_budget", "out_of_distribution", "unauthorised", "probing")
        if other != finding
    }
    labels = {**OURS, "finding": finding}
    return Case(alert, {name: "2x5"}, {name: "0x5", **others}, labels=labels, value="2")


def window_case(alert: str, name: str, high: str, low: str, value: str, **more: str) -> Case:
    labels = {**OURS, **more}
    return Case(alert, {of(name, **labels): f"{high}x5"}, {of(name, **labels): f"{low}x5"}, labels=labels, value=value)


def release_case(alert: str, kind: str) -> Case:
    labels = {"model": "fraud", "kind": kind}
    series = {of(RESULT, **labels, result="FAILED"): "1x40", of(LAST_RUN, **labels): "0x40"}
    return Case(alert, series, series, "23h", "25h", "1h", {**labels, "result": "FAILED"})


def confidences(*, low: str, name: str = "fraud") -> Series:
    bucket = of("custody_inference_confidence_bucket", model=name, le="0.6")
    return {bucket: low, of("custody_inference_confidence_count", model=name): "0+100x400"}


def latencies(**buckets: str) -> Series:
    bounds = {"fast": "0.25", "slow": "1.0", "all": "+Inf"}
    return {
        of("custody_inference_seconds_bucket", model="fraud", version="a", le=bounds[key]): values
        for key, values in buckets.items()
    }


def waits(*, quick: str, slow: str) -> Series:
    name, admin = "envoy_http_downstream_rq_time_bucket", "0+100000x30"
    return {
        of(name, **DOOR, le="500"): quick,
        of(name, **DOOR, le="1000"): slow,
        of(name, **DOOR, le="+Inf"): slow,
        **{of(name, **ADMIN, le=bound): admin for bound in ("500", "1000", "+Inf")},
    }


def door(bad: str, good: str) -> Series:
    name = "envoy_http_downstream_rq_xx"
    return {
        of(name, **DOOR, envoy_response_code_class="5"): bad,
        of(name, **DOOR, envoy_response_code_class="2"): good,
        of(name, **ADMIN, envoy_response_code_class="2"): "0+100000x30",
    }


def refusals(tokens: str, identities: str) -> Series:
    return {
        of("envoy_http_jwt_authn_denied", **DOOR): tokens,
        of("envoy_http_rbac_denied", **DOOR): identities,
    }


SERVED = {
    of("custody_inference_requests_total", model=f"{name}_1", version=f"v-{name}", outcome="answered"): "5x200"
    for name in ("fraud-0a1b2c3d", "fraud-99999999", "churn-11111111")
}
CASES = [
    Case(
        "CustodyDriftFailed",
        {of(RESULT, model="fraud", kind="check-profile-drift", result="FAILED"): "1x5"},
        {
            of(RESULT, model="fraud", kind="check-profile-drift", result="FAILED"): "0x5",
            of(RESULT, model="fraud", kind="check-profile-drift", result="WARNED"): "1x5",
            of(RESULT, model="fraud", kind="enforce-policy", result="FAILED"): "1x5",
        },
        labels={"model": "fraud", "kind": "check-profile-drift"},
    ),
    Case(
        "CustodyDriftStale",
        {of(LAST_RUN, model="fraud", kind="check-drift"): "0x60", of(LAST_RUN, **OURS): "172000x60"},
        {of(LAST_RUN, model="fraud", kind="check-drift"): "0x60"},
        at="49h",
        quiet_at="48h",
        interval="1h",
        labels={"model": "fraud"},
        value="2d 1h 0m 0s",
    ),
    Case(
        "CustodyDriftAbsent",
        {of(LAST_RUN, **OURS): "0x5"},
        {of(LAST_RUN, model="fraud", kind="check-drift"): "0x5"},
        at="1h",
        interval="1h",
    ),
    Case(
        "CustodyServedUnwatched",
        {**SERVED, of(LAST_RUN, model="churn", kind="check-drift"): "0x200", of(LAST_RUN, **OURS): "0x200"},
        {**SERVED, **{of(LAST_RUN, model=name, kind="check-drift"): "0x200" for name in ("churn", "fraud")}},
        at="90m",
        labels={"model": "fraud"},
    ),
    Case(
        "CustodyLatencyHigh",
        latencies(fast="0+0x30", slow="0+60x30", all="0+60x30"),
        latencies(fast="0+60x30", slow="0+60x30", all="0+60x30"),
        at="15m",
        labels={"model": "fraud"},
        value="992.5ms",
    ),
    Case(
        "CustodyLatencyHighAtDoor",
        waits(quick="0+0x30", slow="0+60x30"),
        waits(quick="0+60x30", slow="0+60x30"),
        at="15m",
        value="995ms",
    ),
    Case(
        "CustodyServersAbsent",
        {of("custody_models_refused_total", instance="a"): "0 stale"},
        {of("custody_models_refused_total", instance="a"): "0x30"},
        at="20m",
    ),
    window_case("CustodyLatencyHighInLogs", "custody_monitor_latency_seconds", "0.8", "0.5", "800ms", percentile="99"),
    Case("CustodyErrorsAtDoor", door("0+3x30", "0+97x30"), door("0+1x30", "0+199x30"), at="15m", value="3%"),
    Case(
        "CustodyErrorsAtSeldon",
        {of("seldon_model_infer_total", model="fraud", code=code): f"0+{count}x30"
         for code, count in (("200", 90), ("503", 5), ("INTERNAL", 5))},
        {of("seldon_model_infer_total", model="fraud", code=code): f"0+{count}x30"
         for code, count in (("200", 90), ("400", 10))},
        at="15m",
        labels={"model": "fraud"},
        value="10%",
    ),
    window_case("CustodyErrorsInLogs", "custody_monitor_error_ratio", "0.05", "0.01", "5%"),
    Case(
        "CustodyConfidenceShifted",
        confidences(low="0+10x288 2930+50x100"),
        confidences(low="0+10x400"),
        at="26h",
        interval="5m",
        labels={"model": "fraud"},
        value="39.1%",
    ),
    Case(
        "CustodyConfidenceShiftedInLogs",
        {of("custody_monitor_confidence", **OURS, percentile="50"): "0.9x167 0.7x10"},
        {of("custody_monitor_confidence", **OURS, percentile="50"): "0.9x167 0.82x10"},
        at="168h",
        interval="1h",
        labels={**OURS, "percentile": "50"},
        value="19.88%",
    ),
    window_case("CustodyScoresShifted", "custody_monitor_prediction_psi", "0.31", "0.25", "0.31"),
    Case(
        "CustodyMonitoringStale",
        {of(LAST_RUN, **OURS): "0x60", of(LAST_RUN, model="fraud", kind="check-drift"): "172000x60"},
        {of(LAST_RUN, **OURS): "0x60"},
        at="49h",
        quiet_at="48h",
        interval="1h",
        labels={"model": "fraud"},
        value="2d 1h 0m 0s",
    ),
    Case("CustodyUnauthorisedAtDoor", refusals("0+12x30", "0+6x30"), refusals("0+3x30", "0+3x30"), at="15m",
         value="0.3"),
    client_case("CustodyUnauthorisedInLogs", "unauthorised"),
    client_case("CustodyExtractionSuspected", "near_duplicates"),
    client_case("CustodyVolumeOverBudget", "over_budget"),
    client_case("CustodyOutOfDistribution", "out_of_distribution"),
    client_case("CustodyProbing", "probing"),
    release_case("CustodyRolledBack", "finish-rollout"),
    release_case("CustodyModelRefusedByGate", "enforce-policy"),
    Case(
        "CustodyModelRefusedByServer",
        {of("custody_models_refused_total", instance="a"): "0x4 1x20"},
        {of("custody_models_refused_total", instance="a"): "3x20"},
        at="8m",
    ),
]  # fmt: skip


def said(case: Case) -> dict[str, Any]:
    """What an alert is expected to say."""

    def written(template: str) -> str:
        text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], template)
        return re.sub(r"\{\{ \$value[^}]*\}\}", lambda _: case.value or "no value was expected", text)

    rule = ALERTS[case.alert]
    annotations = {key: written(text) for key, text in rule["annotations"].items()}
    return {"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": annotations}


def promtool(tmp_path: Path, case: Case, series: Series, at: str, expected: list[dict[str, Any]]) -> str:
    """Let promtool evaluate the shipped rules over series; returns what it complains about."""
    alert = {"eval_time": at, "alertname": case.alert, "exp_alerts": expected}
    test = {
        "interval": case.interval,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [alert],
    }
    document = {
        "rule_files": [str(MONITORING / "rules.yml")],
        "evaluation_interval": case.interval,
        # Else in the order of their names; an interval of an hour leaves no objective from the time before.
        "group_eval_order": [group["name"] for group in RULES["groups"]],
        "tests": [test],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == ("SUCCESS" in done.stdout)
    return "" if done.returncode == 0 else done.stdout + done.stderr


# --- promtool ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_and_says_what_it_means(case: Case, tmp_path: Path) -> None:
    assert promtool(tmp_path, case, case.firing, case.at, [said(case)]) == ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_is_quiet_below_its_limit(case: Case, tmp_path: Path) -> None:
    assert promtool(tmp_path, case, case.quiet, case.quiet_at or case.at, []) == ""


def test_there_is_a_case_for_every_alert_and_a_wrong_expectation_is_told(tmp_path: Path) -> None:
    assert sorted(case.alert for case in CASES) == sorted(ALERTS)
    case = CASES[0]
    assert "exp:" in promtool(tmp_path, case, case.quiet, case.at, [said(case)])


@pytest.mark.parametrize(("hold", "alert"), [("9m", "CustodyLatencyHigh"), ("59m", "CustodyServedUnwatched")])
def test_an_alert_waits_before_it_fires(hold: str, alert: str, tmp_path: Path) -> None:
    (case,) = [case for case in CASES if case.alert == alert]
    assert promtool(tmp_path, case, case.firing, hold, []) == ""


# --- what the rules rest on -------------------------------------------------------------------------------------------


@cache
def exported() -> frozenset[str]:
    """Names of samples that the model server and publish_metrics really export."""
    from prometheus_client import generate_latest
    from prometheus_client.parser import text_string_to_metric_families

    one = telemetry.Telemetry("named", "1", ("amount",))
    one.answered({"amount": [1.0]}, np.array([0.5]), 0.01)
    try:
        texts = generate_latest(telemetry.REGISTRY), exposition("fraud", every_check())
    finally:
        one.end()
    return frozenset(
        sample.name
        for text in texts
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    )


def known() -> set[str]:
    return set(exported()) | ENVOY | SELDON | RECORDED


def test_every_metric_that_a_rule_reads_is_exported_somewhere() -> None:
    for group in RULES["groups"]:
        for rule in group["rules"]:
            names = metric_names(rule["expr"])
            assert names - known() == set(), rule
            assert names or rule["expr"].startswith("vector("), rule


def test_of_seldon_the_rules_count_what_rollouts_count() -> None:
    from kfp_custody.components.seldon_deployment.rollout import on_seldon_v2

    source = Path(on_seldon_v2.__file__).read_text()
    (rule,) = [rule for group in RULES["groups"] for rule in group["rules"] if "seldon" in rule.get("record", "")]
    (failed,) = set(re.findall(r'code=~"[^"]+"', rule["expr"]))
    assert metric_names(rule["expr"]) == SELDON
    assert f"{failed}" in source
    assert "seldon_model_infer_total{" in source


def test_a_rule_asks_for_label_values_that_there_are() -> None:
    text = exposition("fraud", every_check()).decode()
    for group in RULES["groups"]:
        for rule in group["rules"]:
            for label, wanted in re.findall(r'(kind|result|finding|percentile)=~?"([^"]+)"', rule["expr"]):
                found = set(re.findall(rf'{label}="([^"]+)"', text))
                assert any(re.fullmatch(wanted, value) for value in found), rule


# --- what a person gets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_has_a_severity_a_meaning_and_a_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page.endswith("/manifests/components/monitoring/RUNBOOKS.md")
    sections = re.split(r"^## (.+)$", (MONITORING / "RUNBOOKS.md").read_text(), flags=re.MULTILINE)[1:]
    text = {title.lower().replace(" ", "-"): body for title, body in zip(sections[::2], sections[1::2], strict=True)}
    assert f"`{name}`" in text[anchor]


# --- the operator's object --------------------------------------------------------------------------------------------


def test_the_operators_object_holds_the_same_rules_and_is_valid() -> None:
    document = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())
    assert document["spec"] == RULES
    assert not unverified(document)
    assert faults(document) == []
    wrong = {**document, "spec": {"groups": [{"name": "x", "rules": [{"alert": "x"}]}]}}
    assert faults(wrong) != []
