"""A Kubeflow Pipelines server, for commands and for stages: what both ask of it. Nothing here imports kfp."""
