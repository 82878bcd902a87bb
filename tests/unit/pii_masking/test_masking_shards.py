"""Masking in shards gives what masking the whole gives, byte for byte."""

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from forging import statement_of
from genuine_chain import RUN, Site
from genuine_shards import Sharding, accounts
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.documents import DocumentFault
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.evidence import MASKING, SHARD_MASKING
from kfp_custody.components._shared.shards import MAX_SHARDS, cut
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.pii_masking.reporting import read_report
from kfp_custody.components.pii_masking.tables import ROW_GROUP, open_source

TEXT = """\
version: 1
columns:
  owner: {operator: hmac}
  memo: {operator: free_text, entities: [PERSON, PHONE_NUMBER], threshold: 0.35, known: [owner]}
"""
KEEP = "version: 1\ncolumns: {%s}"


@pytest.fixture
def sharding(tmp_path: Path) -> Sharding:
    return Sharding(Site(tmp_path))


def keeping(sharding: Sharding, table: pa.Table) -> Path:
    """Write a policy that keeps every column of a table."""
    policy = sharding.root / "keep.yaml"
    policy.write_text(KEEP % ", ".join(f"{name}: {{operator: keep}}" for name in table.column_names))
    return policy


def same(sharding: Sharding, count: int, **other: Any) -> None:
    """Mask whole and in shards; the dataset and both reports must be the same bytes."""
    whole = sharding.mask(sharding.root / "whole", None, **other)
    done, merged = sharding.merge(sharding.shards(count, **other), count)
    for name in ("masked/data.parquet", "evidence/report.json", "evidence/SHA256SUMS", "report"):
        assert (merged / name).read_bytes() == (whole / name).read_bytes(), name
    assert done.sha256 == list_tree(whole / "masked").sha256
    statements = [statement_of(place / "evidence/mask-pii.sigstore.json") for place in (whole, merged)]
    first, second = (statement["predicate"] for statement in statements)
    assert statements[0]["subject"] == statements[1]["subject"]
    for name in ("custody_metrics", "custody_coverage", "custody_runId", "custody_test", "result"):
        assert first[name] == second[name]
    assert second["configuration"][: len(first["configuration"])] == first["configuration"]
    added = [entry["name"] for entry in second["configuration"][len(first["configuration"]) :]]
    assert added == [f"{kind}-{n}" for n in range(count) for kind in ("mask-shard", "attest-shard")]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 31])
def test_parquet(sharding: Sharding, count: int) -> None:
    same(sharding, count, data=sharding.table("odd", accounts(31)))


@pytest.mark.parametrize("count", [2, 5])
def test_csv(sharding: Sharding, count: int) -> None:
    folder = sharding.root / "csv"
    folder.mkdir()
    table = accounts(23)
    for name, start, length in (("a", 0, 1), ("b", 1, 15), ("c", 16, 7)):
        csv.write_csv(table.slice(start, length), folder / f"{name}.csv")
    # The types of a CSV file are those of its first block, wherever a shard begins.
    same(sharding, count, data=folder)


def test_free_text_is_found_and_counted_alike(sharding: Sharding) -> None:
    memos = [
        "Ada Lovelace called from +1 555 010 1000",
        None,
        "nothing",
        "Paid to C-4711-99 by John Smith",
        "John Smith",
    ]
    table = pa.table({"owner": [f"C-4711-{n % 90 + 10}" for n in range(50)], "memo": [memos[n % 5] for n in range(50)]})
    policy = sharding.root / "text.yaml"
    policy.write_text(TEXT)
    same(sharding, 3, data=sharding.table("texts", table), policy=policy)
    report = read_report((sharding.root / "merged/evidence/report.json").read_bytes())
    assert report.texts["memo"].texts == 40
    assert report.texts["memo"].entities["PERSON"] > 0


