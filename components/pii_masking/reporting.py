"""What a masking run says about itself: JSON for machines, HTML for people, numbers for the gate; counts only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Listing, sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, canonical_json, parse_json
from kfp_custody.components._shared.evidence import Kind, resource, test_result
from kfp_custody.components._shared.report import Section, page, paragraph, table
from kfp_custody.components.pii_masking.detection import MODEL, DetectorFacts
from kfp_custody.components.pii_masking.policy import Anonymity

CHECKS = ("every-column-declared", "input-unchanged", "no-identifier-left-in-row", "no-pattern-left")


@dataclass(frozen=True)
class ColumnFacts:
    """What happened to one column; `masked_type` is None when it was dropped, by default when it is not `declared`."""

    name: str
    operator: str
    type: str
    masked_type: str | None
    nulls: int
    scanned: bool
    declared: bool = True


@dataclass(frozen=True)
class TextCounts:
    """Findings in one free-text column: how many texts there were and changed, and spans by entity."""

    texts: int
    changed: int
    entities: Mapping[str, int]


@dataclass(frozen=True)
class MaskingReport:
    """Everything a run knows that may be told."""

    policy_name: str
    policy_sha256: str
    key_id: str
    raw_sha256: str
    raw_bytes: int
    masked_sha256: str
    rows: int
    columns: tuple[ColumnFacts, ...]
    texts: Mapping[str, TextCounts]
    compared: int
    too_short: int
    detector: DetectorFacts | None
    key_version: str = ""
    anonymity: Anonymity | None = None
    smallest_class: int | None = None

    def json(self) -> bytes:
        """Return the report as canonical JSON: the same run gives the same bytes."""
        return canonical_json(
            {
                "version": 1,
                "policy": {"name": self.policy_name, "sha256": self.policy_sha256},
                "key_id": self.key_id,
                "key_version": self.key_version,
                "input": {"sha256": self.raw_sha256, "bytes": self.raw_bytes},
                "output": {"sha256": self.masked_sha256},
                "rows": self.rows,
                "columns": [asdict(column) for column in self.columns],
                "free_text": {name: asdict(counts) for name, counts in self.texts.items()},
                "residual": {"compared": self.compared, "too_short": self.too_short, "left": 0},
                "k_anonymity": self.anonymity and asdict(self.anonymity) | {"smallest": self.smallest_class},
                "detector": self._detector(),
            }
        )

    def statement(
        self,
        kind: Kind,
        subject: Listing,
        run_id: str,
        passed: Sequence[str],
        more: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """Return the statement about the masked tree.

        Args:
            kind: Of the evidence.
            subject: The listing of the tree.
            run_id: The pipeline run.
            passed: Names of the checks that were made.
            more: What else the statement refers to (`resource(...)`).
        """
        return test_result(
            kind,
            subject,
            result="PASSED",
            run_id=run_id,
            configuration=[*self.configuration(), *more],
            passed=passed,
            metrics=self.metrics(),
            coverage=self.coverage(),
        )

    def configuration(self) -> list[dict[str, Any]]:
        """Return what the statement refers to: input, policy, report, detector, model."""
        resources = [
            resource("input", self.raw_sha256),
            resource("policy", self.policy_sha256, annotations={"name": self.policy_name}),
            resource("report", sha256_bytes(self.json()), media_type="application/json"),
        ]
        if self.key_id:
            version = {"version": self.key_version} if self.key_version else {}
            resources.append(resource("masking-key", annotations={"id": self.key_id, **version}))
        if self.detector:
            resources.append(resource("detector", self.detector.model_sha256, annotations=self.detector.versions))
        return resources

    def metrics(self) -> dict[str, float]:
        """Return the numbers: rows, columns, texts, findings by entity."""
        entities: dict[str, float] = {}
        for counts in self.texts.values():
            for entity, count in counts.entities.items():
                entities[f"entities_{entity.lower()}"] = entities.get(f"entities_{entity.lower()}", 0) + count
        return {
            "rows": float(self.rows),
            "columns": float(len(self.columns)),
            "columns_masked": float(sum(column.operator != "keep" for column in self.columns)),
            "texts": float(sum(counts.texts for counts in self.texts.values())),
            "texts_changed": float(sum(counts.changed for counts in self.texts.values())),
            "entities": float(sum(entities.values())),
            **({} if self.smallest_class is None else {"smallest_class": float(self.smallest_class)}),
            **{name: float(count) for name, count in sorted(entities.items())},
        }

    def coverage(self) -> dict[str, int]:
        """Return how many identifiers were looked for in the result, and how many are too short to be."""
        return {"checked": self.compared, "skipped": self.too_short, "errors": 0}

    def metadata(self) -> dict[str, str | float]:
        """Return the artifact's metadata: flat strings and floats."""
        return {
            "sha256": self.masked_sha256,
            "input_sha256": self.raw_sha256,
            "policy": self.policy_name,
            "policy_sha256": self.policy_sha256,
            "masking_key_id": self.key_id,
            "rows": float(self.rows),
            "columns": float(sum(column.masked_type is not None for column in self.columns)),
        }

    def html(self) -> str:
        """Return the report for people."""
        columns = [
            (column.name, _told(column), column.type, column.masked_type or "dropped", column.nulls)
            for column in self.columns
        ]
        entities = [
            (name, entity, count)
            for name, counts in self.texts.items()
            for entity, count in sorted(counts.entities.items(), key=lambda item: (-item[1], item[0]))
        ]
        facts = [
            ("masked dataset (sha256 of its listing)", self.masked_sha256),
            ("raw dataset (sha256 of its listing)", self.raw_sha256),
            ("policy", f"{self.policy_name}, sha256 {self.policy_sha256}"),
            ("masking key", " version ".join(filter(None, (self.key_id, self.key_version))) or "none needed"),
            *((f"detector: {name}", version) for name, version in sorted(self._versions().items())),
        ]
        residual = (
            f"{self.compared:,} identifiers were looked for in the masked cells of their rows: none is left. "
            f"{self.too_short:,} were too short to tell anything about anybody and were not looked for."
        )
        sections = [
            Section("Columns", table(("column", "operator", "type", "masked type", "nulls"), columns)),
            Section("Residual check", paragraph(residual)),
            Section("What it depends on", table(("", ""), facts)),
        ]
        if self.texts:
            rows = [(name, counts.texts, counts.changed) for name, counts in self.texts.items()]
            found = table(("column", "texts", "changed"), rows) + table(("column", "entity", "spans"), entities)
            sections.insert(1, Section("Free text", found))
        if self.anonymity and self.smallest_class is not None:
            names = ", ".join(self.anonymity.columns)
            told = f"At least {self.smallest_class:,} rows share each combination of {names}; k is {self.anonymity.k}."
            sections.insert(1, Section("k-anonymity", paragraph(told)))
        size = f"{self.rows:,} rows, {len(self.columns)} columns"
        summary = f"{size}. Counts only: this report holds no value of the data."
        return page("Masking of personal data", "PASSED", sections, summary)

    def _versions(self) -> dict[str, str]:
        return self.detector.versions if self.detector else {}

    def _detector(self) -> dict[str, Any] | None:
        if self.detector is None:
            return None
        model = self.detector.versions.get("engine", MODEL)
        return {"model": model, "model_sha256": self.detector.model_sha256, "versions": self.detector.versions}


