"""What every task of ours needs on a cluster: an identity, configuration, secrets, room to work in, and limits.

`kfp.local` ignores this part of a pipeline (but for retries, see `without_retries`); there the environment says the
same. All mounts are optional, so that a cluster that signs through Vault needs no key secret; a stage that misses what
it needs refuses and names it.

A task never runs as root but as the images' user, 65532, or as the one that the platform chooses (OpenShift). It writes
nowhere but to its outputs and to /tmp, an emptyDir, so that a read-only root file system works. KFP drops all
capabilities and forbids new privileges by itself. What no pipeline can ask KFP for is `readOnlyRootFilesystem: true`:
set it for the namespace, by a mutating admission policy or as the administrator's default (pipelines/README.md).
"""

import copy
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

# The gate and the deployer speak with authority over the rest: they ask for another identity.
IDENTITY_LABEL = "custody/identity"
_SIGNER_ROOMS = ("policy_gate", "seldon_deployment")
_SETTINGS = (
    *("CUSTODY_SIGNER", "CUSTODY_DVC_REMOTE", "CUSTODY_NAMESPACE", "CUSTODY_DEPLOY_TARGET", "MLFLOW_TRACKING_URI"),
    *("CUSTODY_PROMETHEUS", "CUSTODY_SERVING_IMAGE", "CUSTODY_KSERVE_MODE"),
    "CUSTODY_PUSHGATEWAY",
    *("VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_CACERT", "CUSTODY_VAULT_AUTH", "CUSTODY_VAULT_AUTH_MOUNT"),
)
# What one room alone reads.
_ROOM_SETTINGS = {
    "pii_masking": ("CUSTODY_MASKING_KEY", "CUSTODY_DLP_PARENT"),
    "retraining": ("CUSTODY_WATCH_STATE", "KFP_HOST", "KFP_NAMESPACE"),
    "metrics_publishing": tuple(f"CUSTODY_PUSHGATEWAY_{file}_FILE" for file in ("TOKEN", "LOGIN", "CA")),
    "seldon_deployment": tuple(
        f"CUSTODY_GITOPS_{name}" for name in ("REPOSITORY", "BRANCH", "PATH", "TOKEN_FILE", "USER")
    ),
}
# What one room alone may read: the Secret custody-<name>, at /etc/custody/<name>.
_ROOM_SECRETS = {
    "pii_masking": "masking",
    "data_versioning": "sources",  # what the sources file, beside the trust file, names as file:/etc/custody/sources/..
    "seldon_deployment": "gitops",  # `token`: what may push to the repository that deployments are committed to
    "metrics_publishing": "monitoring",  # what CUSTODY_PUSHGATEWAY_*_FILE name
}

SCRATCH = "/tmp"  # noqa: S108  (an emptyDir of the pod, not the machine's)


@dataclass(frozen=True)
class Needs:
    """What a room's pod is given: requests that a small cluster can place, limits that stop a runaway.

    `cpu` and `memory`: request and limit; `scratch`: the most it may write to /tmp; `minutes`: when it is killed.
    """

    cpu: tuple[str, str]
    memory: tuple[str, str]
    scratch: str
    minutes: int


NEEDS = {
    "data_versioning": Needs(("250m", "2"), ("512Mi", "2Gi"), "2Gi", 360),
    "pii_masking": Needs(("1", "4"), ("2Gi", "6Gi"), "2Gi", 360),
    "data_attestation": Needs(("250m", "1"), ("256Mi", "2Gi"), "2Gi", 120),
    "model_training": Needs(("1", "4"), ("2Gi", "8Gi"), "4Gi", 360),
    "artifact_signing": Needs(("100m", "1"), ("256Mi", "1Gi"), "1Gi", 30),
    "model_scanning": Needs(("250m", "1"), ("512Mi", "2Gi"), "5Gi", 60),
    "drift_detection": Needs(("500m", "2"), ("1Gi", "4Gi"), "2Gi", 120),
    "metrics_publishing": Needs(("100m", "1"), ("128Mi", "512Mi"), "1Gi", 30),
    "retraining": Needs(("100m", "1"), ("256Mi", "1Gi"), "1Gi", 60),
    "inference_monitoring": Needs(("500m", "2"), ("512Mi", "2Gi"), "4Gi", 120),
    "poisoning_screen": Needs(("1", "2"), ("1Gi", "4Gi"), "2Gi", 120),
    "drift_reporting": Needs(("500m", "2"), ("1Gi", "3Gi"), "2Gi", 60),
    "robustness_audit": Needs(("1", "2"), ("1Gi", "4Gi"), "2Gi", 120),
    "policy_gate": Needs(("250m", "1"), ("512Mi", "2Gi"), "1Gi", 60),
    "seldon_deployment": Needs(("250m", "1"), ("512Mi", "2Gi"), "2Gi", 360),
}

