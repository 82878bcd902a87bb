"""Pipelines built from the components: each folder holds one pipeline, its compiled form and the data of its demo."""
