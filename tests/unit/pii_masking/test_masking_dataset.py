"""The whole stage, on real files with real keys and the real detector."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import MASKING
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.pii_masking import detection
from kfp_custody.components.pii_masking.pseudonyms import MaskingKey

Mask = Callable[..., tuple[pa.Table, Any]]
HMAC_ONLY = "version: 1\ncolumns: {a: {operator: hmac}, note: {operator: keep}}"
DIRECT = ("customer_name", "email", "card_number", "phone", "secret")


def test_every_column_is_masked_as_declared(mask: Mask, raw: pa.Table) -> None:
    masked, result = mask(raw)
    assert masked.column_names == [name for name in raw.column_names if name != "secret"]
    assert masked["id"] == raw["id"]
    assert masked["amount"] == raw["amount"]
    assert set(masked["customer_name"].to_pylist()) == {"<NAME>", None}
    assert set(masked["phone"].to_pylist()) == {"", None}
    assert masked["card_number"][0].as_py() == "************1000"
    assert set(masked["city"].to_pylist()) == {"B", None}
    assert masked["born"][0].as_py() == 1980
    assert result.rows == raw.num_rows
    for name in masked.column_names:
        assert masked[name].is_null().to_pylist() == raw[name].is_null().to_pylist()


def test_no_identifier_of_a_row_is_left_in_it(mask: Mask, raw: pa.Table) -> None:
    masked, _ = mask(raw)
    for before, after in zip(raw.to_pylist(), masked.to_pylist(), strict=True):
        text = " ".join(str(value) for value in after.values())
        for name in DIRECT:
            assert before[name] is None or before[name] not in text
        if after["memo"] and "card" in after["memo"]:
            assert "4111" not in after["memo"]
            assert before["customer_name"].split()[1] not in after["memo"]


def test_free_text_without_personal_data_stays(mask: Mask, raw: pa.Table) -> None:
    masked, result = mask(raw)
    assert masked["memo"][14].as_py() == raw["memo"][14].as_py()
    assert "John" not in str(masked["memo"][21])
    assert result.metrics["texts"] == 9
    assert 0 < result.metrics["texts_changed"] < 9


@pytest.mark.parametrize(("on_find", "expected"), [("redact", "Call  or write to  #0"), ("drop", None)])
def test_what_happens_to_a_finding_is_a_choice(mask: Mask, raw: pa.Table, on_find: str, expected: str | None) -> None:
    policy = (Path(__file__).parent / "conftest.py").read_text().split('"""\\\n')[1].split('"""')[0]
    masked, _ = mask(raw.slice(0, 3), policy + f"    on_find: {on_find}\n")
    assert masked["memo"][0].as_py() == expected


def test_the_output_does_not_depend_on_chunks_or_workers(
    mask: Mask, raw: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "POOL_FROM", 2)
    monkeypatch.setattr(detection, "SLICE", 2)
    digests = {
        mask(raw, chunk_rows=chunk_rows, workers=workers)[1].sha256
        for chunk_rows, workers in ((7, 1), (50, 1), (1000, 1), (1000, 2), (30, 2))
    }
    assert len(digests) == 1


def test_parquet_and_csv_give_the_same_result(mask: Mask, raw: pa.Table, tmp_path: Path) -> None:
    csv.write_csv(raw, tmp_path / "raw.csv")
    assert mask(tmp_path / "raw.csv")[1].sha256 == mask(raw)[1].sha256


def test_pseudonyms_join_two_tables_through_their_domain(mask: Mask, raw: pa.Table) -> None:
    accounts = pa.table({"owner": raw["customer_id"].unique(), "limit": list(range(8))})
    policy = "version: 1\ncolumns: {owner: {operator: hmac, domain: customer}, limit: {operator: keep}}"
    masked, _ = mask(raw)
    other, _ = mask(accounts, policy)
    joined = masked.join(other, "customer_id", "owner", join_type="inner").sort_by("id")
    expected = raw.join(accounts, "customer_id", "owner", join_type="inner").sort_by("id")
    assert joined["limit"] == expected["limit"]
    apart, _ = mask(accounts, policy.replace(", domain: customer", ""))
    assert masked.join(apart, "customer_id", "owner", join_type="inner").num_rows == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=20))
def test_no_value_of_a_pseudonymised_column_is_in_the_output(mask: Mask, values: list[str]) -> None:
    masked, _ = mask(pa.table({"a": values}), "version: 1\ncolumns: {a: {operator: hmac}}")
    tokens = masked["a"].to_pylist()
    assert not set(values) & set(tokens)
    assert len(set(values)) == len(set(tokens))
    assert all(value not in token for value, token in zip(values, tokens, strict=True) if len(value) > 5)


def test_evidence_binds_input_policy_report_and_output(
    mask: Mask, raw: pa.Table, tmp_path: Path, trust: Trust, run_id: str
) -> None:
    _, result = mask(raw)
    place = tmp_path / "mask-1"
    verified = read_evidence(place / "evidence", MASKING, trust, run_id=run_id)
    assert require_subject(verified, place / "masked", "masked").sha256 == result.sha256
    assert verified.result == "PASSED"
    assert verified.dependency("input") == list_tree(place / "raw").sha256
    assert verified.metrics["rows"] == raw.num_rows
    key = MaskingKey(bytes.fromhex("0123456789abcdef" * 4))
    assert result.metadata["masking_key_id"] == key.key_id
    report = json.loads((place / "evidence/report.json").read_bytes())
    assert report["key_id"] == key.key_id
    assert {column["name"]: column["nulls"] for column in report["columns"]}["email"] == 1


def test_nothing_that_is_written_beside_the_data_holds_a_value(mask: Mask, raw: pa.Table, tmp_path: Path) -> None:
    mask(raw)
    place = tmp_path / "mask-1"
    written = [*(place / "evidence").iterdir(), place / "report.html"]
    assert len(written) == 4
    for name in (*DIRECT, "customer_id", "memo"):
        for value in raw[name].drop_null().unique().to_pylist():
            assert all(value.encode() not in path.read_bytes() for path in written)


def test_the_raw_data_can_be_pinned(mask: Mask, raw: pa.Table, tmp_path: Path) -> None:
    mask(raw)
    digest = list_tree(tmp_path / "mask-1/raw").sha256
    mask(raw, expected_sha256=digest)
    with pytest.raises(EvidenceInvalid) as refusal:
        mask(raw, expected_sha256="0" * 64)
    assert digest in str(refusal.value)
    assert "0" * 64 in str(refusal.value)
    with pytest.raises(Misconfigured):
        mask(raw, expected_sha256=digest.upper())


def test_a_kept_column_that_repeats_an_identifier_is_refused(mask: Mask, tmp_path: Path) -> None:
    table = pa.table({"a": ["C12345", "C12346"], "note": ["ref C12346", "ref c-12346"]})
    with pytest.raises(InputRefused) as refusal:
        mask(table, HMAC_ONLY)
    assert "'a' is repeated in 'note' in 1 rows" in refusal.value.evidence
    assert "12346" not in str(refusal.value)
    assert sorted(path.name for path in (tmp_path / "mask-1").iterdir()) == ["policy.yaml", "raw"]


def test_a_kept_column_with_a_pattern_is_refused_unless_exempt(mask: Mask) -> None:
    table = pa.table({"a": ["x"], "note": ["4111111111111111"]})
    with pytest.raises(InputRefused) as refusal:
        mask(table, HMAC_ONLY)
    assert "4111" not in str(refusal.value)
    masked, _ = mask(table, HMAC_ONLY.replace("operator: keep", "operator: keep, scan: false"))
    assert masked["note"][0].as_py() == "4111111111111111"


@pytest.mark.parametrize("column", ["extra", "amount"])
def test_columns_that_nobody_declared_or_that_are_missing_are_refused(mask: Mask, raw: pa.Table, column: str) -> None:
    changed = raw.append_column("extra", raw["id"]) if column == "extra" else raw.drop_columns([column])
    with pytest.raises(InputRefused) as refusal:
        mask(changed)
    assert repr(column) in refusal.value.evidence


def test_no_rows_and_no_files_are_refused(mask: Mask, raw: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(InputRefused):
        mask(raw.slice(0, 0))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputRefused):
        mask(tmp_path / "empty")
    assert not list(tmp_path.glob("mask-*/masked*"))
    assert not list(tmp_path.glob("mask-*/.*"))


def test_a_symbolic_link_is_refused(mask: Mask, raw: pa.Table, tmp_path: Path) -> None:
    pq.write_table(raw, tmp_path / "elsewhere.parquet")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/raw.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(InputRefused):
        mask(tmp_path / "linked")


def test_a_policy_that_drops_everything_is_refused(mask: Mask) -> None:
    with pytest.raises(Misconfigured):
        mask(pa.table({"a": ["x"]}), "version: 1\ncolumns: {a: {operator: drop}}")


def test_the_key_is_needed_only_by_keyed_operators(mask: Mask, tmp_path: Path) -> None:
    none = load_settings({"CUSTODY_MASKING_KEY": str(tmp_path / "none")})
    masked, result = mask(pa.table({"a": ["x"]}), "version: 1\ncolumns: {a: {operator: redact}}", settings=none)
    assert masked["a"][0].as_py() == ""
    assert result.metadata["masking_key_id"] == ""
    with pytest.raises(Misconfigured):
        mask(pa.table({"a": ["x"]}), "version: 1\ncolumns: {a: {operator: hmac}}", settings=none)


def test_data_that_changes_while_it_is_read_is_refused(
    mask: Mask, raw: pa.Table, tmp_path: Path, settings: Settings, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "live" / "raw.parquet"
    path.parent.mkdir()
    pq.write_table(raw, path)
    find = detection.Detector.find

    def find_and_touch(*args: Any) -> Any:
        with open(path, "ab") as file:
            file.write(b"\0")
        return find(*args)

    monkeypatch.setattr(detection.Detector, "find", find_and_touch)
    with pytest.raises(EvidenceInvalid):
        mask(path.parent)
    assert not (tmp_path / "mask-1/masked").exists()
