"""The policy file: pinned, strict, with requirements that bite."""

import os
from pathlib import Path

import pytest
import yaml

from genuine_chain import RUN, Site, trust_entry
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import DECISION, KINDS
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components.policy_gate import policy as policy_module
from kfp_custody.components.policy_gate.policy import load_policy

BASELINE = Path(policy_module.__file__).parent / "policies" / "baseline.yaml"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def edited(path: Path, old: str, new: str) -> Path:
    text = BASELINE.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new))
    return path


def test_a_shipped_policy_is_named_or_given_by_path() -> None:
    assert load_policy("baseline") == load_policy(str(BASELINE))


@pytest.mark.parametrize(("old", "new"), [(">= 0.5", ">= 0.4"), ("version: 1\n", "version: 1\n\n")])
def test_a_policy_with_one_byte_changed_is_refused(site: Site, tmp_path: Path, old: str, new: str) -> None:
    chain = site.chain()
    path = edited(tmp_path / "edited.yaml", old, new)
    done, evidence, _ = site.gate(chain, policy=str(path))
    assert [check.id for check in done.failed] == ["policy:pinned"]
    assert f"expected sha256:{load_policy('baseline').sha256}" in done.failed[0].detail
    assert f"found sha256:{load_policy(str(path)).sha256}" in done.failed[0].detail
    assert read_evidence(evidence, DECISION, site.trust, run_id=RUN).result == "FAILED"


def test_a_policy_nobody_pinned_is_refused(site: Site, tmp_path: Path) -> None:
    path = edited(tmp_path / "mine.yaml", "name: baseline", "name: mine")
    done, _, _ = site.gate(site.chain(), policy=str(path))
    assert [check.id for check in done.failed] == ["policy:pinned"]
    assert "expected no policy of this name" in done.failed[0].detail


def test_a_policy_pinned_under_another_name_is_refused(site: Site, tmp_path: Path) -> None:
    path = edited(tmp_path / "mine.yaml", "name: baseline", "name: mine")
    chain = site.chain()
    site.pin({"baseline": load_policy(str(path)).sha256})
    done, _, _ = site.gate(chain, policy=str(path))
    assert [check.id for check in done.failed] == ["policy:pinned"]


def pinned(site: Site, path: Path, **changes: object) -> str:
    document = yaml.safe_load(BASELINE.read_text()) | changes
    path.write_text(yaml.safe_dump(document))
    site.pin({"baseline": load_policy(str(path)).sha256})
    return str(path)


def test_required_evidence_that_is_missing_refuses(site: Site, tmp_path: Path) -> None:
    requires = [{"kind": "train-model"}, {"kind": "deploy-model"}]
    policy = pinned(site, tmp_path / "p.yaml", requires=requires)
    done, _, _ = site.gate(site.chain(), policy=policy)
    assert [(check.id, check.detail) for check in done.failed] == [
        ("requires:deploy-model", "there is none that verified")
    ]


