"""Train a classifier on attested bytes, with lineage in MLflow and signed provenance."""
