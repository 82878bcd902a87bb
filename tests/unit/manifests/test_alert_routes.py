"""Who is told of which alert, by Alertmanager's own program; no secret stands in its configuration."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from unit.manifests.test_alert_rules import ALERTS, MONITORING

CONFIG = MONITORING / "alertmanager.yml"


def amtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["amtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def receivers(**labels: str) -> list[str]:
    told = [f"{name}={value}" for name, value in labels.items()]
    done = amtool("config", "routes", "test", f"--config.file={CONFIG}", *told)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split(",")


def test_alertmanager_takes_the_configuration_and_would_not_take_any(tmp_path: Path) -> None:
    done = amtool("check-config", CONFIG)
    assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stderr
    (tmp_path / "wrong.yml").write_text(CONFIG.read_text().replace("receiver: page", "receiver: nobody"))
    assert amtool("check-config", tmp_path / "wrong.yml").returncode != 0


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_reaches_people_and_starts_a_retraining_where_it_says_so(name: str) -> None:
    labels = ALERTS[name]["labels"]
    wanted = (["retrain"] if labels.get("retrain") == "true" else []) + [labels["severity"]]
    assert receivers(alertname=name, model="fraud", **labels) == wanted


def test_drift_and_shifted_scores_and_nothing_else_start_a_retraining() -> None:
    asked = {name for name, rule in ALERTS.items() if "retrain" in rule["labels"]}
    assert asked == {"CustodyDriftFailed", "CustodyScoresShifted"}


def test_an_alert_of_somebody_else_is_a_ticket() -> None:
    assert receivers(alertname="Other", severity="critical") == ["ticket"]


def test_secrets_are_files_and_every_receiver_asks_for_one() -> None:
    document = yaml.safe_load(CONFIG.read_text())
    for receiver in document["receivers"]:
        for webhook in receiver["webhook_configs"]:
            assert webhook["url"].startswith("https://REPLACE.invalid/")
            assert set(webhook["http_config"]["authorization"]) == {"type", "credentials_file"}
    assert not re.search(r"(?<!_file)\b(credentials|password|bearer_token|api_key): ", CONFIG.read_text())


def test_an_inhibition_names_alerts_that_there_are() -> None:
    for rule in yaml.safe_load(CONFIG.read_text())["inhibit_rules"]:
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            pattern = re.fullmatch(r'alertname=~?"(.+)"', matcher)
            assert pattern
            assert [name for name in ALERTS if re.fullmatch(pattern[1], name)]


def test_prometheus_takes_its_example_with_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(MONITORING / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (
        f"{sum(len(g['rules']) for g in yaml.safe_load((MONITORING / 'rules.yml').read_text())['groups'])} rules"
        in (done.stdout)
    )
