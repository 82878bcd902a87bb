"""The contracts of mask_pii, and of plan_shards, mask_shard and merge_shards, which do the same in parts."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from kfp_custody.components._shared import artifacts
from kfp_custody.components._shared.artifacts import MaskedDataset, MaskedShard, SourceAttestation, TestResult
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("pii_masking"), install_kfp_package=False)
def mask_pii(
    data: Input[Dataset],
    masked: Output[MaskedDataset],
    evidence: Output[TestResult],
    report: Output[HTML],
    metrics: Output[Metrics],
    run_id: str,
    source: Input[SourceAttestation] = None,
    policy: str = "card-transactions",
    expected_sha256: str = "",
) -> None:
    """Find and mask personal data, column by column as a policy says, and check the result before it is published.

    Declared columns are masked whole; free text is examined by Presidio and for the identifiers of its own row. A
    column that the policy does not name is refused. Equal values get equal pseudonyms, so joins survive.

    Args:
        data: Raw data: a Parquet or CSV (UTF-8) file, or a directory of files with the same columns.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        source: The evidence that fetch_dataset left about the data; verified, and named in the evidence.
        policy: Name of a shipped masking policy, or path of a YAML file in the image or on a mounted volume.
        expected_sha256: SHA-256 of the SHA256SUMS listing that the raw data must have; empty records it only.

    Returns:
        masked: A directory with data.parquet, the masked rows in the order of the input.
        evidence: Signed test result about the masked data, with a report in JSON (counts only).
        report: The same report for people; it holds no value of the data.
        metrics: Rows, columns, texts and findings by entity.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.files import path_of
    from kfp_custody.components._shared.settings import load_settings
    from kfp_custody.components._shared.signers.loading import load_signer

    with boundary():
        from kfp_custody.components.pii_masking.masking import mask_dataset

        settings = load_settings()
        signer = load_signer(settings.signer_uri("pii_masking"))
        paths = Path(data.path), Path(masked.path), Path(evidence.path), Path(report.path)
        done = mask_dataset(*paths, run_id, policy, expected_sha256, signer, settings, source=path_of(source))
        masked.metadata.update(done.metadata)
        for name, value in done.metrics.items():
            metrics.log_metric(name, value)


@dsl.component(base_image=image("pii_masking"), install_kfp_package=False)
def plan_shards(data: Input[Dataset], policy: str = "card-transactions", rows_per_shard: int = 1_000_000) -> NamedTuple(  # type: ignore[valid-type]
    "ShardPlan", [("numbers", list[int]), ("shards", int)]
):
    """Count the rows of a dataset and say in how many shards it is to be masked, at most 32.

    Args:
        data: Raw data: a Parquet or CSV (UTF-8) file, or a directory of files with the same columns.
        policy: The masking policy; it says what types the columns of a CSV file have.
        rows_per_shard: The most rows of a shard, as long as 32 shards are enough.

    Returns:
        numbers: The numbers of the shards, for dsl.ParallelFor.
        shards: How many there are.
    """
    from collections import namedtuple
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary

    with boundary():
        from kfp_custody.components.pii_masking import planning

        plan = planning.plan_shards(Path(data.path), policy, rows_per_shard)
        return namedtuple("ShardPlan", ("numbers", "shards"))(plan.numbers, plan.shards)  # type: ignore[call-arg]


@dsl.component(base_image=image("pii_masking"), install_kfp_package=False)
def mask_shard(
    data: Input[Dataset],
    masked: Output[MaskedShard],
    evidence: Output[TestResult],
    run_id: str,
    shard: int,
    shards: int,
    source: Input[SourceAttestation] = None,
    policy: str = "card-transactions",
    expected_sha256: str = "",
) -> None:
    """Mask one shard of a dataset exactly as mask_pii masks the whole, and sign which rows it is of.

    Shard i of n is the rows i*R//n up to (i+1)*R//n of the R rows, in the order of the files. All of the raw data is
    hashed, so that the shards can be shown to be of the same data; only the rows of the shard are masked.

    Args:
        data: Raw data: a Parquet or CSV (UTF-8) file, or a directory of files with the same columns.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        shard: Number of the shard, from 0.
        shards: How many shards there are, at most 32.
        source: The evidence that fetch_dataset left about the data; verified, and named in the evidence.
        policy: Name of a shipped masking policy, or path of a YAML file in the image or on a mounted volume.
        expected_sha256: SHA-256 of the SHA256SUMS listing that the raw data must have; empty records it only.

    Returns:
        masked: A directory with data.parquet, the masked rows of the shard.
        evidence: Signed test result about the shard, with a report in JSON (counts only).
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.files import path_of
    from kfp_custody.components._shared.settings import load_settings
    from kfp_custody.components._shared.signers.loading import load_signer

    with boundary():
        from kfp_custody.components.pii_masking.masking import mask_dataset

        settings = load_settings()
        signer = load_signer(settings.signer_uri("pii_masking"))
        paths = Path(data.path), Path(masked.path), Path(evidence.path), None
        part = shard, shards
        mask_dataset(*paths, run_id, policy, expected_sha256, signer, settings, source=path_of(source), part=part)


@dsl.component(base_image=image("pii_masking"), install_kfp_package=False)
def merge_shards(
    masked_shards: Input[artifacts.MaskedShards],
    maskings: Input[artifacts.TestResults],
    attestations: Input[artifacts.ShardAttestations],
    masked: Output[MaskedDataset],
    evidence: Output[TestResult],
    report: Output[HTML],
    metrics: Output[Metrics],
    run_id: str,
    shards: int,
) -> None:
    """Verify every masked shard of a dataset and put them together: the same bytes as mask_pii of the whole.

    The lists may come in any order. A shard that is missing, twice, not attested, of other raw data, policy, key or
    detector, or not what its evidence speaks of is refused. Needs no masking key.

    Args:
        masked_shards: All shards: dsl.Collected of mask_shard's output masked.
        maskings: Their evidence: dsl.Collected of mask_shard's output evidence.
        attestations: Their attestations: dsl.Collected of attest_shard's output attestation.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        shards: How many shards there must be.

    Returns:
        masked: A directory with data.parquet, the masked rows in the order of the input.
        evidence: Signed test result about the whole, as mask_pii leaves it; it names the shards' evidence by digest.
        report: The same report for people; it holds no value of the data.
        metrics: Rows, columns, texts and findings by entity.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings
    from kfp_custody.components._shared.signers.loading import load_signer

    with boundary():
        from kfp_custody.components.pii_masking import merging

        settings = load_settings()
        signer = load_signer(settings.signer_uri("pii_masking"))
        collected = masked_shards, maskings, attestations
        parts, tested, attested = ([Path(item.path) for item in items] for items in collected)
        paths = Path(masked.path), Path(evidence.path), Path(report.path)
        done = merging.merge_shards(parts, tested, attested, *paths, run_id, shards, signer, settings)
        masked.metadata.update(done.metadata)
        for name, value in done.metrics.items():
            metrics.log_metric(name, value)
