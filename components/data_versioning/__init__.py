"""Bring a dataset at a pinned revision, every byte checked and signed for."""
