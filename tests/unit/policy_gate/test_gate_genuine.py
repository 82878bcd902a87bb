"""The gate on genuine chains: PASSED, signed, explained."""

import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from genuine_chain import RUN, TRAINED, Site
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.documents import parse_json
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured, PolicyRefused
from kfp_custody.components._shared.evidence import DECISION
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.policy_gate.policy import load_policy
from kfp_custody.components.policy_gate.refusal import refuse_run

EVIDENCE = ("source", "current-source", "masking", "dataset", "training", "current-masking", "drift", "model")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class Links(HTMLParser):
    def __init__(self, document: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")
        ]


def test_the_genuine_chain_passes(site: Site) -> None:
    chain = site.chain()
    done, evidence, _ = site.gate(chain)
    assert [(check.id, check.detail) for check in done.failed] == []
    assert done.verdict == "PASSED"
    assert {f"evidence:{name}" for name in EVIDENCE} < {check.id for check in done.checks}
    assert len({check.id for check in done.checks}) == len(done.checks)

    verified = read_evidence(evidence, DECISION, site.trust, run_id=RUN)
    assert verified.result == "PASSED"
    require_subject(verified, chain.model / "model", "model")
    assert verified.predicate["resourceUri"] == "models:/fraud-detection"
    assert verified.predicate["policy"]["digest"]["sha256"] == load_policy("baseline").sha256
    assert done.metadata()["verdict"] == "PASSED"


def test_the_decision_lists_every_bundle_it_was_shown(site: Site) -> None:
    chain = site.chain()
    _, evidence, _ = site.gate(chain)
    listed = read_evidence(evidence, DECISION, site.trust, run_id=RUN).predicate["inputAttestations"]
    assert {entry["uri"]: entry["digest"]["sha256"] for entry in listed} == {
        "source": sha256_file(site.root / "release" / "source-raw" / "fetch-dataset.sigstore.json"),
        "current-source": sha256_file(site.root / "release" / "source-raw-current" / "fetch-dataset.sigstore.json"),
        "masking": sha256_file(chain.masking / "mask-pii.sigstore.json"),
        "dataset": sha256_file(chain.attestation / "attest-dataset.sigstore.json"),
        "training": sha256_file(chain.provenance / "train-model.sigstore.json"),
        "current-masking": sha256_file(chain.current_masking / "mask-pii.sigstore.json"),
        "drift": sha256_file(chain.drift / "check-drift.sigstore.json"),
        "model": sha256_file(chain.model / "model.sig"),
    }


def test_raw_data_that_nobody_fetched_needs_no_source(site: Site) -> None:
    done, _, html = site.gate(site.chain(fetched=False))
    assert done.verdict == "PASSED"
    assert not [check.id for check in done.checks if "source" in check.id]
    assert "fetch_dataset" not in html


def test_a_refusal_is_signed_too(site: Site) -> None:
    done, evidence, _ = site.gate(site.chain(training=TRAINED | {"average_precision": 0.31}))
    verified = read_evidence(evidence, DECISION, site.trust, run_id=RUN)
    assert (done.verdict, verified.result) == ("FAILED", "FAILED")
    assert verified.predicate["verifiedLevels"] == ["FAILED"]
    assert [check.id for check in done.failed] == ["rule:auprc-floor"]
    assert "training.metrics.average_precision = 0.31" in done.failed[0].detail


@pytest.mark.parametrize("precision", [0.83, 0.31])
def test_the_report_lists_every_check_and_loads_nothing(site: Site, precision: float) -> None:
    done, evidence, html = site.gate(site.chain(training=TRAINED | {"average_precision": precision}))
    explained = parse_json((evidence / "report.json").read_bytes())
    assert [check["id"] for check in explained["checks"]] == [check.id for check in done.checks]
    for check in done.checks:
        assert escape(check.id.partition(":")[2]) in html
        if check.tried is None:
            assert escape(check.detail) in html
            continue
        assert escape(check.tried.message) in html
        for term in check.tried.terms:
            assert escape(term.expression) in html
            assert escape(term.found) in html
            assert escape(term.needs) in html
    for digest in explained["inputs"].values():
        assert digest in html
    links = Links(html)
    assert links.targets == ["data:,"]
    assert not links.tags & {"script", "iframe", "object", "embed", "img", "form", "base"}
    assert not re.findall(r"url\((?!#)|@import|javascript:", html)
    assert set(re.findall(r'[a-z:]+="https?://[^"]*"', html)) <= {'xmlns="http://www.w3.org/2000/svg"'}
    assert html.count(">FAILED<") >= (0 if precision > 0.5 else 1)
    assert (">REFUSED<" in html) is (precision < 0.5)


def test_what_comes_from_outside_is_escaped_in_the_report(site: Site) -> None:
    chain = site.chain()
    (chain.model / "model" / "<script>alert(1)<").write_bytes(b"x")
    done, _, html = site.gate(chain, run_id="<img src=x onerror=alert(1)>")
    assert done.verdict == "FAILED"
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;img" in html
    assert "&lt;script&gt;" in html


def test_refuse_lists_the_failed_checks(site: Site) -> None:
    _, evidence, _ = site.gate(site.chain(training=TRAINED | {"average_precision": 0.31, "roc_auc": 0.4}))
    with pytest.raises(PolicyRefused, match="2 of [0-9]+ checks failed") as refusal:
        refuse_run(evidence, RUN, site.settings)
    assert "rule:auprc-floor: Average precision" in str(refusal.value)
    assert "rule:roc-auc-floor: ROC AUC" in str(refusal.value)
    assert "auprc-ceiling" not in str(refusal.value)


