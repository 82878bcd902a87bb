"""What several rooms need; no KFP import but in artifacts.py."""
