"""Parameters of train_model that take one of a few values: what it checks, and what the KFP UI can offer."""

from kfp_custody.components.model_training.trainers import ALGORITHMS

CHOICES = {"algorithm": tuple(ALGORITHMS)}
