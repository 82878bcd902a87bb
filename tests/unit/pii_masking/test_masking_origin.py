"""Masking what fetch_dataset brought: its evidence is verified, and named by that of masking."""

import shutil
from pathlib import Path

import pytest

from forging import statement_of
from genuine_chain import RUN, Site, write_source
from genuine_shards import Sharding
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_file
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid
from kfp_custody.components._shared.evidence import MASKING
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components.pii_masking.masking import mask_dataset


@pytest.fixture
def sharding(tmp_path: Path) -> Sharding:
    return Sharding(Site(tmp_path))


def mask(sharding: Sharding, source: Path | None, part: tuple[int, int] | None = None, name: str = "out") -> Path:
    out = sharding.root / name
    given = RUN, str(sharding.policy), "", sharding.site.signer, sharding.settings
    mask_dataset(sharding.raw, out / "masked", out / "evidence", None, *given, source=source, part=part)
    return out


def test_the_evidence_names_the_source_its_uri_and_commit(sharding: Sharding) -> None:
    source = write_source(sharding.root / "source", sharding.raw, sharding.site.signer)
    out = mask(sharding, source)
    verified = read_evidence(out / "evidence", MASKING, sharding.site.trust, run_id=RUN)
    assert verified.dependency("source") == sha256_file(source / "fetch-dataset.sigstore.json")
    (named,) = [entry for entry in verified.predicate["configuration"] if entry["name"] == "source"]
    assert named["annotations"]["commit"] == "12" * 20
    assert named["uri"] == "git+https://git.example/data.git"


def test_data_that_came_in_another_way_names_none(sharding: Sharding) -> None:
    out = mask(sharding, None)
    (bundle,) = (out / "evidence").glob("*.sigstore.json")
    assert "source" not in [entry["name"] for entry in statement_of(bundle)["predicate"]["configuration"]]


@pytest.mark.parametrize("part", [None, (0, 2)])
@pytest.mark.parametrize(
    ("spoil", "code"), [("other data", codes.LINK), ("other run", codes.OTHER_RUN), ("no evidence", codes.NO_EVIDENCE)]
)
def test_a_source_that_does_not_speak_of_this_data_is_refused(
    sharding: Sharding, spoil: str, code: str, part: tuple[int, int] | None
) -> None:
    other = shutil.copytree(sharding.raw, sharding.root / "other") if sharding.raw.is_dir() else sharding.root / "other"
    (other / "more" if other.is_dir() else other).write_bytes(b"more")
    about = other if spoil == "other data" else sharding.raw
    run = "yesterday" if spoil == "other run" else RUN
    source = write_source(sharding.root / "source", about, sharding.site.signer, run)
    if spoil == "no evidence":
        (source / "fetch-dataset.sigstore.json").unlink()
    with pytest.raises(EvidenceInvalid) as caught:
        mask(sharding, source, part)
    assert caught.value.code == code
    assert not (sharding.root / "out").exists()


def test_shards_of_different_sources_are_not_merged(sharding: Sharding) -> None:
    from kfp_custody.components._shared.evidence import SHARD_MASKING
    from kfp_custody.components._shared.shards import require_same_origin

    source = write_source(sharding.root / "source", sharding.raw, sharding.site.signer)
    places = [mask(sharding, source, (0, 2), "one"), mask(sharding, None, (1, 2), "two")]
    pieces = [read_evidence(out / "evidence", SHARD_MASKING, sharding.site.trust, run_id=RUN) for out in places]
    with pytest.raises(CustodyError, match="source expected sha256:") as caught:
        require_same_origin(pieces)
    assert caught.value.code == codes.SHARD_ORIGIN
