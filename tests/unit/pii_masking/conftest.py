"""A small table with everything in it, and a function that masks it."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from securesystemslib.signer import Signer

from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.pii_masking.masking import MaskingResult, mask_dataset

Mask = Callable[..., tuple[pa.Table, MaskingResult]]

POLICY = """\
version: 1
columns:
  id: {operator: keep}
  customer_id: {operator: hmac, domain: customer}
  customer_name: {operator: replace, value: <NAME>}
  email: {operator: hmac}
  card_number: {operator: mask, keep_last: 4}
  phone: {operator: redact}
  secret: {operator: drop}
  city: {operator: generalize, prefix: 1}
  born: {operator: generalize, to: year}
  opened: {operator: date_shift, by: customer_id, max_days: 30}
  amount: {operator: keep, type: float}
  memo:
    operator: free_text
    entities: [PERSON, EMAIL_ADDRESS, PHONE_NUMBER]
    threshold: 0.35
    known_words: [customer_name]
"""


def rows(count: int = 60) -> pa.Table:
    """Return rows of personal data; row 0 and every seventh have memos, row 3 has nulls."""
    names = ["Ada Lovelace", "Grace Hopper", "Jürgen Müller", "Alan Turing"]
    memos = [
        "Call {name} or write to {email}",
        "card {card} of Ms {last} was lost",
        "nothing personal in here",
        "JOHN SMITH lives in Boston, {phone}",
    ]
    table: dict[str, list[Any]] = {name: [] for name in (
        "id", "customer_id", "customer_name", "email", "card_number", "phone", "secret", "city", "born", "opened",
        "amount", "memo",
    )}  # fmt: skip
    for number in range(count):
        owner = number % 8
        name = names[owner % 4]
        known = {
            "name": name,
            "last": name.split()[1],
            "email": f"owner{owner}@mail.internal",
            "card": f"4111 1111 1111 {1000 + owner}",
            "phone": f"+1 555 010 {1000 + owner}",
        }
        memo = memos[number // 7 % 4].format(**known) + f" #{number}" if number % 7 == 0 else None
        cells = (
            f"T{number:05d}", f"C{owner:07d}", name, known["email"], known["card"].replace(" ", ""), known["phone"],
            f"classified-{owner}", "Boston", dt.date(1980 + owner, 5, 17), dt.date(2024, 1, 1 + number % 28),
            float(number), memo,
        )  # fmt: skip
        for column, cell in zip(table, cells, strict=True):
            table[column].append(None if number == 3 and column not in ("id", "customer_id") else cell)
    return pa.table(table)


@pytest.fixture
def raw() -> pa.Table:
    """The small table."""
    return rows()


@pytest.fixture
def mask(tmp_path: Path, settings: Settings, signer: Signer, run_id: str) -> Mask:
    """Mask a table (written as Parquet) or a path, with a policy given as text; return what came out."""
    number = 0

    def run(data: pa.Table | Path, policy: str = POLICY, **options: Any) -> tuple[pa.Table, MaskingResult]:
        nonlocal number
        number += 1
        place = tmp_path / f"mask-{number}"
        place.mkdir()
        (place / "policy.yaml").write_text(policy)
        if isinstance(data, pa.Table):
            (place / "raw").mkdir()
            pq.write_table(data, place / "raw" / "raw.parquet")
            data = place / "raw"
        options = {"settings": settings, "signer": signer, "expected_sha256": "", "workers": 1} | options
        result = mask_dataset(
            data, place / "masked", place / "evidence", place / "report.html", run_id,
            str(place / "policy.yaml"), **options
        )  # fmt: skip
        return pq.read_table(place / "masked" / "data.parquet"), result

    return run
