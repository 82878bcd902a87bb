"""The contracts of attest_dataset and attest_shard."""

from kfp import dsl
from kfp.dsl import Input, Output

from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    MaskedDataset,
    MaskedShard,
    ShardAttestation,
    TestResult,
)
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("data_attestation"), install_kfp_package=False)
def attest_dataset(
    dataset: Input[MaskedDataset],
    masking: Input[TestResult],
    attestation: Output[DatasetAttestation],
    run_id: str,
) -> None:
    """Sign what a masked dataset is: every file by SHA-256, its DVC identity, and what it was made from.

    The dataset's bytes are hashed again and must be those that the masking evidence speaks of. Where a DVC remote is
    configured (CUSTODY_DVC_REMOTE) the dataset is pushed there, so that these very bytes can be had again later.

    Args:
        dataset: The masked dataset.
        masking: The evidence that mask_pii left about it.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.

    Returns:
        attestation: The signed attestation, the SHA256SUMS listing and the DVC pointer.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.data_attestation.attestation import attest

        done = attest(Path(dataset.path), Path(masking.path), Path(attestation.path), run_id, load_settings())
        attestation.metadata.update(done.metadata())


@dsl.component(base_image=image("data_attestation"), install_kfp_package=False)
def attest_shard(
    shard: Input[MaskedShard],
    masking: Input[TestResult],
    attestation: Output[ShardAttestation],
    run_id: str,
) -> None:
    """Sign what one masked shard is, before the shards are put together: every file by SHA-256, and which rows.

    The shard's bytes are hashed again and must be those that its masking evidence speaks of. It is no attestation of a
    dataset: merge_shards asks for one of each shard, and attest_dataset signs the whole.

    Args:
        shard: The masked shard.
        masking: The evidence that mask_shard left about it.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.

    Returns:
        attestation: The signed attestation and the SHA256SUMS listing.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.data_attestation import shard_attestation

        paths = Path(shard.path), Path(masking.path), Path(attestation.path)
        shard_attestation.attest_shard(*paths, run_id, load_settings())
