"""The pipeline that the README invites to paste runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from local_runs import Platform

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_pasted_pipeline_runs(platform: Platform, tmp_path: Path) -> None:
    code = re.search(r"```python\n(.+?)```", README.read_text(), re.DOTALL)
    assert code
    pasted = code[1].replace("build/demo/data/sample/train", str(platform.root / "train"))
    assert str(platform.root) in pasted
    (tmp_path / "my_pipeline.py").write_text(pasted)
    environment = os.environ | platform.environment
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "my_pipeline.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    made = {path.parent.parent.name for path in tmp_path.rglob("*.sigstore.json")}
    assert made == {"mask-pii", "attest-dataset", "train-model"}
