"""What users take away: components and pipelines as YAML for KFP, Elyra, GitOps and the Kubeflow catalog.

`scripts/compile.py` writes the committed files with the same code.
"""
