"""The Model of Seldon Core v2 as it is rendered; what becomes of it: tests/services/test_cluster_rollouts.py."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kfp_custody.components._shared.digests import Entry, Listing
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.seldon_deployment import seldon_v2
from kfp_custody.components.seldon_deployment.decision import Admitted
from kube_schemas import faults

ADMITTED = Admitted(
    directory=Path("/nowhere"),
    listing=Listing((Entry("model.ubj", "12" * 32),)),
    decision_sha256="34" * 32,
    signature_sha256="56" * 32,
    policy_sha256="78" * 32,
    decided_by="gate",
    signed_by="signer",
    decided=datetime(2026, 1, 1, tzinfo=UTC),
)
NAME, NAMESPACE, URI = "fraud-detection", "serving", "s3://models/fraud-detection/1"


def test_the_model_follows_the_schema_and_pins_the_bytes() -> None:
    model = seldon_v2.render_model(ADMITTED, NAME, URI, NAMESPACE)
    assert faults(model) == []
    assert model["metadata"]["name"] == f"{NAME}-{ADMITTED.digest[:8]}"
    pins = {entry["name"]: entry["value"] for entry in model["spec"]["parameters"]}
    assert pins["listing_sha256"] == ADMITTED.digest
    assert pins["signature_sha256"] == ADMITTED.signature_sha256


@pytest.mark.parametrize("change", [{"storageURI": URI}, {"parameters": [{"name": "x", "value": 1}]}, {"server": 3}])
def test_the_schema_refuses_what_is_not_in_it(change: dict[str, Any]) -> None:
    model = seldon_v2.render_model(ADMITTED, NAME, URI, NAMESPACE)
    assert faults({**model, "spec": {**model["spec"], **change}})


@pytest.mark.parametrize(
    "uri", ["", "models/1", "s3://user:secret@bucket/x", "https://x/y?X-Amz-Signature=secret", "s3://a b"]
)
def test_an_address_that_is_missing_or_holds_a_secret_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        seldon_v2.render_model(ADMITTED, NAME, uri, NAMESPACE)
    assert "secret" not in str(refusal.value)
