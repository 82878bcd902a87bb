"""What every task of ours needs on a cluster: the trust file, the settings, and the secrets of its own room.

`kfp.local` ignores this part of a pipeline; there the environment says the same. All mounts are optional, so that a
cluster that signs through Vault needs no key secret; a stage that misses what it needs refuses and names it.
"""

from kfp import dsl, kubernetes

_SETTINGS = ("CUSTODY_SIGNER", "CUSTODY_DVC_REMOTE", "CUSTODY_NAMESPACE", "MLFLOW_TRACKING_URI")


def on_cluster(task: dsl.PipelineTask, room: str) -> dsl.PipelineTask:
    """Add the platform's configuration to a task and switch its caching off.

    Args:
        task: A task of one of our components.
        room: The component's room; the secret `custody-<room>` is mounted at /etc/custody/<room's purpose>.

    Returns:
        The task.
    """
    # A cache hit would hand on an artifact that nobody looked at in this run.
    task.set_caching_options(False)
    kubernetes.use_config_map_as_volume(task, "custody-trust", "/etc/custody/trust", optional=True)
    own = f"CUSTODY_SIGNER_{room.upper()}"
    kubernetes.use_config_map_as_env(
        task, "custody-settings", {name: name for name in (*_SETTINGS, own)}, optional=True
    )
    kubernetes.use_secret_as_volume(task, "custody-signing", "/etc/custody/signing", optional=True)
    if room == "pii_masking":
        kubernetes.use_secret_as_volume(task, "custody-masking", "/etc/custody/masking", optional=True)
    return task
