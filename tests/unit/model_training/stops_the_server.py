"""A trainer for the services test: it freezes the MLflow server that its run is in."""

import os
import signal
from typing import Any


def train(features: Any, labels: Any, seed: int) -> Any:
    """Stop the processes of the group in TEST_SERVER_GROUP, then train as usual."""
    from own_trainers import forest_of_trees

    os.killpg(int(os.environ["TEST_SERVER_GROUP"]), signal.SIGSTOP)
    return forest_of_trees(features, labels, seed)
