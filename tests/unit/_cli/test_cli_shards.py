"""`kfp-custody verify` and `show` on a release whose dataset was masked in shards."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from releases import Release, build

from forging import bundle_of, edit_statement
from genuine_chain import Site
from genuine_shards import Sharding, accounts
from kfp_custody.components._shared.digests import sha256_file
from kfp_custody.components._shared.evidence import resource

SHARDS = tuple(f"masking.{kind}-{number}" for kind in ("mask-shard", "attest-shard") for number in (0, 1))
Resources = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def sharding(tmp_path_factory: pytest.TempPathFactory) -> Sharding:
    return Sharding(Site(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def made(sharding: Sharding) -> tuple[list[Path], Path]:
    places = sharding.shards(2)
    return places, sharding.merge(places, 2)[1]


@pytest.fixture(scope="module")
def genuine(sharding: Sharding, made: tuple[list[Path], Path]) -> Release:
    places, merged = made
    release = build(sharding.site, merged=merged)
    for place in places:
        shutil.copytree(place, release / place.name)
    return Release(release, sharding.site)


@pytest.fixture
def release(genuine: Release, tmp_path: Path) -> Release:
    return Release(shutil.copytree(genuine.root, tmp_path / "release"), genuine.site)


def forged(
    sharding: Sharding, made: tuple[list[Path], Path], tmp_path: Path, edit: Callable[[Resources], None]
) -> Release:
    """Leave a release whose masking is signed by a trusted key, and says something else about its shards."""
    places, genuine = made
    merged = shutil.copytree(genuine, tmp_path / "merged")

    def change(statement: dict[str, Any]) -> None:
        found = {entry["name"]: entry for entry in statement["predicate"]["configuration"]}
        edit(found)
        statement["predicate"]["configuration"] = list(found.values())

    edit_statement(bundle_of(merged / "evidence"), sharding.site.signer, change)
    release = build(sharding.site, tmp_path.name, merged=merged)
    for place in places:
        shutil.copytree(place, release / place.name)
    return Release(release, sharding.site)


def causes(refused: dict[str, str]) -> dict[str, str]:
    """Leave out what could not be checked because of something else."""
    return {check: code for check, code in refused.items() if code != "CUS-E311"}


def test_a_genuine_release_in_shards_holds(release: Release) -> None:
    answer = release.accepted("--require-bytes", "--policy", "baseline")
    pieces = {piece["name"]: piece for piece in answer["evidence"]}
    assert set(SHARDS) < set(pieces)
    assert all(piece["accepted"] for piece in pieces.values())
    assert pieces["masking.mask-shard-1"]["kind"] == "mask-shard"
    details = {check["id"]: check["detail"] for check in answer["checks"]}
    assert details["link:masking.rows->shards"] == "2 shards, 30 rows, each row once; every shard attested"
    assert "bytes:mask-shard-0=masking" in details
    assert answer["notes"] == []


def test_the_shards_are_drawn_below_the_masking(release: Release, tmp_path: Path) -> None:
    result = release.ask("--html", str(tmp_path / "chain.html"), command="show")
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    start = next(number for number, line in enumerate(lines) if "mask-pii" in line)
    assert lines[start].endswith("<- shards")
    assert lines[start + 1].startswith("shard 0 of 2: rows 0 to 15, sha256:")
    assert lines[start + 2].startswith("shard 1 of 2: rows 15 to 30, sha256:")
    page = (tmp_path / "chain.html").read_text()
    assert all(name in page for name in SHARDS)


def test_shards_whose_bytes_are_not_there_are_named(release: Release) -> None:
    shutil.rmtree(release.root / "shard-1" / "masked")
    assert release.accepted()["notes"] == ["dataset-shards: bytes not shown, so not verified"]
    assert release.refusals("--require-bytes") == {"bytes:dataset-shards": "CUS-E284"}


@pytest.mark.parametrize("place", ["evidence", "attestation"])
def test_evidence_of_a_shard_that_is_missing(release: Release, place: str) -> None:
    shutil.rmtree(release.root / "shard-1" / place)
    name = "mask-shard-1" if place == "evidence" else "attest-shard-1"
    refused = causes(release.refusals())
    assert refused == {f"evidence:masking.{name}": "CUS-E211"}
    assert release.ask(command="show").stdout.splitlines()[2].split()[:2] == ["REFUSED", "masking"]


def test_evidence_of_a_shard_that_was_signed_again_is_no_longer_the_named_one(release: Release) -> None:
    edit_statement(bundle_of(release.root / "shard-0/evidence"), release.site.signer, lambda statement: None)
    assert causes(release.refusals()) == {
        "extra:shard-0/evidence/mask-shard.sigstore.json": "CUS-E281",
        "evidence:masking.mask-shard-0": "CUS-E211",
    }


def test_a_shard_that_no_masking_names(release: Release, sharding: Sharding) -> None:
    sharding.shard(release.root / "stray", (2, 3))
    assert release.refusals() == {
        "extra:stray/evidence/mask-shard.sigstore.json": "CUS-E281",
        "extra:stray/attestation/attest-shard.sigstore.json": "CUS-E281",
    }


def test_a_changed_byte_and_a_changed_copy(release: Release) -> None:
    with open(release.root / "shard-0/masked/data.parquet", "ab") as file:
        file.write(b" ")
    copy = shutil.copytree(release.root / "shard-1/attestation", release.root / "z-copy")
    (copy / "SHA256SUMS").write_bytes((release.root / "shard-0/attestation/SHA256SUMS").read_bytes())
    assert release.refusals() == {
        "bytes:mask-shard-0=masking": "CUS-E215",
        "copy:z-copy/attest-shard.sigstore.json": "CUS-E214",
    }


def test_shard_evidence_in_the_place_of_the_masking(release: Release) -> None:
    shutil.copy(bundle_of(release.root / "shard-0/evidence"), bundle_of(release.root / "masking"))
    assert causes(release.refusals())["evidence:masking"] == "CUS-E233"


def exchange(found: Resources) -> None:
    for kind in ("mask-shard", "attest-shard"):
        first, second = found[f"{kind}-0"], found[f"{kind}-1"]
        first["digest"], second["digest"] = second["digest"], first["digest"]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (exchange, "CUS-E214"),
        (lambda found: [found.pop(name.removeprefix("masking.")) for name in SHARDS[1::2]], "CUS-E251"),
        (lambda found: found.pop("attest-shard-1"), "CUS-E251"),
        (lambda found: found["policy"]["digest"].update(sha256="ab" * 32), "CUS-E253"),
        (lambda found: found["input"]["digest"].update(sha256="ab" * 32), "CUS-E253"),
    ],
    ids=["exchanged", "one left out", "one not attested", "another policy", "other raw data"],
)
def test_a_merge_that_lies_about_its_shards(
    sharding: Sharding,
    made: tuple[list[Path], Path],
    tmp_path: Path,
    edit: Callable[[Resources], None],
    code: str,
) -> None:
    """The gate believes a trusted signer of mask-pii; an auditor who has the shards does not have to."""
    refused = causes(forged(sharding, made, tmp_path, edit).refusals())
    assert refused.pop("link:masking.rows->shards") == code
    assert set(refused.values()) <= {"CUS-E281"}


def test_a_merge_that_names_shards_of_another_dataset(
    sharding: Sharding, made: tuple[list[Path], Path], tmp_path: Path
) -> None:
    data = sharding.table(f"raw-{tmp_path.name}", accounts(20))
    others = [sharding.shard(tmp_path / f"other-{n}", (n, 2), data=data) for n in (0, 1)]

    def name_others(found: Resources) -> None:
        for number, place in enumerate(others):
            for kind, output in (("mask-shard", "evidence"), ("attest-shard", "attestation")):
                digest = sha256_file(bundle_of(place / output))
                found[f"{kind}-{number}"] = resource(f"{kind}-{number}", digest)

    release = forged(sharding, made, tmp_path, name_others)
    for place in others:
        shutil.copytree(place, release.root / place.name)
    refused = causes(release.refusals())
    assert refused.pop("link:masking.rows->shards") == "CUS-E253"
    assert set(refused.values()) == {"CUS-E281"}
