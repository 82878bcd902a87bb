"""The contract of mask_pii."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from kfp_custody.components._shared.artifacts import MaskedDataset, TestResult
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("pii_masking"), install_kfp_package=False)
def mask_pii(
    data: Input[Dataset],
    masked: Output[MaskedDataset],
    evidence: Output[TestResult],
    report: Output[HTML],
    metrics: Output[Metrics],
    run_id: str,
    policy: str = "card-transactions",
    expected_sha256: str = "",
) -> None:
    """Find and mask personal data, column by column as a policy says, and check the result before it is published.

    Declared columns are masked whole; free text is examined by Presidio and for the identifiers of its own row. A
    column that the policy does not name is refused. Equal values get equal pseudonyms, so joins survive.

    Args:
        data: Raw data: a Parquet or CSV (UTF-8) file, or a directory of files with the same columns.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
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
    from kfp_custody.components._shared.settings import load_settings
    from kfp_custody.components._shared.signers.loading import load_signer

    with boundary():
        from kfp_custody.components.pii_masking.masking import mask_dataset

        settings = load_settings()
        signer = load_signer(settings.signer_uri("pii_masking"))
        paths = Path(data.path), Path(masked.path), Path(evidence.path), Path(report.path)
        done = mask_dataset(*paths, run_id, policy, expected_sha256, signer, settings)
        masked.metadata.update(done.metadata)
        for name, value in done.metrics.items():
            metrics.log_metric(name, value)
