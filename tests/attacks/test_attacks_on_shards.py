"""An attacker between the shards of a dataset and their merge: every way of cheating has its own code."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from securesystemslib.signer import Signer

from forging import bundle_of, edit_statement
from genuine_chain import RUN, Site, trust_entry
from genuine_shards import POLICY, Sharding, accounts
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.evidence import ATTESTATION, MASKING, SHARD_MASKING, write_evidence
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.shards import Shard
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components._shared.verified_copies import verified_file
from kfp_custody.components.data_attestation.attestation import attest
from kfp_custody.components.pii_masking import merging
from kfp_custody.components.pii_masking.reporting import read_report

COUNT = 3


@pytest.fixture
def sharding(tmp_path: Path) -> Sharding:
    return Sharding(Site(tmp_path))


@pytest.fixture
def places(sharding: Sharding) -> list[Path]:
    return sharding.shards(COUNT)


def refused(sharding: Sharding, places: list[Path], count: int = COUNT) -> CustodyError:
    """Merge, demand a refusal, and that nothing was published."""
    with pytest.raises(CustodyError) as caught:
        sharding.merge(places, count)
    made = sharding.root / "merged"
    assert not made.exists() or not [*made.iterdir()]
    return caught.value


def edit(place: Path, output: str, signer: Signer, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the evidence of a shard says about which shard it is, and sign it again."""

    def shard(statement: dict[str, Any]) -> None:
        predicate = statement["predicate"]
        resources = predicate.get("configuration") or predicate["buildDefinition"]["resolvedDependencies"]
        change(next(entry["annotations"] for entry in resources if entry["name"] == "shard"))

    edit_statement(bundle_of(place / output), signer, shard)


# --- the set of shards -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["masked", "evidence", "attestation", ""])
def test_a_shard_that_is_missing(sharding: Sharding, places: list[Path], output: str) -> None:
    shutil.rmtree(places[1] / output)
    assert refused(sharding, places).code == codes.SHARD_SET


@pytest.mark.parametrize("instead", [True, False])
def test_a_shard_twice(sharding: Sharding, places: list[Path], instead: bool) -> None:
    shown = [places[0], places[0], places[2]] if instead else [*places, places[0]]
    assert refused(sharding, shown).code == codes.SHARD_SET


def test_a_tree_that_no_evidence_speaks_of(sharding: Sharding, places: list[Path]) -> None:
    shutil.copytree(places[0] / "masked", sharding.root / "more" / "masked")
    assert refused(sharding, [*places, sharding.root / "more"]).code == codes.SHARD_SET


def test_no_shard_at_all(sharding: Sharding) -> None:
    assert refused(sharding, []).code == codes.SHARD_SET


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_shards_than_the_pipeline_says(sharding: Sharding, places: list[Path], count: int) -> None:
    assert refused(sharding, places, count).code == codes.SHARD_SET


def test_a_shard_of_another_cut(sharding: Sharding, places: list[Path]) -> None:
    other = sharding.shard(sharding.root / "other", (1, COUNT + 1))
    assert refused(sharding, [places[0], other, places[2]]).code == codes.SHARD_SET


# --- where shards come from ------------------------------------------------------------------------------------------


def test_a_shard_of_another_run(sharding: Sharding, places: list[Path]) -> None:
    other = sharding.shard(sharding.root / "other", (1, COUNT), run_id="another-run")
    assert refused(sharding, [places[0], other, places[2]]).code == codes.OTHER_RUN


def test_a_shard_of_other_raw_data(sharding: Sharding, places: list[Path]) -> None:
    data = sharding.table("other-raw", accounts(31).slice(1))
    other = sharding.shard(sharding.root / "other", (1, COUNT), data=data)
    refusal = refused(sharding, [places[0], other, places[2]])
    assert refusal.code == codes.SHARD_ORIGIN
    assert list_tree(data).sha256 in refusal.evidence
    assert list_tree(sharding.raw).sha256 in refusal.evidence


def test_a_shard_of_another_policy(sharding: Sharding, places: list[Path]) -> None:
    policy = sharding.root / "lenient.yaml"
    policy.write_text(POLICY.replace("keep_last: 4", "keep_last: 8"))
    other = sharding.shard(sharding.root / "other", (1, COUNT), policy=policy)
    assert refused(sharding, [places[0], other, places[2]]).code == codes.SHARD_ORIGIN


def test_a_shard_under_another_key(sharding: Sharding, places: list[Path]) -> None:
    settings = replace(sharding.settings, masking_key=str(sharding.masking_key("other", "00" * 32)))
    other = sharding.shard(sharding.root / "other", (1, COUNT), settings=settings)
    assert refused(sharding, [places[0], other, places[2]]).code == codes.SHARD_ORIGIN


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_one_bit_of_a_shard(sharding: Sharding, places: list[Path]) -> None:
    path = places[1] / "masked" / "data.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refusal = refused(sharding, places)
    assert refusal.code == codes.BYTES
    assert "shard 1 of 3" in refusal.what
    assert "data.parquet" in refusal.evidence


