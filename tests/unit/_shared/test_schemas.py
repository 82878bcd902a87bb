"""The published schemas say what the reader does: what stages write is valid; what is refused for its shape is not."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from forging import bundle_of, statement_of
from genuine_chain import Site
from kfp_custody.components._shared.evidence import MASKING, resource, test_result
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components.policy_gate.policy import shipped

FOLDER = files("kfp_custody.components._shared").joinpath("schemas")
FILES = [path for path in FOLDER.iterdir() if path.name.endswith(".json")]
SCHEMAS = {path.name.removesuffix(".json"): json.loads(path.read_bytes()) for path in FILES}
DIGEST = "ab" * 32


def schema(name: str) -> Draft202012Validator:
    registry = Registry().with_resources((found["$id"], Resource.from_contents(found)) for found in SCHEMAS.values())
    return Draft202012Validator(SCHEMAS[name], registry=registry)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_named_like_its_file(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"].endswith(f"/{name}.json")
    assert SCHEMAS[name]["title"]
    assert SCHEMAS[name]["description"]


def test_what_the_stages_write_is_valid(tmp_path: Path) -> None:
    site = Site(tmp_path)
    chain = site.chain()
    _, decision, _ = site.gate(chain)
    for directory, name in (
        (chain.masking, "test-result"),
        (chain.drift, "test-result"),
        (chain.attestation, "provenance"),
        (chain.provenance, "provenance"),
        (decision, "verification-summary"),
    ):
        schema(name).validate(statement_of(bundle_of(directory)))
    schema("model-signature").validate(statement_of(chain.model / "model.sig"))
    schema("trust").validate(yaml.safe_load(site.trust_path.read_text()))


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_policy_is_valid(name: str) -> None:
    folder = files("kfp_custody.components.policy_gate").joinpath("policies")
    schema("policy").validate(yaml.safe_load(folder.joinpath(f"{name}.yaml").read_bytes()))


def test_kinds_are_those_of_the_code() -> None:
    assert SCHEMAS["common"]["$defs"]["kind"]["enum"] == list(KINDS)


def statement(**changes: object) -> dict[str, Any]:
    from kfp_custody.components._shared.digests import Entry, Listing

    made = test_result(
        MASKING,
        Listing((Entry("a", DIGEST),)),
        result="PASSED",
        run_id="run",
        configuration=[resource("input", DIGEST)],
        passed=["x"],
        metrics={"n": 1},
    )
    made["predicate"].update(changes)
    return made


TEST_RESULTS = [
    {"note": 1},
    {"result": "OK"},
    {"result": None},
    {"custody_runId": ""},
    {"custody_runId": 7},
    {"custody_test": "https://example.com"},
    {"custody_finishedOn": "2026-1-1T1:1:1Z"},
    {"custody_finishedOn": "2026-01-01T00:00:00Z\n"},
    {"custody_metrics": {"n": True}},
    {"custody_metrics": [1]},
    {"custody_coverage": {"errors": "0"}},
    {"configuration": {}},
    {"configuration": [{}]},
    {"configuration": [{"name": "x", "content": "y"}]},
    {"configuration": [{"name": "x", "digest": {"sha256": DIGEST.upper()}}]},
    {"configuration": [{"name": "x", "digest": {"sha256": DIGEST + "\n"}}]},
    {"configuration": [{"name": "x", "digest": {"sha512": "y"}}]},
    {"passedTests": "all"},
]


@pytest.mark.parametrize("changes", TEST_RESULTS, ids=str)
def test_a_malformed_test_result_is_not_valid(changes: dict[str, object]) -> None:
    assert schema("test-result").is_valid(statement())
    assert not schema("test-result").is_valid(statement(**changes))


SIGNER = {"name": "a", "key": "-----BEGIN PUBLIC KEY-----\n", "may_sign": ["mask-pii"]}
KEYLESS = {"name": "a", "issuer": "https://x", "identity": "b", "may_sign": ["mask-pii"]}


@pytest.mark.parametrize("signer", [SIGNER, KEYLESS, {"name": "a", "hmac": "vault-hmac:t/k", "may_sign": ["mask-pii"]}])
def test_every_way_to_name_a_signer_is_valid(signer: dict[str, object]) -> None:
    assert schema("trust").is_valid({"version": 1, "signers": [signer]})


TRUST = [
    {"version": 2, "signers": []},
    {"version": True, "signers": []},
    {"version": 1},
    {"version": 1, "signers": [], "more": 1},
    {"version": 1, "signers": [SIGNER | {"issuer": "https://x", "identity": "b"}]},
    {"version": 1, "signers": [{**KEYLESS, "hmac": "vault-hmac:t/k"}]},
    {"version": 1, "signers": [{name: KEYLESS[name] for name in ("name", "issuer", "may_sign")}]},
    {"version": 1, "signers": [{"name": "a", "may_sign": ["mask-pii"]}]},
    {"version": 1, "signers": [SIGNER | {"may_sign": []}]},
    {"version": 1, "signers": [SIGNER | {"may_sign": ["*"]}]},
    {"version": 1, "signers": [SIGNER | {"name": " "}]},
    {"version": 1, "signers": [SIGNER | {"revoked": True}]},
    {"version": 1, "signers": [], "policies": [{"name": "x", "sha256": DIGEST.upper()}]},
]


@pytest.mark.parametrize("document", TRUST, ids=str)
def test_a_malformed_trust_file_is_not_valid(document: dict[str, object]) -> None:
    assert not schema("trust").is_valid(document)
