"""Attest a dataset: what it is, by digest, signed."""
