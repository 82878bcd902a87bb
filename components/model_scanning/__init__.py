"""Scanning a model's files without loading them."""