# KFP repeats a task for any failure, so also after a refusal: only a task that a second attempt cannot harm is here,
# and not often. An attempt that fails publishes nothing, so never do two attempts both leave evidence.
RETRIES = {
    "fetch_dataset": 2,  # reads; what was fetched half is gone with the attempt
    "collect_logs": 2,  # reads; where a log was rotated meanwhile, the next attempt finds it whole
    "mask_pii": 2,  # the same input, policy and key give the same bytes
    "plan_shards": 2,
    "mask_shard": 2,
    "merge_shards": 2,
    "attest_dataset": 2,  # a remote that has an object already takes it once more without a change
    "attest_shard": 2,
    "train_model": 1,  # the same seed gives the same model; costs hours, and leaves another run in MLflow
    "sign_model": 2,  # the bytes stay; keyless, one more entry in a public log
    "scan_model": 2,  # reads, and signs what it read
    "profile_dataset": 2,
    "check_drift": 2,  # reads, and signs what it read
    "publish_metrics": 2,  # pushes the same numbers again
    "check_profile_drift": 2,
    "date_window": 2,
    "start_retraining": 2,  # claims first: what an attempt started before it died, the next one finds
    "monitor_inference": 2,  # reads, and signs what it read
    "report_drift": 2,
    "screen_poisoning": 2,  # reads, and signs what it read
    "audit_robustness": 2,  # reads, and signs what it read
    # Its FAILED is no failure of the task, so no attempt can turn it into PASSED: repeated is what came to no decision.
    "enforce_policy": 2,
    # These go on with the state of the rollout, so an attempt after a lost node finds where the last one was.
    "analyse_canary": 2,
    "finish_rollout": 2,
    "close_rollout": 2,
    # Never: refuse and refuse_rollout, whose work is to fail, and deploy_model, which changes what is in service. Where
    # a deployment stopped half-way, a person looks first.
}
_BACKOFF: dict[str, Any] = {"backoff_duration": "30s", "backoff_factor": 2.0, "backoff_max_duration": "5m"}


def on_cluster(task: dsl.PipelineTask, room: str) -> dsl.PipelineTask:
    """Add the platform's configuration to a task, label it with its identity, and switch its caching off.

    The label is custody/identity: signer for the gate and the deployer, pipeline for the rest. It asks for an identity
    and proves none: manifests/README.md says what it is worth where.

    Args:
        task: A task of one of our components.
        room: The component's room; the secret `custody-<room>` is mounted at /etc/custody/<room's purpose>.

    Returns:
        The task.
    """
    # A cache hit would hand on an artifact that nobody looked at in this run.
    task.set_caching_options(False)
    _limit(task, NEEDS[room])
    retries = RETRIES.get(task.component_spec.name.replace("-", "_"), 0)
    if retries:
        task.set_retry(retries, **_BACKOFF)
    kubernetes.set_security_context(task, run_as_non_root=True)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    identity = "signer" if room in _SIGNER_ROOMS else "pipeline"
    kubernetes.add_pod_label(task, IDENTITY_LABEL, identity)
    kubernetes.use_config_map_as_volume(task, "custody-trust", "/etc/custody/trust", optional=True)
    own, role = f"CUSTODY_SIGNER_{room.upper()}", f"CUSTODY_VAULT_ROLE_{identity.upper()}"
    # The masking key is a mounted file, or what a secret URI names.
    names = (*_SETTINGS, own, *_ROOM_SETTINGS.get(room, ()))
    environment = {name: name for name in names} | {role: "CUSTODY_VAULT_ROLE"}
    kubernetes.use_config_map_as_env(task, "custody-settings", environment, optional=True)
    kubernetes.use_secret_as_volume(task, "custody-signing", "/etc/custody/signing", optional=True)
    if secret := _ROOM_SECRETS.get(room):
        kubernetes.use_secret_as_volume(task, f"custody-{secret}", f"/etc/custody/{secret}", optional=True)
    if task.component_spec.name == "start-retraining":
        # By this label Kubeflow mounts the token that its server knows a ServiceAccount by.
        kubernetes.add_pod_label(task, "access-ml-pipeline", "true")
    return task


def without_retries(pipeline: Any) -> Any:
    """Return a copy of a pipeline for kfp.local, in which no task is repeated.

    On one machine there is no node to lose: what fails is a refusal or a bug, and waiting to see it again helps nobody.
    """
    once = copy.deepcopy(pipeline)
    spec = once.pipeline_spec
    for graph in (spec.root.dag, *(component.dag for component in spec.components.values())):
        for task in graph.tasks.values():
            task.ClearField("retry_policy")
    return once


def _limit(task: dsl.PipelineTask, needs: Needs) -> None:
    """Set what the scheduler reserves, where the kernel stops the task, and when Kubernetes kills it."""
    task.set_cpu_request(needs.cpu[0]).set_cpu_limit(needs.cpu[1])
    task.set_memory_request(needs.memory[0]).set_memory_limit(needs.memory[1])
    kubernetes.empty_dir_mount(task, "scratch", SCRATCH, size_limit=needs.scratch)
    kubernetes.set_timeout(task, needs.minutes * 60)
