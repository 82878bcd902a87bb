"""The contracts of fetch_dataset and collect_logs."""

from kfp import dsl
from kfp.dsl import Output

from kfp_custody.components._shared.artifacts import InferenceLogs, SourceAttestation, TestResult
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("data_versioning"), install_kfp_package=False)
def fetch_dataset(
    data: Output[dsl.Dataset],
    evidence: Output[SourceAttestation],
    run_id: str,
    uri: str,
    revision: str = "",
) -> None:
    """Fetch a dataset from DVC, Git LFS, S3, GCS, Azure or a folder, at one revision, and sign what came.

    Every byte is hashed as it arrives and must be what the commit's pointer or the store's listing says. What may be
    fetched, from where and how it must be encrypted is the platform's decision (CUSTODY_SOURCES), never a parameter's
    and never the fetched repository's.

    Args:
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        uri: git+https://host/repo.git//path, s3://bucket/prefix, gs://bucket/prefix,
            abfss://container@account.dfs.core.windows.net/prefix, file:///path or an absolute path.
        revision: For git a full commit, branch or tag; for all, sha256:<hex> of the SHA256SUMS listing that the data
            must have (git: <commit>@sha256:<hex> for both). Empty, but for git: recorded and not compared.

    Returns:
        data: A directory with the files; a single file under its own name.
        evidence: Signed provenance of the data, its SHA256SUMS listing and fetch-manifest.json.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.data_versioning.fetching import fetch

        done = fetch(uri, revision, Path(data.path), Path(evidence.path), run_id, load_settings())
        data.metadata.update(done.metadata())
        evidence.metadata.update(done.metadata())


@dsl.component(base_image=image("data_versioning"), install_kfp_package=False)
def collect_logs(
    logs: Output[InferenceLogs],
    evidence: Output[TestResult],
    run_id: str,
    uri: str,
    start: str,
    end: str,
) -> None:
    """Collect the lines of request logs of a window of time, and sign what was kept, left out and unreadable.

    From where, and how it must be encrypted, is the platform's decision (CUSTODY_SOURCES). Files may go on growing
    meanwhile; one that is rotated meanwhile is refused.

    Args:
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        uri: Where the logs are: s3://bucket/prefix, gs://bucket/prefix,
            abfss://container@account.dfs.core.windows.net/prefix, file:///path or an absolute path.
        start: Start of the window, RFC 3339 in UTC to the second.
        end: End of the window, which is not in it; in the past.

    Returns:
        logs: A directory with requests.jsonl: the window's lines, file by file.
        evidence: Signed provenance of the logs, their SHA256SUMS listing and collect-manifest.json.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.data_versioning.collecting import collect

        done = collect(uri, start, end, Path(logs.path), Path(evidence.path), run_id, load_settings())
        logs.metadata.update(done.metadata())
        evidence.metadata.update(done.metadata())
