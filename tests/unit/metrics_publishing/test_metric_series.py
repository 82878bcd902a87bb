"""What evidence becomes in Prometheus' text format."""

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components.metrics_publishing import series
from kfp_custody.components.metrics_publishing.exposition import Check, exposition

ENDED = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
COVERAGE = {"checked": 11.0, "skipped": 1.0, "errors": 0.0}
# What the stages promise to leave: their READMEs say the same.
DRIFT = {
    *("share_drifted", "columns_drifted", "columns_warned", "max_psi", "max_ks", "max_jensen_shannon"),
    *("prediction_psi", "label_rate_delta", "rows_reference", "rows_current"),
}
MONITORING = {
    *("requests", "rows", "latency_p50", "latency_p90", "latency_p99", "error_ratio", "refused_ratio"),
    *("confidence_p10", "confidence_p50", "prediction_psi", "clients", "clients_near_duplicates"),
    *("clients_over_budget", "clients_out_of_distribution", "clients_unauthorised", "clients_probing"),
}


def every_check() -> list[Check]:
    """A check of each kind with each of its numbers, no two equal."""
    return [
        Check(kind, "FAILED", ENDED, COVERAGE, {name: 0.5 + at for at, name in enumerate(numbers)})
        for kind, numbers in series.NUMBERS.items()
    ]


def parsed(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_the_table_knows_what_the_stages_leave() -> None:
    assert set(series.NUMBERS["check-drift"]) == set(series.NUMBERS["check-profile-drift"]) == DRIFT
    assert set(series.NUMBERS["monitor-inference"]) == MONITORING
    assert set(series.NUMBERS) <= set(KINDS)
    assert sorted(kind for kinds in series.ACCEPTED.values() for kind in kinds) == sorted(series.NUMBERS)


def test_a_check_is_told_with_its_result_time_and_numbers() -> None:
    check = Check("check-drift", "WARNED", ENDED, COVERAGE, {"prediction_psi": 0.125, "columns_drifted": 2, "own": 9})
    found = parsed(exposition("fraud", [check]))

    def told(name: str, **label: str) -> float | None:
        return found.get((name, frozenset({"model": "fraud", "kind": "check-drift", **label}.items())))

    assert [told("custody_check_result", result=result) for result in series.RESULTS] == [0, 1, 0]
    assert told("custody_check_last_run_timestamp_seconds") == ENDED.timestamp()
    assert told("custody_check_items", outcome="skipped") == 1
    assert told("custody_drift_prediction_psi") == 0.125
    assert told("custody_drift_columns", state="drifted") == 2
    assert len(found) == 3 + 1 + 3 + 2, "what the table does not know, or was not taken, is not there"


def test_no_two_numbers_become_one_series() -> None:
    checks = every_check()
    samples = sum(len(list(check.samples())) for check in checks)
    assert len(parsed(exposition("fraud", checks))) == samples


def test_every_metric_of_the_table_is_published_by_some_kind_and_has_the_labels_it_names() -> None:
    text = exposition("fraud", every_check()).decode()
    assert set(re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE)) == set(series.FAMILIES)
    for name, labels in parsed(text.encode()):
        own = series.FAMILIES[name].label
        assert {key for key, _ in labels} == {"model", "kind", *([own] if own else [])}


def test_the_same_evidence_gives_the_same_text() -> None:
    assert exposition("fraud", every_check()) == exposition("fraud", every_check())


def test_promtool_has_nothing_to_say_about_the_names() -> None:
    program = shutil.which("promtool")
    assert program, "promtool is part of the tools of CI: apt-get install prometheus"
    done = subprocess.run([program, "check", "metrics"], input=exposition("fraud", every_check()), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_promtool_would_have_something_to_say() -> None:
    wrong = b"# TYPE custody_things_total gauge\ncustody_things_total 1\n"
    done = subprocess.run(["promtool", "check", "metrics"], input=wrong, capture_output=True)
    assert done.returncode != 0


@pytest.mark.parametrize("name", sorted(series.FAMILIES))
def test_the_readme_lists_every_metric(name: str) -> None:
    text = (Path(series.__file__).parent / "README.md").read_text()
    listed = text.split("| metric |")[1].split("\n\n")[0]
    names = set()
    for row in re.findall(r"^\| (`.*?) \|", listed, re.MULTILINE):
        first, *rest = re.findall(r"`(\S+)`", row)
        prefix = re.match(r"custody_[a-z]+", first)
        assert prefix
        names |= {first, *(prefix[0] + each if each.startswith("_") else each for each in rest)}
    assert name in names
    assert names <= set(series.FAMILIES)
