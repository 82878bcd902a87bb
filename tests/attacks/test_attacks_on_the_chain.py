"""An attacker with write access to everything between the stages, and the gate that decides."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from forging import edit_bundle, edit_payload, edit_statement, payload_of, sign_payload
from genuine_chain import RUN, Site, write_masking, write_tree
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import DECISION, now, stamp
from kfp_custody.components._shared.model_signature import sign_model_tree
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components.policy_gate import policy as policy_module
from kfp_custody.components.policy_gate.checks import Chain


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def chain(site: Site) -> Chain:
    return site.chain()


class Failed(dict[str, str]):
    """The failed checks with their details; `codes` has their codes."""

    codes: dict[str, str]


def refused(site: Site, chain: Chain) -> Failed:
    """Ask the gate; the decision must be a signed FAILED, and every failed check has a code."""
    done, evidence, html = site.gate(chain)
    assert done.verdict == "FAILED"
    assert read_evidence(evidence, DECISION, site.trust, run_id=RUN).result == "FAILED"
    assert ">REFUSED<" in html
    failed = Failed({check.id: check.detail for check in done.failed})
    failed.codes = {check.id: check.code for check in done.failed}
    assert set(failed.codes.values()) <= set(codes.CODES)
    return failed


# --- trees -----------------------------------------------------------------------------------------------------------


def first(tree: Path) -> Path:
    return min(path for path in tree.iterdir() if path.is_file())


def flip(tree: Path) -> str:
    path = first(tree)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    return rf"changed '{path.name}' \(expected [0-9a-f]{{64}}, found [0-9a-f]{{64}}\)"


def add(tree: Path) -> str:
    (tree / "zz").write_bytes(b"more")
    return "unexpected 'zz'"


def add_empty_hidden(tree: Path) -> str:
    (tree / ".git").mkdir()
    (tree / ".git" / "HEAD").touch()
    return "unexpected '.git/HEAD'"


def remove(tree: Path) -> str:
    path = first(tree)
    (tree / "keep").write_bytes(b"so that the tree is not empty")
    path.unlink()
    return f"missing '{path.name}'; unexpected 'keep'"


def rename(tree: Path) -> str:
    path = first(tree)
    path.rename(path.with_name(path.name + "x"))
    return f"missing '{path.name}'; unexpected '{path.name}x'"


def link(tree: Path) -> str:
    (tree / "link").symlink_to(first(tree).name)
    return "'link' is not a regular file"


def link_with_the_same_bytes(tree: Path) -> str:
    path = first(tree)
    elsewhere = tree.parent / f"{tree.name}-elsewhere"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    return f"'{path.name}' is not a regular file"


def linked_root(tree: Path) -> str:
    elsewhere = tree.parent / f"{tree.name}-elsewhere"
    shutil.move(tree, elsewhere)
    tree.symlink_to(elsewhere)
    return f"'{tree.name}' is not a regular file"


def empty_folder(tree: Path) -> str:
    (tree / "nothing").mkdir()
    return "'nothing/' is not a regular file or a folder with files"


def pipe(tree: Path) -> str:
    os.mkfifo(tree / "pipe")
    return "'pipe' is not a regular file"


def twin_in_another_normal_form(tree: Path) -> str:
    (tree / "e\u0301").write_bytes(b"x")
    return r"'e\\u0301': it is not in Unicode normal form C"


def twin_in_another_case(tree: Path) -> str:
    path = first(tree)
    path.with_name(path.name.upper()).write_bytes(path.read_bytes())
    return f"'{path.name}'"


def emptied(tree: Path) -> str:
    for path in list(tree.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return "0 files"


def gone(tree: Path) -> str:
    shutil.rmtree(tree)
    return f"'{tree.name}' does not exist"


TREES = {
    "dataset": ({"bytes:dataset=dataset", "bytes:dataset=masking"}, lambda chain: chain.dataset),
    "current": ({"bytes:current-dataset=current-masking", "bytes:current-dataset=drift"}, lambda chain: chain.current),
    "model": (
        {"evidence:model", "bytes:model=training", "link:model.files->training", "requires:sign-model"},
        lambda chain: chain.model / "model",
    ),
}


TAMPERS = [
    (flip, codes.BYTES),
    (add, codes.BYTES),
    (add_empty_hidden, codes.BYTES),
    (remove, codes.BYTES),
    (rename, codes.BYTES),
    (link, codes.NOT_LISTABLE),
    (link_with_the_same_bytes, codes.NOT_LISTABLE),
    (linked_root, codes.NOT_LISTABLE),
    (empty_folder, codes.NOT_LISTABLE),
    (pipe, codes.NOT_LISTABLE),
    (twin_in_another_normal_form, codes.NAME_UNSAFE),
    (twin_in_another_case, codes.NAME_TWINS),
    (emptied, codes.TREE_EMPTY),
    (gone, codes.TREE_MISSING),
]


@pytest.mark.parametrize("artifact", list(TREES))
@pytest.mark.parametrize(("tamper", "code"), TAMPERS, ids=[tamper.__name__ for tamper, _ in TAMPERS])
def test_a_tree_that_was_changed_is_refused(
    site: Site, chain: Chain, artifact: str, tamper: Callable[[Path], str], code: str
) -> None:
    checks, where = TREES[artifact]
    tree = where(chain)
    before = list_tree(tree).sha256
    said = tamper(tree)
    failed = refused(site, chain)
    assert set(failed) == checks
    for check in checks:
        if check.startswith("bytes:"):
            assert re.search(said, failed[check]), failed[check]
            assert failed.codes[check] == code
    if tamper in (flip, add, remove, rename):
        both = f"expected sha256:{before}, found sha256:{list_tree(tree).sha256}"
        assert all(both in detail for check, detail in failed.items() if check.startswith("bytes:"))


# --- evidence, edited in place ---------------------------------------------------------------------------------------

PIECES: dict[str, Callable[[Chain], Path]] = {
    "masking": lambda chain: chain.masking / "mask-pii.sigstore.json",
    "dataset": lambda chain: chain.attestation / "attest-dataset.sigstore.json",
    "training": lambda chain: chain.provenance / "train-model.sigstore.json",
    "current-masking": lambda chain: chain.current_masking / "mask-pii.sigstore.json",
    "drift": lambda chain: chain.drift / "check-drift.sigstore.json",
    "model": lambda chain: chain.model / "model.sig",
}


def edited_payload(bundle: Path, site: Site) -> str:
    edit_payload(bundle, b"sha256", b"sha257")
    return "the signature is not by 'pipeline' over this payload"


def unsigned(bundle: Path, site: Site) -> str:
    edit_bundle(bundle, lambda document: document["dsseEnvelope"].update(signatures=[]))
    return "it does not hold exactly one signature"


def truncated(bundle: Path, site: Site) -> str:
    bundle.write_bytes(bundle.read_bytes()[:-100])
    return "it is no JSON"


def emptied_file(bundle: Path, site: Site) -> str:
    bundle.write_bytes(b"")
    return "it is empty"


def duplicated_key(bundle: Path, site: Site) -> str:
    bundle.write_text(bundle.read_text().replace("{", '{"mediaType":"x",', 1))
    return "the name 'mediaType' stands in it twice"


def duplicated_key_in_the_signed_statement(bundle: Path, site: Site) -> str:
    sign_payload(bundle, payload_of(bundle).replace(b"{", b'{"_type":"x",', 1), site.signer)
    return "the name '_type' stands in it twice"


def wrong_key(bundle: Path, site: Site) -> str:
    sign_payload(bundle, payload_of(bundle), site.key("stranger"))
    return "which the trust file does not know"


def removed(bundle: Path, site: Site) -> str:
    bundle.unlink()
    return "is missing|holds .*, expected"


def hostile_text(bundle: Path, site: Site) -> str:
    edit_bundle(bundle, lambda document: document.update({"<script>\x1b[2J": 1}))
    return r"unknown '<script>\\x1b\[2J'"


def half_a_character(bundle: Path, site: Site) -> str:
    edit_bundle(bundle, lambda document: document.update({"\ud800": 1}))
    return "it is no JSON"


FORGERIES = [
    (edited_payload, {codes.SIGNATURE}),
    (unsigned, {codes.SIGNATURE_COUNT}),
    (truncated, {codes.MALFORMED}),
    (emptied_file, {codes.EMPTY}),
    (duplicated_key, {codes.NAME_TWICE}),
    (duplicated_key_in_the_signed_statement, {codes.NAME_TWICE}),
    (wrong_key, {codes.SIGNER_UNKNOWN}),
    (removed, {codes.NO_EVIDENCE, codes.MODEL_UNSIGNED}),
    (hostile_text, {codes.FIELDS}),
    (half_a_character, {codes.MALFORMED}),
]


@pytest.mark.parametrize("piece", list(PIECES))
@pytest.mark.parametrize(("forge", "expected"), FORGERIES, ids=[forge.__name__ for forge, _ in FORGERIES])
def test_a_piece_of_evidence_that_was_changed_is_refused(
    site: Site, chain: Chain, piece: str, forge: Callable[[Path, Site], str], expected: set[str]
) -> None:
    said = forge(PIECES[piece](chain), site)
    failed = refused(site, chain)
    assert re.search(said, failed[f"evidence:{piece}"]), failed[f"evidence:{piece}"]
    assert failed.codes[f"evidence:{piece}"] in expected
    others = [check for check in failed if check.startswith("evidence:") and check != f"evidence:{piece}"]
    assert others == []


# --- genuine evidence, where it does not belong ----------------------------------------------------------------------


def swap_tree(site: Site, chain: Chain, other: Chain, field: str) -> Chain:
    return replace(chain, **{field: getattr(other, field)})


@pytest.mark.parametrize(
    ("field", "piece"),
    [
        ("masking", "masking"),
        ("attestation", "dataset"),
        ("provenance", "training"),
        ("current_masking", "current-masking"),
        ("drift", "drift"),
        ("source", "source"),
        ("current_source", "current-source"),
    ],
)
def test_evidence_of_another_run_is_refused(site: Site, chain: Chain, field: str, piece: str) -> None:
    yesterday = site.chain("old", run_id="run-of-yesterday")
    failed = refused(site, replace(chain, **{field: getattr(yesterday, field)}))
    assert f"belongs to run 'run-of-yesterday', this is run '{RUN}'" in failed[f"evidence:{piece}"]
    assert failed.codes[f"evidence:{piece}"] == codes.OTHER_RUN


def test_a_whole_chain_of_another_run_is_refused(site: Site) -> None:
    failed = refused(site, site.chain("old", run_id="run-of-yesterday"))
    assert {f"evidence:{piece}" for piece in PIECES if piece != "model"} <= set(failed)


@pytest.mark.parametrize(
    ("field", "checks"),
    [
        ("dataset", {"bytes:dataset=dataset", "bytes:dataset=masking"}),
        ("source", {"link:masking.source->source", "link:masking.input->source", "link:dataset.source->source"}),
        (
            "current_source",
            {"link:current-masking.source->current-source", "link:current-masking.input->current-source"},
        ),
        (
            "masking",
            {
                "bytes:dataset=masking",
                "link:dataset.masking->masking",
                "link:masking.source->source",
                "link:masking.input->source",
            },
        ),
        (
            "attestation",
            {
                "link:dataset.source->source",
                "bytes:dataset=dataset",
                "link:dataset.masking->masking",
                "link:training.attestation->dataset",
                "link:drift.attestation->dataset",
                "link:training.dataset->dataset",
                "link:drift.reference->dataset",
            },
        ),
        (
            "provenance",
            {
                "bytes:model=training",
                "link:training.attestation->dataset",
                "link:training.dataset->dataset",
                "link:drift.provenance->training",
                "link:drift.model->training",
                "link:model.files->training",
            },
        ),
        ("model", {"bytes:model=training", "link:model.files->training"}),
        ("current", {"bytes:current-dataset=current-masking", "bytes:current-dataset=drift"}),
        (
            "current_masking",
            {
                "bytes:current-dataset=current-masking",
                "link:drift.current_masking->current-masking",
                "link:current-masking.source->current-source",
                "link:current-masking.input->current-source",
            },
        ),
        (
            "drift",
            {
                "bytes:current-dataset=drift",
                "link:drift.attestation->dataset",
                "link:drift.provenance->training",
                "link:drift.current_masking->current-masking",
                "link:drift.reference->dataset",
                "link:drift.model->training",
            },
        ),
    ],
)
def test_a_genuine_piece_of_another_release_in_the_same_run_is_refused(
    site: Site, chain: Chain, field: str, checks: set[str]
) -> None:
    """Everything is genuine, signed by the right signer, and of this run: only the links tell."""
    other = site.chain("other")
    failed = refused(site, replace(chain, **{field: getattr(other, field)}))
    assert checks <= set(failed)
    assert {check for check in failed if not check.startswith("link:dataset.input")} == checks
    for check in checks:
        assert len(set(re.findall(r"sha256:([0-9a-f]{64})", failed[check]))) == 2, failed[check]
        assert failed.codes[check] == (codes.BYTES if check.startswith("bytes:") else codes.LINK)


def test_a_swapped_model_with_its_own_signature_by_an_untrusted_key_is_refused(site: Site, chain: Chain) -> None:
    model = write_tree(site.root / "evil" / "model", {"model.ubj": b"backdoor"})
    sign_model_tree(model, model.parent / "model.sig", site.key("stranger"))
    failed = refused(site, replace(chain, model=model.parent))
    assert "which the trust file does not know" in failed["evidence:model"]
    assert list_tree(model).sha256 in failed["bytes:model=training"]


def test_a_swapped_model_with_its_own_trusted_signature_is_refused(site: Site, chain: Chain) -> None:
    """A signature alone cannot know which run its model is of."""
    old = site.chain("old", run_id="run-of-yesterday")
    failed = refused(site, replace(chain, model=old.model))
    assert set(failed) == {"bytes:model=training", "link:model.files->training"}
    expected, found = list_tree(chain.model / "model").sha256, list_tree(old.model / "model").sha256
    assert f"expected sha256:{expected}, found sha256:{found}" in failed["bytes:model=training"]


def test_a_swapped_model_with_its_own_provenance_is_refused(site: Site, chain: Chain) -> None:
    other = site.chain("other")
    failed = refused(site, replace(chain, model=other.model, provenance=other.provenance))
    assert "bytes:model=training" not in failed
    assert "link:training.dataset->dataset" in failed


def test_another_models_signature_is_refused(site: Site, chain: Chain) -> None:
    shutil.copy(site.chain("other").model / "model.sig", chain.model / "model.sig")
    failed = refused(site, chain)
    assert "changed 'model.ubj'" in failed["evidence:model"]


def test_the_training_month_does_not_pass_as_the_present_one(site: Site, chain: Chain) -> None:
    """Nothing drifts from itself."""
    failed = refused(site, replace(chain, current=chain.dataset, current_masking=chain.masking))
    assert set(failed) == {
        "bytes:current-dataset=drift",
        "link:drift.current_masking->current-masking",
        "link:current-masking.source->current-source",
        "link:current-masking.input->current-source",
        "rule:drift-against-other-data",
    }


def test_one_kind_of_evidence_does_not_pass_as_another(site: Site, chain: Chain) -> None:
    """Even renamed, and although the same key may sign both."""
    shutil.rmtree(chain.drift)
    shutil.copytree(chain.current_masking, chain.drift)
    (chain.drift / "mask-pii.sigstore.json").rename(chain.drift / "check-drift.sigstore.json")
    failed = refused(site, chain)
    assert "/mask-pii/v1', not" in failed["evidence:drift"]
    assert failed.codes["evidence:drift"] == codes.KIND


def test_masking_evidence_made_again_for_other_bytes_is_refused(site: Site, chain: Chain) -> None:
    """By a signer that may: the attestation still names the bundle it was made from."""
    shutil.rmtree(chain.masking)
    write_masking(chain.masking, chain.dataset, site.signer, source=chain.source, metrics={"rows": 1})
    failed = refused(site, chain)
    assert set(failed) == {"link:dataset.masking->masking"}


def test_a_source_that_the_masking_names_has_to_be_shown(site: Site, chain: Chain) -> None:
    failed = refused(site, replace(chain, source=None))
    assert {check: failed.codes[check] for check in failed} == {
        "link:masking.source->source": codes.LINK,
        "link:masking.input->source": codes.CHECK_NOT_MADE,
        "link:dataset.source->source": codes.LINK,
    }


def test_a_source_that_the_masking_does_not_name_speaks_for_nothing(site: Site, chain: Chain) -> None:
    failed = refused(site, replace(site.chain("plain", fetched=False), source=chain.source))
    assert {check: failed.codes[check] for check in failed} == {
        "link:masking.source->source": codes.LINK_MISSING,
        "link:masking.input->source": codes.LINK,
        "link:dataset.source->source": codes.LINK_MISSING,
    }


def test_an_edited_policy_is_refused(site: Site, chain: Chain, tmp_path: Path) -> None:
    shipped = Path(policy_module.__file__).parent / "policies" / "baseline.yaml"
    (tmp_path / "policy.yaml").write_bytes(shipped.read_bytes().replace(b">= 0.5", b">= 0.0"))
    done, _, _ = site.gate(chain, policy=str(tmp_path / "policy.yaml"))
    assert [(check.id, check.code) for check in done.failed] == [("policy:pinned", codes.POLICY_NOT_PINNED)]
    assert len(set(re.findall(r"sha256:([0-9a-f]{64})", done.failed[0].detail))) == 2


@pytest.mark.parametrize(
    ("field", "check"),
    [("dataset", "bytes:dataset=dataset"), ("masking", "evidence:masking"), ("drift", "evidence:drift")],
)
def test_what_the_system_cannot_read_is_a_finding_not_an_accident(
    site: Site, chain: Chain, field: str, check: str
) -> None:
    failed = refused(site, replace(chain, **{field: site.root / ("x" * 300)}))
    assert "File name too long" in failed[check]
    assert failed.codes[check] == codes.SYSTEM


# --- what a platform may do to a run by itself -----------------------------------------------------------------------


def cached_training(site: Site, chain: Chain) -> Chain:
    """A cache hit hands over what an earlier run made, with its genuine evidence."""
    earlier = site.chain("earlier", run_id="run-of-yesterday")
    return replace(chain, provenance=earlier.provenance, model=earlier.model)


def cached_model_beside_fresh_evidence(site: Site, chain: Chain) -> Chain:
    return replace(chain, model=site.chain("earlier", run_id="run-of-yesterday").model)


def attestation_deleted(site: Site, chain: Chain) -> Chain:
    shutil.rmtree(chain.attestation)
    return chain


def attestation_emptied(site: Site, chain: Chain) -> Chain:
    for path in chain.attestation.iterdir():
        path.unlink()
    return chain


def drift_evidence_never_made(site: Site, chain: Chain) -> Chain:
    return replace(chain, drift=site.root / "nothing")


def huge_bundle(site: Site, chain: Chain) -> Chain:
    os.truncate(chain.provenance / "train-model.sigstore.json", 2**28)  # sparse: more than any reader may load
    return chain


def huge_listing(site: Site, chain: Chain) -> Chain:
    os.truncate(chain.attestation / "SHA256SUMS", 2**28 + 1)
    return chain


def image_tag_for_a_digest(site: Site, chain: Chain) -> Chain:
    def tag(statement: dict[str, Any]) -> None:
        inputs = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        inputs.append({"name": "image", "digest": {"sha256": "registry.example.com/train:1.2"}})

    edit_statement(chain.provenance / "train-model.sigstore.json", site.signer, tag)
    return chain


def clock_a_day_ahead(site: Site, chain: Chain) -> Chain:
    ahead = stamp(now() + timedelta(days=1))
    edit_statement(
        chain.masking / "mask-pii.sigstore.json",
        site.signer,
        lambda statement: statement["predicate"].update(custody_finishedOn=ahead),
    )
    return chain


PLATFORM = [
    (cached_training, "evidence:training", codes.OTHER_RUN),
    (cached_model_beside_fresh_evidence, "bytes:model=training", codes.BYTES),
    (attestation_deleted, "evidence:dataset", codes.NO_EVIDENCE),
    (attestation_emptied, "evidence:dataset", codes.NO_EVIDENCE),
    (drift_evidence_never_made, "evidence:drift", codes.NO_EVIDENCE),
    (huge_bundle, "evidence:training", codes.TOO_LARGE),
    (huge_listing, "evidence:dataset", codes.TOO_LARGE),
    (image_tag_for_a_digest, "evidence:training", codes.RESOURCE),
    (clock_a_day_ahead, "evidence:masking", codes.FUTURE),
]


@pytest.mark.parametrize(("happen", "check", "code"), PLATFORM, ids=[happen.__name__ for happen, _, _ in PLATFORM])
def test_what_a_platform_did_to_a_run_is_refused(
    site: Site, chain: Chain, happen: Callable[[Site, Chain], Chain], check: str, code: str
) -> None:
    failed = refused(site, happen(site, chain))
    assert failed.codes[check] == code


# --- between verification and load -----------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before it is read", "after it is read"])
def test_a_model_that_changes_while_it_is_served_is_never_loaded(site: Site, chain: Chain, moment: str) -> None:
    """The server verifies the very bytes that it loads, so what happens to the files later does not matter."""
    from kfp_custody.components.seldon_deployment.serving import verified

    signature = {"schema_version": 1, "format": "xgboost-ubj", "file": "model.ubj", "label": "y", "threshold": 0.5}
    signature |= {"features": [{"name": "x", "type": "number"}], "trusted_types": []}
    model = write_tree(site.root / "m" / "model", {"model.ubj": b"w", "signature.json": canonical_json(signature)})
    sign_model_tree(model, model.parent / "model.sig", site.signer)
    pins = {"listing_sha256": list_tree(model).sha256, "signature_sha256": sha256_file(model.parent / "model.sig")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUSTODY_TRUST", str(site.trust_path))
        if moment == "before it is read":
            (model / "model.ubj").write_bytes(b"backdoor")
            with pytest.raises(EvidenceInvalid, match="not the one that was admitted"):
                verified.verified_files(model.parent, pins)
        else:
            listing, files = verified.verified_files(model.parent, pins)
            (model / "model.ubj").write_bytes(b"backdoor")
            assert files["model.ubj"] == b"w"
            assert listing == pins["listing_sha256"]