@pytest.mark.parametrize("rows", [ROW_GROUP - 1, 2 * ROW_GROUP, 2 * ROW_GROUP + 1])
def test_row_groups_do_not_follow_the_shards(sharding: Sharding, rows: int) -> None:
    table = pa.table({"a": range(rows), "b": [None if n % 97 == 5 else f"word {n * n % 1013}" for n in range(rows)]})
    same(sharding, 3, data=sharding.table("long", table), policy=keeping(sharding, table))
    groups = pq.ParquetFile(sharding.root / "merged/masked/data.parquet").metadata
    assert groups.num_row_groups == -(-rows // ROW_GROUP)


def test_shards_with_the_same_bytes_are_told_apart(sharding: Sharding) -> None:
    table = pa.table({"a": ["same"] * 12})
    same(sharding, 3, data=sharding.table("equal", table), policy=keeping(sharding, table))
    digests = {list_tree(sharding.root / f"shard-{number}/masked").sha256 for number in range(3)}
    assert len(digests) == 1


def test_every_type_survives_the_way_through_a_shard(sharding: Sharding) -> None:
    moment = dt.datetime(2026, 9, 1, 12, 30, 15)  # noqa: DTZ001  (types without a zone are meant)
    decimals = [decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")]
    cells: dict[pa.DataType, list[Any]] = {
        pa.uint8(): [0, 255, None],
        pa.uint32(): [0, 2**32 - 1, None],
        pa.uint64(): [0, 2**64 - 1, None],
        pa.int16(): [-1, 1, None],
        pa.float32(): [float("nan"), -0.0, None],
        pa.float64(): [float("inf"), 5e-324, None],
        pa.bool_(): [True, False, None],
        pa.date32(): [moment.date(), dt.date(1900, 1, 1), None],
        pa.date64(): [moment.date(), dt.date(1900, 1, 1), None],
        pa.large_string(): ["", "über", None],
        pa.string(): [None, None, None],
        pa.decimal128(9, 2): decimals,
        pa.decimal256(70, 2): decimals,
        pa.dictionary(pa.int8(), pa.string()): ["x", None, "y"],
    }
    zones = (None, "UTC", "Europe/Berlin")
    cells |= {pa.timestamp(unit, zone): [moment, None, moment] for unit in ("s", "ms", "us", "ns") for zone in zones}
    columns = {f"c{number}": pa.array(values, kind) for number, (kind, values) in enumerate(cells.items())}
    table = pa.table(columns)
    same(sharding, 2, data=sharding.table("types", table), policy=keeping(sharding, table))


def test_the_evidence_of_a_shard_says_which_rows(sharding: Sharding) -> None:
    place = sharding.mask(sharding.root / "one", (1, 4))
    verified = read_evidence(place / "evidence", SHARD_MASKING, sharding.site.trust, run_id=RUN)
    require_subject(verified, place / "masked", "shard")
    named = {entry["name"]: entry for entry in verified.predicate["configuration"]}
    assert named["shard"]["annotations"] == {"number": 1, "of": 4, "first_row": 7, "end_row": 15, "rows": 30}
    assert verified.dependency("input") == list_tree(sharding.raw).sha256
    assert pq.read_table(place / "masked")["id"].to_pylist() == [f"T{n:06d}" for n in range(7, 15)]


def test_merging_needs_no_masking_key(sharding: Sharding) -> None:
    places = sharding.shards(2)
    Path(sharding.settings.masking_key).unlink()
    _, made = sharding.merge(places, 2)
    read_evidence(made / "evidence", MASKING, sharding.site.trust, run_id=RUN)


def test_fewer_rows_than_shards(sharding: Sharding) -> None:
    data = sharding.table("few", accounts(3))
    for number in range(4):
        with pytest.raises(CustodyError) as caught:
            sharding.mask(sharding.root / "shard", (number, 4), data=data)
        assert caught.value.code == codes.TOO_FEW_ROWS
        assert "3 rows, 4 shards" in caught.value.evidence
    assert not (sharding.root / "shard").exists()


@pytest.mark.parametrize("part", [(0, 0), (-1, 2), (2, 2), (0, MAX_SHARDS + 1)])
def test_a_shard_that_cannot_be(sharding: Sharding, part: tuple[int, int]) -> None:
    with pytest.raises(CustodyError) as caught:
        sharding.mask(sharding.root / "shard", part)
    assert caught.value.code == codes.SHARD_NUMBER


@pytest.mark.parametrize("rows", [8, 9, 15, 16, 17, 1000])
def test_shards_cover_every_row_once(rows: int) -> None:
    shards = [cut(number, 8, rows) for number in range(8)]
    assert [row for shard in shards for row in range(shard.first, shard.end)] == list(range(rows))
    sizes = {shard.end - shard.first for shard in shards}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_any_part_of_a_source_is_read(tmp_path: Path, form: str, chunk: int) -> None:
    lengths, table = (4, 0, 1, 6), pa.table({"n": range(11), "text": [f"line {n}\nmore" for n in range(11)]})
    start = 0
    for number, length in enumerate(lengths):
        piece, path = table.slice(start, length), tmp_path / f"{number}.{form}"
        if form == "parquet":
            pq.write_table(piece, path, row_group_size=2)
        elif length:
            csv.write_csv(piece, path)
        start += length
    source = open_source(tmp_path, {})
    counts = source.count()
    assert sum(counts) == 11
    for first in range(11):
        for end in range(first + 1, 12):
            read = pa.concat_tables(source.part(counts, first, end).chunks(chunk))
            assert read.to_pylist() == table.slice(first, end - first).to_pylist()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"rows":15', b'"rows":"15"'),
        (b'"version":1', b'"version":2'),
        (b'"nulls":', b'"nulls":-'),
        (b"{", b"[{"),
        (b'"rows"', b'"lines"'),
    ],
)
def test_a_report_is_read_strictly(sharding: Sharding, before: bytes, after: bytes) -> None:
    data = (sharding.mask(sharding.root / "one", (0, 2)) / "evidence/report.json").read_bytes()
    assert read_report(data).json() == data
    assert before in data
    with pytest.raises(DocumentFault):
        read_report(data.replace(before, after, 1))


def test_it_is_the_whole_that_must_not_single_anybody_out(sharding: Sharding) -> None:
    """Each shard has people who are alone in it; together they are not."""
    policy = sharding.root / "k.yaml"
    policy.write_text("version: 1\nquasi_identifiers: [a]\nk: 3\ncolumns: {a: {operator: keep}}")
    table = pa.table({"a": ["x", "y", "z"] * 3})
    same(sharding, 3, data=sharding.table("thrice", table), policy=policy)
    report = read_report((sharding.root / "merged/evidence/report.json").read_bytes())
    assert report.smallest_class == 3


def test_a_whole_that_singles_somebody_out_is_not_merged(sharding: Sharding) -> None:
    policy = sharding.root / "k.yaml"
    policy.write_text("version: 1\nquasi_identifiers: [a]\nk: 3\ncolumns: {a: {operator: keep}}")
    table = pa.table({"a": ["x"] * 8 + ["y"]})
    with pytest.raises(CustodyError) as refusal:
        sharding.merge(sharding.shards(3, data=sharding.table("rare", table), policy=policy), 3)
    assert refusal.value.code == codes.NOT_ANONYMOUS
    assert not (sharding.root / "merged/masked").exists()
