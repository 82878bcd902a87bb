"""Masking a Ray dataset, for sites with KubeRay."""

from typing import TYPE_CHECKING

import pyarrow as pa

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components.pii_masking.adapters.batches import BatchMasker, batch_masker, not_installed

if TYPE_CHECKING:
    from ray.data import Dataset


class RayMasker:
    """What an actor runs: one masker for all batches that it is given."""

    def __init__(self, masker: BatchMasker) -> None:
        """Keep the masker."""
        self._masker = masker

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return a table with the masked rows."""
        return pa.Table.from_batches(self._masker(table.to_batches()), self._masker.schema)


def mask_dataset(dataset: "Dataset", policy: str, actors: int, settings: Settings | None = None) -> "Dataset":
    """Return a dataset whose rows are masked when they are asked for.

    Args:
        dataset: The raw rows.
        policy: Name of a shipped masking policy, or path of a YAML file beside the caller.
        actors: How many processes mask. Each holds a processor for itself and reading needs one more, so there must be
            more processors than that: Ray would wait for ever.
        settings: Names the masking key; the environment where none are given.

    Raises:
        InputRefused: The columns do not fit the policy, or are nested or binary.
        Misconfigured: There is no such policy, too few processors, or Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise not_installed("Ray", error) from error
    masker = batch_masker(dataset.schema().base_schema, policy, settings or load_settings())
    processors = int(ray.cluster_resources().get("CPU", 0))
    if not 0 < actors < processors:
        raise Misconfigured(
            "So many masking processes, or none, cannot work in this cluster: reading needs a processor as well.",
            evidence=f"{actors} actors, {processors} processors in the cluster",
            remedy="Ask for at least one actor, and for fewer than there are processors.",
        )
    return dataset.map_batches(
        RayMasker, fn_constructor_args=(masker,), batch_format="pyarrow", concurrency=actors, num_cpus=1
    )