def test_refuse_does_not_believe_an_edited_explanation(site: Site) -> None:
    _, evidence, _ = site.gate(site.chain(training=TRAINED | {"average_precision": 0.31}))
    report = evidence / "report.json"
    report.write_bytes(report.read_bytes().replace(b"0.31", b"0.91"))
    with pytest.raises(EvidenceInvalid, match=r"'report.json' sha256:[0-9a-f]{64} is not bound"):
        refuse_run(evidence, RUN, site.settings)


def test_refuse_without_an_explanation_is_still_a_refusal(site: Site) -> None:
    _, evidence, _ = site.gate(site.chain(training=TRAINED | {"average_precision": 0.31}))
    (evidence / "report.json").unlink()
    with pytest.raises(EvidenceInvalid, match="explanation cannot be read"):
        refuse_run(evidence, RUN, site.settings)


def test_a_decision_is_never_written_over_another(site: Site) -> None:
    chain = site.chain()
    site.gate(chain)
    site._gates = 0
    with pytest.raises(OSError, match="not empty"):
        site.gate(chain)


def test_without_any_readable_model_there_is_nothing_to_decide(site: Site, tmp_path: Path) -> None:
    chain = site.chain()
    for entry in (chain.provenance / "train-model.sigstore.json", *(chain.model / "model").iterdir()):
        entry.unlink()
    with pytest.raises(EvidenceInvalid, match="no model to decide about"):
        site.gate(chain)
    assert not (tmp_path / "decision-1").exists()


def test_a_model_that_cannot_be_listed_is_refused_under_its_provenance(site: Site) -> None:
    chain = site.chain()
    trained = list_tree(chain.model / "model").sha256
    (chain.model / "model" / "link").symlink_to("model.ubj")
    done, _, _ = site.gate(chain)
    assert (done.verdict, done.model_sha256) == ("FAILED", trained)


def test_no_signer_no_decision(site: Site) -> None:
    chain = site.chain()
    del site.environment["CUSTODY_SIGNER"]
    with pytest.raises(Misconfigured, match="CUSTODY_SIGNER_POLICY_GATE"):
        site.gate(chain)


@pytest.mark.parametrize("name", ["fraud-detection", "a", "0-9", "a" * 63])
def test_a_dns_label_names_a_model(site: Site, name: str) -> None:
    done, evidence, _ = site.gate(site.chain(), model_name=name)
    assert done.verdict == "PASSED"
    assert read_evidence(evidence, DECISION, site.trust, run_id=RUN).predicate["resourceUri"] == f"models:/{name}"


@pytest.mark.parametrize(
    "name",
    ["", "Fraud", "fraud_detection", "fraud.detection", "-a", "a-", "a" * 64, "a/b", "../a", "a\n", "ä", "<img>"],
)
def test_a_name_that_is_no_dns_label_is_refused_before_anything_is_decided(site: Site, name: str) -> None:
    with pytest.raises(Misconfigured, match="no DNS label") as refusal:
        site.gate(site.chain(), model_name=name)
    assert refusal.value.code == codes.MODEL_NAME
    assert not list(site.root.glob("decision-*"))


def test_every_failed_check_has_a_code_and_no_other(site: Site) -> None:
    chain = site.chain(training=TRAINED | {"average_precision": 0.31})
    (chain.dataset / "data.parquet").write_bytes(b"changed")
    (chain.drift / "check-drift.sigstore.json").write_bytes(b"{}")
    done, evidence, html = site.gate(chain)
    assert {check.id for check in done.failed} > {"bytes:dataset=dataset", "rule:auprc-floor", "rule:drift-limited"}
    assert all(check.code in codes.CODES for check in done.failed)
    assert not any(check.code for check in done.checks if check.verdict == "PASSED")
    found = {check.id: check.code for check in done.failed}
    assert found["rule:auprc-floor"] == codes.RULE
    assert found["rule:drift-limited"] == codes.RULE_UNDECIDED
    assert found["link:drift.model->training"] == codes.CHECK_NOT_MADE
    assert found["requires:check-drift"] == codes.REQUIREMENT
    explained = parse_json((evidence / "report.json").read_bytes())
    assert {check["id"]: check["code"] for check in explained["checks"] if "code" in check} == found
    assert all(code in html for code in found.values())


def test_the_report_says_what_would_make_a_rule_pass(site: Site) -> None:
    done, evidence, html = site.gate(site.chain(training=TRAINED | {"average_precision": 0.42}))
    needs = "needs training.metrics.average_precision >= 0.5, is 0.42 (0.08 short)"
    (failed,) = done.failed
    assert failed.tried is not None
    assert failed.tried.needs == needs
    assert needs in failed.detail
    assert escape(needs) in html
    explained = parse_json((evidence / "report.json").read_bytes())
    (rule,) = [check["rule"] for check in explained["checks"] if check["id"] == "rule:auprc-floor"]
    assert rule == {
        "asks": failed.tried.message,
        "when": "",
        "expr": "training.metrics.average_precision >= 0.5",
        "applies": True,
        "needs": needs,
        "parts": [
            {
                "expr": "training.metrics.average_precision >= 0.5",
                "holds": False,
                "found": "training.metrics.average_precision = 0.42",
                "needs": needs,
            }
        ],
    }


def test_the_explanation_names_policy_trust_and_every_input(site: Site) -> None:
    _, evidence, _ = site.gate(site.chain())
    explained = parse_json((evidence / "report.json").read_bytes())
    verified = read_evidence(evidence, DECISION, site.trust, run_id=RUN)
    assert explained["trust"]["sha256"] == sha256_file(site.trust_path)
    assert explained["policy"]["sha256"] == verified.predicate["policy"]["digest"]["sha256"]
    assert explained["inputs"] == {
        entry["uri"]: entry["digest"]["sha256"] for entry in verified.predicate["inputAttestations"]
    }
    assert verified.dependency("report") == sha256_file(evidence / "report.json")
