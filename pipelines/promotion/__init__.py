"""Promotion: verify, decide about and deploy a finished run, in a run and under an identity of its own."""
