"""Starting the retraining that evidence asks for, exactly once."""
