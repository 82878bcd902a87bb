"""The room metrics_publishing: what signed evidence says, as metrics that Prometheus reads."""
