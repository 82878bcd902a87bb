"""Masking a dataset: chunk by chunk through the policy's operators and the residual check, then signed evidence.

Nothing is published before the last chunk passed: the masked directory appears by one rename, after its evidence.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import Listing, list_tree, require_same
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.evidence import MASKING, SHARD_MASKING, write_evidence
from kfp_custody.components._shared.files import atomic_directory, write_atomic
from kfp_custody.components._shared.keys import is_sha256
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.shards import Shard, cut, require_number
from kfp_custody.components.pii_masking.anonymity import smallest_class
from kfp_custody.components.pii_masking.chunks import ChunkMasker, Tally
from kfp_custody.components.pii_masking.detection import Detector
from kfp_custody.components.pii_masking.operators import output_type
from kfp_custody.components.pii_masking.origin import verified_origin
from kfp_custody.components.pii_masking.policy import Policy, Rule, load_policy
from kfp_custody.components.pii_masking.pseudonyms import read_masking_key
from kfp_custody.components.pii_masking.reporting import CHECKS, ColumnFacts, MaskingReport, TextCounts
from kfp_custody.components.pii_masking.tables import NAME, ROW_GROUP, ParquetSink, open_source

_LOG = logging.getLogger("kfp_custody.pii_masking")
_READ_AS_TEXT = frozenset({"drop", "redact", "replace", "mask", "hmac", "encrypt", "fpe", "free_text"})


@dataclass(frozen=True)
class MaskingResult:
    """What was masked: the digest of the tree, metadata for the artifact (flat) and numbers for the metrics."""

    sha256: str
    rows: int
    metadata: Mapping[str, str | float]
    metrics: Mapping[str, float]


def mask_dataset(
    data: Path,
    masked: Path,
    evidence: Path,
    report: Path | None,
    run_id: str,
    policy: str,
    expected_sha256: str,
    signer: Signer,
    settings: Settings,
    *,
    source: Path | None = None,
    part: tuple[int, int] | None = None,
    chunk_rows: int = ROW_GROUP,
    workers: int | None = None,
) -> MaskingResult:
    """Mask a Parquet or CSV dataset, or one shard of it, and leave signed evidence.

    Args:
        data: A file, or a directory of files with the same columns.
        masked: The directory to make, with `data.parquet`.
        evidence: The evidence directory to make.
        report: The HTML file to write; None writes none.
        run_id: The pipeline run.
        policy: Name of a shipped policy, or path of a YAML file.
        expected_sha256: Listing digest that the data must have; empty means that it is only recorded.
        signer: Signs the evidence.
        settings: Names the masking key.
        source: The evidence directory of fetch_dataset about the data; None for data that came in another way.
        part: Number of a shard and how many there are: only its rows are masked, and the evidence says so.
        chunk_rows: Rows masked at a time; the output does not depend on it.
        workers: Processes for free text, None for one a processor; the output does not depend on it.

    Raises:
        InputRefused: The data cannot be read, does not fit the policy, has fewer rows than shards, personal data was
            left in the result, or the result is not k-anonymous as the policy demands.
        EvidenceInvalid: The data is not the expected one or not what its source evidence speaks of, or changed while it
            was read.
        Misconfigured: Policy, key or detector are unusable, or there is no such shard.
        OSError: A file cannot be read or written.
    """
    if part is not None:
        require_number(*part)
    given = load_policy(policy)
    raw = _identified(data, expected_sha256)
    origin = verified_origin(source, raw, run_id, settings.trust_file)
    tables = open_source(data, read_types(given))
    rules = given.for_columns(tables.schema.names, data.name)
    schema = masked_schema(rules, tables.schema)
    key = read_masking_key(settings.masking_key) if rules.keyed else None
    shard = None
    if part is not None:
        counts = tables.count()
        shard = cut(*part, sum(counts))
        tables = tables.part(counts, shard.first, shard.end)
    with Detector(rules, workers) as detector, atomic_directory(masked) as partial:
        chunks = ChunkMasker(rules, key, detector)
        with ParquetSink(partial / NAME, schema) as sink:
            for chunk in tables.chunks(chunk_rows):
                sink.write(chunks.mask(chunk).cast(schema))
                _LOG.info("masked %d rows", chunks.tally.rows)
        _require_rows(data, chunks.tally.rows, shard)
        require_same(raw, list_tree(data), "raw dataset")
        # Of a shard nothing can be said: it is the whole that must not single anybody out.
        smallest = smallest_class(partial / NAME, rules.anonymity) if rules.anonymity and not shard else None
        subject = list_tree(partial)
        findings = MaskingReport(
            policy_name=rules.name,
            policy_sha256=rules.sha256,
            key_id=key.key_id if key else "",
            key_version=key.version if key else "",
            raw_sha256=raw.sha256,
            raw_bytes=raw.size,
            masked_sha256=subject.sha256,
            rows=chunks.tally.rows,
            columns=_columns(rules, tables.schema, schema, chunks.tally),
            texts={
                name: TextCounts(chunks.tally.texts[name], text.changed, dict(text.counts))
                for name, text in chunks.free_text.items()
            },
            compared=chunks.tally.compared,
            too_short=chunks.tally.too_short,
            detector=detector.facts,
            anonymity=rules.anonymity,
            smallest_class=smallest,
        )
        statement = (
            findings.statement(SHARD_MASKING, subject, run_id, CHECKS, [*origin, shard.resource()])
            if shard
            else findings.statement(MASKING, subject, run_id, CHECKS, origin)
        )
        write_evidence(evidence, statement, signer, subject, findings.json())
        if report is not None:
            write_atomic(report, findings.html().encode())
    return MaskingResult(subject.sha256, findings.rows, findings.metadata(), findings.metrics())


def _require_rows(data: Path, rows: int, shard: Shard | None) -> None:
    """Refuse data without rows, and a Parquet file that has not as many as it says."""
    if not rows:
        raise InputRefused(
            "The raw data has no rows.", evidence=f"{data.name}: 0 rows", remedy="Check the step that made it."
        )
    if shard and rows != shard.end - shard.first:
        raise InputRefused(
            "The raw data does not hold the rows that its files say.",
            evidence=f"{data.name}: {shard} expected {shard.end - shard.first} rows, found {rows}",
            remedy="Check the step that made it.",
        )


def _columns(rules: Policy, given: pa.Schema, masked: pa.Schema, tally: Tally) -> tuple[ColumnFacts, ...]:
    return tuple(
        ColumnFacts(
            name=rule.column,
            operator=rule.operator,
            type=str(given.field(rule.column).type),
            masked_type=str(masked.field(rule.column).type) if rule.column in masked.names else None,
            nulls=tally.nulls[rule.column],
            scanned=bool(rule.options.get("scan", True)),
            declared=rule.declared,
        )
        for rule in rules.rules
    )


def _identified(data: Path, expected: str) -> Listing:
    """Hash the raw data, and compare it with the digest that it must have."""
    if expected and not is_sha256(expected):
        raise Misconfigured(
            "The expected digest of the raw data is no SHA-256.",
            evidence=f"{len(expected)} characters; 64 lower-case hex digits are needed",
            remedy="Use the SHA-256 of the data's SHA256SUMS listing, or leave the parameter empty.",
        )
    listing = list_tree(data)
    if expected and listing.sha256 != expected:
        raise EvidenceInvalid(
            "raw dataset: this is not the data that the pipeline was told to mask.",
            evidence=f"raw dataset expected sha256:{expected}, found sha256:{listing.sha256}",
            remedy="Find out who changed the data; when the change is right, pin the new digest.",
        )
    return listing


def read_types(policy: Policy) -> dict[str, str]:
    """Return the types that the columns of CSV files are read as, where the policy says so."""
    return {rule.column: kind for rule in policy.rules if (kind := _read_type(rule))}


def _read_type(rule: Rule) -> str | None:
    """Return the type that a CSV column is read as, None for the type its first block shows."""
    if rule.type is None and "age_on" in rule.options:
        return "date"
    if rule.type is None and (
        rule.operator in _READ_AS_TEXT or "prefix" in rule.options or rule.options.get("to") == "zip3"
    ):
        return "string"  # a number would lose the leading zeros of a postal code
    return rule.type


def masked_schema(rules: Policy, given: pa.Schema) -> pa.Schema:
    """Return the columns of the masked table.

    Raises:
        InputRefused: a column has another type than its rule takes, or a rule refers to a column that is not there.
        Misconfigured: every column is dropped.
    """
    types = {rule.column: output_type(rule, given.field(rule.column).type) for rule in rules.rules}
    fields = [pa.field(name, kind) for name, kind in types.items() if kind is not None]
    if not fields:
        raise Misconfigured(
            "The masking policy drops every column.", evidence=f"policy {rules.name!r}", remedy="Keep at least one."
        )
    for rule in rules.rules:
        if absent := [name for name in rule.refers_to if name not in types]:
            raise InputRefused(
                "A masking rule needs a column that the data does not have.",
                evidence=f"{rule.column!r} refers to {', '.join(map(repr, absent))}",
                remedy="Provide the column, or change the rule.",
            )
    return pa.schema(fields)
