"""What the commands know of a Kubeflow Pipelines server. Only `client` imports kfp."""
