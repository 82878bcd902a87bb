"""Rows, columns and schema of a dataset, of the very bytes that are attested."""

import json
import os
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from securesystemslib.signer import Signer

from forging import bundle_of, edit_statement
from genuine_chain import RUN, write_masking
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree, sha256_bytes, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components._shared.evidence import ATTESTATION
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.components.data_attestation import attestation
from kfp_custody.components.data_attestation.attestation import attest
from kfp_custody.components.data_attestation.table_facts import WatchedTables

SCHEMA = pa.schema([pa.field("amount", pa.float64()), pa.field("day", pa.date32(), nullable=False)])


def write(path: Path, rows: int, schema: pa.Schema = SCHEMA) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"amount": [1.0] * rows, "day": [0] * rows, "more": ["x"] * rows}
    pq.write_table(pa.table([pa.array(columns[f.name], f.type) for f in schema], schema), path, row_group_size=3)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    root = tmp_path / "tables"
    write(root / "a.parquet", 7)
    write(root / "deep" / "b.parquet", 5)
    (root / "README.md").write_text("not a table")
    return root


def attested(out: Path, settings: Settings) -> Verified:
    return read_evidence(out, ATTESTATION, load_trust(settings.trust_file), run_id=RUN)


def test_the_attestation_counts_rows_and_names_the_schema(
    tmp_path: Path, tables: Path, signer: Signer, settings: Settings
) -> None:
    done = attest(tables, write_masking(tmp_path / "masking", tables, signer), tmp_path / "out", RUN, settings)
    verified, schema = attested(tmp_path / "out", settings), (tmp_path / "out" / "schema.json").read_bytes()
    internal = verified.predicate["buildDefinition"]["internalParameters"]
    assert (internal["rows"], internal["columns"], internal["files"]) == (12, 2, 3)
    assert verified.dependency("schema") == sha256_bytes(schema) == done.metadata()["schema_sha256"]
    assert done.metadata()["rows"] == 12.0
    assert json.loads(schema)["columns"] == [
        {"name": "amount", "type": "double", "nullable": True},
        {"name": "day", "type": "date32[day]", "nullable": False},
    ]


def test_the_masking_report_and_the_source_stand_in_it(
    tmp_path: Path, tables: Path, signer: Signer, settings: Settings
) -> None:
    masking = write_masking(tmp_path / "masking", tables, signer)
    source = {"name": "source", "digest": {"sha256": "ab" * 32}, "annotations": {"commit": "12" * 20}}
    edit_statement(bundle_of(masking), signer, lambda s: s["predicate"]["configuration"].append(source))
    attest(tables, masking, tmp_path / "out", RUN, settings)
    verified = attested(tmp_path / "out", settings)
    assert verified.dependency("masking-report") == sha256_file(masking / "report.json")
    assert source in verified.predicate["buildDefinition"]["resolvedDependencies"]


def test_another_schema_has_another_digest_and_the_files_must_share_one(tmp_path: Path, tables: Path) -> None:
    before = WatchedTables(tables).facts()
    for path in (tables / "a.parquet", tables / "deep" / "b.parquet"):
        write(path, 2, pa.schema([SCHEMA.field(0), pa.field("day", pa.date32())]))
    after = WatchedTables(tables).facts()
    assert before is not None
    assert after is not None
    assert (before.rows, after.rows) == (12, 4)
    assert before.schema_sha256 != after.schema_sha256  # only whether it may hold nulls differs
    write(tables / "deep" / "b.parquet", 2, pa.schema([SCHEMA.field(0), pa.field("more", pa.string())]))
    with pytest.raises(InputRefused, match="columns are not those of 'a.parquet'"):
        WatchedTables(tables).facts()


def test_no_table_no_facts(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a\n1\n")
    assert WatchedTables(tmp_path).facts() is None


def test_one_file(tables: Path) -> None:
    facts = WatchedTables(tables / "a.parquet").facts()
    assert facts is not None
    assert facts.rows == 7


def test_more_tables_than_a_process_may_hold_open(tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path / "many" / f"{number}.parquet", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    watched = WatchedTables(tmp_path / "many")
    WatchedTables(tmp_path / "many" / "0.parquet").facts()  # what is imported is imported
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 30, hard))
    try:
        facts = watched.facts()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert facts is not None
    assert facts.rows == 60


def test_what_is_no_parquet_is_refused(tables: Path) -> None:
    (tables / "a.parquet").write_bytes(b"PAR1 secret PAR1")
    with pytest.raises(InputRefused, match="'a.parquet': it is not readable") as caught:
        WatchedTables(tables).facts()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("data", [b"x", b"PAR1", b"PAR1PAR1", b"\xff" * 40, b"\0" * 36 + b"PAR1"])
def test_a_footer_that_cannot_be_is_refused(tables: Path, data: bytes) -> None:
    (tables / "a.parquet").write_bytes(data)
    with pytest.raises(InputRefused, match="'a.parquet': it is not readable"):
        WatchedTables(tables).facts()


def test_nothing_but_footers_is_read(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(range(300_000))})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    WatchedTables(tmp_path).facts()
    before = read_so_far()
    facts = WatchedTables(tmp_path).facts()
    assert facts is not None
    assert facts.rows == 300_000
    assert read_so_far() - before < 20_000 < (tmp_path / "a.parquet").stat().st_size


def read_so_far() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def test_other_rows_than_the_masker_counted(tmp_path: Path, tables: Path, signer: Signer, settings: Settings) -> None:
    masking = write_masking(tmp_path / "masking", tables, signer)
    edit_statement(bundle_of(masking), signer, lambda s: s["predicate"]["custody_metrics"].update(rows=13.0))
    with pytest.raises(EvidenceInvalid, match="expected 13 rows, found 12") as caught:
        attest(tables, masking, tmp_path / "out", RUN, settings)
    assert caught.value.code == codes.ROWS
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["written to", "replaced", "removed"])
def test_a_table_that_changes_after_it_was_hashed(
    tmp_path: Path, tables: Path, signer: Signer, settings: Settings, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    masking = write_masking(tmp_path / "masking", tables, signer)
    genuine = attestation.require_subject

    def then_changed(*given: object, **named: object) -> object:
        listing = genuine(*given, **named)  # type: ignore[arg-type]
        write(tmp_path / "other.parquet", 9)
        if how == "replaced":
            os.replace(tmp_path / "other.parquet", tables / "a.parquet")
        elif how == "removed":
            (tables / "a.parquet").unlink()
        else:
            (tables / "a.parquet").write_bytes((tmp_path / "other.parquet").read_bytes())
        return listing

    monkeypatch.setattr(attestation, "require_subject", then_changed)
    with pytest.raises(EvidenceInvalid, match="'a.parquet' was written to or replaced") as caught:
        attest(tables, masking, tmp_path / "out", RUN, settings)
    assert caught.value.code == codes.BYTES
    assert list_tree(tmp_path / "masking")  # and only the attestation is missing
    assert not (tmp_path / "out").exists()
