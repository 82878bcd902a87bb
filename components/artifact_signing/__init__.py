"""Sign a model in the OpenSSF model signing format."""
