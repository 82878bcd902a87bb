"""Pipelines as Kubernetes objects, for Argo CD and its like (KFP with `--pipelinesStoreKubernetes`).

A PipelineVersion cannot be changed, so its name holds a digest of what it says: another pipeline is another version.
"""

from typing import Any

import yaml

from kfp_custody.components._cli.compiling.ir import Compiled
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.images import VERSION

MARK = "# PIPELINE MANIFEST"
_API = "pipelines.kubeflow.org/v2beta1"
_ANNOTATIONS = {
    # Its Pipeline must be there first; and runs that are scheduled with a version outlive its place in git.
    "argocd.argoproj.io/sync-wave": "1",
    "argocd.argoproj.io/sync-options": "Prune=false",
}


def manifest(compiled: Compiled, description: str, *, shipped: bool) -> tuple[str, str]:
    """Return the file name and the text of a pipeline's two objects.

    Args:
        compiled: The pipeline.
        description: Shown by the KFP UI as Markdown.
        shipped: Whether it is ours, so that its version is the package's.
    """
    name = compiled.spec["pipelineInfo"]["name"]
    said = {"pipelineSpec": compiled.spec} | ({"platformSpec": compiled.platform} if compiled.platform else {})
    digest = sha256_bytes(canonical_json(said))[:12]
    version = f"{name}-{VERSION}-{digest}" if shipped else f"{name}-{digest}"
    shown = {"description": description} if description else {}
    documents: list[dict[str, Any]] = [
        {"apiVersion": _API, "kind": "Pipeline", "metadata": {"name": name}, "spec": {"displayName": name} | shown},
        {
            "apiVersion": _API,
            "kind": "PipelineVersion",
            "metadata": {"name": version, "annotations": _ANNOTATIONS},
            "spec": {"displayName": version, "pipelineName": name} | said | shown,
        },
    ]
    return f"{name}.yaml", f"{MARK}\n# Name: {name}\n" + yaml.dump_all(documents, sort_keys=True)


def kustomization(files: list[str]) -> str:
    """Return the kustomization that applies the manifests."""
    lines = "".join(f"  - {name}\n" for name in sorted(files))
    return f"{MARK}S\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{lines}"
