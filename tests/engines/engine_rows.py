"""What the tests of the engines share."""

import pyarrow as pa

POLICY = "card-transactions"
KEY = "c0ffee" * 11
ROWS = 3_000


def by_id(table: pa.Table) -> pa.Table:
    """Return rows in one order: an engine keeps none."""
    return table.sort_by("transaction_id").combine_chunks().replace_schema_metadata(None)
