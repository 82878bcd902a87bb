"""Putting masked shards together: every shard verified, then their rows in order through one writer.

What comes out is byte for byte what masking the whole dataset would have made, and its evidence says the same, with the
evidence of the shards by digest beside it. The bytes that are merged are those that were verified: a copy of each shard
that no path leads to.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from securesystemslib.signer import Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Listing, list_tree, require_same, sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, read_document
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components._shared.evidence import (
    MASKING,
    REPORT_NAME,
    SHARD_ATTESTATION,
    SHARD_MASKING,
    write_evidence,
)
from kfp_custody.components._shared.files import atomic_directory, write_atomic
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.shards import ShardEvidence, read_shard, require_number, require_whole
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence, require_digest
from kfp_custody.components._shared.verified_copies import verified_file
from kfp_custody.components.pii_masking.anonymity import smallest_class
from kfp_custody.components.pii_masking.masking import MaskingResult
from kfp_custody.components.pii_masking.origin import named_origin
from kfp_custody.components.pii_masking.reporting import CHECKS, MaskingReport, joined, read_report
from kfp_custody.components.pii_masking.tables import NAME, ROW_GROUP, ParquetSink

_LOG = logging.getLogger("kfp_custody.pii_masking")
_BUFFER = 1 << 20


def merge_shards(
    shards: Sequence[Path],
    maskings: Sequence[Path],
    attestations: Sequence[Path],
    masked: Path,
    evidence: Path,
    report: Path,
    run_id: str,
    count: int,
    signer: Signer,
    settings: Settings,
) -> MaskingResult:
    """Verify all shards of a dataset and put them together.

    The lists may come in any order: what belongs together is told by digests, and the order of the rows by the numbers
    in the signed evidence.

    Args:
        shards: The masked shards.
        maskings: The evidence directories of mask_shard.
        attestations: The evidence directories of attest_shard.
        masked: The directory to make, with `data.parquet`.
        evidence: The evidence directory to make.
        report: The HTML file to write.
        run_id: The pipeline run; all evidence must be of it.
        count: How many shards there must be.
        signer: Signs the evidence.
        settings: Names the trust file.

    Raises:
        EvidenceInvalid: Evidence is not genuine or of another run; a shard is missing, twice, not attested, or not what
            its evidence speaks of; the shards are not of one dataset, or not masked alike.
        PolicyRefused: The masking of a shard failed.
        InputRefused: A shard cannot be read, or the whole is not k-anonymous as the policy demands.
        Misconfigured: Trust file or number of shards.
        OSError: A file cannot be read or written.
    """
    require_number(0, count)
    trust = load_trust(settings.trust_file)
    masked_apart, reports = [], {}
    for directory in maskings:
        verified = read_evidence(directory, SHARD_MASKING, trust, run_id=run_id)
        reports[verified.bundle_sha256] = _report(verified, directory)
        masked_apart.append(verified)
    attested = [read_evidence(directory, SHARD_ATTESTATION, trust, run_id=run_id) for directory in attestations]
    whole = require_whole(masked_apart, attested, count)
    parts = [reports[piece.masking.bundle_sha256] for piece in whole]
    _require_alike(whole, parts)
    trees = _matched(whole, shards)
    with atomic_directory(masked) as partial:
        _write(partial / NAME, whole, trees)
        subject = list_tree(partial)
        findings = joined(parts, subject.sha256)
        if findings.anonymity:
            smallest = smallest_class(partial / NAME, findings.anonymity)
            findings = replace(findings, smallest_class=smallest)
        named = [*named_origin(whole[0].masking), *(entry for piece in whole for entry in piece.resources())]
        statement = findings.statement(MASKING, subject, run_id, (*CHECKS, "every-shard-once"), named)
        write_evidence(evidence, statement, signer, subject, findings.json())
        write_atomic(report, findings.html().encode())
    return MaskingResult(subject.sha256, findings.rows, findings.metadata(), findings.metrics())


def _report(verified: Verified, directory: Path) -> MaskingReport:
    """Read the report of a shard, from the bytes that its statement binds."""
    try:
        data = read_document(directory / REPORT_NAME)
        require_digest(verified.dependency("report"), sha256_bytes(data), REPORT_NAME, verified.kind.name)
        report = read_report(data)
    except DocumentFault as fault:
        raise _unfit(verified, f"{REPORT_NAME}: {fault}", fault.code) from fault
    shard = read_shard(verified)
    said = (
        [*report.configuration(), *named_origin(verified), shard.resource()],
        report.metrics(),
        report.coverage(),
        report.masked_sha256,
    )
    predicate = verified.predicate
    signed = (
        *(predicate["configuration"], predicate.get("custody_metrics"), predicate.get("custody_coverage")),
        verified.subject_sha256,
    )
    if report.rows != shard.end - shard.first:
        why = f"{shard} expected {shard.end - shard.first} rows, found {report.rows} in its report"
        raise _unfit(verified, why, codes.SHARD_ROWS)
    if said != signed:
        raise _unfit(verified, f"{REPORT_NAME} says other than the statement about {shard}", codes.VALUE)
    return report


def _require_alike(whole: Sequence[ShardEvidence], reports: Sequence[MaskingReport]) -> None:
    """Refuse shards whose columns differ: of one dataset and policy they do so only when the software did."""
    first = [replace(column, nulls=0) for column in reports[0].columns]
    for piece, report in zip(whole, reports, strict=True):
        columns = [replace(column, nulls=0) for column in report.columns]
        if columns != first or report.texts.keys() != reports[0].texts.keys():
            raise _unfit(piece.masking, f"{piece.shard} has other columns than {whole[0].shard}", codes.SHARD_ORIGIN)


def _matched(whole: Sequence[ShardEvidence], shards: Sequence[Path]) -> list[tuple[Path, Listing]]:
    """Return the tree of each shard and its listing; every tree must be the subject of one piece of evidence."""
    left = [(path, list_tree(path)) for path in shards]
    trees: list[tuple[Path, Listing] | None] = []
    for piece in whole:
        subject = piece.masking.subject_sha256
        trees.append(next((tree for tree in left if tree[1].sha256 == subject), None))
        if trees[-1] is not None:
            left.remove(trees[-1])
    absent = [piece for piece, tree in zip(whole, trees, strict=True) if tree is None]
    if absent and left:  # the evidence of both is there, so it is these bytes that were changed
        expected = absent[0].masking
        if expected.listing is not None:
            require_same(expected.listing, left[0][1], str(absent[0].shard))
        require_digest(expected.subject_sha256, left[0][1].sha256, str(absent[0].shard), expected.kind.name)
    if absent or left:
        raise EvidenceInvalid(
            "The shards are not those that the evidence speaks of, each exactly once.",
            evidence=f"{len(whole)} shards in the evidence, {len(shards)} shown; "
            f"not shown: {', '.join(str(piece.shard) for piece in absent) or 'none'}; "
            f"of no evidence: {', '.join(f'sha256:{listing.sha256}' for _, listing in left) or 'none'}",
            remedy="Give merge_shards all shards of the loop, and nothing else.",
            code=codes.SHARD_SET,
        )
    return [tree for tree in trees if tree is not None]


def _write(target: Path, whole: Sequence[ShardEvidence], trees: Sequence[tuple[Path, Listing]]) -> None:
    """Write the rows of all shards, in order, as masking the whole would have written them."""
    with closing(_tables(whole, trees, target.parent)) as tables:
        first = next(tables)
        with ParquetSink(target, first.schema) as sink:
            for table in chain((first,), tables):
                sink.write(table)


def _tables(
    whole: Sequence[ShardEvidence], trees: Sequence[tuple[Path, Listing]], folder: Path
) -> Generator[pa.Table, None, None]:
    """Yield the rows of all shards in bounded pieces."""
    schema = None
    for piece, (path, listing) in zip(whole, trees, strict=True):
        with verified_file(path / NAME, listing, str(piece.shard), folder) as copy, _readable(piece, listing):
            rows = 0
            with pq.ParquetFile(copy, pre_buffer=False, buffer_size=_BUFFER) as file:
                schema = schema or file.schema_arrow
                for batch in file.iter_batches(ROW_GROUP):
                    rows += batch.num_rows
                    yield pa.Table.from_batches([batch], schema)
        expected = piece.shard.end - piece.shard.first
        if rows != expected:
            why = f"{piece.shard} expected {expected} rows, found {rows}"
            raise _unfit(piece.masking, why, codes.SHARD_ROWS)
        _LOG.info("merged %s", piece.shard)


@contextmanager
def _readable(piece: ShardEvidence, listing: Listing) -> Iterator[None]:
    """Turn Arrow's errors into a refusal; their text may quote a value, so it is withheld."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk's, not the file's
        raise InputRefused(
            "A shard is no readable Parquet, or does not have the columns of the others.",
            evidence=f"{piece.shard}: {NAME}, sha256:{listing.sha256}",
            remedy="Mask the dataset again, all shards with one version of kfp-custody.",
        ) from None


def _unfit(verified: Verified, why: str, code: str) -> EvidenceInvalid:
    return EvidenceInvalid(
        "A masked shard cannot be merged.",
        evidence=f"{why}; bundle sha256:{verified.bundle_sha256}",
        remedy="Mask the dataset again, all shards with one version of kfp-custody.",
        code=code,
    )
