"""Makes the fixtures of local_runs.py known; tests import its types from there."""

from local_runs import admitted, platform, refused

__all__ = ["admitted", "platform", "refused"]
