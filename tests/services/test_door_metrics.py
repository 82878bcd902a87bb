"""What a real Envoy counts of refusals and failures: the names that the alerts and dashboards rest on."""

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kfp_custody.components.seldon_deployment import child
from kfp_custody.components.seldon_deployment.door import proxy
from kfp_custody.components.seldon_deployment.door.envoy import Backend
from services.doors import Keys, OpenDoor, open_door
from unit.manifests.test_alert_rules import ENVOY

pytestmark = pytest.mark.services
MODEL = "fraud-detection"
INFER = f"/v2/models/{MODEL}/infer"


def counted(opened: OpenDoor) -> dict[str, float]:
    """The door's own counters that rules read; the class of a status is part of the name."""
    text = proxy.ask(opened.files, "/stats/prometheus")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.type == "counter" else ():
            # A counter's _total is added by this reader, and is not in Envoy's text.
            name = sample.name if sample.name in ENVOY else sample.name.removesuffix("_total")
            if name in ENVOY and sample.labels["envoy_http_conn_manager_prefix"] != "admin":
                status = sample.labels.get("envoy_response_code_class", "")
                found[name + status] = found.get(name + status, 0.0) + sample.value
    return found


def test_refusals_and_failures_are_counted_under_the_names_that_the_alerts_read(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    keys, ports = Keys(tmp_path / "keys"), child.free_ports(2)
    with open_door(tmp_path / "door", keys, [Backend("only", *ports)], {MODEL: {"only": 100}}) as opened:
        assert set(counted(opened)) >= {"envoy_http_jwt_authn_denied", "envoy_http_rbac_denied"}, "from the beginning"
        token = {"Authorization": f"Bearer {keys.token()}"}

        def ask(client: httpx.Client, path: str = INFER, **headers: str) -> int:
            return client.post(path, json={}, headers=headers).status_code

        with opened.client() as client, opened.client("stranger") as stranger:
            statuses = [ask(client), ask(client, **token), ask(client, "/v2/repository/index", **token)]
            statuses += [ask(stranger, **token), ask(stranger)]
        assert statuses == [401, 503, 403, 403, 401]
        found = counted(opened)
        text = proxy.ask(opened.files, "/stats/prometheus")
    assert [name for name in ENVOY if f"\n{name}{{" not in text] == [], "as Prometheus reads it"
    assert found["envoy_http_jwt_authn_denied"] == 2
    assert found["envoy_http_rbac_denied"] == 2
    assert found["envoy_http_downstream_rq_xx4"] == 4
    assert found["envoy_http_downstream_rq_xx5"] == 1
