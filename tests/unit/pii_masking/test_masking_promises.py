"""What the room promises whatever the data: no identifier in any byte, no network, and the same result always."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components.pii_masking.analysis.analyzer import BatchAnalyzer

OPERATORS = (
    "{operator: drop}", "{operator: redact}", "{operator: replace, value: X}", "{operator: mask}", "{operator: hmac}",
    "{operator: encrypt}", "{operator: fpe, alphabet: digits}", "{operator: fpe, alphabet: alphanumeric}",
)  # fmt: skip
# Long enough not to occur by chance; digits only, so that every operator takes them.
IDENTIFIER = st.text("0123456789", min_size=9, max_size=24)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    operator=st.sampled_from(OPERATORS),
    rows=st.lists(
        st.tuples(st.one_of(st.none(), IDENTIFIER), st.text("abc @.-", max_size=20)), min_size=1, max_size=40
    ),
)
def test_no_value_of_a_declared_column_is_in_any_byte_of_the_output(
    mask: Any, tmp_path: Path, operator: str, rows: list[tuple[str | None, str]]
) -> None:
    """In no page, dictionary, statistic or metadata of the file; also when the free text of the row quotes it."""
    values = [value for value, _ in rows]
    memos = [f"{noise}see {value} and {value}x" if value else noise for value, noise in rows]
    policy = (
        f"version: 1\nallow_fpe: true\ncolumns:\n  n: {{operator: keep}}\n  id: {operator}\n"
        "  memo: {operator: free_text, entities: [PHONE_NUMBER], threshold: 0.35}\n"
    )
    table = pa.table({"n": range(len(rows)), "id": pa.array(values, pa.string()), "memo": memos})
    masked, _ = mask(table, policy)
    # The file as it is published, with its statistics, and what its compressed pages hold, written again without.
    published = max(tmp_path.glob("mask-*/masked/data.parquet"), key=lambda path: path.stat().st_mtime_ns).read_bytes()
    plain = pa.BufferOutputStream()
    pq.write_table(masked, plain, compression="none", use_dictionary=True)
    stored = published + plain.getvalue().to_pybytes()
    assert [value for value in values if value and value.encode() in stored] == []
    assert masked.schema.metadata is None


def test_the_property_is_seen_when_it_fails(mask: Any) -> None:
    """The look at the bytes does find a value that is there."""
    masked, _ = mask(pa.table({"id": ["123456789012"]}), "version: 1\ncolumns: {id: {operator: keep, scan: false}}")
    plain = pa.BufferOutputStream()
    pq.write_table(masked, plain, compression="none")
    assert b"123456789012" in plain.getvalue().to_pybytes()


def test_a_value_that_a_kept_column_repeats_is_refused(mask: Any) -> None:
    table = pa.table({"id": ["123456789012"], "copy": ["x 123456789012"]})
    with pytest.raises(InputRefused, match="hold identifiers"):
        mask(table, "version: 1\ncolumns: {id: {operator: hmac}, copy: {operator: keep, scan: false}}")


MASK = """
import sys
from dataclasses import replace
from pathlib import Path
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components.pii_masking.masking import mask_dataset
root = Path(sys.argv[1])
settings = replace(load_settings({}), masking_key=str(root / "masking.key"))
done = mask_dataset(root / "raw.parquet", root / sys.argv[2], root / (sys.argv[2] + "-evidence"), None, "run",
    str(root / "policy.yaml"), "", load_signer(f"file:{root}/signer.pem"), settings, workers=2)
print(done.sha256)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Data with free text, a policy and keys, for masking in a process of its own."""
    generate_key(tmp_path / "signer.pem")
    (tmp_path / "masking.key").write_text("ab" * 32)
    (tmp_path / "masking.key").chmod(0o600)
    (tmp_path / "policy.yaml").write_text(
        "version: 1\ncolumns:\n  card: {operator: hmac}\n"
        "  memo: {operator: free_text, entities: [PERSON, EMAIL_ADDRESS, PHONE_NUMBER, IBAN_CODE], threshold: 0.35}\n"
    )
    memos = [f"Maria Lopez wrote from m{number}@mail.example.co.uk about case {number}" for number in range(1_200)]
    cards = [str(4_000_000_000_000_000 + number) for number in range(1_200)]
    pq.write_table(pa.table({"card": cards, "memo": memos}), tmp_path / "raw.parquet")
    return tmp_path


def run(place: Path, name: str, *before: str) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", MASK, str(place), name]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_masking_needs_no_network(place: Path) -> None:
    """In a network namespace of its own, in which not even the loopback interface is up."""
    assert shutil.which("unshare")
    alone = run(place, "alone", "unshare", "--net", "--map-root-user")
    assert alone.returncode == 0, alone.stderr
    assert run(place, "beside").stdout == alone.stdout != ""
    look = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    seen = subprocess.run(
        ["unshare", "--net", "--map-root-user", sys.executable, "-c", look], capture_output=True, text=True, check=False
    )
    assert "Network is unreachable" in seen.stderr or "Cannot assign" in seen.stderr


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(
    mask: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, policy = pq.read_table(place / "raw.parquet"), (place / "policy.yaml").read_text()
    _, undisturbed = mask(raw, policy, workers=2)
    mark = place / "killed"
    analyze = BatchAnalyzer.analyze

    def killed_once(self: BatchAnalyzer, texts: list[str], *rest: Any) -> Any:
        if not mark.exists() and any("case 700" in text for text in texts):
            mark.touch()
            os.kill(os.getpid(), 9)
        return analyze(self, texts, *rest)

    monkeypatch.setattr(BatchAnalyzer, "analyze", killed_once)
    _, disturbed = mask(raw, policy, workers=2)
    assert mark.exists()
    assert disturbed.sha256 == undisturbed.sha256
    assert re.fullmatch("[0-9a-f]{64}", disturbed.sha256)