def test_one_bit_of_a_shard_before_it_is_attested(sharding: Sharding) -> None:
    place = sharding.mask(sharding.root / "shard", (0, COUNT))
    with open(place / "masked" / "data.parquet", "ab") as file:
        file.write(b"\0")
    with pytest.raises(CustodyError) as caught:
        sharding.attest(place)
    assert caught.value.code == codes.BYTES
    assert not (place / "attestation").exists()


def test_one_more_file_in_a_shard(sharding: Sharding, places: list[Path]) -> None:
    (places[0] / "masked" / "more.parquet").write_bytes(b"PAR1")
    assert refused(sharding, places).code == codes.BYTES


def test_a_link_in_the_place_of_a_shards_file(sharding: Sharding, places: list[Path]) -> None:
    path = places[0] / "masked" / "data.parquet"
    path.rename(sharding.root / "elsewhere")
    path.symlink_to(sharding.root / "elsewhere")
    assert refused(sharding, places).code == codes.NOT_LISTABLE


def test_bytes_that_change_after_they_were_verified_are_not_merged(sharding: Sharding, places: list[Path]) -> None:
    path = places[0] / "masked" / "data.parquet"
    listing, original = list_tree(path.parent), path.read_bytes()
    shard = Shard(0, COUNT, 30)
    with verified_file(path, listing, str(shard), sharding.root) as copy:
        path.write_bytes(b"PAR1 something else")
        assert copy.read() == original
    with pytest.raises(CustodyError) as caught, verified_file(path, listing, str(shard), sharding.root):
        pass
    assert caught.value.code == codes.BYTES


def test_the_report_of_another_shard(sharding: Sharding, places: list[Path]) -> None:
    shutil.copy(places[0] / "evidence" / "report.json", places[1] / "evidence" / "report.json")
    assert refused(sharding, places).code == codes.ATTACHMENT


# --- evidence in the wrong place -------------------------------------------------------------------------------------


def test_a_shard_never_stands_for_the_dataset(sharding: Sharding, places: list[Path]) -> None:
    """Neither as it is, nor renamed, for attest_dataset ..."""
    place, settings = places[0], sharding.settings
    for code in (codes.NO_EVIDENCE, codes.KIND):
        with pytest.raises(CustodyError) as caught:
            attest(place / "masked", place / "evidence", sharding.root / "attested", RUN, settings)
        assert caught.value.code == code
        if code == codes.NO_EVIDENCE:
            bundle_of(place / "evidence").rename(place / "evidence" / "mask-pii.sigstore.json")


def test_an_attestation_of_a_shard_is_none_of_the_dataset(sharding: Sharding, places: list[Path]) -> None:
    """... nor for the stages after it."""
    bundle = bundle_of(places[0] / "attestation")
    bundle.rename(bundle.with_name("attest-dataset.sigstore.json"))
    with pytest.raises(CustodyError) as caught:
        read_evidence(places[0] / "attestation", ATTESTATION, sharding.site.trust, run_id=RUN)
    assert caught.value.code == codes.KIND


@pytest.mark.parametrize(("renamed", "code"), [(False, codes.NO_EVIDENCE), (True, codes.KIND)])
def test_the_masking_of_a_whole_dataset_is_no_shard(
    sharding: Sharding, places: list[Path], renamed: bool, code: str
) -> None:
    whole = sharding.mask(sharding.root / "whole", None)
    if renamed:
        bundle = bundle_of(whole / "evidence")
        bundle.rename(bundle.with_name(f"{SHARD_MASKING.name}.sigstore.json"))
    assert refused(sharding, [whole, places[1], places[2]]).code == code


def test_the_attestation_of_another_shard(sharding: Sharding, places: list[Path]) -> None:
    shutil.rmtree(places[1] / "attestation")
    shutil.copytree(places[0] / "attestation", places[1] / "attestation")
    assert refused(sharding, places).code == codes.SHARD_SET


def test_an_attestation_of_an_earlier_masking_of_the_same_shard(sharding: Sharding, places: list[Path]) -> None:
    again = sharding.mask(sharding.root / "again", (1, COUNT))
    shutil.copytree(places[1] / "attestation", again / "attestation")
    assert refused(sharding, [places[0], again, places[2]]).code == codes.LINK


# --- what the evidence says ------------------------------------------------------------------------------------------

FORGERIES: dict[str, dict[str, int]] = {
    "the number of another shard": {"number": 2, "first_row": 20, "end_row": 30},
    "rows that overlap": {"first_row": 9},
    "rows with a gap": {"first_row": 11},
    "rows of another cut": {"of": 2, "first_row": 15, "end_row": 30},
    "a dataset with fewer rows": {"rows": 20, "first_row": 6, "end_row": 13},
}


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES)
def test_a_forger_without_a_trusted_key(sharding: Sharding, places: list[Path], forged: dict[str, int]) -> None:
    stranger = sharding.site.key("stranger")
    edit(places[1], "evidence", stranger, lambda said: said.update(forged))
    assert refused(sharding, places).code == codes.SIGNER_UNKNOWN


