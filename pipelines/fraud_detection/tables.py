"""What both demo datasets share: the personal columns, and writing a table so that its bytes depend on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_custody.components._shared.digests import sha256_file
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.files import atomic_directory, write_atomic
from kfp_custody.pipelines.fraud_detection.memos import key_lines, write_memos
from kfp_custody.pipelines.fraud_detection.people import Customers

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

FILE = "transactions.parquet"
DIRECT_IDENTIFIERS = (
    "customer_id",
    "customer_name",
    "email",
    "phone",
    "card_number",
    "iban",
    "ip_address",
    "street_address",
)
"""Columns that name a person by themselves: none of their values may survive masking."""


@dataclass(frozen=True)
class SampleMonth:
    """A month of transactions on disk.

    Attributes:
        dataset: Directory that holds ``transactions.parquet`` and nothing else.
        pii_key: JSON lines outside of it: per memo the spans (in characters) and kinds of the personal data.
        rows: Transactions.
        frauds: Fraudulent ones among them.
        memos: Transactions with a memo.
        sha256: Digest of the Parquet file.
    """

    dataset: Path
    pii_key: Path
    rows: int
    frauds: int
    memos: int
    sha256: str


@dataclass(frozen=True)
class Personal:
    """The personal columns of a table (Arrow arrays by name) and the key of those memos."""

    columns: dict[str, pa.Array]
    key: bytes
    memos: int


def personal_columns(
    rng: np.random.Generator,
    people: Customers,
    *,
    owner: NDArray[np.int64],
    card: NDArray[np.int64],
    ip: NDArray[np.int64],
    prefix: str,
    memo_every: int,
) -> Personal:
    """Make the columns that say who paid.

    Args:
        rng: Source of randomness.
        people: The customers.
        owner: Index of the customer of each row, shape ``(rows,)``.
        card: Index into ``people.cards`` of each row.
        ip: Index into ``people.ips`` of each row.
        prefix: Start of every transaction id.
        memo_every: One row in so many has a memo.

    Returns:
        ``transaction_id`` (in the order of the rows), ``DIRECT_IDENTIFIERS``, ``city``, ``postal_code``,
        ``date_of_birth`` and ``memo``.
    """
    import pyarrow as pa

    rows = len(owner)
    # The letter keeps month and number from reading like one long (card) number.
    transaction_id = [f"{prefix}-T{number:07d}" for number in range(1, rows + 1)]
    with_memo = sorted(rng.choice(rows, max(rows // memo_every, 1), replace=False).tolist())
    memos = write_memos(rng, people, owner[with_memo].tolist())
    text: list[str | None] = [None] * rows
    for row, memo in zip(with_memo, memos, strict=True):
        text[row] = memo.text
    return Personal(
        columns={
            "transaction_id": pa.array(transaction_id),
            "customer_id": take(people.customer_id, owner),
            "customer_name": take(people.name, owner),
            "email": take(people.email, owner),
            "phone": take(people.phone, owner),
            "card_number": take(people.cards, card),
            "iban": take(people.iban, owner),
            "ip_address": take(people.ips, ip),
            "street_address": take(people.street_address, owner),
            "city": take(people.city, owner),
            "postal_code": take(people.postal_code, owner),
            "date_of_birth": pa.array(people.born.astype("datetime64[D]")).take(pa.array(owner)),
            "memo": pa.array(text, type=pa.string()),
        },
        key=key_lines((transaction_id[row] for row in with_memo), memos),
        memos=len(memos),
    )


def take(values: Sequence[str], index: NDArray[np.int64]) -> pa.Array:
    """Return ``values[index]`` as a column of strings."""
    import pyarrow as pa

    return pa.array(values, type=pa.string()).take(pa.array(index))


def write_dataset(
    directory: Path, table: pa.Table, *, label: str, personal: Personal, pii_key: Path | None
) -> SampleMonth:
    """Write a table and its key, so that equal tables give equal bytes and nothing half-written is ever found.

    Args:
        directory: The dataset directory to make.
        table: The rows.
        label: Name of the fraud column, 0 or 1.
        personal: Where the memos came from.
        pii_key: Where the key goes; by default beside the directory, named after it.

    Returns:
        What was written.

    Raises:
        Misconfigured: The key would lie inside the dataset.
        OSError: The place cannot be written, or the directory exists and is not empty.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    pii_key = pii_key or directory.with_name(f"{directory.name}.pii_key.jsonl")
    if directory.resolve() in pii_key.resolve().parents:
        raise Misconfigured(
            "The key of the personal data would become part of the dataset.",
            evidence=f"{pii_key} lies inside {directory}",
            remedy="Put the key outside of the dataset directory.",
        )
    write_atomic(pii_key, personal.key, mode=0o600)
    with atomic_directory(directory) as partial:
        pq.write_table(table, partial / FILE, compression="zstd", row_group_size=65_536, store_schema=False)
    return SampleMonth(
        dataset=directory,
        pii_key=pii_key,
        rows=table.num_rows,
        frauds=pc.sum(table[label]).as_py(),
        memos=personal.memos,
        sha256=sha256_file(directory / FILE),
    )
