"""Failing the run after the gate said FAILED, with the reasons."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.evidence import DECISION, REPORT_NAME
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence


def refuse_run(decision: Path, run_id: str, settings: Settings) -> None:
    """Raise the reasons of a FAILED decision.

    Raises:
        PolicyRefused: always, when the decision is genuine; it lists every check that failed.
        EvidenceInvalid: the decision is not genuine.
        Misconfigured: the trust file.
    """
    verified = read_evidence(decision, DECISION, load_trust(settings.trust_file), run_id=run_id)
    try:
        explanation = parse_json((decision / REPORT_NAME).read_bytes())
    except (DocumentFault, OSError) as error:
        raise EvidenceInvalid(
            "The gate's explanation cannot be read.", evidence=f"{REPORT_NAME}: {error}", remedy="Run the gate again."
        ) from error
    failed = [check for check in explanation["checks"] if check["verdict"] != "PASSED"]
    reasons = "".join(f"\n    {_reason(check)}" for check in failed)
    raise PolicyRefused(
        f"The gate said {verified.result}; nothing was deployed.",
        evidence=f"policy {explanation['policy']['name']}, {len(failed)} of {len(explanation['checks'])} checks failed:"
        + (reasons or " none"),
        remedy="See the report of enforce_policy; what it names must be put right, then the pipeline run again.",
        code=codes.GATE_FAILED,
    )


def _reason(check: Mapping[str, Any]) -> str:
    """Return what failed and why, with its code once: a refusal that the gate met says it already."""
    code, detail = check.get("code", ""), check["detail"]
    return f"{check['id']}: {detail}" + (f" [{code}]" if code and f"[{code}]" not in detail else "")