@pytest.mark.parametrize("name", FORGERIES)
def test_a_masking_signer_that_lies_about_its_shard(sharding: Sharding, places: list[Path], name: str) -> None:
    """Rows are compared with what the number stands for, with the shard's own report, and with the other shards."""
    edit(places[1], "evidence", sharding.site.signer, lambda said: said.update(FORGERIES[name]))
    expected = codes.SHARD_SET if name == "the number of another shard" else codes.SHARD_ROWS
    assert refused(sharding, places).code == expected


def test_a_statement_that_says_other_than_its_report(sharding: Sharding, places: list[Path]) -> None:
    def more_findings(statement: dict[str, Any]) -> None:
        statement["predicate"]["custody_metrics"]["entities"] = 1000.0

    edit_statement(bundle_of(places[1] / "evidence"), sharding.site.signer, more_findings)
    assert refused(sharding, places).code == codes.VALUE


@pytest.mark.parametrize(
    ("instead", "code"),
    [
        (None, codes.INPUT),
        (lambda table: table.slice(1), codes.SHARD_ROWS),
        (lambda table: table.drop_columns(["amount"]), codes.INPUT),
    ],
    ids=["no Parquet", "fewer rows", "other columns"],
)
def test_a_masking_signer_whose_file_is_not_what_it_says(
    sharding: Sharding, places: list[Path], instead: Callable[[pa.Table], pa.Table] | None, code: str
) -> None:
    """Its digest, its report and its attestation are right; only the file is something else."""
    place, path = places[1], places[1] / "masked" / "data.parquet"
    if instead is None:
        path.write_bytes(b"PAR1 and nothing else")
    else:
        pq.write_table(instead(pq.read_table(path)), path, store_schema=False)
    subject = list_tree(path.parent)
    report = replace(read_report((place / "evidence/report.json").read_bytes()), masked_sha256=subject.sha256)
    more = [Shard(1, COUNT, 30).resource()]
    statement = report.statement(SHARD_MASKING, subject, RUN, merging.CHECKS, more)
    for output in ("evidence", "attestation"):
        shutil.rmtree(place / output)
    write_evidence(place / "evidence", statement, sharding.site.signer, subject, report.json())
    sharding.attest(place)
    assert refused(sharding, places).code == code


def test_two_shards_with_their_numbers_exchanged(sharding: Sharding, places: list[Path]) -> None:
    signer = sharding.site.signer
    first, second = {"number": 0, "first_row": 0, "end_row": 10}, {"number": 1, "first_row": 10, "end_row": 20}
    edit(places[0], "evidence", signer, lambda said: said.update(second))
    edit(places[1], "evidence", signer, lambda said: said.update(first))
    assert refused(sharding, places).code == codes.LINK, "the attestations are about what was signed before"


def test_an_attestation_that_names_another_shard(sharding: Sharding, places: list[Path]) -> None:
    lie = {"number": 0, "first_row": 0, "end_row": 10}
    edit(places[1], "attestation", sharding.site.signer, lambda said: said.update(lie))
    assert refused(sharding, places).code == codes.SHARD_SET


@pytest.mark.parametrize("said", [{"number": "1"}, {"of": True}, {"rows": 0}, {"number": 3}, {"of": 0}, {"more": 1}])
def test_a_shard_that_cannot_be(sharding: Sharding, places: list[Path], said: dict[str, Any]) -> None:
    edit(places[1], "evidence", sharding.site.signer, lambda found: found.update(said))
    assert refused(sharding, places).code == codes.VALUE


def test_a_shard_whose_masking_failed(sharding: Sharding, places: list[Path]) -> None:
    place = sharding.mask(sharding.root / "failed", (1, COUNT))
    bundle = bundle_of(place / "evidence")
    edit_statement(bundle, sharding.site.signer, lambda statement: statement["predicate"].update(result="FAILED"))
    with pytest.raises(CustodyError) as caught:
        sharding.attest(place)
    assert caught.value.code == codes.POLICY
    assert refused(sharding, [places[0], place, places[2]]).code == codes.POLICY


# --- who may sign ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["mask-shard", "attest-shard"])
def test_a_signer_for_whole_datasets_may_not_speak_for_shards(
    sharding: Sharding, places: list[Path], missing: str
) -> None:
    sharding.site.pin({}, [trust_entry("pipeline", sharding.site.signer, [name for name in KINDS if name != missing])])
    assert refused(sharding, places).code == codes.SIGNER_ROLE


def test_a_signer_for_shards_may_not_speak_for_the_dataset(sharding: Sharding, places: list[Path]) -> None:
    _, made = sharding.merge(places, COUNT)
    sharding.site.pin({}, [trust_entry("pipeline", sharding.site.signer, ["mask-shard", "attest-shard"])])
    with pytest.raises(CustodyError) as caught:
        read_evidence(made / "evidence", MASKING, sharding.site.trust, run_id=RUN)
    assert caught.value.code == codes.SIGNER_ROLE
