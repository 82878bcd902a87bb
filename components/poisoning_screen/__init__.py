"""Look for poison in a dataset before a model is trained on it: wrong labels, floods, triggers."""
