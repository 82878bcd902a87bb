"""The locked door: one specification from which the local Envoy and the objects of a cluster are made."""
