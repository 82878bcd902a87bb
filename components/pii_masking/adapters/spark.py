"""Masking a Spark data frame, for sites with the Kubeflow Spark operator."""

from typing import TYPE_CHECKING

from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components.pii_masking.adapters.batches import batch_masker, not_installed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def mask_frame(frame: "DataFrame", policy: str, settings: Settings | None = None) -> "DataFrame":
    """Return a data frame whose rows are masked when they are asked for.

    Spark computes a frame anew for every action: write the result once and read that. The executors need kfp-custody,
    and the environment that says how to reach the masking key.

    Args:
        frame: The raw rows.
        policy: Name of a shipped masking policy, or path of a YAML file on the driver.
        settings: Names the masking key; the environment of the driver where none are given.

    Raises:
        InputRefused: The columns do not fit the policy, or are nested or binary.
        Misconfigured: There is no such policy, or Spark is not installed.
    """
    try:
        from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
    except ImportError as error:
        raise not_installed("Spark", error) from error
    zone = frame.sparkSession.conf.get("spark.sql.session.timeZone")
    masker = batch_masker(to_arrow_schema(frame.schema, timezone=zone), policy, settings or load_settings())
    return frame.mapInArrow(masker, from_arrow_schema(masker.schema))
