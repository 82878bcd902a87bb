"""Parameters of deploy_model that take one of a few values: what it checks, and what the KFP UI can offer."""

from kfp_custody.components.seldon_deployment.parameters import ROLLOUTS, TARGETS

CHOICES = {"target": TARGETS, "rollout": ROLLOUTS}
