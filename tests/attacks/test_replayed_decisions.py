"""Decisions that were genuine for something else, offered to the deployer."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forging import bundle_of, edit_payload, edit_statement, payload_of, sign_payload
from genuine_chain import RUN, TRAINED, Site, trust_entry
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.evidence import KINDS
from kfp_custody.components.policy_gate.checks import Chain
from kfp_custody.components.policy_gate.policy import load_policy
from kfp_custody.components.seldon_deployment.decision import Admitted, require_admitted

NAME = "fraud-detection"


@dataclass
class Offer:
    """What an attacker offers for deployment."""

    site: Site
    chain: Chain
    decision: Path
    name: str = NAME
    now: datetime | None = None

    def deploy(self) -> Admitted:
        return require_admitted(
            self.chain.model, self.decision, self.site.trust, run_id=RUN, name=self.name, now=self.now
        )


@pytest.fixture
def offer(tmp_path: Path) -> Offer:
    site = Site(tmp_path)
    chain = site.chain()
    _, decision, _ = site.gate(chain)
    return Offer(site, chain, decision)


def test_the_genuine_decision_admits_the_model(offer: Offer) -> None:
    assert offer.deploy().decided_by == "pipeline"


def of_another_model(offer: Offer) -> None:
    _, offer.decision, _ = offer.site.gate(offer.site.chain("other"))


def of_another_run(offer: Offer) -> None:
    old = offer.site.chain("old", run_id="run-of-yesterday")
    _, offer.decision, _ = offer.site.gate(old, run_id="run-of-yesterday")
    offer.chain = old


def failed(offer: Offer) -> None:
    offer.chain = offer.site.chain("weak", training=TRAINED | {"average_precision": 0.1})
    _, offer.decision, _ = offer.site.gate(offer.chain)


def failed_turned_to_passed(offer: Offer) -> None:
    failed(offer)
    edit_payload(bundle_of(offer.decision), b'"verificationResult":"FAILED"', b'"verificationResult":"PASSED"')


def old(offer: Offer) -> None:
    offer.now = datetime.now(UTC) + timedelta(hours=25)


def for_another_service(offer: Offer) -> None:
    offer.name = "credit-scoring"


def of_a_policy_that_is_pinned_no_more(offer: Offer) -> None:
    offer.site.pin({"baseline": "ab" * 32})


def by_a_key_that_may_not_decide(offer: Offer) -> None:
    trainer = offer.site.key("trainer")
    entries = [trust_entry("pipeline", offer.site.signer), trust_entry("trainer", trainer, ["train-model"])]
    offer.site.pin({"baseline": load_policy("baseline").sha256}, entries)
    sign_payload(bundle_of(offer.decision), payload_of(bundle_of(offer.decision)), trainer)


def by_a_gate_whose_key_was_taken_away(offer: Offer) -> None:
    kinds = sorted(set(KINDS) - {"enforce-policy"})
    offer.site.pin({"baseline": load_policy("baseline").sha256}, [trust_entry("pipeline", offer.site.signer, kinds)])


def explanation_edited(offer: Offer) -> None:
    (offer.decision / "report.json").write_text("{}")


def from_the_future(offer: Offer) -> None:
    edit_statement(
        bundle_of(offer.decision),
        offer.site.signer,
        lambda s: s["predicate"].update(timeVerified="2999-01-01T00:00:00Z"),
    )


def model_changed_after_the_gate(offer: Offer) -> None:
    (offer.chain.model / "model" / "model.ubj").write_bytes(b"backdoor")


def file_beside_the_model(offer: Offer) -> None:
    (offer.chain.model / "conda.yaml").write_bytes(b"x")


def signature_replaced(offer: Offer) -> None:
    shutil.copy(offer.site.chain("other").model / "model.sig", offer.chain.model / "model.sig")


def no_decision(offer: Offer) -> None:
    offer.decision = offer.chain.drift


REPLAYS = [
    (of_another_model, codes.BYTES, r"changed 'model.ubj' \(expected [0-9a-f]{64}, found [0-9a-f]{64}\)"),
    (of_another_run, codes.OTHER_RUN, "belongs to run 'run-of-yesterday'"),
    (failed, codes.POLICY, "result 'FAILED'"),
    (failed_turned_to_passed, codes.SIGNATURE, "the signature is not"),
    (old, codes.POLICY, "too old"),
    (for_another_service, codes.POLICY, "expected 'models:/credit-scoring', found 'models:/fraud-detection'"),
    (of_a_policy_that_is_pinned_no_more, codes.POLICY, "not pinned"),
    (by_a_key_that_may_not_decide, codes.SIGNER_ROLE, "signer 'trainer' may sign train-model, not enforce-policy"),
    (by_a_gate_whose_key_was_taken_away, codes.SIGNER_ROLE, "not enforce-policy"),
    (explanation_edited, codes.ATTACHMENT, "'report.json' sha256:[0-9a-f]{64} is not bound"),
    (from_the_future, codes.FUTURE, "a time in the future"),
    (model_changed_after_the_gate, codes.BYTES, "changed 'model.ubj'"),
    (file_beside_the_model, codes.EVIDENCE, "model/ and model.sig alone"),
    (signature_replaced, codes.BYTES, "changed 'model.ubj'"),
    (no_decision, codes.NO_EVIDENCE, "expected enforce-policy.sigstore.json"),
]


@pytest.mark.parametrize(("replay", "code", "said"), REPLAYS, ids=[replay.__name__ for replay, _, _ in REPLAYS])
def test_a_decision_that_is_not_about_this_is_refused(
    offer: Offer, replay: Callable[[Offer], None], code: str, said: str
) -> None:
    replay(offer)
    with pytest.raises((EvidenceInvalid, PolicyRefused), match=said) as refusal:
        offer.deploy()
    assert refusal.value.code == code
