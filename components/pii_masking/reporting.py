"""What a masking run says about itself: JSON for machines, HTML for people, numbers for the gate; counts only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.evidence import resource
from kfp_custody.components._shared.report import Section, page, paragraph, table
from kfp_custody.components.pii_masking.chunks import Tally
from kfp_custody.components.pii_masking.detection import MODEL, DetectorFacts
from kfp_custody.components.pii_masking.policy import Policy

CHECKS = ("every-column-declared", "input-unchanged", "no-identifier-left-in-row", "no-pattern-left")


@dataclass(frozen=True)
class TextCounts:
    """Findings in one free-text column: how many texts changed, and spans by entity."""

    changed: int
    entities: Mapping[str, int]


@dataclass(frozen=True)
class MaskingReport:
    """Everything a run knows that may be told."""

    policy: Policy
    given: pa.Schema
    masked: pa.Schema
    raw_sha256: str
    raw_bytes: int
    masked_sha256: str
    key_id: str
    tally: Tally
    texts: Mapping[str, TextCounts]
    detector: DetectorFacts | None

    def json(self) -> bytes:
        """Return the report as canonical JSON: the same run gives the same bytes."""
        return canonical_json(
            {
                "version": 1,
                "policy": {"name": self.policy.name, "sha256": self.policy.sha256},
                "key_id": self.key_id,
                "input": {"sha256": self.raw_sha256, "bytes": self.raw_bytes},
                "output": {"sha256": self.masked_sha256},
                "rows": self.tally.rows,
                "columns": [
                    {
                        "name": rule.column,
                        "operator": rule.operator,
                        "type": str(self.given.field(rule.column).type),
                        "masked_type": self._masked_type(rule.column),
                        "nulls": self.tally.nulls[rule.column],
                        "scanned": bool(rule.options.get("scan", True)),
                    }
                    for rule in self.policy.rules
                ],
                "free_text": {
                    name: {
                        "texts": self.tally.texts[name],
                        "changed": counts.changed,
                        "entities": dict(counts.entities),
                    }
                    for name, counts in self.texts.items()
                },
                "residual": {"compared": self.tally.compared, "too_short": self.tally.too_short, "left": 0},
                "detector": self._detector(),
            }
        )

    def configuration(self) -> list[dict[str, Any]]:
        """Return what the statement refers to: input, policy, report, detector, model."""
        resources = [
            resource("input", self.raw_sha256),
            resource("policy", self.policy.sha256, annotations={"name": self.policy.name}),
            resource("report", sha256_bytes(self.json()), media_type="application/json"),
        ]
        if self.key_id:
            resources.append(resource("masking-key", annotations={"id": self.key_id}))
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
            "rows": float(self.tally.rows),
            "columns": float(len(self.given)),
            "columns_masked": float(sum(rule.operator != "keep" for rule in self.policy.rules)),
            "texts": float(sum(self.tally.texts.values())),
            "texts_changed": float(sum(counts.changed for counts in self.texts.values())),
            "entities": float(sum(entities.values())),
            **{name: float(count) for name, count in sorted(entities.items())},
        }

    def metadata(self) -> dict[str, str | float]:
        """Return the artifact's metadata: flat strings and floats."""
        return {
            "sha256": self.masked_sha256,
            "input_sha256": self.raw_sha256,
            "policy": self.policy.name,
            "policy_sha256": self.policy.sha256,
            "masking_key_id": self.key_id,
            "rows": float(self.tally.rows),
            "columns": float(len(self.masked)),
        }

    def html(self) -> str:
        """Return the report for people."""
        columns = [
            (rule.column, rule.operator, *self._types(rule.column), self.tally.nulls[rule.column])
            for rule in self.policy.rules
        ]
        entities = [
            (name, entity, count)
            for name, counts in self.texts.items()
            for entity, count in sorted(counts.entities.items(), key=lambda item: (-item[1], item[0]))
        ]
        facts = [
            ("masked dataset (sha256 of its listing)", self.masked_sha256),
            ("raw dataset (sha256 of its listing)", self.raw_sha256),
            ("policy", f"{self.policy.name}, sha256 {self.policy.sha256}"),
            ("masking key", self.key_id or "none needed"),
            *((f"detector: {name}", version) for name, version in self._versions().items()),
        ]
        residual = (
            f"{self.tally.compared:,} identifiers were looked for in the masked cells of their rows: none is left. "
            f"{self.tally.too_short:,} were too short to tell anything about anybody and were not looked for."
        )
        sections = [
            Section("Columns", table(("column", "operator", "type", "masked type", "nulls"), columns)),
            Section("Residual check", paragraph(residual)),
            Section("What it depends on", table(("", ""), facts)),
        ]
        if self.texts:
            rows = [(name, self.tally.texts[name], counts.changed) for name, counts in self.texts.items()]
            found = table(("column", "texts", "changed"), rows) + table(("column", "entity", "spans"), entities)
            sections.insert(1, Section("Free text", found))
        size = f"{self.tally.rows:,} rows, {len(self.given)} columns"
        summary = f"{size}. Counts only: this report holds no value of the data."
        return page("Masking of personal data", "PASSED", sections, summary)

    def _types(self, column: str) -> tuple[str, str]:
        return str(self.given.field(column).type), self._masked_type(column) or "dropped"

    def _masked_type(self, column: str) -> str | None:
        return str(self.masked.field(column).type) if column in self.masked.names else None

    def _versions(self) -> dict[str, str]:
        return self.detector.versions if self.detector else {}

    def _detector(self) -> dict[str, Any] | None:
        if self.detector is None:
            return None
        return {"model": MODEL, "model_sha256": self.detector.model_sha256, "versions": self.detector.versions}
