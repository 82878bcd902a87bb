"""k-anonymity of what is published: how many rows share the values of the quasi-identifiers.

Sources: Sweeney, "k-anonymity: a model for protecting privacy" (2002). It says nothing about what all rows of a class
have in common; it is a floor against singling out, no proof of anonymity.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components.pii_masking.policy import Anonymity

_MERGE_FROM = 1_000_000  # rows of counts that wait to be added up


def smallest_class(path: Path, wanted: Anonymity) -> int:
    """Return how many rows the smallest class of a masked table has.

    Memory is bounded by the number of classes, which is small where the condition can hold.

    Args:
        path: The Parquet file, which must have a row.
        wanted: The columns, and the least number of rows that a class may have.

    Raises:
        InputRefused: a class has fewer.
    """
    counts = _counts(path, list(wanted.columns))
    smallest = int(pc.min(counts).as_py())
    if smallest < wanted.k:
        few = counts.filter(pc.less(counts, wanted.k))
        raise InputRefused(
            "Rows of the masked data could be told apart by their quasi-identifiers, so nothing is published.",
            evidence=f"{', '.join(map(repr, wanted.columns))}: k is {wanted.k}; {len(few):,} of {len(counts):,} "
            f"combinations of values have fewer rows, together {pc.sum(few).as_py():,}",
            remedy="Generalise these columns more, drop one, or remove the rare rows before masking.",
            code=codes.NOT_ANONYMOUS,
        )
    return smallest


def _counts(path: Path, columns: list[str]) -> pa.Array:
    waiting: list[pa.Table] = []
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        for batch in file.iter_batches(columns=columns):
            table = pa.Table.from_batches([batch]).group_by(columns).aggregate([([], "count_all")])
            waiting.append(table)
            if sum(len(one) for one in waiting) > _MERGE_FROM:
                waiting = [_added(waiting, columns)]
    return _added(waiting, columns)["count_all"].combine_chunks()


def _added(tables: list[pa.Table], columns: list[str]) -> pa.Table:
    whole = pa.concat_tables(tables).group_by(columns).aggregate([("count_all", "sum")])
    return whole.rename_columns([*columns, "count_all"])
