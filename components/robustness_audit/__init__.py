"""How far a row that the model detects must be changed before the model lets it pass."""
