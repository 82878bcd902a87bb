"""What every task of ours needs on a cluster: the trust file, the settings, and the secrets of its own room.

`kfp.local` ignores this part of a pipeline; there the environment says the same. All mounts are optional, so that a
cluster that signs through Vault needs no key secret; a stage that misses what it needs refuses and names it.
"""

from kfp import dsl, kubernetes

# The gate and the deployer speak with authority over the rest: they ask for another identity.
IDENTITY_LABEL = "custody/identity"
_SIGNER_ROOMS = ("policy_gate", "seldon_deployment")
_SETTINGS = (
    *("CUSTODY_SIGNER", "CUSTODY_DVC_REMOTE", "CUSTODY_NAMESPACE", "MLFLOW_TRACKING_URI"),
    *("VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_CACERT", "CUSTODY_VAULT_AUTH", "CUSTODY_VAULT_AUTH_MOUNT"),
)


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
    identity = "signer" if room in _SIGNER_ROOMS else "pipeline"
    kubernetes.add_pod_label(task, IDENTITY_LABEL, identity)
    kubernetes.use_config_map_as_volume(task, "custody-trust", "/etc/custody/trust", optional=True)
    own, role = f"CUSTODY_SIGNER_{room.upper()}", f"CUSTODY_VAULT_ROLE_{identity.upper()}"
    # The masking key is a mounted file, or what a secret URI names.
    names = (*_SETTINGS, own, *(("CUSTODY_MASKING_KEY",) if room == "pii_masking" else ()))
    environment = {name: name for name in names} | {role: "CUSTODY_VAULT_ROLE"}
    kubernetes.use_config_map_as_env(task, "custody-settings", environment, optional=True)
    kubernetes.use_secret_as_volume(task, "custody-signing", "/etc/custody/signing", optional=True)
    if room == "pii_masking":
        kubernetes.use_secret_as_volume(task, "custody-masking", "/etc/custody/masking", optional=True)
    return task
