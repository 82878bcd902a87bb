"""The catalog: every component of kfp-custody, importable by name and loaded only when asked for.

Example:
    from kfp_custody.components import mask_pii, train_model

Nothing is imported eagerly: inside a KFP task `kfp.dsl` has no `component` decorator, so a body that imports
its own logic through this package would otherwise die at import.
"""

from importlib import import_module
from typing import Any

# The one list of rooms: component function -> folder. The first function of a room owns its component.yaml.
CATALOG: dict[str, str] = {
    "fetch_dataset": "data_versioning",
    "collect_logs": "data_versioning",
    "mask_pii": "pii_masking",
    "plan_shards": "pii_masking",
    "mask_shard": "pii_masking",
    "merge_shards": "pii_masking",
    "attest_dataset": "data_attestation",
    "attest_shard": "data_attestation",
    "train_model": "model_training",
    "sign_model": "artifact_signing",
    "scan_model": "model_scanning",
    "check_drift": "drift_detection",
    "check_profile_drift": "drift_detection",
    "profile_dataset": "drift_detection",
    "monitor_inference": "inference_monitoring",
    "screen_poisoning": "poisoning_screen",
    "publish_metrics": "metrics_publishing",
    "start_retraining": "retraining",
    "date_window": "retraining",
    "report_drift": "drift_reporting",
    "audit_robustness": "robustness_audit",
    "enforce_policy": "policy_gate",
    "refuse": "policy_gate",
    "deploy_model": "seldon_deployment",
    "analyse_canary": "seldon_deployment",
    "finish_rollout": "seldon_deployment",
    "refuse_rollout": "seldon_deployment",
    "close_rollout": "seldon_deployment",
}

__all__ = list(CATALOG)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Load a component on first use (PEP 562)."""
    if name not in CATALOG:
        raise AttributeError(f"module {__name__!r} has no component {name!r}; it has {', '.join(sorted(CATALOG))}")
    return getattr(import_module(f"{__name__}.{CATALOG[name]}.component"), name)


def __dir__() -> list[str]:
    """Names for tab completion."""
    return sorted([*CATALOG, "CATALOG"])