def _told(column: ColumnFacts) -> str:
    return column.operator if column.declared else f"{column.operator} (no rule: the policy's default)"


def read_report(data: bytes) -> MaskingReport:
    """Read a report back, strictly: only what `json` writes.

    Raises:
        DocumentFault: it is no such report.
    """
    said = parse_json(data)
    try:
        anonymity = said["k_anonymity"]
        report = MaskingReport(
            policy_name=said["policy"]["name"],
            policy_sha256=said["policy"]["sha256"],
            key_id=said["key_id"],
            raw_sha256=said["input"]["sha256"],
            raw_bytes=said["input"]["bytes"],
            masked_sha256=said["output"]["sha256"],
            rows=said["rows"],
            columns=tuple(ColumnFacts(**column) for column in said["columns"]),
            texts={name: TextCounts(**counts) for name, counts in said["free_text"].items()},
            compared=said["residual"]["compared"],
            too_short=said["residual"]["too_short"],
            detector=said["detector"] and DetectorFacts(said["detector"]["versions"], said["detector"]["model_sha256"]),
            key_version=said["key_version"],
            anonymity=anonymity and Anonymity(tuple(anonymity["columns"]), anonymity["k"]),
            smallest_class=anonymity and anonymity["smallest"],
        )
        same = report.json() == data
        numbers = [
            *(report.rows, report.raw_bytes, report.compared, report.too_short),
            *(column.nulls for column in report.columns),
            *(number for counts in report.texts.values() for number in (counts.texts, counts.changed)),
            *(number for counts in report.texts.values() for number in counts.entities.values()),
            *(() if report.smallest_class is None else (report.smallest_class,)),
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DocumentFault(f"it is no masking report ({type(error).__name__})", codes.FIELDS) from error
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise DocumentFault("a count in it is no whole number", codes.FIELDS)
    if not same:
        raise DocumentFault("it is not what this version of kfp-custody writes", codes.FIELDS)
    return report


def joined(reports: Sequence[MaskingReport], masked_sha256: str) -> MaskingReport:
    """Return the report of a dataset from those of its shards: the same as if it had been masked whole.

    Args:
        reports: Those of all shards, with the same policy, key, raw data and detector.
        masked_sha256: Digest of the listing of the whole.

    Raises:
        ValueError: the shards do not have the same columns.
    """
    columns = tuple(
        replace(same[0], nulls=sum(column.nulls for column in same))
        for same in zip(*(report.columns for report in reports), strict=True)
    )
    texts = {
        name: TextCounts(
            sum(report.texts[name].texts for report in reports),
            sum(report.texts[name].changed for report in reports),
            dict(sum((Counter(report.texts[name].entities) for report in reports), Counter())),
        )
        for name in reports[0].texts
    }
    return replace(
        reports[0],
        masked_sha256=masked_sha256,
        rows=sum(report.rows for report in reports),
        columns=columns,
        texts=texts,
        compared=sum(report.compared for report in reports),
        too_short=sum(report.too_short for report in reports),
    )
