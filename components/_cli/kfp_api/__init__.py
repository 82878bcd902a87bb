"""What only the commands ask of a Kubeflow Pipelines server. Only `client` imports kfp."""
