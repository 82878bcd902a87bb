"""Parameters of start_retraining that take one of a few values: what it checks, and what the KFP UI can offer."""

ALERT, RUN, BACKFILL = "alert", "run", "backfill"
CHOICES = {"action": (ALERT, RUN, BACKFILL)}
