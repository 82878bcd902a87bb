"""Attesting: only what genuine masking evidence of this run speaks of."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from securesystemslib.signer import Signer

from forging import bundle_of, edit_statement, payload_of, sign_payload
from genuine_chain import RUN, trust_entry, write_masking
from kfp_custody.components._shared.digests import list_tree, sha256_bytes, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured, PolicyRefused
from kfp_custody.components._shared.evidence import ATTESTATION
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components.data_attestation.attestation import attest


@pytest.fixture
def masking(tmp_path: Path, dataset: Path, signer: Signer) -> Path:
    return write_masking(tmp_path / "masking", dataset, signer)


def test_the_attestation_says_what_the_dataset_is(
    tmp_path: Path, dataset: Path, masking: Path, settings: Settings
) -> None:
    done = attest(dataset, masking, tmp_path / "out", RUN, settings)
    verified = read_evidence(tmp_path / "out", ATTESTATION, load_trust(settings.trust_file), run_id=RUN)
    assert verified.subject_sha256 == list_tree(dataset).sha256 == done.listing.sha256
    assert verified.dependency("masking") == sha256_file(bundle_of(masking))
    assert verified.dependency("input") == sha256_bytes(b"raw dataset")
    assert verified.dependency("dataset") == sha256_file(tmp_path / "out" / "dataset.dvc")
    byproducts = {entry["name"]: entry for entry in verified.predicate["runDetails"]["byproducts"]}
    assert byproducts["dvc"]["annotations"]["dvc_md5"] == done.dvc.md5
    assert byproducts["dvc"]["digest"] == {"md5": done.dvc.md5.removesuffix(".dir")}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "SHA256SUMS",
        "attest-dataset.sigstore.json",
        "dataset.dvc",
    ]
    assert (tmp_path / "out" / "dataset.dvc").read_bytes() == done.dvc.pointer("dataset")
    assert done.pushed is None
    assert done.metadata() == {
        "sha256": done.listing.sha256,
        "dvc_md5": done.dvc.md5,
        "files": 2.0,
        "bytes": 16.0,
    }


def test_a_dataset_is_pushed_where_a_remote_is_configured(
    tmp_path: Path, dataset: Path, masking: Path, settings: Settings
) -> None:
    (tmp_path / "remote").mkdir()
    done = attest(dataset, masking, tmp_path / "out", RUN, replace(settings, dvc_remote=str(tmp_path / "remote")))
    md5 = done.dvc.md5
    assert done.pushed == 3
    assert (tmp_path / "remote" / "files" / "md5" / md5[:2] / md5[2:]).is_file()


def masking_of_another_run(dataset: Path, masking: Path, signer: Signer) -> None:
    edit_statement(bundle_of(masking), signer, lambda s: s["predicate"].update(custody_runId="yesterday"))


def masking_failed(dataset: Path, masking: Path, signer: Signer) -> None:
    edit_statement(bundle_of(masking), signer, lambda s: s["predicate"].update(result="FAILED"))


def byte_flipped(dataset: Path, masking: Path, signer: Signer) -> None:
    (dataset / "data.csv").write_text("a,b\n1,3\n")


def file_added(dataset: Path, masking: Path, signer: Signer) -> None:
    (dataset / "more.csv").write_text("a,b\n1,3\n")


def file_removed(dataset: Path, masking: Path, signer: Signer) -> None:
    (dataset / "data.csv").unlink()


def file_renamed(dataset: Path, masking: Path, signer: Signer) -> None:
    (dataset / "data.csv").rename(dataset / "data.txt")


def link_added(dataset: Path, masking: Path, signer: Signer) -> None:
    (dataset / "link").symlink_to("data.csv")


def dataset_is_gone(dataset: Path, masking: Path, signer: Signer) -> None:
    dataset.rename(dataset.parent / "away")


def evidence_is_gone(dataset: Path, masking: Path, signer: Signer) -> None:
    bundle_of(masking).unlink()


def no_input(dataset: Path, masking: Path, signer: Signer) -> None:
    edit_statement(bundle_of(masking), signer, lambda s: s["predicate"]["configuration"].pop(0))


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (masking_of_another_run, EvidenceInvalid, f"belongs to run 'yesterday', this is run '{RUN}'"),
        (masking_failed, PolicyRefused, "mask-pii result FAILED in bundle sha256:"),
        (byte_flipped, EvidenceInvalid, r"changed 'data.csv' \(expected [0-9a-f]{64}, found [0-9a-f]{64}\)"),
        (file_added, EvidenceInvalid, "unexpected 'more.csv'"),
        (file_removed, EvidenceInvalid, "missing 'data.csv'"),
        (file_renamed, EvidenceInvalid, "missing 'data.csv'; unexpected 'data.txt'"),
        (link_added, InputRefused, "'link' is not a regular file"),
        (dataset_is_gone, InputRefused, "'dataset' does not exist"),
        (evidence_is_gone, EvidenceInvalid, "expected mask-pii.sigstore.json"),
        (no_input, EvidenceInvalid, "0 resources named 'input'"),
    ],
)
def test_anything_else_is_refused_and_leaves_nothing(
    tmp_path: Path,
    dataset: Path,
    masking: Path,
    signer: Signer,
    settings: Settings,
    spoil: Callable[[Path, Path, Signer], None],
    kind: type[Exception],
    said: str,
) -> None:
    spoil(dataset, masking, signer)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(kind, match=said):
        attest(dataset, masking, tmp_path / "out", RUN, settings)
    assert sorted(tmp_path.iterdir()) == before


def test_masking_by_an_unknown_key_is_refused(
    tmp_path: Path, dataset: Path, masking: Path, make_signer: Callable[[str], Signer], settings: Settings
) -> None:
    sign_payload(bundle_of(masking), payload_of(bundle_of(masking)), make_signer("stranger"))
    with pytest.raises(EvidenceInvalid, match="which the trust file does not know"):
        attest(dataset, masking, tmp_path / "out", RUN, settings)


def test_masking_by_a_key_for_other_stages_is_refused(
    tmp_path: Path, dataset: Path, masking: Path, signer: Signer, settings: Settings
) -> None:
    entries = [trust_entry("pipeline", signer, ["attest-dataset"])]
    settings.trust_file.write_text(yaml.safe_dump({"version": 1, "signers": entries}))
    with pytest.raises(EvidenceInvalid, match="may sign attest-dataset, not mask-pii"):
        attest(dataset, masking, tmp_path / "out", RUN, settings)


def test_without_trust_or_signer_nothing_is_attested(
    tmp_path: Path, dataset: Path, masking: Path, settings: Settings
) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        attest(dataset, masking, tmp_path / "out", RUN, replace(settings, trust_file=tmp_path / "none"))
    with pytest.raises(Misconfigured, match="CUSTODY_SIGNER_DATA_ATTESTATION"):
        attest(dataset, masking, tmp_path / "out", RUN, replace(settings, signers={}))
