"""Verify everything, evaluate the policy, sign a decision."""
