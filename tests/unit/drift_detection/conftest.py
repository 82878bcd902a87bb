"""Fixtures of the drift tests."""

from pathlib import Path

import pytest
from drift_inputs import month, write_xgboost


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A small XGBoost model of the columns of `month`."""
    root = tmp_path / "model"
    write_xgboost(root, month())
    return root
