"""The stage: verify the evidence, write its metrics, push them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.kinds import DECISION, KINDS
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.components.metrics_publishing import series
from kfp_custody.components.metrics_publishing.exposition import Check, exposition
from kfp_custody.components.metrics_publishing.pushing import push

_MODEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?")


@dataclass(frozen=True)
class Published:
    """The text's SHA-256, and what it is of."""

    sha256: str
    kinds: tuple[str, ...]
    pushed: bool

    def metadata(self) -> dict[str, str]:
        """Return what the KFP UI shows."""
        return {"sha256": self.sha256, "kinds": ", ".join(self.kinds), "pushed": "yes" if self.pushed else "no"}


def publish(
    given: Mapping[str, Path | None], text: Path, settings: Settings, *, run_id: str, model_name: str
) -> Published:
    """Verify evidence of this run, write what it says as metrics, and push that where a Pushgateway is configured.

    Args:
        given: Evidence directories by the input's name (`series.ACCEPTED`); None for one that there is not.
        text: The file to write, in Prometheus' text format.
        settings: Trust file and Pushgateway.
        run_id: The pipeline run; all evidence must belong to it.
        model_name: Name of the service, for the label model.

    Raises:
        EvidenceInvalid: evidence is not genuine, of another run, or a decision about another model.
        InputRefused: there is no evidence at all.
        ServiceUnreachable: the Pushgateway does not take it; the file is written.
        Misconfigured: trust file, name or Pushgateway's settings.
        OSError: a file cannot be read or written.
    """
    if not _MODEL.fullmatch(model_name):
        raise Misconfigured(
            "The model's name is none.",
            evidence=f"model_name = {model_name[:80]!r}",
            remedy="Give a DNS label (lower-case letters, digits, hyphens inside) of at most 54 characters.",
            code=codes.MODEL_NAME,
        )
    trust = load_trust(settings.trust_file)
    verified = [_read(path, series.ACCEPTED[name], trust, run_id) for name, path in given.items() if path]
    if not verified:
        raise InputRefused(
            "There is no evidence to publish.",
            evidence=f"none of {', '.join(given)} was given",
            remedy="Wire the evidence of at least one stage.",
            code=codes.INPUT_MISSING,
        )
    for each in verified:
        _require_model(each, model_name)
    checks = [_check(each) for each in verified]
    data = exposition(model_name, checks)
    write_atomic(text, data)
    if settings.pushgateway:
        push(model_name, checks, settings)
    return Published(sha256_bytes(data), tuple(check.kind for check in checks), bool(settings.pushgateway))


def _read(directory: Path, kinds: tuple[str, ...], trust: Trust, run_id: str) -> Verified:
    """Read the evidence of the one accepted kind that is there; without any, that of the first is missed."""
    found = [name for name in kinds if (directory / f"{name}.sigstore.json").exists()]
    return read_evidence(directory, KINDS[(found or kinds)[0]], trust, run_id=run_id)


def _require_model(verified: Verified, model_name: str) -> None:
    """Refuse a decision about another service: its metrics would stand under this one's name."""
    named = verified.predicate.get("resourceUri")
    if verified.kind is DECISION and named != f"models:/{model_name}":
        raise EvidenceInvalid(
            "The decision is about another model.",
            evidence=f"it speaks of {str(named)[:80]!r}, the metrics are of 'models:/{model_name}'",
            remedy="Give the name that the gate was given.",
            code=codes.LINK,
        )


def _check(verified: Verified) -> Check:
    assert verified.time is not None  # noqa: S101  (only a model signature has none)
    coverage = {name: float(count) for name, count in verified.predicate.get("custody_coverage", {}).items()}
    return Check(verified.kind.name, str(verified.result), verified.time, coverage, verified.metrics)
