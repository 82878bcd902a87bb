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

_ADD_FROM = 1_000_000  # counts that wait to be added up; more where there are more classes already


def smallest_class(path: Path, wanted: Anonymity) -> int:
    """Return how many rows the smallest class of a masked table has.

    Memory is bounded by the number of classes, and that by the rows divided by `k`: with more, one of them must have
    fewer than `k` rows, and no more is read.

    Args:
        path: The Parquet file, which must have a row.
        wanted: The columns, and the least number of rows that a class may have.

    Raises:
        InputRefused: a class has fewer.
    """
    columns, k = list(wanted.columns), wanted.k
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        rows = file.metadata.num_rows
        counted, waiting = None, []
        for batch in file.iter_batches(columns=columns):
            waiting.append(pa.Table.from_batches([batch]).group_by(columns).aggregate([([], "count_all")]))
            if sum(map(len, waiting)) > max(_ADD_FROM, len(counted) if counted else 0):
                counted, waiting = _added([*([counted] if counted else []), *waiting], columns), []
                if len(counted) > rows // k:
                    raise _singled_out(wanted, f"{len(counted):,} combinations of values or more in {rows:,} rows")
    counts = _added([*([counted] if counted else []), *waiting], columns)["count_all"].combine_chunks()
    smallest = int(pc.min(counts).as_py())
    if smallest < k:
        few = counts.filter(pc.less(counts, k))
        raise _singled_out(
            wanted,
            f"{len(few):,} of {len(counts):,} combinations of values have fewer rows, together {pc.sum(few).as_py():,}",
        )
    return smallest


def _added(tables: list[pa.Table], columns: list[str]) -> pa.Table:
    whole = pa.concat_tables(tables).group_by(columns).aggregate([("count_all", "sum")])
    return whole.rename_columns([*columns, "count_all"])


def _singled_out(wanted: Anonymity, found: str) -> InputRefused:
    return InputRefused(
        "Rows of the masked data could be told apart by their quasi-identifiers, so nothing is published.",
        evidence=f"{', '.join(map(repr, wanted.columns))}: k is {wanted.k}; {found}",
        remedy="Generalise these columns more, drop one, or remove the rare rows before masking.",
        code=codes.NOT_ANONYMOUS,
    )