def test_evidence_that_is_too_old_refuses(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = pinned(site, tmp_path / "p.yaml", max_age_hours=1e-9)
    chain = site.chain()
    import time

    time.sleep(1.1)  # times in evidence have the resolution of a second
    done, _, _ = site.gate(chain, policy=policy)
    kinds = ["mask-pii", "attest-dataset", "train-model", "check-drift"]
    assert [check.id for check in done.failed] == [f"requires:{kind}" for kind in kinds]
    assert "hours old, more than 1e-09" in done.failed[0].detail


def test_evidence_by_a_trusted_but_not_the_required_signer_refuses(site: Site, tmp_path: Path) -> None:
    requires = [
        {"kind": "train-model", "signers": ["training-service"]},
        {"kind": "sign-model", "signers": ["pipeline"]},
    ]
    done, _, _ = site.gate(site.chain(), policy=pinned(site, tmp_path / "p.yaml", requires=requires))
    assert [(check.id, check.detail) for check in done.failed] == [
        ("requires:train-model", "it is signed by pipeline, not by training-service")
    ]


def test_a_signer_without_the_right_to_decide_makes_no_valid_decision(site: Site) -> None:
    chain = site.chain()
    kinds = sorted(set(KINDS) - {"enforce-policy"})
    site.pin({"baseline": load_policy("baseline").sha256}, [trust_entry("pipeline", site.signer, kinds)])
    _, evidence, _ = site.gate(chain)
    with pytest.raises(Exception, match="may sign .*, not enforce-policy"):
        read_evidence(evidence, DECISION, site.trust, run_id=RUN)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rules": []}, "rules is no list, or empty: such a policy would refuse nothing"),
        ({"rules": None}, "rules is no list, or empty"),
        ({"rules": {"id": "x"}}, "rules is no list, or empty"),
        ({"requires": []}, "requires is no list, or empty"),
        ({"version": 2}, "version 2 is not 1"),
        ({"version": "1"}, "version '1' is not 1"),
        ({"surprise": 1}, "unknown 'surprise'"),
        ({"max_age_hours": 0}, "max_age_hours is no positive number"),
        ({"max_age_hours": True}, "max_age_hours is no positive number"),
        ({"max_age_hours": float("inf")}, "max_age_hours is no positive number"),
        ({"max_age_hours": float("nan")}, "max_age_hours is no positive number"),
        ({"max_age_hours": "24"}, "max_age_hours is no positive number"),
        ({"name": ""}, "name is no text"),
        ({"name": 7}, "name is no text"),
        ({"requires": [{"kind": "train"}]}, r"requires\[0\].kind is none of"),
        ({"requires": [{"kind": ["train-model"]}]}, r"requires\[0\].kind is none of"),
        ({"requires": [{"kind": "train-model", "signers": []}]}, "signers is no list of names"),
        ({"requires": [{"kind": "train-model", "signers": "me"}]}, "signers is no list of names"),
        (
            {"requires": [{"kind": "train-model"}, {"kind": "train-model"}]},
            "requires names something twice: train-model",
        ),
        ({"rules": [{"id": "a", "expr": "true"}]}, r"rules\[0\] lacks message"),
        ({"rules": [{"id": "A b", "expr": "true", "message": "."}]}, "lower-case words with dashes"),
        ({"rules": [{"id": "a", "expr": True, "message": "."}]}, r"rules\[0\].expr is no text"),
        ({"rules": [{"id": "a", "expr": "true", "message": ".", "when": ""}]}, r"rules\[0\].when is no text"),
        ({"rules": [{"id": "a", "expr": "true", "message": "."}] * 2}, "rules names something twice: a"),
        ({"rules": [{"id": "a", "expr": "true", "message": ".", "if": "true"}]}, "unknown 'if'"),
        ({"opa": None}, "opa is no object"),
        ({"opa": {"url": "https://opa:8181"}}, "opa lacks path"),
        ({"opa": {"url": "https://opa:8181", "path": "a", "token": "x"}}, "unknown 'token'"),
        ({"opa": {"url": "https://opa:8181", "path": "/a"}}, "opa.path is no path"),
        ({"opa": {"url": "https://opa:8181", "path": "a/../b"}}, "opa.path is no path"),
        ({"opa": {"url": "https://opa:8181", "path": "a?pretty"}}, "opa.path is no path"),
        ({"opa": {"url": "https://opa:8181", "path": "a", "ca_file": "ca.pem"}}, "opa.ca_file is no absolute path"),
        ({"opa": {"url": ["https://opa"], "path": "a"}}, "opa.url is no text"),
        ({"opa": {"url": "http://opa:8181", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "http://127.0.0.1.example.org", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "http://user@127.0.0.1", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "http://10.0.0.1", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "https://user:secret@opa", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "https://opa/?x=1", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "https://opa/#x", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "https://opa:99999", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "https://opa :1", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "https://[::1", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "https://", "path": "a"}}, "opa.url is no https address"),
        ({"opa": {"url": "file:///etc/passwd", "path": "a"}}, "opa.url is no https address"),
    ],
)
def test_a_malformed_policy_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(BASELINE.read_text()) | changes, default_flow_style=False))
    path.write_text(path.read_text().replace("&id001 ", "").replace("*id001", "{id: a, expr: 'true', message: .}"))
    with pytest.raises(Misconfigured, match=said):
        load_policy(str(path))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"- a\n", "the policy is no object"),
        (b"version: 1\nversion: 1\n", "the name 'version' stands in it twice"),
        (b"a: &x 1\nb: *x\n", "it uses a YAML alias"),
        (b"? [a]\n: b\n", "it is no YAML"),
        (b"a: !!bool foo\n", "it is no YAML"),
        (b"\xff\xfe", "it is not UTF-8"),
    ],
)
def test_a_policy_that_is_no_clean_yaml_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(data)
    with pytest.raises(Misconfigured, match=said):
        load_policy(str(path))


@pytest.mark.parametrize("name", ["strict", "/nowhere/policy.yaml", "../baseline", "", "."])
def test_a_policy_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_policy(name)


def test_the_message_quotes_nothing_of_a_file_that_is_no_policy(tmp_path: Path) -> None:
    """Whoever starts a run names the policy file: the message must not read secrets out to them."""
    path = tmp_path / "credentials"
    path.write_text('user: me\npassword: "hunter2\n')
    with pytest.raises(Misconfigured, match="line 3") as refusal:
        load_policy(str(path))
    assert "hunter2" not in str(refusal.value)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_an_endless_policy_is_refused() -> None:
    with pytest.raises(Misconfigured, match="more than 1048576"):
        load_policy("/dev/zero")


@pytest.mark.parametrize(
    "url",
    ["https://opa.internal:8181", "https://opa/prefix/", "http://127.0.0.1:8181", "http://[::1]:1", "http://localhost"],
)
def test_a_policy_server_is_asked_over_tls_or_on_this_machine(tmp_path: Path, url: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(BASELINE.read_text() + f"opa: {{url: '{url}', path: custody/allow}}\n")
    opa = load_policy(str(path)).opa
    assert opa is not None
    assert opa.address == url.rstrip("/") + "/v1/data/custody/allow"
    assert opa.ca_file is None
