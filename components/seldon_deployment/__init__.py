"""Deployment of a signed and admitted model; `component.py` is the contract, `serving` runs in the model server."""
