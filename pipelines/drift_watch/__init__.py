"""The scheduled loop: watch a served model, and start its retraining when its checks fail."""
