"""The demo's card transactions: one Parquet file per month, made from a seed, with personal data to be masked.

Who the customers are is in ``people``, what they and the thieves do in ``activity``, what they write in ``memos``.
The same arguments give the same bytes, whatever the clock, the hash seed or the time zone says.

The key of the personal data in the memos is written beside the dataset directory, never inside it. The personal data
of the other columns needs no key: ``tables.DIRECT_IDENTIFIERS`` names the columns that are nothing else.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.pipelines.fraud_detection.activity import Drift, simulate
from kfp_custody.pipelines.fraud_detection.merchants import BRANDS, CATEGORIES, CHANNELS
from kfp_custody.pipelines.fraud_detection.people import COUNTRIES, draw_customers
from kfp_custody.pipelines.fraud_detection.tables import SampleMonth, personal_columns, take, write_dataset

MEMO_EVERY = 20
MINIMUM_ROWS = 1_000
LABEL = "is_fraud"
CATEGORICAL_FEATURES = ("merchant_category", "channel", "country")
NUMERIC_FEATURES = (
    "amount",
    "hour",
    "day_of_week",
    "account_age_days",
    "seconds_since_last",
    "transactions_24h",
    "amount_24h",
    "amount_ratio",
    "distance_from_home_km",
    "is_foreign",
)

Shift = Literal["strong"] | bool
DRIFTS: dict[Shift, Drift] = {
    False: Drift(),
    True: Drift(inflation=1.5, online=0.35),
    "strong": Drift(inflation=2.2, online=0.8, tempo=2.0, hours=5.0, travel=3.0),
}
"""What ``shifted`` means. ``True``: prices and the share of online shopping rise, which moves ``amount``, ``channel``
and little else; the month stays usable. ``"strong"``: also twice the pace, later hours and three times the travellers;
a drift check has to fail on it."""


def write_month(
    directory: Path,
    *,
    rows: int = 120_000,
    seed: int = 20_260_901,
    month: str = "2026-09",
    shifted: Shift = False,
    pii_key: Path | None = None,
) -> SampleMonth:
    """Generate one month of card transactions.

    The seed decides who the customers are: two months of one seed are months of the same bank.

    Args:
        directory: The dataset directory to make.
        rows: Transactions in the month.
        seed: Seed of everything.
        month: Year and month, ``YYYY-MM``.
        shifted: How far this month differs from an ordinary one, see ``DRIFTS``.
        pii_key: Where the key goes; by default beside the directory, named after it.

    Returns:
        What was written.

    Raises:
        Misconfigured: A month that is none, too few rows, an unknown shift, or a key inside the dataset.
        OSError: The place cannot be written, or the directory exists and is not empty.
    """
    import numpy as np
    import pyarrow as pa

    if rows < MINIMUM_ROWS:
        raise Misconfigured(
            "The sample month would be too small to hold fraud to learn from.",
            evidence=f"rows = {rows}, the least is {MINIMUM_ROWS}",
            remedy=f"Ask for at least {MINIMUM_ROWS} rows.",
        )
    if shifted not in DRIFTS:
        raise Misconfigured(
            "The sample month's shift is unknown.",
            evidence=f"shifted = {shifted}",
            remedy='Use False, True or "strong".',
        )
    first_day, days = _days_of(month)
    people = draw_customers(seed)
    rng = np.random.default_rng([seed, first_day, list(DRIFTS).index(shifted)])
    events = simulate(rng, people, rows=rows, first_day=first_day, days=days, drift=DRIFTS[shifted])
    personal = personal_columns(
        rng, people, owner=events["customer"], card=events["card"], ip=events["ip"], prefix=month, memo_every=MEMO_EVERY
    )
    who = dict(personal.columns)
    merchants = [f"{brand} {category.words}" for category in CATEGORIES for brand in BRANDS]
    table = pa.table(
        {
            "transaction_id": who.pop("transaction_id"),
            "timestamp": pa.array(events["seconds"] * 1_000_000, type=pa.timestamp("us", tz="UTC")),
            **{name: column for name, column in who.items() if name != "memo"},
            "merchant": take(merchants, events["category"] * len(BRANDS) + events["brand"]),
            "merchant_category": take([category.name for category in CATEGORIES], events["category"]),
            "channel": take(CHANNELS, events["channel"]),
            "country": take(COUNTRIES, events["country"]),
            **{name: pa.array(events[name]) for name in NUMERIC_FEATURES},
            "memo": who["memo"],
            LABEL: pa.array(events[LABEL]),
        }
    )
    return write_dataset(directory, table, label=LABEL, personal=personal, pii_key=pii_key)


def _days_of(month: str) -> tuple[int, int]:
    """Return the first day of a month (days since 1970-01-01) and how many days it has."""
    try:
        first = datetime.date.fromisoformat(f"{month}-01")
    except ValueError as exc:
        raise Misconfigured(
            "The sample month is no month.", evidence=f"month = {month!r}", remedy="Write it as YYYY-MM."
        ) from exc
    following = (first + datetime.timedelta(days=31)).replace(day=1)
    return (first - datetime.date(1970, 1, 1)).days, (following - first).days
