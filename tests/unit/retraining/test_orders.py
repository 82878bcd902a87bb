"""The retraining file: read strictly, and which alert starts what."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.retraining import orders as orders_file
from kfp_custody.components.retraining.orders import Orders, load_orders

ORDER = {"name": "fraud", "pipeline": "fraud-detection", "version": "0.1.0-abc"}
ALERT = {"labels": {"alertname": "Drift"}, "order": "fraud"}


def write(tmp_path: Path, *orders: object, **more: object) -> Path:
    path = tmp_path / "retraining.yaml"
    path.write_text(json.dumps({"version": 1, "orders": list(orders), **more}))
    return path


def load(tmp_path: Path, *orders: object, **more: object) -> Orders:
    return load_orders(write(tmp_path, *orders, **more))


def test_the_example_of_the_module_is_well_formed(tmp_path: Path) -> None:
    path = tmp_path / "retraining.yaml"
    path.write_text(str(orders_file.__doc__).split("```yaml\n")[1].split("```")[0])
    found = load_orders(path)
    assert found.sha256 == sha256_bytes(path.read_bytes())
    assert found.order("fraud-detection").experiment == "retraining"
    assert found.for_alert({"alertname": "CustodyDrift", "model": "fraud-detection", "severity": "page"})


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    order = load(tmp_path, ORDER).order("fraud")
    assert (order.experiment, order.service_account, order.parameters) == ("Default", None, {})


def test_the_window_is_put_into_texts_alone(tmp_path: Path) -> None:
    given = {
        "whole": "x-[[ScheduledTime]]",
        "day": "[[ScheduledTime.2006-01-02]]/[[ScheduledTime.2006-01]]",
        "number": 3,
    }
    order = load(tmp_path, {**ORDER, "parameters": given}).order("fraud")
    moment = datetime(2026, 1, 31, 2, 3, 4, tzinfo=UTC)
    assert order.at(moment) == {"whole": "x-20260131020304", "day": "2026-01-31/2026-01", "number": 3}


def test_an_alert_starts_the_entry_with_the_most_labels_that_fit(tmp_path: Path) -> None:
    other = {**ORDER, "name": "other"}
    narrow = {"labels": {"alertname": "Drift", "model": "m"}, "order": "other"}
    found = load(tmp_path, ORDER, other, alerts=[ALERT, narrow])

    def name(**labels: str) -> str | None:
        order = found.for_alert(labels)
        return order.name if order else None

    assert name(alertname="Drift") == "fraud"
    assert name(alertname="Drift", model="m", severity="page") == "other"
    assert name(alertname="Drift", model="n") == "fraud"
    assert name(alertname="Latency") is None
    assert name(model="m") is None


@pytest.mark.parametrize(
    ("orders", "more", "why"),
    [
        ([ORDER], {"version": 2}, "version"),
        ([ORDER], {"version": True}, "version"),
        ([ORDER], {"more": 1}, "more"),
        ([ORDER, ORDER], {}, "twice"),
        (["x"], {}, "order 1"),
        ([{**ORDER, "version": "latest"}], {}, "one uploaded version"),
        ([{**ORDER, "version": ""}], {}, "no text"),
        ([{**ORDER, "version": 1.0}], {}, "no text"),
        ([{"name": "fraud", "pipeline": "p"}], {}, "version"),
        ([{**ORDER, "name": "Not a label"}], {}, "DNS label"),
        ([{**ORDER, "parameters": ["a"]}], {}, "mapping"),
        ([{**ORDER, "parameters": {"a": "[[RunUUID]]"}}], {}, "not replaced"),
        ([{**ORDER, "parameters": {"a": "[[ScheduledTime.2006]]"}}], {}, "not replaced"),
        ([ORDER], {"alerts": "x"}, "no list"),
        ([ORDER], {"alerts": [{**ALERT, "order": "other"}]}, "no order"),
        ([ORDER], {"alerts": [{**ALERT, "labels": {"model": "m"}}]}, "alertname"),
        ([ORDER], {"alerts": [{**ALERT, "labels": {"alertname": 1}}]}, "alertname"),
        ([ORDER], {"alerts": [ALERT, ALERT]}, "same labels"),
    ],
)
def test_a_file_that_is_not_clear_is_refused(
    tmp_path: Path, orders: list[object], more: dict[str, object], why: str
) -> None:
    with pytest.raises(Misconfigured) as refusal:
        load(tmp_path, *orders, **more)
    assert refusal.value.code == codes.RETRAINING_FILE
    assert why in refusal.value.evidence


def test_a_file_that_is_not_there_and_an_order_that_is_not_in_it(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be used"):
        load_orders(tmp_path / "none.yaml")
    with pytest.raises(Misconfigured, match="no such retraining"):
        load(tmp_path, ORDER).order("other")
