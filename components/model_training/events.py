"""TensorBoard event files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kfp_custody.components.model_training.dataset import Labels
from kfp_custody.components.model_training.trainers import Probabilities


def write_events(
    directory: Path,
    metrics: Mapping[str, float],
    rounds: Mapping[str, Sequence[float]],
    labels: Labels,
    probabilities: Probabilities,
) -> None:
    """Write event files into an existing directory.

    Args:
        directory: Where.
        metrics: Final scalars, written once.
        rounds: Scalars of each boosting round by name.
        labels: Of the test part, shape (rows,).
        probabilities: Of class 1 on the test part, shape (rows,); they become a precision-recall curve.

    Raises:
        OSError: the directory cannot be written.
    """
    from tensorboardX import SummaryWriter

    with SummaryWriter(logdir=str(directory)) as writer:
        for name, values in rounds.items():
            for step, value in enumerate(values):
                writer.add_scalar(f"rounds/{name}", value, step)
        for name, value in metrics.items():
            writer.add_scalar(f"final/{name}", value, 0)
        writer.add_pr_curve("test", labels, probabilities, global_step=0)
