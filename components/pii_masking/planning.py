"""How many shards a dataset is masked in: as many as its rows need."""

from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.shards import MAX_SHARDS
from kfp_custody.components.pii_masking.masking import read_types
from kfp_custody.components.pii_masking.policy import load_policy
from kfp_custody.components.pii_masking.tables import open_source


@dataclass(frozen=True)
class ShardPlan:
    """The numbers of the shards, how many they are, and the rows of the whole."""

    numbers: list[int]
    shards: int
    rows: int


def plan_shards(data: Path, policy: str, rows_per_shard: int) -> ShardPlan:
    """Count the rows of a dataset, and return so many shards that none has more than `rows_per_shard`, at most 32.

    The plan is no evidence: which rows a shard holds follows from its number, how many there are, and the rows that
    mask_shard counts itself.

    Args:
        data: A file, or a directory of files with the same columns.
        policy: The masking policy; it says what types the columns of a CSV file have.
        rows_per_shard: The most rows of a shard, as long as 32 shards are enough.

    Raises:
        InputRefused: the data cannot be read, or has no rows.
        Misconfigured: there is no such policy, or no shard can have so few rows.
    """
    if rows_per_shard < 1:
        raise Misconfigured(
            "No shard can have so few rows.",
            evidence=f"rows_per_shard {rows_per_shard}",
            remedy="Give the most rows that a shard may have, 1 or more.",
            code=codes.SHARD_NUMBER,
        )
    rows = sum(open_source(data, read_types(load_policy(policy))).count())
    if not rows:
        raise InputRefused(
            "The raw data has no rows.", evidence=f"{data.name}: 0 rows", remedy="Check the step that made it."
        )
    shards = min(-(-rows // rows_per_shard), MAX_SHARDS)
    return ShardPlan(list(range(shards)), shards, rows)
