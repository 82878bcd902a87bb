"""Secrets named by URI: `loading.load_secret` gives a `Secret` that cannot be printed, pickled or serialised."""
