"""Read the request logs of a window: latency, errors, confidence, drift, and clients that misuse the model."""
